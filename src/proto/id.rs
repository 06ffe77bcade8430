//! Identifiers: `[name@]address[/terminal]`. An [`Id`] cannot exist malformed.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::address::{ANYWHERE, Address, EVERYWHERE, EntityKind, canonical, scan};
use super::error::ProtoError;
use super::registry::Registry;
use crate::base::limits::{ID_BYTES_MAX, ID_CHARS_MAX, ID_CHARS_MIN};

/// The identifier of a user, group, station or other entity, with or without a terminal.
///
/// The text stays as it was received. Equality, order and hash are those of the text, so an ID
/// and the same ID with a terminal differ; tables of entities are keyed by [`Id::naked`].
/// A clone shares the text.
#[derive(Clone)]
pub struct Id {
    text: Arc<str>,
    /// Bytes before the `@`; none without an `@`.
    name_len: Option<u16>,
    /// Bytes before the `/`; none without a `/`.
    naked_len: Option<u16>,
    kind: EntityKind,
    network: u8,
}

/// The constant IDs: name and address. A text that differs from one only in letter case is it.
const CONSTANTS: [(&str, &str); 6] = [
    ("moky", ANYWHERE),
    ("anyone", ANYWHERE),
    ("everyone", EVERYWHERE),
    ("station", ANYWHERE),
    ("stations", EVERYWHERE),
    ("gsp", EVERYWHERE),
];

/// Short names that every station knows, with the constant ID that each stands for. They cannot
/// be given to anyone else.
const WORDS: [(&str, &str, &str); 5] = [
    ("all", "everyone", EVERYWHERE),
    ("everyone", "everyone", EVERYWHERE),
    ("anyone", "anyone", ANYWHERE),
    ("owner", "anyone", ANYWHERE),
    ("founder", "moky", ANYWHERE),
];

impl Id {
    /// Reads an ID, or one of the built-in short names.
    pub fn parse(text: &str) -> Result<Self, ProtoError> {
        Self::parse_with(text, |_| None)
    }

    /// Reads an ID, a built-in short name, or a name that `names` knows (compared as it stands,
    /// letter case included).
    pub fn parse_with(
        text: &str,
        names: impl Fn(&str) -> Option<Self>,
    ) -> Result<Self, ProtoError> {
        Self::parse_in(text, names, Registry::none())
    }

    /// The same, with the address forms of an application after the protocol's own.
    pub(super) fn parse_in(
        text: &str,
        names: impl Fn(&str) -> Option<Self>,
        registry: &Registry,
    ) -> Result<Self, ProtoError> {
        if let Some((_, name, address)) = WORDS.iter().find(|(word, ..)| *word == text) {
            return Ok(Self::constant(name, address));
        }
        if let Some(id) = names(text) {
            return Ok(id);
        }
        Self::assemble(text, |address| {
            scan(address).or_else(|error| registry.network(address).ok_or(error))
        })
    }

    /// Puts an ID together; `network` judges the address and yields its network byte.
    fn assemble(
        text: &str,
        network: impl FnOnce(&str) -> Result<u8, ProtoError>,
    ) -> Result<Self, ProtoError> {
        // Bytes first: counting the characters of a megabyte is work for nothing.
        if text.len() > ID_BYTES_MAX
            || !(ID_CHARS_MIN..=ID_CHARS_MAX).contains(&text.chars().count())
        {
            return Err(ProtoError::new("id", "4 to 128 characters"));
        }
        // A control character would forge lines in logs and line protocols.
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err(ProtoError::new("id", "no blanks around, no control characters"));
        }
        let (naked, terminal) = split_once(text, '/')?;
        let (first, second) = split_once(naked, '@')?;
        let (name, address) = match second {
            Some(address) => (Some(first), address),
            None => (None, first),
        };
        if let (Some(name), None) = (name, terminal) {
            let same = |(n, a): &&(&str, &str)| {
                n.eq_ignore_ascii_case(name) && a.eq_ignore_ascii_case(address)
            };
            if let Some((name, address)) = CONSTANTS.iter().find(same) {
                return Ok(Self::constant(name, address));
            }
        }
        let network = network(address)?;
        Ok(Self {
            text: text.into(),
            name_len: name.map(offset),
            naked_len: terminal.map(|_| offset(naked)),
            kind: kind_of(name, address, network),
            network,
        })
    }

    fn constant(name: &str, address: &'static str) -> Self {
        let kind = match address {
            ANYWHERE => EntityKind::AnyUser,
            _ => EntityKind::AnyGroup,
        };
        Self {
            text: format!("{name}@{address}").into(),
            name_len: Some(offset(name)),
            naked_len: None,
            kind,
            network: kind.code(),
        }
    }

    /// `anyone@anywhere`: whoever reads it.
    pub fn anyone() -> Self {
        Self::constant("anyone", ANYWHERE)
    }

    /// `everyone@everywhere`: all users.
    pub fn everyone() -> Self {
        Self::constant("everyone", EVERYWHERE)
    }

    /// `station@anywhere`: the station at the other end of this connection.
    pub fn station_any() -> Self {
        Self::constant("station", ANYWHERE)
    }

    /// `stations@everywhere`: all stations.
    pub fn stations_every() -> Self {
        Self::constant("stations", EVERYWHERE)
    }

    /// `moky@anywhere`: founder of the broadcast groups.
    pub fn moky() -> Self {
        Self::constant("moky", ANYWHERE)
    }

    /// `gsp@everywhere`: the service provider of a station that has none.
    pub fn gsp() -> Self {
        Self::constant("gsp", EVERYWHERE)
    }

    /// The ID of an address, with a name or (when empty or none) without.
    pub fn build(name: Option<&str>, address: &Address) -> Result<Self, ProtoError> {
        match name {
            None | Some("") => Self::assemble(address.as_str(), |_| Ok(address.network())),
            Some(name) => Self::assemble(&format!("{name}@{address}"), |_| Ok(address.network())),
        }
    }

    /// The text, as it was received; shared.
    pub fn shared_text(&self) -> Arc<str> {
        self.text.clone()
    }

    /// The text, as it was received.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name; empty if nothing stands before the `@`, none if there is no `@`.
    pub fn name(&self) -> Option<&str> {
        self.name_len.map(|len| self.text.get(..usize::from(len)).unwrap_or_default())
    }

    /// The text of the address; broadcast words in lower case.
    pub fn address(&self) -> &str {
        let start = self.name_len.map_or(0, |len| usize::from(len) + 1);
        canonical(self.text.get(start..self.naked_end()).unwrap_or_default())
    }

    /// The terminal; empty if nothing stands after the `/`, none if there is no `/`.
    pub fn terminal(&self) -> Option<&str> {
        self.naked_len.map(|len| self.text.get(usize::from(len) + 1..).unwrap_or_default())
    }

    fn naked_end(&self) -> usize {
        self.naked_len.map_or(self.text.len(), usize::from)
    }

    /// The network byte as it stands in the address, untranslated.
    pub fn network(&self) -> u8 {
        self.network
    }

    /// `name@address`: the key of tables. Cheap when there is nothing to take off.
    pub fn naked(&self) -> Self {
        let (name, address) = (self.name().filter(|name| !name.is_empty()), self.address());
        let same_name = name.map(str::len) == self.name_len.map(usize::from);
        if self.naked_len.is_none() && same_name && self.text.ends_with(address) {
            return self.clone();
        }
        let text = match name {
            Some(name) => format!("{name}@{address}").into(),
            None => address.into(),
        };
        let name_len = name.and(self.name_len);
        Self { text, name_len, naked_len: None, kind: self.kind, network: self.network }
    }

    /// `name@address/terminal`; an empty terminal yields the naked ID. Fails if the terminal
    /// has a `/`, an `@`, blanks at its end, or makes the ID too long.
    pub fn dressed(&self, terminal: &str) -> Result<Self, ProtoError> {
        let naked = self.naked();
        match terminal {
            "" => Ok(naked),
            _ => Self::assemble(&format!("{naked}/{terminal}"), |_| Ok(self.network)),
        }
    }

    /// Whether both name the same entity: same name and address, whatever the terminals.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.address() == other.address()
            && self.name().unwrap_or_default() == other.name().unwrap_or_default()
    }

    /// Whether a text names the same entity, whatever the terminals and whatever form its address
    /// has.
    pub fn is_named_by(&self, text: &str) -> bool {
        let naked = text.split_once('/').map_or(text, |(naked, _)| naked);
        let (name, address) = naked.split_once('@').unwrap_or(("", naked));
        self.name().unwrap_or_default() == name && self.address() == canonical(address)
    }

    /// What it claims to name. Without a name always a user.
    pub fn kind(&self) -> EntityKind {
        self.kind
    }

    /// Whether it names something that signs its own messages.
    pub fn is_user(&self) -> bool {
        self.kind.is_user()
    }

    /// Whether it names something that has members.
    pub fn is_group(&self) -> bool {
        self.kind.is_group()
    }

    /// Whether it is a name at one of the two broadcast addresses, which nobody owns.
    pub fn is_broadcast(&self) -> bool {
        self.kind.is_broadcast()
    }
}

/// Splits at `mark`, which may stand there once.
fn split_once(text: &str, mark: char) -> Result<(&str, Option<&str>), ProtoError> {
    match text.split_once(mark) {
        Some((_, rest)) if rest.contains(mark) => {
            Err(ProtoError::new("id", "at most one '@' and one '/'"))
        }
        Some((first, rest)) => Ok((first, Some(rest))),
        None => Ok((text, None)),
    }
}

/// Length of a part of an ID; `limits` asserts that it fits.
fn offset(part: &str) -> u16 {
    u16::try_from(part.len()).unwrap_or(u16::MAX)
}

fn kind_of(name: Option<&str>, address: &str, network: u8) -> EntityKind {
    if name.unwrap_or_default().is_empty() {
        return EntityKind::User;
    }
    match canonical(address) {
        ANYWHERE => EntityKind::AnyUser,
        EVERYWHERE => EntityKind::AnyGroup,
        _ => EntityKind::from_network(network),
    }
}

impl FromStr for Id {
    type Err = ProtoError;

    fn from_str(text: &str) -> Result<Self, ProtoError> {
        Self::parse(text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Lets a table of IDs be asked by text.
impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HULK: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    #[test]
    fn the_text_stays_and_the_parts_are_found() {
        let hulk = id(&format!("{HULK}/web"));
        assert_eq!(hulk.as_str(), format!("{HULK}/web"));
        assert_eq!((hulk.name(), hulk.terminal()), (Some("hulk"), Some("web")));
        assert_eq!(hulk.address(), "4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj");
        assert_eq!((hulk.network(), hulk.kind()), (8, EntityKind::User));
    }

    #[test]
    fn terminals_make_other_ids_of_the_same_entity() {
        let (naked, empty, web) = (id(HULK), id(&format!("{HULK}/")), id(&format!("{HULK}/web")));
        assert!(naked != empty && empty != web);
        assert!(naked.is_same_as(&empty) && empty.is_same_as(&web));
        assert_eq!(empty.naked(), naked);
        assert_eq!(web.naked(), naked);
        assert_eq!(naked.dressed("web").as_ref(), Ok(&web));
        assert_eq!(web.dressed("").as_ref(), Ok(&naked));
        assert!(Arc::ptr_eq(&naked.naked().text, &naked.text));
        for bad in ["a/b", " ", "a ", &"x".repeat(128)] {
            assert!(naked.dressed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_of_ids_can_be_asked_by_text() {
        let table = std::collections::HashSet::from([id(HULK)]);
        assert!(table.contains(HULK));
    }

    #[test]
    fn broadcast_ids_of_any_case_are_one_entity() {
        assert_eq!(id("MOKY@ANYWHERE"), Id::moky());
        let loud = id("archivist@ANYWHERE");
        assert_eq!((loud.as_str(), loud.address()), ("archivist@ANYWHERE", "anywhere"));
        assert_eq!(loud.naked(), id("archivist@anywhere"));
        assert!(loud.is_broadcast() && loud.is_user());
        assert!(id("robots@everywhere").is_group());
        assert_eq!(id("@anywhere").naked().as_str(), "anywhere");
        assert!(!id("anywhere").is_broadcast() && !id("@everywhere").is_broadcast());
    }

    #[test]
    fn short_names_come_from_the_table_and_cannot_be_taken() {
        let names = |word: &str| (word == "archivist" || word == "all").then(|| id(HULK));
        assert_eq!(Id::parse_with("archivist", names).unwrap(), id(HULK));
        assert_eq!(Id::parse_with("all", names).unwrap(), Id::everyone());
        assert!(Id::parse("archivist").is_err());
        assert!(Id::parse("All").is_err());
    }

    #[test]
    fn sloppy_texts_are_refused() {
        for bad in [
            &format!(" {HULK}"),
            &format!("{HULK} "),
            &format!("{HULK}/a/b"),
            &format!("x@{HULK}"),
            &format!("hu\nlk@{}", &HULK[5..]),
            &format!("{}@{}", "n".repeat(128), &HULK[5..]),
            "@",
            "/",
            "a@b",
        ] {
            assert!(Id::parse(bad).is_err(), "{bad}");
        }
    }
}
