//! A configuration in TOML: the values, where each key stands, and errors that name place and key.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::error::nearest;
use super::load::Layer;
use super::{ConfigError, ConfigFile, Origin};
use crate::server::trouble::Trouble;

/// A key and the bytes that it and its value take.
struct Place {
    key: String,
    name: Range<usize>,
    value: Range<usize>,
}

/// Reads TOML. `at` makes an origin of the line and column of a key.
pub(super) fn read(text: &str, at: impl Fn(u32, u32) -> Origin) -> Result<Layer, ConfigError> {
    let origin = |offset: usize| {
        let (line, column) = line_and_column(text, offset);
        at(line, column)
    };
    let places = match DeTable::parse(text) {
        Ok(table) => places(table.get_ref()),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let wrong = format!("not TOML: {}", error.message().replace('\n', ", "));
            let twice = error.message().contains("duplicate");
            let kind = if twice { Trouble::ConfigDuplicate } else { Trouble::ConfigSyntax };
            let error = ConfigError::new(origin(start), "", lower_first(&wrong), "");
            return Err(error.of_kind(kind));
        }
    };
    let misfit = |error: toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        let key = place_of(&places, &span).map_or("", |place| place.key.as_str());
        let (wrong, right) = explain(error.message(), key);
        let kind = kind_of(error.message(), key);
        ConfigError::new(origin(span.start), key, wrong, right).of_kind(kind)
    };
    toml::from_str::<ConfigFile>(text).map_err(misfit)?;
    let table = toml::from_str(text).map_err(misfit)?;
    let origins: BTreeMap<_, _> =
        places.iter().map(|place| (place.key.clone(), origin(place.name.start))).collect();
    Ok(Layer { table, origins, ..Layer::default() })
}

fn places(table: &DeTable<'_>) -> Vec<Place> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), table)];
    while let Some((prefix, table)) = open.pop() {
        for (name, value) in table {
            let key = match prefix.as_str() {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            if let DeValue::Table(inner) = value.get_ref() {
                open.push((key.clone(), inner));
            }
            found.push(Place { key, name: name.span(), value: value.span() });
        }
    }
    found
}

/// The key that an error is about: its name was not known, or its value did not fit.
fn place_of<'a>(places: &'a [Place], span: &Range<usize>) -> Option<&'a Place> {
    let within = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let named = places.iter().find(|place| place.name == *span);
    let depth = |place: &&Place| place.key.matches('.').count();
    named.or_else(|| {
        places.iter().filter(|place| within(&place.value) || within(&place.name)).max_by_key(depth)
    })
}

/// What the deserializer says, in an operator's words: `(what is wrong, what would be right)`.
fn explain(message: &str, key: &str) -> (String, String) {
    let (wrong, wanted) = match message.split_once(", expected ") {
        Some((wrong, wanted)) => (wrong.trim(), wanted.trim()),
        None => (message.trim(), ""),
    };
    if wrong.starts_with("unknown field") {
        return ("unknown key".to_owned(), known_key(key, wanted));
    }
    let wrong = match wrong.strip_prefix("unknown variant ") {
        Some(value) => format!("unknown value {value}"),
        None => lower_first(wrong).replace('\n', ", "),
    };
    let right = match wanted {
        "" => String::new(),
        "u16" => format!("expected a whole number from 0 to {}", u16::MAX),
        "u32" => format!("expected a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "expected a whole number, 0 or more".to_owned(),
        other => format!("expected {}", other.strip_prefix("one of ").unwrap_or(other)),
    };
    (wrong, right)
}

fn kind_of(message: &str, key: &str) -> Trouble {
    if message.starts_with("unknown field") {
        let nested = key.contains('.');
        return if nested { Trouble::ConfigUnknownKey } else { Trouble::ConfigUnknownSection };
    }
    match message.split_once(':') {
        Some(("invalid type", _)) => Trouble::ConfigType,
        Some(("invalid value", rest)) if rest.trim_start().starts_with("integer") => {
            Trouble::ConfigRange
        }
        _ => Trouble::ConfigValue,
    }
}

/// `wanted` lists what the section knows, each word in backticks.
fn known_key(key: &str, wanted: &str) -> String {
    let typed = key.rsplit('.').next().unwrap_or(key);
    let known: Vec<&str> = wanted.split('`').skip(1).step_by(2).collect();
    if let Some(near) = nearest(typed, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match sections_with(typed).as_slice() {
        [] => format!("known here: {}", known.join(", ")),
        [rest @ .., last] if !rest.is_empty() => {
            format!("it belongs to {} or {last}", rest.join(", "))
        }
        [section, ..] => format!("it belongs to {section}"),
    }
}

/// The sections that have a key of this name.
fn sections_with(typed: &str) -> Vec<String> {
    let Ok(all) = toml::Table::try_from(ConfigFile::default()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if all.get(typed).is_some_and(|value| !value.is_table()) {
        found.push("the top of the file, before the first section".to_owned());
    }
    for (section, value) in &all {
        if value.as_table().is_some_and(|section| section.contains_key(typed)) {
            found.push(format!("[{section}]"));
        }
    }
    found
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Both from 1; the column in characters, as editors count.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let at = |line, column| Origin::File { path: "s.toml".into(), line, column };
        read(text, at).unwrap_err().to_string()
    }

    #[test]
    fn every_misfit_names_its_place_and_what_would_be_right() {
        for (text, said) in [
            ("[listen]\nprot = 1\n", "s.toml:2:1: listen.prot: unknown key; did you mean `port`?"),
            ("[listne]\nport = 1\n", "s.toml:1:2: listne: unknown key; did you mean `listen`?"),
            (
                "port = 1\n",
                "s.toml:1:1: port: unknown key; it belongs to [listen], [station] or [tls]",
            ),
            (
                "[log]\nshards = 1\n",
                "s.toml:2:1: log.shards: unknown key; \
                 it belongs to the top of the file, before the first section",
            ),
            (
                "[neighbors]\nzzz = 1\n",
                "s.toml:2:1: neighbors.zzz: unknown key; known here: list, source, output, ca, links",
            ),
            (
                "[listen]\n  port = 70000\n",
                "s.toml:2:10: listen.port: invalid value: integer `70000`; \
                 expected a whole number from 0 to 65535",
            ),
            (
                "[listen]\nport = \"9394\"\n",
                "s.toml:2:8: listen.port: invalid type: string \"9394\"; \
                 expected a whole number from 0 to 65535",
            ),
            (
                "[listen]\nhost = \"example\"\n",
                "s.toml:2:8: listen.host: invalid value: \"example\"; expected an IP address of \
                 this machine, as 127.0.0.1 or ::1 (0.0.0.0 or ::, all of them)",
            ),
            (
                "[policy]\nverify = \"some\"\n",
                "s.toml:2:10: policy.verify: unknown value `some`; expected `every` or `session`",
            ),
            (
                "[log]\ncolor = \"red\"\n",
                "s.toml:2:9: log.color: unknown value `red`; expected `auto`, `always`, `never`",
            ),
            ("listen.prot = 1\n", "s.toml:1:8: listen.prot: unknown key; did you mean `port`?"),
        ] {
            assert_eq!(fault(text), said);
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        for (text, place) in [
            ("[listen]\nport 1\n", "s.toml:2:6: not TOML: "),
            ("[listen\n", "s.toml:1:8: not TOML: "),
            ("[log]\n[log]\n", "s.toml:2:2: not TOML: "),
        ] {
            let said = fault(text);
            assert!(said.starts_with(place), "{said}");
        }
    }

    #[test]
    fn every_key_knows_its_line() {
        let at = |line, column| Origin::File { path: "s.toml".into(), line, column };
        let layer = read("shards = 2\n[ans]\narchivist = \"a@b\"\n", at).unwrap();
        assert_eq!(layer.origins["shards"], at(1, 1));
        assert_eq!(layer.origins["ans.archivist"], at(3, 1));
    }
}
