//! What an operator decides: `ConfigFile`, as it is typed, becomes `Config`, which is complete and
//! within its bounds. Nothing here opens a socket; the only files read are the configuration itself.
//!
//! A key is declared once, as a field below, with its unit and its default. `etc/station.toml` says the
//! same to operators, and a test compares the two.

mod check;
mod error;
mod load;
mod names;
mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Origin, Warning};
pub(crate) use load::Layer;
pub use load::{Args, DATA_DIR, FILE_NAME, Loaded};
pub use names::is_reserved;

/// The example of every key, with its unit and its default, as it is installed for operators.
pub const EXAMPLE: &str = include_str!("../../etc/station.toml");

/// The port that DIM stations listen on by custom.
pub const PORT: u16 = 9394;
/// The reference has no bound; clients send pictures of some MiB inside messages.
pub const MESSAGE_BYTES_MAX: u32 = 16 << 20;
/// The reference client gives its own login 30 s a stage, and there are two.
pub const LOGIN_MS_MAX: u32 = 60_000;
/// The largest message over a mobile line of 1 Mbit/s takes a little longer than two minutes.
pub const FRAME_MS_MAX: u32 = 150_000;
/// The reference closes after 128 s without input, and clients time their PING by it.
pub const IDLE_MS_MAX: u32 = 128_000;
/// Many phones share one address behind a carrier; a flood from one address needs more than this.
pub const CONNECTIONS_PER_ADDRESS_MAX: u32 = 1_024;
/// Enough for a burst to a phone; what a slow reader does not take stays in the store.
pub const SESSION_OUT_BYTES_MAX: u32 = 256 << 10;
/// An office behind one address, all of whose clients come back at once.
pub const CONNECTIONS_PER_MINUTE_MAX: u32 = 600;
/// What the reference keeps for a sender who has not logged in.
pub const PARKED_MESSAGES_MAX: u32 = 33;
/// A person types one; a client that catches up with a group sends dozens.
pub const MESSAGES_PER_SECOND_MAX: u32 = 500;
/// Sixteen users at this pace fill a gigabit.
pub const BYTES_PER_SECOND_MAX: u32 = 8 << 20;
/// What a client asks and brings before its login, several times over.
pub const MESSAGES_BEFORE_LOGIN_MAX: u32 = 128;
/// Two a second: no client that works has any.
pub const REFUSALS_PER_MINUTE_MAX: u32 = 120;
/// Clients bring others' accounts when a station does not know them.
pub const UPLOADS_PER_HOUR_MAX: u32 = 240;
/// The reference's time to live of a message.
pub const EXPIRY_DAYS: u32 = 7;
/// The reference reads back no more than this.
pub const MAIL_MESSAGES_PER_USER_MAX: u32 = 20_480;
/// The reference's count of messages at 3 KiB each: absent users must not fill the disk.
pub const MAIL_BYTES_PER_USER_MAX: u64 = 64 << 20;
/// A phone that is awake acknowledges in one round trip, the reference's clients, which look at
/// their socket ten times a second, in two or three looks; a sleeping one would hold up the sender.
pub const ACKNOWLEDGE_MS: u32 = 500;
/// The reference's clients look at their socket ten times a second: nobody sees a receipt earlier.
pub const RECEIPTS_MS: u32 = 100;
/// As the reference's stations do.
pub const MONITOR_EVERY_MS: u32 = 60_000;
/// Blocks of inboxes and documents that were read lately.
pub const CACHE_MIB: u32 = 128;
/// One memtable; a handful of them exist while the disk is behind.
pub const WRITE_BUFFER_MIB: u32 = 64;

/// A configuration as it is typed. An absent key has its default; an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// Folder of everything that is kept. Relative to the file that says so. Empty: `dim-data`.
    #[serde(with = "empty_is_none")]
    pub data_dir: Option<PathBuf>,
    /// Number of shards; 0: one for each core.
    pub shards: u16,
    /// `[station]`
    pub station: Station,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[limits]`
    pub limits: Limits,
    /// `[mail]`
    pub mail: Mail,
    /// `[policy]`
    pub policy: Policy,
    /// `[ans]`: short name = ID.
    pub ans: BTreeMap<String, String>,
    /// `[neighbors]`
    pub neighbors: Neighbors,
    /// `[store]`
    pub store: Store,
    /// `[log]`
    pub log: Log,
}

/// What the station runs with: every value is present and within its bounds, relations hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Folder of everything that is kept; made on start when it is missing.
    pub data_dir: PathBuf,
    /// Number of shards, at least 1. Default: one for each core.
    pub shards: u16,
    /// Who the station is.
    pub station: Station,
    /// Where it listens.
    pub listen: Listen,
    /// Whether it speaks TLS.
    pub tls: Tls,
    /// Bounds of connections and sessions.
    pub limits: Limits,
    /// Bounds of what waits for absent users.
    pub mail: Mail,
    /// What is checked, what is told.
    pub policy: Policy,
    /// Short name to ID; no reserved word among the names. Default: none.
    pub ans: BTreeMap<String, String>,
    /// Other stations.
    pub neighbors: Neighbors,
    /// The disk store.
    pub store: Store,
    /// Lines for people.
    pub log: Log,
    /// Where the reference's files lie, when the configuration was the reference's `config.ini`.
    pub reference: Option<ReferenceFiles>,
}

/// `[station]`: who the station is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Station {
    /// Use this identity; its private keys must be in the data folder. Default, or empty: the
    /// identity in the data folder, made at the first start.
    #[serde(with = "empty_is_none")]
    pub id: Option<String>,
    /// Name in the station's visa. Default "DIM station".
    pub name: String,
    /// Host name or address that clients are told. Default, or empty: the address it listens on.
    #[serde(with = "empty_is_none")]
    pub host: Option<String>,
    /// Port that clients are told. Default 0: the one it listens on.
    pub port: u16,
}

/// `[listen]`: where the station listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// IP address to bind. Default 127.0.0.1; `0.0.0.0` or `::` are all of the machine's.
    #[serde(deserialize_with = "bind_address")]
    pub host: IpAddr,
    /// TCP port. Default 9394; 0: any free one.
    pub port: u16,
}

impl Listen {
    /// The address to bind.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

/// `[tls]`: whether the station speaks TLS. On the common port the first byte tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain as PEM, the station's own first. Default, or empty: no TLS.
    #[serde(with = "empty_is_none")]
    pub certificate: Option<PathBuf>,
    /// Private key of the first certificate, as PEM.
    #[serde(with = "empty_is_none")]
    pub key: Option<PathBuf>,
    /// TCP port for TLS alone. Default 0: none, only the common one.
    pub port: u16,
    /// Who may go without TLS on the common port. Default `anyone`.
    pub plain: Plain,
}

/// Who may go without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plain {
    /// Whoever does not begin with it.
    #[default]
    Anyone,
    /// Programs on this machine: a reverse proxy, bots.
    Loopback,
    /// Nobody.
    Nobody,
}

/// `[limits]`: bounds of connections and sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest message, in bytes. Default 16 MiB.
    pub message_bytes_max: u32,
    /// From the connection to a finished login, in milliseconds. Default 60 000.
    pub login_ms_max: u32,
    /// From the first byte of a frame to its last, in milliseconds. Default 150 000.
    pub frame_ms_max: u32,
    /// Without any input, in milliseconds. Default 128 000.
    pub idle_ms_max: u32,
    /// Open connections. Default 0: as many as the limit of open files leaves.
    pub connections_max: u32,
    /// Open connections from one IP address. Default 1024; 0: no bound.
    pub connections_per_address_max: u32,
    /// Connections a minute from one IP address. Default 600; 0: no bound.
    pub connections_per_minute_max: u32,
    /// Bytes that wait in one session's outbound queue before live feeding stops. A single longer
    /// message still passes. Default 256 KiB.
    pub session_out_bytes_max: u32,
    /// Messages kept for a sender until the login is through. Default 33.
    pub parked_messages_max: u32,
    /// Whether connections from this machine are spared the bounds below and the two by address.
    /// Default true: bots, bridges and proxies are there.
    pub spare_loopback: bool,
    /// Messages a second from one user; ten seconds' worth at once. Beyond it reading waits.
    /// Default 500; 0: no bound.
    pub messages_per_second_max: u32,
    /// Bytes a second from one user; ten seconds' worth at once. Beyond it reading waits.
    /// Default 8 MiB; 0: no bound.
    pub bytes_per_second_max: u32,
    /// Messages on a connection until its login. Default 128.
    pub messages_before_login_max: u32,
    /// Refused messages a minute on one connection, then it is closed. Default 120; 0: no bound.
    pub refusals_per_minute_max: u32,
    /// Metas and documents of others that one user may bring in an hour. Default 240; 0: no bound.
    pub uploads_per_hour_max: u32,
}

/// `[mail]`: what waits for absent users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// Days that a message waits. Default 7.
    pub expiry_days: u32,
    /// Messages that wait for one user. Default 20 480.
    pub messages_per_user_max: u32,
    /// Bytes that wait for one user; at least one message of the greatest length. Default 64 MiB.
    pub bytes_per_user_max: u64,
    /// How long the good news about a client's messages is gathered into one answer, in
    /// milliseconds, where clients read that. Default 100; 0: each receipt by itself.
    pub receipts_ms: u32,
    /// How long the receiver's acknowledgement is awaited before the message is stored, in
    /// milliseconds. Default 500; 0: store at once.
    pub acknowledge_ms: u32,
}

/// `[policy]`: what is checked, what is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Which signatures are verified. Default `every`.
    pub verify: Verify,
    /// Whether login messages follow the documents that somebody asks for. Default `auto`.
    pub login_messages: LoginMessages,
    /// IDs of those who may ask the station about its users. Default: nobody.
    pub admins: Vec<String>,
    /// How often the bot `monitor` is told what was counted, in milliseconds. Default 60 000.
    pub monitor_every_ms: u32,
    /// Whether it is told users' IP addresses. Default false.
    pub monitor_addresses: bool,
}

/// Which signatures are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// That of every message, also of those that are only relayed.
    #[default]
    Every,
    /// Those of the login and of what the station itself consumes.
    Session,
}

/// Whether login messages (which tell a user's station and device) follow a documents answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginMessages {
    /// To clients that are known to read arrays.
    #[default]
    Auto,
    /// To nobody.
    Never,
    /// To everybody, as the reference does.
    Always,
}

/// `[neighbors]`: other stations, which are trusted to bring messages of their users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbors {
    /// Stations that are neighbours whatever a source says. Default: none.
    pub list: Vec<Listed>,
    /// URL of the list of stations, `http:` or `https:`. Default, or empty: none.
    #[serde(with = "empty_is_none")]
    pub source: Option<String>,
    /// File that the list is saved to, and read from without a source. Default, or empty: none.
    #[serde(with = "empty_is_none")]
    pub output: Option<PathBuf>,
    /// Certificates, as PEM, that stations under TLS and an `https:` source are checked by, and by
    /// no others. Default, or empty: those that the machine trusts.
    #[serde(with = "empty_is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the station itself dials them. Default true; if not, `dims bridge` does.
    pub links: bool,
}

impl Default for Neighbors {
    fn default() -> Self {
        Self { list: Vec::new(), source: None, output: None, ca: None, links: true }
    }
}

/// A station in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its ID. Empty: whoever stands there.
    #[serde(default)]
    pub id: String,
    /// Host name or address.
    pub host: String,
    /// TCP port. Default 9394.
    #[serde(default = "common_port")]
    pub port: u16,
    /// Whether it is dialled under TLS; its certificate has to be for `host`. Default false.
    #[serde(default)]
    pub tls: bool,
}

const fn common_port() -> u16 {
    PORT
}

/// `[store]`: the disk store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Cache of blocks that were read, in MiB. Default 128.
    pub cache_mib: u32,
    /// Buffer of what was written lately, in MiB. Default 64.
    pub write_buffer_mib: u32,
    /// Whether an acknowledged message has reached the disk. Default true; without it a power
    /// failure loses what was acknowledged last.
    pub sync: bool,
}

/// `[log]`: lines for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, also for a part: `info,dim::shard=debug`.
    /// Default `info`.
    pub level: String,
    /// Colours. Default `auto`: on a terminal.
    pub color: Color,
    /// Folder of log files, one a day. Default, or empty: standard error.
    #[serde(with = "empty_is_none")]
    pub dir: Option<PathBuf>,
    /// Whether a line names its place in the source. Default false.
    pub location: bool,
}

/// When log lines are coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Also in a file or a pipe.
    Always,
    /// Not at all.
    Never,
}

/// Folders of the reference's JSON files, from its `[database]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceFiles {
    /// Metas, documents, login records.
    pub public: PathBuf,
    /// Group data, devices, block lists.
    pub protected: PathBuf,
    /// Private keys.
    pub private: PathBuf,
}

impl Default for Station {
    fn default() -> Self {
        Self { id: None, name: "DIM station".to_owned(), host: None, port: 0 }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: PORT }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX,
            login_ms_max: LOGIN_MS_MAX,
            frame_ms_max: FRAME_MS_MAX,
            idle_ms_max: IDLE_MS_MAX,
            connections_max: 0,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            connections_per_minute_max: CONNECTIONS_PER_MINUTE_MAX,
            session_out_bytes_max: SESSION_OUT_BYTES_MAX,
            parked_messages_max: PARKED_MESSAGES_MAX,
            spare_loopback: true,
            messages_per_second_max: MESSAGES_PER_SECOND_MAX,
            bytes_per_second_max: BYTES_PER_SECOND_MAX,
            messages_before_login_max: MESSAGES_BEFORE_LOGIN_MAX,
            refusals_per_minute_max: REFUSALS_PER_MINUTE_MAX,
            uploads_per_hour_max: UPLOADS_PER_HOUR_MAX,
        }
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            expiry_days: EXPIRY_DAYS,
            messages_per_user_max: MAIL_MESSAGES_PER_USER_MAX,
            bytes_per_user_max: MAIL_BYTES_PER_USER_MAX,
            receipts_ms: RECEIPTS_MS,
            acknowledge_ms: ACKNOWLEDGE_MS,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            verify: Verify::default(),
            login_messages: LoginMessages::default(),
            admins: Vec::new(),
            monitor_every_ms: MONITOR_EVERY_MS,
            monitor_addresses: false,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { cache_mib: CACHE_MIB, write_buffer_mib: WRITE_BUFFER_MIB, sync: true }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), color: Color::Auto, dir: None, location: false }
    }
}

impl Config {
    /// The defaults with one shard, any free port and this folder: what tests start from.
    #[must_use]
    pub fn in_folder(data_dir: impl Into<PathBuf>) -> Self {
        let file = ConfigFile::default();
        Self {
            data_dir: data_dir.into(),
            shards: 1,
            station: file.station,
            listen: Listen { port: 0, ..file.listen },
            tls: file.tls,
            limits: file.limits,
            mail: file.mail,
            policy: file.policy,
            ans: file.ans,
            neighbors: file.neighbors,
            store: file.store,
            log: file.log,
            reference: None,
        }
    }
}

/// In a file "none" is written as an empty string, so that the example can show every key.
mod empty_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, T: Serialize>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(to),
            None => "".serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: From<String>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text = String::deserialize(from)?;
        Ok((!text.is_empty()).then(|| T::from(text)))
    }
}

fn bind_address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(from)?;
    address_of(&text).ok_or_else(|| {
        let wrong = format!("invalid value: {text:?}, expected {ADDRESS_WANTED}");
        serde::de::Error::custom(wrong)
    })
}

pub(crate) const ADDRESS_WANTED: &str =
    "an IP address of this machine, as 127.0.0.1 or ::1 (0.0.0.0 or ::, all of them)";

/// Names are not looked up: a resolver that is slow or wrong at boot would decide who can connect.
pub(crate) fn address_of(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example with each `#key = value` taken at its word.
    fn uncommented() -> String {
        let key_follows = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
        EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if key_follows(rest) => rest,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let shown: toml::Table = uncommented().parse().unwrap();
        let meant = toml::Table::try_from(ConfigFile::default()).unwrap();
        assert_eq!(shown, meant, "etc/station.toml and server::config disagree");
    }

    #[test]
    fn the_example_as_it_stands_changes_nothing() {
        let file: ConfigFile = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(file, ConfigFile::default());
    }

    #[test]
    fn the_example_explains_every_key() {
        let mut explained = false;
        for line in EXAMPLE.lines() {
            if line.starts_with("# ") {
                explained = true;
            } else if line.starts_with('#') && line.contains(" = ") {
                assert!(explained, "no words before: {line}");
            } else if line.is_empty() {
                explained = false;
            }
        }
    }
}
