//! Where a configuration comes from: flags over environment over file over defaults. Each source is a
//! layer of keys that remember where they were set.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{ADDRESS_WANTED, Config, ConfigError, ConfigFile, Origin, ReferenceFiles, Warning};
use super::{address_of, check, text};
use crate::server::ini;
use crate::server::trouble::Trouble;

/// The configuration's name inside a data folder.
pub const FILE_NAME: &str = "station.toml";
/// The data folder when nobody names one, below the working directory.
pub const DATA_DIR: &str = "dim-data";
/// Looked for when no file is named, in this order: ours here, what `dims init` makes, the machine's,
/// and the place that the reference reads by default.
const FILES: &[&str] =
    &["station.toml", "dim-data/station.toml", "/etc/dim/station.toml", "/etc/dim/config.ini"];
/// A configuration is some KiB; a longer file is another kind of file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the command line says of the configuration; `None` and empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The file: our TOML, or the reference's ini.
    pub config: Option<PathBuf>,
    /// `data_dir`
    pub data_dir: Option<PathBuf>,
    /// `listen.host`
    pub host: Option<String>,
    /// `listen.port`
    pub port: Option<u16>,
    /// `shards`
    pub shards: Option<u16>,
    /// `ans`, each `name=ID`.
    pub ans: Vec<String>,
    /// `log.level`
    pub log: Option<String>,
    /// `log.dir`
    pub log_dir: Option<PathBuf>,
    /// `log.location`
    pub log_location: bool,
    /// Any other key, as `section.key=value`.
    pub set: Vec<String>,
}

/// A usable configuration and what to know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Complete and within its bounds.
    pub config: Config,
    /// What has no effect, or not the one it seems to have.
    pub warnings: Vec<Warning>,
    /// The file that was read, if any was.
    pub file: Option<PathBuf>,
    /// Where each key was set, by `section.key`.
    pub origins: BTreeMap<String, Origin>,
    /// Every key with its value as it was typed, or with its default.
    pub keys: toml::Table,
}

/// One source of keys.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) table: toml::Table,
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) reference: Option<ReferenceFiles>,
}

/// The process's surroundings, so that tests bring their own.
struct Sources<'a> {
    args: &'a Args,
    env: &'a dyn Fn(&str) -> Option<String>,
    cores: u16,
}

impl Config {
    /// Reads the file that `args`, the environment or custom names, and lays environment and `args`
    /// over it. Errors are the operator's to mend and name the place.
    pub fn load(args: &Args) -> Result<Loaded, ConfigError> {
        let env =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let cores = u16::try_from(cores).unwrap_or(u16::MAX);
        load(&Sources { args, env: &env, cores })
    }
}

fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let file = found_file(sources);
    let mut merged = match &file {
        Some(path) => read_file(path)?,
        None => Layer::default(),
    };
    merged.overlay(from_env(sources.env)?);
    merged.overlay(from_args(sources.args)?);
    // Each layer fitted by itself, so that the sum fits too.
    let typed: ConfigFile = merged.table.try_into().map_err(|error: toml::de::Error| {
        ConfigError::new(Origin::Default, "", error.message().to_owned(), "")
    })?;
    let keys = toml::Table::try_from(&typed)
        .map_err(|error| ConfigError::new(Origin::Default, "", error.to_string(), ""))?;
    let mut config = check::complete(typed, &merged.origins, sources.cores)?;
    config.reference = merged.reference;
    Ok(Loaded { config, warnings: merged.warnings, file, origins: merged.origins, keys })
}

impl Layer {
    pub(crate) fn set(&mut self, key: &str, value: impl Into<toml::Value>, origin: Origin) {
        self.origins.insert(key.to_owned(), origin);
        match key.split_once('.') {
            None => {
                self.table.insert(key.to_owned(), value.into());
            }
            Some((section, name)) => {
                let inner = self.table.entry(section).or_insert_with(|| toml::Table::new().into());
                if let Some(inner) = inner.as_table_mut() {
                    inner.insert(name.to_owned(), value.into());
                }
            }
        }
    }

    /// `over` wins key by key, so that one flag does not wipe out a section.
    fn overlay(&mut self, over: Self) {
        for (key, value) in over.table {
            match (self.table.get_mut(&key), value) {
                (Some(toml::Value::Table(under)), toml::Value::Table(value)) => under.extend(value),
                (_, value) => {
                    self.table.insert(key, value);
                }
            }
        }
        self.origins.extend(over.origins);
        self.warnings.extend(over.warnings);
        self.reference = self.reference.take().or(over.reference);
    }

    /// Paths in a file mean: beside that file, wherever the station is started from.
    fn anchor(&mut self, file: &Path) {
        let folder = file.parent().unwrap_or(Path::new(""));
        let anchored = |value: &mut toml::Value| {
            if let Some(path) = value.as_str().filter(|path| !path.is_empty()) {
                *value = folder.join(path).to_string_lossy().into_owned().into();
            }
        };
        for (section, key) in [
            ("", "data_dir"),
            ("tls", "certificate"),
            ("tls", "key"),
            ("log", "dir"),
            ("neighbors", "output"),
            ("neighbors", "ca"),
        ] {
            let table = match section {
                "" => Some(&mut self.table),
                _ => self.table.get_mut(section).and_then(toml::Value::as_table_mut),
            };
            table.and_then(|table| table.get_mut(key)).into_iter().for_each(anchored);
        }
    }
}

/// The file to read: named, or lying in the data folder, or at a customary place.
fn found_file(sources: &Sources<'_>) -> Option<PathBuf> {
    let env = |name| (sources.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = sources.args.config.clone().or_else(|| env("DIM_CONFIG")) {
        return Some(named);
    }
    match sources.args.data_dir.clone().or_else(|| env("DIM_DATA_DIR")) {
        // A folder that was named is a station of its own: no other's file may reach into it.
        Some(folder) => Some(folder.join(FILE_NAME)).filter(|path| path.is_file()),
        None => FILES.iter().map(PathBuf::from).find(|path| path.is_file()),
    }
}

fn read_file(path: &Path) -> Result<Layer, ConfigError> {
    let refuse =
        |wrong: String, right: &str| ConfigError::new(Origin::file(path), "", wrong, right);
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            refuse("config file not found".to_owned(), "`dims init` writes one")
                .of_kind(Trouble::ConfigMissing)
        }
        _ => refuse(format!("config file cannot be read: {error}"), "")
            .of_kind(Trouble::ConfigUnreadable),
    };
    let facts = std::fs::metadata(path).map_err(unreadable)?;
    if !facts.is_file() || facts.len() > FILE_BYTES_MAX {
        let error = refuse("not a config file".to_owned(), "a text file of at most 1 MiB");
        return Err(error.of_kind(Trouble::ConfigNoFile));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let at = |line, column| Origin::File { path: path.to_owned(), line, column };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = valid.iter().fold(1, |line, byte| line + u32::from(*byte == b'\n'));
            let wrong = "config file is not UTF-8 text";
            return Err(
                ConfigError::new(at(line, 1), "", wrong, "").of_kind(Trouble::ConfigNotText)
            );
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_ini(path, text) {
        return ini::read(path, text);
    }
    let mut layer = text::read(text, at).map_err(|error| {
        if !has_ini_section(text) {
            return error;
        }
        let right = "this reads like the reference's ini: let its name end in .ini".to_owned();
        ConfigError { right, ..error }.of_kind(Trouble::ConfigMixed)
    })?;
    layer.anchor(path);
    Ok(layer)
}

/// The ending decides; without a telling one, a section that only the reference has.
fn is_ini(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("ini" | "cfg") => true,
        Some("toml") => false,
        _ => has_ini_section(text),
    }
}

fn has_ini_section(text: &str) -> bool {
    text.lines().any(|line| matches!(line.trim_end(), "[database]" | "[redis]"))
}

fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    let set = |name: &'static str| {
        env(name).filter(|value| !value.is_empty()).map(|value| (value, Origin::Env(name)))
    };
    if let Some((value, origin)) = set("DIM_DATA_DIR") {
        layer.set("data_dir", value, origin);
    }
    if let Some((value, origin)) = set("DIM_HOST") {
        set_host(&mut layer, value, origin)?;
    }
    if let Some((value, origin)) = set("DIM_PORT") {
        let port: u16 = value.parse().map_err(|_| {
            let right = "expected a whole number from 0 to 65535";
            ConfigError::new(origin.clone(), "listen.port", format!("not a port: {value:?}"), right)
        })?;
        layer.set("listen.port", i64::from(port), origin);
    }
    if let Some((value, origin)) = set("DIM_ANS") {
        set_ans(&mut layer, &value, &origin)?;
    }
    if let Some((value, origin)) = set("DIM_LOG") {
        layer.set("log.level", value, origin);
    }
    Ok(layer)
}

fn from_args(args: &Args) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for item in &args.set {
        layer.overlay(from_item(item)?);
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    if let Some(path) = &args.data_dir {
        layer.set("data_dir", text(path), Origin::Flag("--data-dir"));
    }
    if let Some(host) = &args.host {
        set_host(&mut layer, host.clone(), Origin::Flag("--host"))?;
    }
    if let Some(port) = args.port {
        layer.set("listen.port", i64::from(port), Origin::Flag("--port"));
    }
    if let Some(shards) = args.shards {
        layer.set("shards", i64::from(shards), Origin::Flag("--shards"));
    }
    for records in &args.ans {
        set_ans(&mut layer, records, &Origin::Flag("--ans"))?;
    }
    if let Some(level) = &args.log {
        layer.set("log.level", level.clone(), Origin::Flag("--log"));
    }
    if let Some(path) = &args.log_dir {
        layer.set("log.dir", text(path), Origin::Flag("--log-dir"));
    }
    if args.log_location {
        layer.set("log.location", true, Origin::Flag("--log-location"));
    }
    Ok(layer)
}

/// `section.key=value`; a value that is no TOML by itself is taken as a string, since shells eat quotes.
fn from_item(item: &str) -> Result<Layer, ConfigError> {
    let at = |_, _| Origin::Flag("--set");
    let Some((key, value)) = item.split_once('=') else {
        let right = "expected `section.key=value`";
        return Err(ConfigError::new(at(0, 0), "", format!("no `=` in {item:?}"), right));
    };
    let quoted = toml::Value::String(value.trim().to_owned());
    let typed = text::read(&format!("{key} = {value}"), at);
    typed.or_else(|first| {
        text::read(&format!("{key} = {quoted}"), at).map_err(|second| {
            if second.key.is_empty() || first.key.is_empty() { second } else { first }
        })
    })
}

fn set_host(layer: &mut Layer, host: String, origin: Origin) -> Result<(), ConfigError> {
    if address_of(&host).is_none() {
        let wrong = format!("not an address: {host:?}");
        let right = format!("expected {ADDRESS_WANTED}");
        return Err(ConfigError::new(origin, "listen.host", wrong, right));
    }
    layer.set("listen.host", host, origin);
    Ok(())
}

/// `name=ID,name=ID`; empty parts are left out.
fn set_ans(layer: &mut Layer, records: &str, origin: &Origin) -> Result<(), ConfigError> {
    for record in records.split(',').map(str::trim).filter(|record| !record.is_empty()) {
        let Some((name, id)) = record.split_once('=') else {
            let wrong = format!("no `=` in {record:?}");
            let right = "expected `name=ID,name=ID`";
            return Err(ConfigError::new(origin.clone(), "ans", wrong, right));
        };
        layer.set(&format!("ans.{}", name.trim()), id.trim(), origin.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(args: &Args, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let env = |name: &str| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        load(&Sources { args, env: &env, cores: 4 })
    }

    fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(
            &folder,
            "a.toml",
            "[listen]\nhost = \"::1\"\nport = 1\n[log]\nlevel = \"warn\"\n",
        );
        let mut args = Args { config: Some(path.clone()), ..Args::default() };
        let from_file = loaded(&args, &[]).unwrap().config;
        assert_eq!((from_file.listen.port, from_file.log.level.as_str()), (1, "warn"));
        assert_eq!(from_file.limits.idle_ms_max, 128_000);
        assert_eq!(from_file.shards, 4);

        let env = [("DIM_PORT", "2"), ("DIM_LOG", "debug"), ("DIM_HOST", "0.0.0.0")];
        let from_env = loaded(&args, &env).unwrap();
        assert_eq!(from_env.config.listen.address().to_string(), "0.0.0.0:2");
        assert_eq!(from_env.config.log.level, "debug");
        assert_eq!(from_env.origins["listen.port"], Origin::Env("DIM_PORT"));

        args.port = Some(3);
        args.set = vec!["limits.idle_ms_max=5000".to_owned(), "log.color=never".to_owned()];
        let from_flag = loaded(&args, &env).unwrap();
        assert_eq!(from_flag.config.listen.address().to_string(), "0.0.0.0:3");
        assert_eq!(from_flag.config.limits.idle_ms_max, 5000);
        assert_eq!(from_flag.config.log.color, super::super::Color::Never);
        assert_eq!(from_flag.file, Some(path));
    }

    #[test]
    fn names_are_added_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let id = |name: &str| format!("{name}@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR");
        let text = format!("[ans]\nmonitor = \"{}\"\narchivist = \"{}\"\n", id("m"), id("a1"));
        let path = file(&folder, "a.toml", &text);
        let bob = format!("bob={}", id("b"));
        let args = Args { config: Some(path), ans: vec![bob], ..Args::default() };
        let env = format!("archivist={}, announcer = {},", id("a2"), id("n"));
        let ans = loaded(&args, &[("DIM_ANS", &env)]).unwrap().config.ans;
        let ans: Vec<_> = ans.into_iter().collect();
        let expected = [("announcer", "n"), ("archivist", "a2"), ("bob", "b"), ("monitor", "m")];
        assert_eq!(ans, expected.map(|(name, who)| (name.to_owned(), id(who))));
    }

    #[test]
    fn faults_outside_a_file_name_flag_or_variable() {
        let with = |args: Args, env: &[(&str, &str)]| loaded(&args, env).unwrap_err().to_string();
        let folder = tempfile::tempdir().unwrap();
        let args = || Args { data_dir: Some(folder.path().to_owned()), ..Args::default() };
        for (said, expected) in [
            (
                with(args(), &[("DIM_PORT", "x")]),
                "DIM_PORT: listen.port: not a port: \"x\"; expected a whole number from 0 to 65535",
            ),
            (
                with(args(), &[("DIM_ANS", "x")]),
                "DIM_ANS: ans: no `=` in \"x\"; expected `name=ID,name=ID`",
            ),
            (
                with(Args { ans: vec!["station=a@b".into()], ..args() }, &[]),
                "--ans: ans.station: a reserved word; choose another name",
            ),
            (
                with(Args { set: vec!["listen.prot=1".into()], ..args() }, &[]),
                "--set: listen.prot: unknown key; did you mean `port`?",
            ),
            (
                with(Args { set: vec!["listen.port=abc".into()], ..args() }, &[]),
                "--set: listen.port: invalid type: string \"abc\"; \
                 expected a whole number from 0 to 65535",
            ),
            (
                with(Args { set: vec!["x".into()], ..args() }, &[]),
                "--set: no `=` in \"x\"; expected `section.key=value`",
            ),
        ] {
            assert_eq!(said, expected);
        }
        let said = with(args(), &[("DIM_HOST", "nowhere")]);
        assert!(said.starts_with("DIM_HOST: listen.host: not an address: \"nowhere\"; "), "{said}");
    }

    #[test]
    fn a_named_file_must_be_there() {
        let args = Args { config: Some("/nowhere/a.toml".into()), ..Args::default() };
        let said = loaded(&args, &[]).unwrap_err().to_string();
        assert_eq!(said, "/nowhere/a.toml: config file not found; `dims init` writes one");
    }

    #[test]
    fn a_data_folder_brings_its_own_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let args = Args { data_dir: Some(folder.path().to_owned()), ..Args::default() };
        assert_eq!(loaded(&args, &[]).unwrap().file, None);
        let path = file(&folder, FILE_NAME, "data_dir = \".\"\n[listen]\nport = 5\n");
        let loaded = loaded(&args, &[]).unwrap();
        assert_eq!((loaded.file, loaded.config.listen.port), (Some(path), 5));
        assert_eq!(loaded.config.data_dir, folder.path());
    }

    #[test]
    fn paths_in_a_file_lie_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = "data_dir = \"data\"\n[log]\ndir = \"/var/log/dim\"\n[neighbors]\noutput = \"n.json\"\nca = \"ca.pem\"\n";
        let args = Args { config: Some(file(&folder, "a.toml", text)), ..Args::default() };
        let config = loaded(&args, &[]).unwrap().config;
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.log.dir, Some("/var/log/dim".into()));
        assert_eq!(config.neighbors.output, Some(folder.path().join("n.json")));
        assert_eq!(config.neighbors.ca, Some(folder.path().join("ca.pem")));
        assert_eq!(config.neighbors.source, None);
    }

    #[test]
    fn ini_is_told_by_its_ending_or_its_sections() {
        assert!(is_ini(Path::new("config.ini"), ""));
        assert!(is_ini(Path::new("config"), "# x\n[database]\nroot = /x\n"));
        assert!(!is_ini(Path::new("config"), "[listen]\nport = 1\n"));
        assert!(!is_ini(Path::new("a.toml"), "[database]\n"));
    }
}
