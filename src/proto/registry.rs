//! What an application adds to the protocol: commands, contents and documents of its own, forms of
//! addresses, ways in which a meta makes them.
//!
//! A [`Registry`] is a value: two applications in one program need not agree. An empty one costs
//! nothing, and what is not in it is read as it always was.
//!
//! # A command
//!
//! The handshake of a client and a station, had it not been there already. A state is a variant,
//! so that a wrong title cannot be written:
//!
//! ```
//! use dim::proto::command::Stamp;
//! use dim::proto::content::{Content, ContentError};
//! use dim::proto::field::Source;
//! use dim::proto::kind::{Key, Kind};
//! use dim::proto::registry::Registry;
//! use serde_json::{Map, Value, json};
//!
//! #[derive(Debug, PartialEq)]
//! enum HandshakeCommand {
//!     Start,
//!     Again(String),
//!     Restart(String),
//!     Success(Option<String>),
//! }
//! use HandshakeCommand::{Again, Restart, Start, Success};
//!
//! impl Kind for HandshakeCommand {
//!     const KEYS: &'static [Key<'static>] = &[Key::Command("handshake")];
//!
//!     fn read(source: &Source<'_>) -> Result<Self, ContentError> {
//!         let session: Option<String> = source.field(&["session"])?;
//!         match (source.field::<String>(&["title", "message"])?.as_str(), session) {
//!             ("DIM!", session) => Ok(Success(session)),
//!             ("DIM?", Some(session)) => Ok(Again(session)),
//!             ("DIM?", None) => Err(ContentError::Missing("session")),
//!             (_, Some(session)) => Ok(Restart(session)),
//!             (_, None) => Ok(Start),
//!         }
//!     }
//!
//!     fn write(&self, map: &mut Map<String, Value>) {
//!         let (title, session) = match self {
//!             Start => ("Hello world!", None),
//!             Again(session) => ("DIM?", Some(session)),
//!             Restart(session) => ("Hello world!", Some(session)),
//!             Success(session) => ("DIM!", session.as_ref()),
//!         };
//!         // Clients of 2019 read `message`.
//!         map.insert("title".to_owned(), title.into());
//!         map.insert("message".to_owned(), title.into());
//!         match session {
//!             Some(session) => map.insert("session".to_owned(), session.as_str().into()),
//!             None => map.remove("session"),
//!         };
//!     }
//! }
//!
//! let mut registry = Registry::new();
//! registry.add::<HandshakeCommand>()?;
//!
//! // As an old client writes it.
//! let old = json!({"type": 136, "sn": 1, "cmd": "handshake", "message": "Hello world!"});
//! let content = Content::read_with(old, &registry)?;
//! let opened = registry.open(&content)?.expect("it is registered");
//! assert_eq!(opened.downcast_ref(), Some(&HandshakeCommand::Start));
//!
//! // As it is answered.
//! let answer = Content::of(Stamp { sn: 2, time: 1.5 }, &Again("0123".to_owned()));
//! assert_eq!(answer.to_map()["cmd"], "handshake");
//! assert_eq!(registry.view::<HandshakeCommand>(&answer)?, Again("0123".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A content
//!
//! A bottle with a letter, thrown by one user of an application and caught by another:
//!
//! ```
//! use dim::proto::command::Stamp;
//! use dim::proto::content::{Content, ContentError};
//! use dim::proto::field::Source;
//! use dim::proto::kind::{Key, Kind};
//! use dim::proto::processors::Processors;
//! use dim::proto::registry::Registry;
//! use serde_json::{Map, Value};
//!
//! struct AppContent {
//!     letter: String,
//! }
//!
//! impl Kind for AppContent {
//!     const KEYS: &'static [Key<'static>] =
//!         &[Key::Action("chat.dim.sechat", "drift_bottle", "throw")];
//!
//!     fn read(source: &Source<'_>) -> Result<Self, ContentError> {
//!         Ok(Self { letter: source.field(&["letter"])? })
//!     }
//!
//!     fn write(&self, map: &mut Map<String, Value>) {
//!         map.insert("letter".to_owned(), self.letter.as_str().into());
//!     }
//! }
//!
//! let mut registry = Registry::new();
//! registry.add::<AppContent>()?;
//!
//! let bottle = AppContent { letter: "who finds this?".to_owned() };
//! let sent = Content::of(Stamp { sn: 3, time: 1.5 }, &bottle).to_map();
//! assert_eq!((&sent["type"], &sent["act"]), (&204.into(), &"throw".into()));
//!
//! // Who knows at compile time what comes takes a view; who does not, downcasts:
//! let content = Content::read_with(Value::Object(sent), &registry)?;
//! let opened = registry.open(&content)?.expect("it is registered");
//! assert_eq!(opened.downcast::<AppContent>().map_err(|_| "another type")?.letter, bottle.letter);
//!
//! // Or leaves the choice to a table of closures:
//! let mut shore = Processors::<Vec<String>>::new();
//! shore.on(|letters: &mut Vec<String>, _: &Content, bottle: AppContent| {
//!     letters.push(bottle.letter);
//!     Vec::new()
//! })?;
//! let mut letters = Vec::new();
//! assert_eq!(shore.process(&mut letters, &content, &registry)?, Some(Vec::new()));
//! assert_eq!(letters, ["who finds this?"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An address and a meta
//!
//! Addresses that look otherwise, made of the key by a kind of meta that has a number of its own:
//!
//! ```
//! use dim::base::{digest::sha256, encode::hex_encode};
//! use dim::crypto::{identity::{generate_id_with, prove_meta_with}, key::SignKey};
//! use dim::proto::address::{Address, AddressForm};
//! use dim::proto::directory::{Ans, Names};
//! use dim::proto::meta::{Meta, MetaForm};
//! use dim::proto::registry::Registry;
//! use std::sync::Arc;
//!
//! struct Moon;
//!
//! impl AddressForm for Moon {
//!     // `moon:` and 40 digits; the network byte says what sort of entity it is.
//!     fn network(text: &str) -> Option<u8> {
//!         let digits = text.strip_prefix("moon:")?;
//!         let good = digits.len() == 40 && digits.bytes().all(|d| d.is_ascii_hexdigit());
//!         good.then_some(0)
//!     }
//! }
//!
//! impl MetaForm for Moon {
//!     const CODE: u8 = 9;
//!     const NAME: &'static str = "MOON";
//!     const HAS_SEED: bool = false;
//!
//!     fn address(_: &Meta, key: &[u8], _network: u8) -> Option<Address> {
//!         let digits = hex_encode(sha256(key).get(..20)?);
//!         Address::of::<Moon>(&format!("moon:{digits}")).ok()
//!     }
//! }
//!
//! let mut registry = Registry::new();
//! registry.add_address::<Moon>()?;
//! registry.add_meta::<Moon>()?;
//!
//! let key = SignKey::generate_ecc()?;
//! let meta = Meta::build(Registry::meta_kind::<Moon>(), key.public_map()?, None)?;
//! let id = generate_id_with(&registry, &meta, 0)?;
//! assert!(id.address().starts_with("moon:"));
//!
//! // As it comes back from somebody else, in a message and in an account.
//! let mut names = Names::with(Arc::new(Ans::default()), Arc::new(registry.clone()));
//! assert_eq!(names.read(id.as_str()), Some(id.clone()));
//! let meta = Meta::from_map_with(&meta.to_map(), &registry)?;
//! assert_eq!(prove_meta_with(&registry, &id, meta)?.id(), &id);
//!
//! // Without the registry nobody knows such an address.
//! assert_eq!(Names::default().read(id.as_str()), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use super::address::{Address, AddressForm, Network};
use super::content::{Content, ContentError, kind_of};
use super::document::{Document, DocumentForm};
use super::error::ProtoError;
use super::field::Source;
use super::id::Id;
use super::kind::{Key, Kind, stands_for};
use super::meta::{Meta, MetaForm, MetaKind, MetaRule};

/// A value of an application's own type.
pub type Opened = Box<dyn Any + Send>;

type Read = fn(&Source<'_>) -> Result<Opened, ContentError>;
type ReadDocument = fn(&Document) -> Result<Opened, ProtoError>;

/// Most entries of each sort: a registry is filled by a program, and one that grows without end
/// has a mistake.
pub const REGISTERED_MAX: usize = 256;

/// Why something cannot be registered. The program's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryError {
    /// It has no key, or keys of different numbers.
    Keys,
    /// Something else has this key, name or number, or the protocol itself.
    Taken,
    /// There are [`REGISTERED_MAX`] already.
    Full,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "type has no key, or keys of different numbers",
            Self::Taken => "key, name or number is taken",
            Self::Full => "registry is full",
        })
    }
}

impl std::error::Error for RegistryError {}

/// An application's own types, by what they are known by on the wire.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<Key<'static>, Read>,
    aliases: BTreeMap<&'static str, u32>,
    documents: BTreeMap<&'static str, ReadDocument>,
    addresses: Vec<Network>,
    metas: Vec<MetaRule>,
}

/// Takes a place in a table where it is free.
fn place<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), RegistryError> {
    if table.contains_key(&key) {
        return Err(RegistryError::Taken);
    }
    if table.len() >= REGISTERED_MAX {
        return Err(RegistryError::Full);
    }
    table.insert(key, value);
    Ok(())
}

impl Registry {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            kinds: BTreeMap::new(),
            aliases: BTreeMap::new(),
            documents: BTreeMap::new(),
            addresses: Vec::new(),
            metas: Vec::new(),
        }
    }

    /// The empty one that everything uses that is given none.
    pub fn none() -> &'static Self {
        static NONE: Registry = Registry::new();
        &NONE
    }

    /// Adds a type of contents or commands under all its keys. One of the protocol's own may be
    /// replaced so, for who opens contents by this registry.
    pub fn add<T: Kind + Send + 'static>(&mut self) -> Result<(), RegistryError> {
        let mut keys = T::KEYS.iter();
        let number = keys.next().ok_or(RegistryError::Keys)?.number();
        if keys.any(|key| key.number() != number) {
            return Err(RegistryError::Keys);
        }
        if T::KEYS.iter().any(|key| self.kinds.contains_key(key)) {
            return Err(RegistryError::Taken);
        }
        if self.kinds.len() + T::KEYS.len() > REGISTERED_MAX {
            return Err(RegistryError::Full);
        }
        for key in T::KEYS {
            self.kinds.insert(*key, |source| Ok(Box::new(T::read(source)?)));
        }
        Ok(())
    }

    /// Adds a type of contents whose number may be given by this text.
    pub fn add_named<T: Kind + Send + 'static>(
        &mut self,
        alias: &'static str,
    ) -> Result<(), RegistryError> {
        let Some(Key::Content(number)) = T::KEYS.first() else {
            return Err(RegistryError::Keys);
        };
        // The protocol's own names, and numbers in decimal.
        let own = kind_of(Some(&alias.into())) != 0 || alias.parse::<u32>().is_ok() || alias == "*";
        if own || self.aliases.contains_key(alias) {
            return Err(RegistryError::Taken);
        }
        self.add::<T>()?;
        place(&mut self.aliases, alias, *number)
    }

    /// Adds a form of addresses. The protocol's own forms come first.
    pub fn add_address<F: AddressForm>(&mut self) -> Result<(), RegistryError> {
        if self.addresses.len() >= REGISTERED_MAX {
            return Err(RegistryError::Full);
        }
        self.addresses.push(F::network);
        Ok(())
    }

    /// Adds a kind of metas.
    pub fn add_meta<F: MetaForm>(&mut self) -> Result<(), RegistryError> {
        if self.metas.len() >= REGISTERED_MAX {
            return Err(RegistryError::Full);
        }
        let rule = MetaRule::of::<F>();
        let taken = self.metas.iter().any(|other| other.is_like(&rule)) || rule.is_built_in();
        if taken {
            return Err(RegistryError::Taken);
        }
        self.metas.push(rule);
        Ok(())
    }

    /// Adds a type of documents.
    pub fn add_document<F: DocumentForm + Send + 'static>(&mut self) -> Result<(), RegistryError> {
        place(&mut self.documents, F::TYPE, |document| Ok(Box::new(F::read(document)?)))
    }

    /// The content as the type that is registered for it, by its narrowest key; none if there is
    /// none.
    pub fn open(&self, content: &Content) -> Result<Option<Opened>, ContentError> {
        match content.keys().find_map(|key| self.kinds.get(&key)) {
            Some(read) => read(&Source { map: &content.map, registry: self }).map(Some),
            None => Ok(None),
        }
    }

    /// The content as a `T`, registered or not; its IDs and metas may have the registered forms.
    pub fn view<T: Kind>(&self, content: &Content) -> Result<T, ContentError> {
        match stands_for::<T>(content) {
            true => T::read(&Source { map: &content.map, registry: self }),
            false => Err(ContentError::OtherKind),
        }
    }

    /// The document as the type that is registered for it; none if there is none. Says nothing
    /// about who signed it.
    pub fn open_document(&self, document: &Document) -> Result<Option<Opened>, ProtoError> {
        self.documents.get(document.kind_text()).map(|read| read(document)).transpose()
    }

    /// Reads an ID, whose address may have a registered form.
    pub fn id(&self, text: &str) -> Result<Id, ProtoError> {
        Id::parse_in(text, |_| None, self)
    }

    /// What [`Meta::build`] takes for a registered kind.
    pub const fn meta_kind<F: MetaForm>() -> MetaKind {
        MetaKind::Other { code: F::CODE, seed: F::HAS_SEED }
    }

    /// The address that a meta makes by the registered rule of its kind; none if there is no rule
    /// or it finds none. `key` is the key's data.
    pub fn meta_address(&self, meta: &Meta, key: &[u8], network: u8) -> Option<Address> {
        let rule = self.metas.iter().find(|rule| rule.kind == meta.kind())?;
        // Nobody owns the broadcast addresses.
        (rule.address)(meta, key, network).filter(|address| !address.is_broadcast())
    }

    /// The number that a text stands for as a content's type.
    pub(super) fn number(&self, alias: &str) -> Option<u32> {
        self.aliases.get(alias).copied()
    }

    /// Network byte of an address in one of the registered forms.
    pub(super) fn network(&self, address: &str) -> Option<u8> {
        self.addresses.iter().find_map(|network| network(address))
    }

    /// Rules for metas of other kinds than the protocol's own.
    pub(super) fn metas(&self) -> &[MetaRule] {
        &self.metas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::directory::{Ans, Names};
    use crate::proto::json::Parser;
    use crate::proto::message::ReliableMessage;
    use bytes::Bytes;
    use serde_json::{Map, Value, json};
    use std::sync::Arc;

    #[derive(Debug, PartialEq)]
    struct Poem(String);

    impl Kind for Poem {
        const KEYS: &'static [Key<'static>] = &[Key::Content(3000)];

        fn read(source: &Source<'_>) -> Result<Self, ContentError> {
            Ok(Self(source.field(&["verse"])?))
        }

        fn write(&self, map: &mut Map<String, Value>) {
            map.insert("verse".into(), self.0.as_str().into());
        }
    }

    impl DocumentForm for Poem {
        const TYPE: &'static str = "poem";

        fn read(document: &Document) -> Result<Self, ProtoError> {
            let verse = document.properties().get("verse").and_then(Value::as_str);
            Ok(Self(verse.ok_or(ProtoError::new("verse", "a text"))?.to_owned()))
        }
    }

    /// The keys of one type name two numbers, those of the other none.
    struct Torn;
    struct Empty;

    impl Kind for Torn {
        const KEYS: &'static [Key<'static>] = &[Key::Content(1), Key::Command("torn")];
        fn read(_: &Source<'_>) -> Result<Self, ContentError> {
            Ok(Self)
        }
        fn write(&self, _: &mut Map<String, Value>) {}
    }

    impl Kind for Empty {
        const KEYS: &'static [Key<'static>] = &[];
        fn read(_: &Source<'_>) -> Result<Self, ContentError> {
            Ok(Self)
        }
        fn write(&self, _: &mut Map<String, Value>) {}
    }

    /// Accepts every text, also eight and ten letters.
    struct Any;

    impl AddressForm for Any {
        fn network(text: &str) -> Option<u8> {
            Some(text.bytes().next().unwrap_or(0))
        }
    }

    impl MetaForm for Any {
        const CODE: u8 = 7;
        const NAME: &'static str = "ANY";
        const HAS_SEED: bool = false;

        fn address(_: &Meta, key: &[u8], _: u8) -> Option<Address> {
            Address::of::<Self>(std::str::from_utf8(key).ok()?).ok()
        }
    }

    /// Wants the number of another.
    struct Thief;

    impl MetaForm for Thief {
        const CODE: u8 = 4;
        const NAME: &'static str = "THIEF";
        const HAS_SEED: bool = false;

        fn address(_: &Meta, _: &[u8], _: u8) -> Option<Address> {
            None
        }
    }

    #[test]
    fn a_number_may_be_given_by_a_registered_name() {
        let mut registry = Registry::new();
        registry.add_named::<Poem>("poem").unwrap();
        for kind in [json!("poem"), json!("3000"), json!(3000)] {
            let content = json!({"type": kind, "verse": "so", "x": 1});
            let mut content = Content::read_with(content, &registry).unwrap();
            let opened = registry.open(&content).unwrap().unwrap();
            assert_eq!(opened.downcast_ref(), Some(&Poem("so".to_owned())));
            content.put(&Poem("it goes".to_owned()));
            assert_eq!(
                (content.kind, &content.map["type"], &content.map["x"]),
                (3000, &kind, &json!(1))
            );
        }
        let unknown = json!({"type": "poem", "verse": "so"});
        assert_eq!(Content::read(unknown).unwrap().kind, 0);
        for own in ["text", "*", "12"] {
            assert_eq!(Registry::new().add_named::<Poem>(own), Err(RegistryError::Taken));
        }
    }

    #[test]
    fn what_is_not_registered_is_read_as_before() {
        let registry = Registry::new();
        let text = Content::read_with(json!({"type": 1, "text": "hi"}), &registry).unwrap();
        assert!(registry.open(&text).unwrap().is_none());
        assert_eq!(registry.id("moon@luna").ok(), None);
    }

    #[test]
    fn a_place_is_given_once() {
        let mut registry = Registry::new();
        registry.add::<Poem>().unwrap();
        assert_eq!(registry.add::<Poem>(), Err(RegistryError::Taken));
        assert_eq!(registry.add_named::<Poem>("poem"), Err(RegistryError::Taken));
        assert_eq!(registry.number("poem"), None);
        assert_eq!(registry.add::<Torn>(), Err(RegistryError::Keys));
        assert_eq!(registry.add::<Empty>(), Err(RegistryError::Keys));
        registry.add_meta::<Any>().unwrap();
        assert_eq!(registry.add_meta::<Any>(), Err(RegistryError::Taken));
        assert_eq!(registry.add_meta::<Thief>(), Err(RegistryError::Taken));
        for _ in 0..REGISTERED_MAX {
            registry.add_address::<Any>().unwrap();
        }
        assert_eq!(registry.add_address::<Any>(), Err(RegistryError::Full));
    }

    #[test]
    fn a_document_is_read_as_its_registered_type() {
        let mut registry = Registry::new();
        registry.add_document::<Poem>().unwrap();
        let with =
            |kind: &str, data: &str| Document::build(&Id::moky(), kind, data, "YWJj").unwrap();
        let poem = registry.open_document(&with("poem", "{\"verse\": \"so\"}")).unwrap().unwrap();
        assert_eq!(poem.downcast_ref(), Some(&Poem("so".to_owned())));
        assert!(registry.open_document(&with("poem", "{}")).is_err());
        assert!(registry.open_document(&with("visa", "{}")).unwrap().is_none());
    }

    #[test]
    fn no_registered_address_is_a_broadcast_or_another_ones() {
        let mut registry = Registry::new();
        registry.add_address::<Any>().unwrap();
        for text in ["a@somebody", "a@everybodyy", "a@mün", "a@12345678"] {
            let id = registry.id(text).unwrap();
            assert_eq!((id.as_str(), id.is_broadcast()), (text, false));
            assert_eq!(id.naked(), id);
            let dressed = id.dressed("tv").unwrap();
            assert_eq!((dressed.naked(), dressed.network()), (id.clone(), id.network()));
            assert!(id.is_named_by(dressed.as_str()) && !id.is_named_by("b@somebody"));
            assert_eq!(registry.id(dressed.as_str()), Ok(dressed));
        }
        assert!(registry.id("a@EveryWhere").unwrap().is_broadcast());
        let own = registry.id("0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D").unwrap();
        assert_eq!(own.network(), 0);
        for bad in ["a@b/c/d", "a@b@c", " a@b", "a@b\n"] {
            assert!(registry.id(bad).is_err(), "{bad}");
        }
        for bad in ["a/b", "a@b", " a", "a\r", &"a".repeat(129)] {
            assert!(Address::of::<Any>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_between_registered_addresses_is_read() {
        let mut registry = Registry::new();
        registry.add_address::<Any>().unwrap();
        let mut names = Names::with(Arc::new(Ans::default()), Arc::new(registry));
        let text = br#"{"sender":"a@luna/1","receiver":"luna","data":"AAAA","signature":"AA=="}"#;
        let raw = Bytes::from_static(text);
        let mut parser = Parser::default();
        let message = ReliableMessage::parse(raw.clone(), &mut parser, &mut names).unwrap();
        assert_eq!(message.sender().address(), "luna");
        assert_eq!((message.receiver().as_str(), message.is_plain()), ("luna", false));
        assert!(ReliableMessage::parse(raw, &mut parser, &mut Names::default()).is_err());
    }

    #[test]
    fn a_registered_meta_is_read_under_its_number_and_its_name() {
        let mut registry = Registry::new();
        registry.add_meta::<Any>().unwrap();
        for kind in [json!(7), json!("7"), json!("ANY")] {
            let map = json!({"version": kind, "key": {}});
            let map = map.as_object().unwrap();
            let meta = Meta::from_map_with(map, &registry).unwrap();
            assert_eq!(meta.kind(), Registry::meta_kind::<Any>());
            assert_eq!(meta.to_map()["type"], 7);
            assert!(Meta::from_map(map).is_err());
            let address = |key: &[u8]| registry.meta_address(&meta, key, 0);
            assert_eq!(address(b"luna").unwrap().as_str(), "luna");
            assert_eq!(address(b"anywhere"), None);
            assert_eq!(Registry::none().meta_address(&meta, b"luna", 0), None);
        }
        let seeded = json!({"type": 7, "key": {}, "seed": "a", "fingerprint": "YWJj"});
        assert!(Meta::from_map_with(seeded.as_object().unwrap(), &registry).is_err());
    }
}
