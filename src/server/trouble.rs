//! The kinds of broken set-ups: one table of what can be wrong with a station's settings, files and
//! machine. `docs/check.md` shows it to operators, and a test compares the two.

/// Whether a station can run in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It can; somebody should know.
    Warning,
    /// It cannot.
    Fault,
}

macro_rules! troubles {
    ($($name:ident $weight:ident $code:literal $meaning:literal $remedy:literal;)*) => {
        /// One kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Trouble {
            $(#[doc = $meaning] $name,)*
        }

        impl Trouble {
            /// All kinds, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word that names it in output and documentation; it never changes its meaning.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// Whether a station can run in spite of it.
            #[must_use]
            pub const fn weight(self) -> Weight {
                match self { $(Self::$name => Weight::$weight),* }
            }

            /// What is wrong, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            /// What to do about it, where nothing more exact can be said.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

troubles! {
    ConfigMissing Fault "config-missing"
        "the config file that was named is not there"
        "name another one with `--config`; `dims init` writes one";
    ConfigUnreadable Fault "config-unreadable"
        "the config file cannot be read"
        "let the user who runs the station read it: `chown`, `chmod 600`";
    ConfigNoFile Fault "config-no-file"
        "the config is a folder, a device, or longer than any config"
        "name a text file of at most 1 MiB";
    ConfigNotText Fault "config-not-text"
        "the config file is not UTF-8"
        "save it as UTF-8; the line is the first that is not";
    ConfigWritable Warning "config-writable-by-others"
        "other users may change the config file"
        "`chmod go-w` it";
    ConfigSyntax Fault "config-syntax"
        "a line is neither TOML nor, in an ini, a section, key or comment"
        "write `key = value`, and texts in quotes";
    ConfigDuplicate Fault "config-duplicate"
        "a key or a section stands twice"
        "keep one";
    ConfigMixed Fault "config-mixed"
        "TOML of this station and the reference's ini in one file"
        "keep to one of the two; the ending tells which: `.toml` or `.ini`";
    ConfigUnknownSection Fault "config-unknown-section"
        "a section that the station does not know"
        "take the nearest name, or take it out";
    ConfigUnknownKey Fault "config-unknown-key"
        "a key that the station does not know, at least not in this section"
        "take the nearest name, or take it out";
    ConfigType Fault "config-type"
        "a value of another type: a text for a number, a number for a text"
        "write numbers without quotes and texts with them";
    ConfigValue Fault "config-value"
        "a value that means nothing: no address, no level, none of the words on offer"
        "write what the message expects";
    ConfigRange Fault "config-range"
        "a number out of its bounds"
        "stay within the bounds in the message";
    MailBelowMessage Fault "mail-below-message"
        "a mailbox would be too small for one message of the greatest length"
        "raise mail.bytes_per_user_max or lower limits.message_bytes_max";
    LimitsOdd Warning "limits-odd"
        "two limits of which one can never be reached"
        "raise the one or lower the other";
    ShardsOverCores Warning "shards-over-cores"
        "more shards than cores: they take each other's time"
        "let `shards` be 0, one for each core";
    StoreUnsynced Warning "store-unsynced"
        "with store.sync = false a loss of power loses acknowledged mail"
        "let store.sync be true";

    AnsReserved Fault "ans-reserved"
        "a short name that is a word of the protocol"
        "choose another name";
    AnsNotAnId Fault "ans-not-an-id"
        "a short name, or what it stands for, is malformed"
        "`name = \"ID\"`, the ID copied whole";
    AnsUnknown Warning "ans-unknown-id"
        "nobody of the ID behind a short name has ever been here"
        "compare it with the one that its owner tells; it comes right when they log in";
    StationId Fault "station-id-malformed"
        "the station's ID is no ID, or that of a group"
        "copy it whole; leave it out for the identity in the data folder";
    HostUnspecified Warning "host-unspecified"
        "clients would be told to connect to 0.0.0.0 or ::"
        "set station.host to the name or address that clients reach";
    HostLoopback Warning "host-loopback"
        "clients are told a public host, but the station listens on loopback only"
        "set listen.host, unless a proxy on this machine passes them on";

    IniUnused Warning "ini-unused"
        "a section of the reference's ini that is not needed here; harmless"
        "nothing, or take it out";
    IniUnknown Warning "ini-unknown"
        "a section or key of the ini that neither the reference nor this station knows"
        "look for a slip of the pen, or take it out";
    IniReserved Warning "ini-ans-reserved"
        "a short name in the ini that the reference leaves out as well"
        "choose another name, or take it out";
    IniNoRoot Warning "ini-no-root"
        "the ini does not say `[database] root`, so it is the reference's default"
        "set `root` in [database] if the files are elsewhere";
    IniNoId Warning "ini-no-id"
        "the ini does not say `[station] id`; the reference would not start"
        "set `id` in [station]; without it the station has the identity in its data folder";

    FolderNotAFolder Fault "folder-not-a-folder"
        "the data folder is a file"
        "name a folder: data_dir, DIM_DATA_DIR or --data-dir";
    FolderUnwritable Fault "folder-unwritable"
        "the data folder cannot be written, or not be made"
        "`chown` it to the user who runs the station, or name another one";
    FolderForeign Warning "folder-foreign"
        "the data folder belongs to another user than the one who asks"
        "run the station, and this check, as its owner: `sudo -u OWNER dims check`";
    FolderWritable Fault "folder-writable-by-others"
        "other users may write to the data folder"
        "`chmod 700` it";
    FolderReadable Warning "folder-readable-by-others"
        "other users may look into the data folder"
        "`chmod 700` it";
    FolderRunning Fault "folder-running"
        "a station runs in the data folder already"
        "it needs no second one; stop it, or name another folder";
    DiskFull Fault "disk-full"
        "the disk has no room for the store"
        "make room";
    DiskLow Warning "disk-low"
        "an evening's pictures for absent users would fill the disk"
        "make room, or keep less: [mail]";
    DiskVolatile Warning "disk-volatile"
        "the data folder is in memory: a reboot takes all mail, and the identity"
        "name a folder on a disk";
    StoreNewer Fault "store-newer"
        "the store was written by a newer version"
        "run the newer version, or restore a backup from before the upgrade";
    StoreDamaged Fault "store-damaged"
        "the store's files are damaged or incomplete"
        "check the disk, then restore a backup of the folder `store`";
    StoreUnreadable Fault "store-unreadable"
        "the store's files cannot be read"
        "`chown -R` the data folder to the user who runs the station";
    LogFolder Fault "log-folder"
        "the log folder is a file, or cannot be written or made"
        "let log.dir be a folder of the user who runs the station, or leave it out";

    KeyMissing Fault "key-missing"
        "a private key of the station's ID is not in its folder"
        "put it there, from a backup or from the station that it comes from";
    KeyBroken Fault "key-broken"
        "a file of private keys does not hold any, or is damaged"
        "restore it from a backup";
    KeyForeign Fault "key-foreign"
        "the private key is not that of the station's meta"
        "put the key and the meta of one and the same ID there";
    KeyUnreadable Fault "key-unreadable"
        "a file of the station's identity cannot be read"
        "`chown` it to the user who runs the station";
    KeyReadable Warning "key-readable-by-others"
        "other users may read the station's private keys"
        "`chmod 600` the file";
    MetaMissing Fault "meta-missing"
        "the station's meta is not in its folder"
        "put it there, from a backup or from the station that it comes from";
    MetaBroken Fault "meta-broken"
        "the station's meta is damaged"
        "restore it from a backup";
    MetaForeign Fault "meta-foreign"
        "the meta does not prove the station's ID"
        "put the meta of this very ID there, or correct station.id";
    VisaMissing Fault "visa-missing"
        "the station's documents are not in their folder"
        "put them there; `{\"documents\": []}` will do, a new one is signed at the start";
    VisaBroken Fault "visa-broken"
        "a document of the station is damaged, or signed by another key"
        "write `{\"documents\": []}` to the file; a new one is signed at the start";

    NeighborsUnreadable Warning "neighbors-unreadable"
        "the list of neighbours cannot be read"
        "let neighbors.output be a file of the user who runs the station";
    NeighborsBroken Warning "neighbors-broken"
        "the list of neighbours is not JSON, or not a list of stations"
        "`[{\"did\": ID, \"host\": HOST, \"port\": PORT}]`, also as `stations` of an object";
    NeighborsSelf Warning "neighbors-self"
        "the list of neighbours names this station itself"
        "take it out; it is left out in any case";
    NeighborsSource Warning "neighbors-source"
        "the source of the list of neighbours is no URL of a kind that is fetched"
        "let neighbors.source be `http://HOST[:PORT]/PATH`, or the same with https";
    NeighborsTrust Warning "neighbors-trust"
        "what neighbours under TLS, or an https source, are checked by cannot be used"
        "let neighbors.ca be a PEM file of root certificates, or leave it out for the machine's";
    NeighborsCaIdle Warning "neighbors-ca-idle"
        "neighbors.ca is named, and nobody is dialled under TLS"
        "let stations in neighbors.list have `tls = true`, or take neighbors.ca out";

    PortTaken Fault "port-taken"
        "something listens on the port already"
        "stop it, or choose another port: listen.port, DIM_PORT or --port";
    PortPrivileged Fault "port-privileged"
        "a port below 1024 needs a privilege"
        "take a port of 1024 or more, or grant CAP_NET_BIND_SERVICE";
    AddressForeign Fault "address-foreign"
        "the address to listen on is not this machine's"
        "listen.host is the address to bind, station.host the one that clients are told";
    AddressUnusable Fault "address-unusable"
        "the address cannot be listened on for another reason"
        "see what the system says; IPv6 may be switched off";
    TlsUnusable Fault "tls-unusable"
        "the certificate or its key cannot be used"
        "a chain in PEM, the station's own first, and the private key of that one";
    TlsExpired Warning "tls-expired"
        "the certificate has expired, expires soon, or is not valid yet"
        "renew it and send the station SIGHUP";
    UringDenied Fault "uring-denied"
        "this machine grants no io_uring"
        "allow io_uring_setup, io_uring_enter and io_uring_register";
    MemlockLow Fault "memlock-low"
        "too little memory may be locked for a shard"
        "`ulimit -l 8192`, `LimitMEMLOCK=8M`";
    FilesLow Fault "files-low"
        "fewer files may be open than the connections that are asked for"
        "`ulimit -n`, `LimitNOFILE=`, or lower limits.connections_max";
    FilesFew Warning "files-few"
        "so few files may be open that there is room for few connections"
        "`ulimit -n`, `LimitNOFILE=`";
    MemoryLow Warning "memory-low"
        "the store's cache and buffers take more than half of the memory"
        "lower store.cache_mib or store.write_buffer_mib";
    ClockBehind Fault "clock-behind"
        "the clock stands before the last start, or before the time of the station's own document"
        "set the clock; if the document is wrong, write `{\"documents\": []}` to its file";
    ClockAbsurd Warning "clock-absurd"
        "the clock stands before this program was written"
        "set the clock: `timedatectl set-ntp true`";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_table() {
        let document = include_str!("../../docs/check.md");
        let shown: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
        let meant: Vec<String> = Trouble::ALL
            .iter()
            .map(|kind| {
                let weight = if kind.weight() == Weight::Fault { "fault" } else { "warning" };
                let cell = |text: &str| text.replace('|', "\\|");
                format!(
                    "| `{}` | {weight} | {} | {} |",
                    kind.code(),
                    cell(kind.meaning()),
                    cell(kind.remedy())
                )
            })
            .collect();
        assert_eq!(shown, meant, "docs/check.md and server::trouble disagree");
    }

    #[test]
    fn codes_are_told_apart() {
        for (index, kind) in Trouble::ALL.iter().enumerate() {
            assert!(Trouble::ALL.iter().skip(index + 1).all(|other| other.code() != kind.code()));
        }
    }
}
