//! `dims check` on set-ups that are broken in one way each: what it calls it, where it says it is, and
//! what it says to do. The real program on a folder that a real station has left.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs, writes files and stops at the first surprise"
)]

mod kit;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use dim::server::lock::FolderLock;
use dim::server::trouble::{Trouble, Weight};
use kit::{PATIENCE, Station};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

const ID: &str = "archivist@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR";

/// Kinds that no folder can show; beside the code that finds them are tests on made-up facts.
const BY_FACTS: &[Trouble] = &[
    Trouble::FolderForeign,
    Trouble::DiskFull,
    Trouble::DiskLow,
    Trouble::DiskVolatile,
    Trouble::PortPrivileged,
    Trouble::AddressUnusable,
    Trouble::UringDenied,
    Trouble::ClockAbsurd,
];

/// A folder with `data`, as a station has left it, and room for a broken file beside it.
struct Place {
    folder: TempDir,
    /// Of the station in `data`.
    id: String,
}

/// What has to be held while the check runs, and its command line.
type Made = (Option<Box<dyn std::any::Any>>, Vec<String>);

enum Make {
    /// `a.toml` with this text.
    Toml(&'static str),
    /// `a.ini`; its data folder is new.
    Ini(&'static str),
    /// `check` with these flags.
    Flags(&'static [&'static str]),
    /// Bounds as the shell sets them, then `check`.
    Bounds(&'static str),
    Do(fn(&Place) -> Made),
}

struct Case {
    kind: Trouble,
    make: Make,
    /// Stands in the finding.
    place: &'static str,
    /// Stands in the remedy.
    remedy: &'static str,
}

const fn case(kind: Trouble, make: Make, place: &'static str, remedy: &'static str) -> Case {
    Case { kind, make, place, remedy }
}

fn flags(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

/// The station in `data`, on any port.
fn usual() -> Made {
    (None, flags(&["--data-dir=data", "--port=0"]))
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// A file of the station's account, as `private/secret.js`.
    fn own(&self, name: &str) -> PathBuf {
        let (kind, file) = name.split_once('/').unwrap();
        let address = self.id.split('@').nth(1).unwrap();
        self.path("data").join(kind).join(address).join(file)
    }

    fn damage(&self, name: &str) -> Made {
        fs::write(self.own(name), "{\n  \"x\": 1,\n  oops\n}").unwrap();
        usual()
    }

    fn lose(&self, name: &str) -> Made {
        fs::remove_file(self.own(name)).unwrap();
        usual()
    }

    fn loop_at(path: &Path) {
        let _ = fs::remove_file(path);
        symlink(path, path).unwrap();
    }

    /// A file of the account in the place of that of another one, which is made for it.
    fn mix(&self, name: &str) -> Made {
        let other = Station::start(&[]);
        let address = other.id.split('@').nth(1).unwrap();
        let (kind, file) = name.split_once('/').unwrap();
        fs::copy(other.data_dir().join(kind).join(address).join(file), self.own(name)).unwrap();
        usual()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

/// A stopped station's data folder.
fn left_by_a_station() -> Station {
    let mut station = Station::start(&[]);
    assert!(station.terminate(PATIENCE).expect("it ends").success());
    station
}

fn place(station: &Station) -> Place {
    let place = Place { folder: tempfile::tempdir().unwrap(), id: station.id.clone() };
    copy(&station.data_dir(), &place.path("data"));
    place
}

/// `check` with nothing of the surroundings' settings.
fn check(place: &Place, make: &Make) -> Output {
    let dims = env!("CARGO_BIN_EXE_dims");
    let (_held, line) = match make {
        Make::Toml(text) => {
            place.write("a.toml", text);
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }
        Make::Ini(text) => {
            place.write("a.ini", text);
            (None, flags(&["--config=a.ini", "--data-dir=new", "--port=0", "--host=127.0.0.1"]))
        }
        Make::Flags(line) => (None, flags(line)),
        Make::Bounds(_) => usual(),
        Make::Do(make) => make(place),
    };
    let mut command = match make {
        Make::Bounds(text) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{text} && exec \"$0\" \"$@\""), dims]);
            shell
        }
        _ => Command::new(dims),
    };
    for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
        command.env_remove(format!("DIM_{name}"));
    }
    command.arg("check").args(line).current_dir(place.folder.path()).output().unwrap()
}

/// Settings: what is wrong with the text of a file or a flag.
const SETTINGS: &[Case] = &[
    case(
        Trouble::ConfigMissing,
        Make::Flags(&["--config=none.toml"]),
        "none.toml: config file not found",
        "`dims init` writes one",
    ),
    case(
        Trouble::ConfigUnreadable,
        Make::Do(|place| {
            Place::loop_at(&place.path("a.toml"));
            (None, flags(&["--config=a.toml"]))
        }),
        "a.toml: config file cannot be read",
        "chown",
    ),
    case(
        Trouble::ConfigNoFile,
        Make::Flags(&["--config=data"]),
        "data: not a config file",
        "a text file of at most 1 MiB",
    ),
    case(
        Trouble::ConfigNotText,
        Make::Do(|place| {
            place.write("a.toml", b"# one\n# two\n# \xff\n");
            (None, flags(&["--config=a.toml"]))
        }),
        "a.toml:3:1: config file is not UTF-8",
        "save it as UTF-8",
    ),
    case(
        Trouble::ConfigWritable,
        Make::Do(|place| {
            place.write("a.toml", "");
            place.mode("a.toml", 0o666);
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "a.toml (mode 666)",
        "chmod go-w a.toml",
    ),
    case(Trouble::ConfigSyntax, Make::Toml("\n[log\n"), "a.toml:2:5: not TOML", "in quotes"),
    case(
        Trouble::ConfigSyntax,
        Make::Ini("[station]\nport\n"),
        "a.ini:2:1: neither a section nor a key",
        "expected `key = value`",
    ),
    case(
        Trouble::ConfigDuplicate,
        Make::Toml("[listen]\nport = 1\nport = 2\n"),
        "a.toml:3:1: not TOML: duplicate key",
        "keep one",
    ),
    case(
        Trouble::ConfigDuplicate,
        Make::Ini("[station]\nport = 1\nPort = 2\n"),
        "a.ini:3:1: station.port: stands twice, first on line 2",
        "keep one",
    ),
    case(
        Trouble::ConfigMixed,
        Make::Toml("[database]\nroot = /var/.dim\n"),
        "a.toml:2:8: not TOML",
        "let its name end in .ini",
    ),
    case(
        Trouble::ConfigMixed,
        Make::Ini("[database]\nroot = data\n[listen]\nhost = ::\n"),
        "a.ini:3:1: [listen] belongs to station.toml",
        "write a station.toml",
    ),
    case(
        Trouble::ConfigUnknownSection,
        Make::Toml("\n[limit]\nlogin_ms_max = 1\n"),
        "a.toml:2:2: limit: unknown key",
        "did you mean `limits`?",
    ),
    case(
        Trouble::ConfigUnknownKey,
        Make::Toml("[limits]\nport = 1\n"),
        "a.toml:2:1: limits.port: unknown key",
        "it belongs to [listen]",
    ),
    case(
        Trouble::ConfigType,
        Make::Toml("[listen]\nport = \"9394\"\n"),
        "a.toml:2:8: listen.port: invalid type",
        "a whole number from 0 to 65535",
    ),
    case(
        Trouble::ConfigValue,
        Make::Toml("[policy]\nverify = \"some\"\n"),
        "a.toml:2:10: policy.verify: unknown value",
        "expected `every` or `session`",
    ),
    case(
        Trouble::ConfigRange,
        Make::Toml("[listen]\nport = 70000\n"),
        "a.toml:2:8: listen.port: invalid value",
        "a whole number from 0 to 65535",
    ),
    case(
        Trouble::ConfigRange,
        Make::Toml("[mail]\nexpiry_days = 0\n"),
        "a.toml:2:1: mail.expiry_days: out of bounds: 0",
        "expected 1 to 3650",
    ),
    case(
        Trouble::TlsUnusable,
        Make::Toml("[tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n"),
        "none.pem",
        "",
    ),
    case(
        Trouble::TlsExpired,
        Make::Do(|place| {
            let mut asked = CertificateParams::new(vec!["station.example".to_owned()]).unwrap();
            asked.not_after = date_time_ymd(2020, 1, 1);
            let key = KeyPair::generate().unwrap();
            let made = asked.self_signed(&key).unwrap();
            place.write("chain.pem", made.pem());
            place.write("key.pem", key.serialize_pem());
            place.write("a.toml", "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n");
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "tls.certificate (a.toml:2:1) has expired on 2020-01-01",
        "SIGHUP",
    ),
    case(
        Trouble::MailBelowMessage,
        Make::Toml("[mail]\nbytes_per_user_max = 1000\n"),
        "a.toml:2:1: mail.bytes_per_user_max",
        "one message of the greatest length must fit",
    ),
    case(
        Trouble::LimitsOdd,
        Make::Toml("[limits]\nidle_ms_max = 5000\n"),
        "limits.login_ms_max is 60000, above limits.idle_ms_max (a.toml:2:1), 5000",
        "raise the one or lower the other",
    ),
    case(
        Trouble::ShardsOverCores,
        Make::Toml("shards = 256\n"),
        "shards (a.toml:1:1) is 256",
        "0, one for each core",
    ),
    case(
        Trouble::StoreUnsynced,
        Make::Toml("[store]\nsync = false\n"),
        "store.sync (a.toml:2:1) is false",
        "let store.sync be true",
    ),
    case(
        Trouble::AnsReserved,
        Make::Toml("[ans]\nowner = \"x\"\n"),
        "a.toml:2:1: ans.owner: a reserved word",
        "choose another name",
    ),
    case(
        Trouble::AnsNotAnId,
        Make::Toml("[ans]\nhelper = \"x@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTr\"\n"),
        "a.toml:2:1: ans.helper: not an ID",
        "an address has a checksum",
    ),
    case(
        Trouble::AnsUnknown,
        Make::Do(|place| {
            place.write("a.toml", format!("[ans]\nhelper = \"{ID}\"\n"));
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "ans.helper (a.toml:2:1): archivist@",
        "comes right when they log in",
    ),
    case(
        Trouble::StationId,
        Make::Toml("[station]\nid = \"gsp\"\n"),
        "a.toml:2:1: station.id: not an ID",
        "copied whole",
    ),
    case(
        Trouble::HostUnspecified,
        Make::Flags(&["--data-dir=data", "--port=0", "--host=0.0.0.0"]),
        "listen.host (--host) is 0.0.0.0",
        "set station.host",
    ),
    case(
        Trouble::HostLoopback,
        Make::Toml("[station]\nhost = \"chat.example.com\"\n"),
        "station.host (a.toml:2:1) is chat.example.com, listen.host is 127.0.0.1",
        "set listen.host",
    ),
    case(
        Trouble::IniUnused,
        Make::Ini("[redis]\nenable = on\npassword = x\n"),
        "a.ini:1:1: [redis] (enable, password) is not needed",
        "nothing",
    ),
    case(
        Trouble::IniUnused,
        Make::Ini("\n[announcer]\napns_topic = x\n"),
        "a.ini:2:1: [announcer] (apns_topic) is for the announcer bot",
        "nothing",
    ),
    case(
        Trouble::IniUnknown,
        Make::Ini("[station]\nprot = 1\n"),
        "a.ini:2:1: [station] prot: unknown key",
        "slip of the pen",
    ),
    case(
        Trouble::IniReserved,
        Make::Ini("[ans]\nowner = x\n"),
        "a.ini:2:1: [ans] owner: a reserved word",
        "choose another name",
    ),
    case(Trouble::IniNoRoot, Make::Ini("[station]\n"), "a.ini: [database]", "set `root`"),
    case(Trouble::IniNoId, Make::Ini("[database]\nroot = data\n"), "a.ini: [station]", "set `id`"),
    case(
        Trouble::NeighborsUnreadable,
        Make::Toml("[neighbors]\noutput = \"none.json\"\n"),
        "none.json (a.toml:2:1) cannot be read",
        "neighbors.output",
    ),
    case(
        Trouble::NeighborsBroken,
        Make::Do(|place| {
            place.write("n.json", "{\"stations\": [\n  {\"host\": }\n]}");
            place.write("a.toml", "[neighbors]\noutput = \"n.json\"\n");
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "n.json:2:12: neighbours: not JSON",
        "as `stations` of an object",
    ),
    case(
        Trouble::NeighborsSelf,
        Make::Do(|place| {
            let text = format!("[{{\"did\": \"{}\", \"host\": \"a\", \"port\": 1}}]", place.id);
            place.write("n.json", text);
            place.write("a.toml", "[neighbors]\noutput = \"n.json\"\n");
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "n.json (a.toml:2:1): number 1: this station",
        "take it out",
    ),
    case(
        Trouble::NeighborsBroken,
        Make::Do(|place| {
            place.write("n.json", "[{\"host\": \"a\", \"port\": 1, \"tls\": \"on\"}]");
            place.write("a.toml", "[neighbors]\noutput = \"n.json\"\n");
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "n.json (a.toml:2:1): number 1: tls is not true or false",
        "as `stations` of an object",
    ),
    case(
        Trouble::ConfigValue,
        Make::Toml("[neighbors]\nlist = [{ host = \"wss://a/\", tls = true }]\n"),
        "a.toml:2:1: neighbors.list: tls = true, and no certificate can be for \"wss://a/\"",
        "by itself",
    ),
    case(
        Trouble::NeighborsSource,
        Make::Toml("[neighbors]\nsource = \"ftp://example.com/stations.json\"\n"),
        "neighbors.source (a.toml:2:1): not an http: or https: URL: ftp://example.com/",
        "let neighbors.source be",
    ),
    case(
        Trouble::NeighborsTrust,
        Make::Toml("[neighbors]\nca = \"none.pem\"\nlist = [{ host = \"a\", tls = true }]\n"),
        "neighbors.ca: none.pem: cannot be read",
        "name a PEM file",
    ),
    case(
        Trouble::NeighborsTrust,
        Make::Toml("[neighbors]\nca = \"a.toml\"\nsource = \"https://example.com/\"\n"),
        "neighbors.ca: a.toml: no certificate in it",
        "root certificates as PEM",
    ),
    case(
        Trouble::NeighborsCaIdle,
        Make::Do(|place| {
            let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
            place.write("ca.pem", made.cert.pem());
            let list = "list = [{ host = \"a\" }]";
            place.write("a.toml", format!("[neighbors]\n{list}\nca = \"ca.pem\"\n"));
            (None, flags(&["--config=a.toml", "--data-dir=data", "--port=0"]))
        }),
        "neighbors.ca (a.toml:3:1) checks nobody",
        "`tls = true`",
    ),
];

/// Folders, the store, and the identity in them.
const FILES: &[Case] = &[
    case(
        Trouble::FolderNotAFolder,
        Make::Toml("data_dir = \"a.toml\"\n"),
        "data folder a.toml (a.toml:1:1) is not a folder",
        "name a folder",
    ),
    case(
        Trouble::FolderUnwritable,
        Make::Toml("data_dir = \"a.toml/x\"\n"),
        "data folder a.toml/x (a.toml:1:1) cannot be read",
        "`chown` it",
    ),
    case(
        Trouble::FolderWritable,
        Make::Do(|place| {
            place.mode("data", 0o777);
            usual()
        }),
        "data folder data (--data-dir) is open to other users (mode 777)",
        "chmod 700 data",
    ),
    case(
        Trouble::FolderReadable,
        Make::Do(|place| {
            place.mode("data", 0o755);
            usual()
        }),
        "data folder data (--data-dir) is open to other users (mode 755)",
        "chmod 700 data",
    ),
    case(
        Trouble::FolderRunning,
        Make::Do(|place| {
            let lock = FolderLock::take(&place.path("data")).unwrap();
            (Some(Box::new(lock)), usual().1)
        }),
        "a station runs already in data (process ",
        "it needs no second one",
    ),
    case(
        Trouble::StoreNewer,
        Make::Do(|place| {
            let path = place.path("data/store");
            let options = rocksdb::Options::default();
            let names = rocksdb::DB::list_cf(&options, &path).unwrap();
            let store = rocksdb::DB::open_cf(&options, &path, names).unwrap();
            store.put("format", "99").unwrap();
            store.flush().unwrap();
            usual()
        }),
        "store data/store: the store has format 99",
        "run the newer version",
    ),
    case(
        Trouble::StoreDamaged,
        Make::Do(|place| {
            place.write("data/store/CURRENT", "MANIFEST-");
            usual()
        }),
        "store data/store: store damaged",
        "restore a backup",
    ),
    case(
        Trouble::StoreUnreadable,
        Make::Do(|place| {
            fs::remove_dir_all(place.path("data/store")).unwrap();
            place.write("data/store", "");
            usual()
        }),
        "store data/store: ",
        "chown -R",
    ),
    case(
        Trouble::LogFolder,
        Make::Toml("[log]\ndir = \"a.toml\"\n"),
        "log folder a.toml (a.toml:2:1) is not a folder",
        "let log.dir be a folder",
    ),
    case(
        Trouble::StationId,
        Make::Do(|place| {
            place.write("data/station.id", "nobody\n");
            usual()
        }),
        "data/station.id:1: \"nobody\" is not the ID of a station",
        "copy it whole",
    ),
    case(
        Trouble::KeyMissing,
        Make::Do(|place| place.lose("private/secret.js")),
        "/secret.js: not there, but the ID is dims@",
        "from a backup",
    ),
    case(
        Trouble::KeyMissing,
        Make::Do(|place| place.lose("private/secret_keys.js")),
        "/secret_keys.js: not there, but the ID is dims@",
        "from a backup",
    ),
    case(
        Trouble::KeyBroken,
        Make::Do(|place| place.damage("private/secret.js")),
        "/secret.js:3:3: not JSON",
        "restore it from a backup",
    ),
    case(
        Trouble::KeyBroken,
        Make::Do(|place| {
            fs::write(place.own("private/secret_keys.js"), "[]").unwrap();
            usual()
        }),
        "/secret_keys.js: not a list of RSA keys",
        "restore it from a backup",
    ),
    case(
        Trouble::KeyForeign,
        Make::Do(|place| place.mix("private/secret.js")),
        "/secret.js: not the key of the meta",
        "the key and the meta of one and the same ID",
    ),
    case(
        Trouble::KeyUnreadable,
        Make::Do(|place| {
            Place::loop_at(&place.own("private/secret.js"));
            usual()
        }),
        "/secret.js: ",
        "chown",
    ),
    case(
        Trouble::KeyReadable,
        Make::Do(|place| {
            let path = place.own("private/secret.js");
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
            usual()
        }),
        "/secret.js (mode 644)",
        "chmod 600 data/private/",
    ),
    case(
        Trouble::MetaMissing,
        Make::Do(|place| place.lose("public/meta.js")),
        "/meta.js: not there",
        "from a backup",
    ),
    case(
        Trouble::MetaBroken,
        Make::Do(|place| place.damage("public/meta.js")),
        "/meta.js:3:3: not JSON",
        "restore it from a backup",
    ),
    case(
        Trouble::MetaForeign,
        Make::Do(|place| place.mix("public/meta.js")),
        "/meta.js: not the meta of dims@",
        "or correct station.id",
    ),
    case(
        Trouble::VisaMissing,
        Make::Do(|place| place.lose("public/documents.js")),
        "/documents.js: not there",
        "a new one is signed at the start",
    ),
    case(
        Trouble::VisaBroken,
        Make::Do(|place| place.mix("public/documents.js")),
        "/documents.js: number 1 is not a document of dims@",
        "a new one is signed at the start",
    ),
    case(
        Trouble::ClockBehind,
        Make::Do(|place| {
            let file = fs::File::options().append(true).open(place.path("data/dims.pid")).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(5000)).unwrap();
            usual()
        }),
        "s before the last start",
        "set the clock",
    ),
];

/// What the machine grants.
const MACHINE: &[Case] = &[
    case(
        Trouble::PortTaken,
        Make::Do(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = format!("--port={}", listener.local_addr().unwrap().port());
            (Some(Box::new(listener)), flags(&["--data-dir=data", &port]))
        }),
        "(--port) is in use",
        "`ss -ltnp sport = :",
    ),
    case(
        Trouble::AddressForeign,
        Make::Toml("[listen]\nhost = \"192.0.2.1\"\n"),
        "is not this machine's",
        "station.host the one that clients are told",
    ),
    case(
        Trouble::MemlockLow,
        Make::Bounds("ulimit -l 64"),
        "only 65536 bytes of memory may be locked",
        "ulimit -l 8192",
    ),
    case(
        Trouble::FilesLow,
        Make::Bounds("ulimit -n 600"),
        "open files: 600, room for 0 connections",
        "LimitNOFILE=",
    ),
    case(
        Trouble::FilesFew,
        Make::Bounds("ulimit -n 1500"),
        "open files: 1500, room for 476 connections",
        "LimitNOFILE=",
    ),
    case(
        Trouble::MemoryLow,
        Make::Toml("[store]\ncache_mib = 1048576\n"),
        "(store.cache_mib (a.toml:2:1), store.write_buffer_mib)",
        "lower store.cache_mib",
    ),
];

#[test]
fn each_broken_set_up_is_named_with_its_place_and_remedy() {
    let station = left_by_a_station();
    for Case { kind, make, place: at, remedy } in SETTINGS.iter().chain(FILES).chain(MACHINE) {
        let place = place(&station);
        // The flag would win over the file that is to be broken.
        let own_folder = |text: &str| text.starts_with("data_dir");
        let output = match make {
            Make::Toml(text) if own_folder(text) => {
                place.write("a.toml", text);
                check(&place, &Make::Flags(&["--config=a.toml", "--port=0"]))
            }
            make => check(&place, make),
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let code = format!("[{}]", kind.code());
        let fits = |line: &&str| line.ends_with(&code) && line.contains(at);
        let mut lines = text.lines().skip_while(|line| !fits(line));
        let line = lines.next().unwrap_or_else(|| panic!("{code} at {at:?} is not in\n{text}"));
        let said = lines.next().and_then(|line| line.strip_prefix("        -> ")).unwrap();
        assert!(said.contains(remedy), "{line}\n{said}");
        let (word, status) = match kind.weight() {
            Weight::Fault => ("FAULT   ", 1),
            Weight::Warning => ("warning ", 0),
        };
        assert!(line.starts_with(word), "{line}");
        assert_eq!(output.status.code(), Some(status), "{text}");
    }
}

#[test]
fn every_kind_is_tried() {
    let tried: Vec<Trouble> =
        SETTINGS.iter().chain(FILES).chain(MACHINE).map(|case| case.kind).collect();
    for kind in Trouble::ALL {
        let by_facts = BY_FACTS.contains(kind);
        assert_ne!(tried.contains(kind), by_facts, "{}: exactly one kind of test", kind.code());
    }
    assert!(tried.len() >= 30);
}

#[test]
fn a_sound_set_up_has_no_fault_and_is_left_as_it_is() {
    let station = left_by_a_station();
    let place = place(&station);
    let seen = || {
        let mut names = Vec::new();
        let mut open = vec![place.path("data")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    names.push((entry.path(), entry.metadata().unwrap().modified().unwrap()));
                }
            }
        }
        names.sort();
        names
    };
    let before = seen();
    let output = check(&place, &Make::Flags(&["--data-dir=data", "--port=0", "--json"]));
    assert_eq!(before, seen());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(findings.iter().all(|finding| finding["weight"] != "fault"), "{text}");
    for what in [format!("identity {} is whole", place.id), "store data/store can be read".into()] {
        let fine = |finding: &&Value| finding["what"] == what.as_str() && finding["weight"] == "ok";
        assert!(findings.iter().any(|finding| fine(&finding)), "{what} in {text}");
    }
}
