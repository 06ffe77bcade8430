//! The reference's `config.ini`, taken as it is: an operator who moves over changes nothing. Keys that
//! the reference ignores are ignored here too, but said; what needs no setting here is said once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::{ConfigError, ConfigFile, Layer, Origin, ReferenceFiles, Warning, is_reserved};
use super::trouble::Trouble;

/// Where the reference keeps its files when nothing is said.
const ROOT: &str = "/var/.dim";
/// `%(name)s` may lead to another; the reference gives up at the same depth.
const REFERENCES_DEEP_MAX: usize = 10;
/// The section of keys for all sections.
const DEFAULT: &str = "DEFAULT";

/// One `key = value` and the line it stands on.
#[derive(Clone)]
struct Item {
    section: String,
    key: String,
    value: String,
    line: u32,
    /// Said in `[DEFAULT]`, where it may be for another section.
    inherited: bool,
}

/// Sections that other programs of the reference read.
const OTHERS: &[(&str, &[&str], &str)] = &[
    (
        "announcer",
        &["apns_credentials", "apns_use_sandbox", "apns_topic", "fcm_credentials"],
        "the announcer bot",
    ),
    ("monitor", &["users_listeners", "stats_listeners", "speeds_listeners"], "the monitor bot"),
    ("system", &["supervisors"], "the reference's administration"),
    ("group", &["supervisors"], "the group bots"),
];

/// Reads the reference's ini. Errors: a line that is neither section, key nor comment, a key that
/// stands twice, a port that is none.
pub(crate) fn read(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let at = |line| Origin::File { path: path.to_owned(), line, column: 1 };
    let (sections, mut items) = parse(text, &at)?;
    inherit(&sections, &mut items);
    resolve(&mut items, &at)?;
    let mut layer = Layer::default();
    refuse_own_sections(&sections, &at)?;
    warn_of_sections(&sections, &items, &at, &mut layer);
    let mut database = BTreeMap::new();
    for item in items.iter().filter(|item| !item.value.is_empty()) {
        match (item.section.as_str(), item.key.as_str()) {
            ("database", key @ ("root" | "public" | "protected" | "private")) => {
                database.insert(key.to_owned(), (item.value.clone(), at(item.line)));
            }
            ("station", "port") => set_port(&mut layer, item, at(item.line))?,
            ("station", "id") => layer.set("station.id", item.value.as_str(), at(item.line)),
            ("station", "host") => layer.set("station.host", item.value.as_str(), at(item.line)),
            ("neighbors", key @ ("source" | "output")) => {
                layer.set(&format!("neighbors.{key}"), item.value.as_str(), at(item.line));
            }
            ("ans", name) if is_reserved(name) => layer.warnings.push(Warning {
                kind: Trouble::IniReserved,
                origin: at(item.line),
                text: format!("[ans] {name}: a reserved word, left out as the reference does"),
            }),
            ("ans", name) => {
                layer.set(&format!("ans.{name}"), item.value.as_str(), at(item.line));
            }
            _ => warn_of_key(item, at(item.line), &mut layer),
        }
    }
    set_folders(&mut layer, path, &database);
    if !layer.origins.contains_key("station.id") {
        let text = "[station] has no id, so the identity in the data folder is taken, or made";
        let origin = Origin::file(path);
        layer.warnings.push(Warning { kind: Trouble::IniNoId, origin, text: text.to_owned() });
    }
    // The reference listens on every address, whatever `host` says; its clients rely on that.
    layer.set("listen.host", "0.0.0.0", Origin::file(path));
    Ok(layer)
}

fn set_port(layer: &mut Layer, item: &Item, origin: Origin) -> Result<(), ConfigError> {
    let port: u16 = item.value.parse().map_err(|_| {
        let wrong = format!("not a port: {:?}", item.value);
        let right = "expected a whole number from 0 to 65535";
        ConfigError::new(origin.clone(), "station.port", wrong, right)
    })?;
    layer.set("listen.port", i64::from(port), origin.clone());
    layer.set("station.port", i64::from(port), origin);
    Ok(())
}

fn set_folders(layer: &mut Layer, path: &Path, database: &BTreeMap<String, (String, Origin)>) {
    let whole = Origin::file(path);
    let (root, origin) = match database.get("root") {
        Some((root, origin)) => (root.as_str(), origin.clone()),
        None => {
            let text = format!("[database] has no root, so it is {ROOT}");
            let origin = whole.clone();
            layer.warnings.push(Warning { kind: Trouble::IniNoRoot, origin, text });
            (ROOT, whole)
        }
    };
    let folder = |key: &str| match database.get(key) {
        Some((folder, _)) => PathBuf::from(folder),
        None => Path::new(root).join(key),
    };
    layer.reference = Some(ReferenceFiles {
        public: folder("public"),
        protected: folder("protected"),
        private: folder("private"),
    });
    layer.set("data_dir", root, origin);
}

/// A section of ours in an ini would be read by nobody, and its operator would not know.
fn refuse_own_sections(sections: &Sections, at: &dyn Fn(u32) -> Origin) -> Result<(), ConfigError> {
    let ours = toml::Table::try_from(ConfigFile::default()).unwrap_or_default();
    let shared = ["station", "ans", "neighbors"];
    for (section, line) in sections {
        if ours.contains_key(section) && !shared.contains(&section.as_str()) {
            let wrong = format!("[{section}] belongs to station.toml, not to an ini");
            let right = "set such keys by flags or environment, or write a station.toml";
            return Err(ConfigError::new(at(*line), "", wrong, right).of_kind(Trouble::ConfigMixed));
        }
    }
    Ok(())
}

fn warn_of_sections(
    sections: &Sections,
    items: &[Item],
    at: &dyn Fn(u32) -> Origin,
    layer: &mut Layer,
) {
    for (section, line) in sections {
        let keys: Vec<&str> = items
            .iter()
            .filter(|item| item.section == *section)
            .map(|item| item.key.as_str())
            .collect();
        let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
        let (kind, text) = match section.as_str() {
            "database" | "station" | "ans" | "neighbors" | DEFAULT => continue,
            "redis" => {
                let text = format!("[redis]{keys} is not needed: mail is kept in the data folder");
                (Trouble::IniUnused, text)
            }
            other => match OTHERS.iter().find(|(name, ..)| *name == other) {
                Some((name, _, reader)) => {
                    let text = format!("[{name}]{keys} is for {reader}, not for the station");
                    (Trouble::IniUnused, text)
                }
                None => (Trouble::IniUnknown, format!("[{other}] is unknown and has no effect")),
            },
        };
        layer.warnings.push(Warning { kind, origin: at(*line), text });
    }
}

/// Sections without effect were named as a whole; here it is a key of a section that has one, or a slip
/// in a section of another program.
fn warn_of_key(item: &Item, origin: Origin, layer: &mut Layer) {
    let known = match item.section.as_str() {
        _ if item.inherited => true,
        "database" | "station" | "neighbors" => false,
        other => OTHERS
            .iter()
            .find(|(name, ..)| *name == other)
            .is_none_or(|(_, keys, _)| keys.contains(&item.key.as_str())),
    };
    if !known {
        let text = format!("[{}] {}: unknown key, has no effect", item.section, item.key);
        layer.warnings.push(Warning { kind: Trouble::IniUnknown, origin, text });
    }
}

/// What `[DEFAULT]` says holds in every section that does not say otherwise. Not as an ANS name: nobody
/// means that.
fn inherit(sections: &Sections, items: &mut Vec<Item>) {
    for section in ["database", "station", "neighbors"] {
        let lacks =
            |key: &str| !items.iter().any(|item| item.section == section && item.key == key);
        let inherited: Vec<Item> = items
            .iter()
            .filter(|item| item.section == DEFAULT && lacks(&item.key))
            .map(|item| Item { section: section.to_owned(), inherited: true, ..item.clone() })
            .collect();
        if sections.iter().any(|(name, _)| name == section) {
            items.extend(inherited);
        }
    }
}

/// Names of sections and the lines they begin on.
type Sections = Vec<(String, u32)>;

/// Lines as the reference's reader takes them: `#` and `;` begin a comment line, `=` or `:` ends a key,
/// keys are lower-cased, an indented line goes on with the value before.
fn parse(text: &str, at: &dyn Fn(u32) -> Origin) -> Result<(Sections, Vec<Item>), ConfigError> {
    let mut sections: Vec<(String, u32)> = Vec::new();
    let mut items: Vec<Item> = Vec::new();
    let mut goes_on = false;
    for (line, number) in text.lines().zip(1_u32..) {
        let said = line.trim();
        if said.is_empty() || said.starts_with(['#', ';']) {
            continue;
        }
        if goes_on && line.starts_with(char::is_whitespace) {
            if let Some(item) = items.last_mut() {
                item.value.push('\n');
                item.value.push_str(said);
            }
            continue;
        }
        if let Some(rest) = said.strip_prefix('[') {
            let Some((name, _)) = rest.split_once(']') else {
                let right = "expected `[section]`";
                let error = ConfigError::new(at(number), "", "a section without its end", right);
                return Err(error.of_kind(Trouble::ConfigSyntax));
            };
            if let Some((_, first)) = sections.iter().find(|(other, _)| other == name) {
                let wrong = format!("[{name}] stands twice, first on line {first}");
                let error = ConfigError::new(at(number), "", wrong, "put its keys together");
                return Err(error.of_kind(Trouble::ConfigDuplicate));
            }
            sections.push((name.to_owned(), number));
            goes_on = false;
            continue;
        }
        let section = sections.last().map_or("", |(name, _)| name.as_str());
        let item = item(said, section, number).map_err(|(wrong, right)| {
            ConfigError::new(at(number), "", wrong, right).of_kind(Trouble::ConfigSyntax)
        })?;
        let twice = |other: &&Item| other.section == item.section && other.key == item.key;
        if let Some(first) = items.iter().find(twice) {
            let wrong = format!("stands twice, first on line {}", first.line);
            let key = format!("{}.{}", item.section, item.key);
            let error = ConfigError::new(at(number), key, wrong, "keep one");
            return Err(error.of_kind(Trouble::ConfigDuplicate));
        }
        items.push(item);
        goes_on = true;
    }
    Ok((sections, items))
}

fn item(said: &str, section: &str, line: u32) -> Result<Item, (&'static str, &'static str)> {
    if section.is_empty() {
        return Err(("a key before the first section", "expected `[section]`"));
    }
    let Some((key, value)) = said.split_once(['=', ':']) else {
        return Err(("neither a section nor a key", "expected `key = value`"));
    };
    Ok(Item {
        section: section.to_owned(),
        key: key.trim().to_lowercase(),
        value: value.trim().to_owned(),
        line,
        inherited: false,
    })
}

/// Puts in what `%(key)s` names, out of the same section or `[DEFAULT]`; `%%` is a percent sign.
fn resolve(items: &mut [Item], at: &dyn Fn(u32) -> Origin) -> Result<(), ConfigError> {
    let known: BTreeMap<(String, String), String> = items
        .iter()
        .map(|item| ((item.section.clone(), item.key.clone()), item.value.clone()))
        .collect();
    // A password of a section without effect may be as it likes.
    let used = |item: &&mut Item| {
        matches!(item.section.as_str(), "database" | "station" | "ans" | "neighbors")
    };
    for item in items.iter_mut().filter(|item| item.value.contains('%')).filter(used) {
        let look = |key: &str| {
            let of = |section: &str| known.get(&(section.to_owned(), key.to_lowercase()));
            of(&item.section).or_else(|| of(DEFAULT)).cloned()
        };
        item.value = filled(&item.value, &look, REFERENCES_DEEP_MAX).ok_or_else(|| {
            let key = format!("{}.{}", item.section, item.key);
            let right = "`%%` is a percent sign, `%(key)s` another key of the section";
            ConfigError::new(at(item.line), key, "a `%` that means nothing", right)
        })?;
    }
    Ok(())
}

fn filled(value: &str, look: &dyn Fn(&str) -> Option<String>, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else {
            let (key, after) = after.strip_prefix('(')?.split_once(")s")?;
            out.push_str(&filled(&look(key)?, look, depth)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "\
; a station of the reference
[database]
root = /data/.dim
private: %(root)s/keys

[redis]
enable = on
password = secret

[station]
ID = gsp-s001@x7vnbHiZcQSPvrSHmBeJoHy2WRHyFJdnNu
host = 106.52.25.169
port = 9394

[ans]
archivist = archivist@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR
owner = somebody@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR

[neighbors]
source = https://example.com/stations.json
output = /data/.dim/
    neighbors.json

[monitor]
users_listeners = a@b, c@d
stats_listner = a@b
";

    fn faults(text: &str) -> String {
        read(Path::new("c.ini"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_references_keys_are_taken_as_they_are() {
        let layer = read(Path::new("c.ini"), &REFERENCE.replace("/\n    n", "/n")).unwrap();
        let config: crate::server::config::ConfigFile = layer.table.try_into().unwrap();
        assert_eq!(config.data_dir, Some("/data/.dim".into()));
        assert_eq!(config.station.id.unwrap(), "gsp-s001@x7vnbHiZcQSPvrSHmBeJoHy2WRHyFJdnNu");
        assert_eq!(config.station.host.as_deref(), Some("106.52.25.169"));
        assert_eq!((config.listen.port, config.station.port), (9394, 9394));
        assert_eq!(config.listen.host.to_string(), "0.0.0.0");
        assert_eq!(config.ans.keys().collect::<Vec<_>>(), ["archivist"]);
        assert_eq!(config.neighbors.source.as_deref(), Some("https://example.com/stations.json"));
        assert_eq!(config.neighbors.output, Some("/data/.dim/neighbors.json".into()));
        let reference = layer.reference.unwrap();
        assert_eq!(reference.public, Path::new("/data/.dim/public"));
        assert_eq!(reference.private, Path::new("/data/.dim/keys"));
    }

    #[test]
    fn what_has_no_effect_is_said_with_its_line() {
        let layer = read(Path::new("c.ini"), REFERENCE).unwrap();
        let said: Vec<String> = layer.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "c.ini:6:1: [redis] (enable, password) is not needed: mail is kept in the data folder",
                "c.ini:24:1: [monitor] (users_listeners, stats_listner) is for the monitor bot, not for the station",
                "c.ini:17:1: [ans] owner: a reserved word, left out as the reference does",
                "c.ini:26:1: [monitor] stats_listner: unknown key, has no effect",
            ]
        );
        let layer = read(Path::new("c.ini"), "[station]\nprot = 1\n[sation]\nport = 2\n").unwrap();
        let said: Vec<String> = layer.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "c.ini:3:1: [sation] is unknown and has no effect",
                "c.ini:2:1: [station] prot: unknown key, has no effect",
                "c.ini: [database] has no root, so it is /var/.dim",
                "c.ini: [station] has no id, so the identity in the data folder is taken, or made",
            ]
        );
    }

    #[test]
    fn keys_for_all_sections_are_inherited() {
        let text = "[DEFAULT]\nbase = /data\nport = 9400\n[database]\nroot = %(base)s/.dim\n\
                    [station]\nid = x\nport = 1\n[neighbors]\n[redis]\npassword = 100%\n";
        let layer = read(Path::new("c.ini"), text).unwrap();
        assert_eq!(layer.table["data_dir"].as_str(), Some("/data/.dim"));
        assert_eq!(layer.table["listen"]["port"].as_integer(), Some(1));
        let said: Vec<String> = layer.warnings.iter().map(ToString::to_string).collect();
        let redis = "[redis] (password) is not needed: mail is kept in the data folder";
        assert_eq!(said, [format!("c.ini:10:1: {redis}")]);
        let layer = read(Path::new("c.ini"), &text.replace("port = 1\n", "")).unwrap();
        assert_eq!(layer.table["listen"]["port"].as_integer(), Some(9400));
        assert_eq!(layer.origins["listen.port"].to_string(), "c.ini:3:1");
    }

    #[test]
    fn the_references_defaults_are_the_references() {
        let layer = read(Path::new("c.ini"), "[station]\nid = x\n").unwrap();
        let reference = layer.reference.unwrap();
        assert_eq!(reference.public, Path::new("/var/.dim/public"));
        assert_eq!(reference.protected, Path::new("/var/.dim/protected"));
        assert_eq!(reference.private, Path::new("/var/.dim/private"));
        assert_eq!(layer.table["listen"]["host"].as_str(), Some("0.0.0.0"));
        for key in ["ans", "neighbors"] {
            assert!(!layer.table.contains_key(key), "{key}");
        }
    }

    #[test]
    fn an_empty_file_means_the_references_defaults() {
        let layer = read(Path::new("c.ini"), "").unwrap();
        assert_eq!(layer.table["data_dir"].as_str(), Some(ROOT));
    }

    #[test]
    fn no_secret_is_repeated() {
        let layer = read(Path::new("c.ini"), REFERENCE).unwrap();
        assert!(!format!("{layer:?}").contains("secret"));
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, said) in [
            (
                "[station]\nport = x\n",
                "c.ini:2:1: station.port: not a port: \"x\"; expected a whole number from 0 to 65535",
            ),
            ("port = 1\n", "c.ini:1:1: a key before the first section; expected `[section]`"),
            ("[station\n", "c.ini:1:1: a section without its end; expected `[section]`"),
            ("[station]\nport\n", "c.ini:2:1: neither a section nor a key; expected `key = value`"),
            (
                "[ans]\n[ans]\n",
                "c.ini:2:1: [ans] stands twice, first on line 1; put its keys together",
            ),
            (
                "[mail]\n",
                "c.ini:1:1: [mail] belongs to station.toml, not to an ini; set such keys by flags or \
                 environment, or write a station.toml",
            ),
            ("[ans]\na = 1\nA: 2\n", "c.ini:3:1: ans.a: stands twice, first on line 2; keep one"),
            (
                "[database]\nroot = %(root)s\n",
                "c.ini:2:1: database.root: a `%` that means nothing; \
                 `%%` is a percent sign, `%(key)s` another key of the section",
            ),
        ] {
            assert_eq!(faults(text), said);
        }
    }
}
