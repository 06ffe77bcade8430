//! Metas: the key, and for most also the seed, that an ID is made of. As sent; unproven.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::address::Address;
use super::error::ProtoError;
use super::registry::Registry;
use crate::base::encode::ted_decode;

/// How a meta makes addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKind {
    /// Named: the address is made of the signature of a seed, in BTC form.
    Mkm,
    /// Nameless: the address is made of the key, in BTC form.
    Btc,
    /// Nameless: the address is made of the key, in ETH form.
    Eth,
    /// Another way, which an application has registered.
    Other {
        /// The number that travels.
        code: u8,
        /// Whether there is a seed and a fingerprint.
        seed: bool,
    },
}

/// A kind of metas that an application adds; see [`super::registry`].
pub trait MetaForm {
    /// The number that travels as `type` and `version`.
    const CODE: u8;
    /// The name that may travel instead.
    const NAME: &'static str;
    /// Whether these metas have a seed, which is the name of the ID, and its signature. The
    /// others must not have them.
    const HAS_SEED: bool;

    /// The address that a meta makes. `key` is the data of its key: the uncompressed point, or the
    /// DER of an RSA key. That the key signed the seed is checked by who asks.
    fn address(meta: &Meta, key: &[u8], network: u8) -> Option<Address>;
}

/// A registered kind of metas.
#[derive(Debug, Clone)]
pub(super) struct MetaRule {
    pub(super) kind: MetaKind,
    pub(super) address: fn(&Meta, &[u8], u8) -> Option<Address>,
    name: &'static str,
}

impl MetaRule {
    pub(super) fn of<F: MetaForm>() -> Self {
        let kind = MetaKind::Other { code: F::CODE, seed: F::HAS_SEED };
        Self { kind, address: F::address, name: F::NAME }
    }

    /// Whether a meta could be of both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind.code() == other.kind.code() || self.name == other.name
    }

    /// Whether a meta of the protocol itself could be of this.
    pub(super) fn is_built_in(&self) -> bool {
        let known = |value: &Value| MetaKind::from_value(value, &[]).is_some();
        known(&self.kind.code().into()) || known(&self.name.into())
    }
}

impl MetaKind {
    /// The number that travels as `type` and `version`.
    pub const fn code(self) -> u8 {
        match self {
            Self::Mkm => 1,
            Self::Btc => 2,
            Self::Eth => 4,
            Self::Other { code, .. } => code,
        }
    }

    /// Whether metas of this kind have a seed and a fingerprint; the others must not.
    pub const fn has_seed(self) -> bool {
        matches!(self, Self::Mkm | Self::Other { seed: true, .. })
    }

    /// Reads the number, its decimal text, or the name. Kinds 3 and 5 are reserved.
    fn from_value(value: &Value, rules: &[MetaRule]) -> Option<Self> {
        let registered = || {
            rules.iter().find(|rule| match value {
                Value::Number(number) => number.as_u64() == Some(rule.kind.code().into()),
                Value::String(text) => {
                    text == rule.name || text.parse().ok() == Some(rule.kind.code())
                }
                _ => false,
            })
        };
        let own = match value {
            Value::Number(number) => match number.as_u64() {
                Some(1) => Some(Self::Mkm),
                Some(2) => Some(Self::Btc),
                Some(4) => Some(Self::Eth),
                _ => None,
            },
            Value::String(text) => match text.as_str() {
                "1" | "MKM" | "mkm" => Some(Self::Mkm),
                "2" | "BTC" | "btc" => Some(Self::Btc),
                "4" | "ETH" | "eth" => Some(Self::Eth),
                _ => None,
            },
            _ => None,
        };
        own.or_else(|| registered().map(|rule| rule.kind))
    }
}

/// A meta that has the shape of one. Whether it is true, and whose it is, says
/// `crypto::identity`. A clone shares everything.
#[derive(Clone, PartialEq)]
pub struct Meta(Arc<Fields>);

#[derive(PartialEq)]
struct Fields {
    kind: MetaKind,
    fingerprint: Option<Vec<u8>>,
    /// The object with `type` and `version` normalised, everything else as it came.
    map: Map<String, Value>,
}

impl Meta {
    /// Reads a meta of any age: `type` or, in old ones, `version`, as number, text or name.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, ProtoError> {
        Self::from_map_with(map, Registry::none())
    }

    /// The same, where the kind may be one that an application has registered.
    pub fn from_map_with(
        map: &Map<String, Value>,
        registry: &Registry,
    ) -> Result<Self, ProtoError> {
        let mut map = map.clone();
        let kind = fix_kind(&mut map, registry.metas())?;
        Self::shape(kind, map)
    }

    fn shape(kind: MetaKind, map: Map<String, Value>) -> Result<Self, ProtoError> {
        if !map.get("key").is_some_and(Value::is_object) {
            return Err(ProtoError::new("meta.key", "a key object"));
        }
        let fingerprint = if kind.has_seed() {
            if !matches!(map.get("seed"), Some(Value::String(seed)) if !seed.is_empty()) {
                return Err(ProtoError::new("meta.seed", "a text"));
            }
            let bytes = map.get("fingerprint").and_then(|value| ted_decode(value).ok());
            Some(bytes.ok_or(ProtoError::new("meta.fingerprint", "a signature in base64"))?)
        } else {
            if map.contains_key("seed") || map.contains_key("fingerprint") {
                return Err(ProtoError::new("meta.type", "a kind that has a seed"));
            }
            None
        };
        Ok(Self(Arc::new(Fields { kind, fingerprint, map })))
    }

    /// A meta from its parts; `seed` is the seed and its signature in base64.
    pub fn build(
        kind: MetaKind,
        key: Map<String, Value>,
        seed: Option<(&str, &str)>,
    ) -> Result<Self, ProtoError> {
        let mut map = Map::new();
        map.insert("type".into(), kind.code().into());
        map.insert("version".into(), kind.code().into());
        map.insert("key".into(), key.into());
        if let Some((seed, fingerprint)) = seed {
            map.insert("seed".into(), seed.into());
            map.insert("fingerprint".into(), fingerprint.into());
        }
        Self::shape(kind, map)
    }

    /// The object to send and to store: integer `type` and `version`, other fields as they came.
    pub fn to_map(&self) -> Map<String, Value> {
        self.0.map.clone()
    }

    /// How it makes addresses.
    pub fn kind(&self) -> MetaKind {
        self.0.kind
    }

    /// The object of the public key.
    pub fn key(&self) -> Option<&Map<String, Value>> {
        self.0.map.get("key")?.as_object()
    }

    /// The seed, which is the name of the ID. Never empty.
    pub fn seed(&self) -> Option<&str> {
        self.0.map.get("seed")?.as_str()
    }

    /// The signature of the seed's bytes.
    pub fn fingerprint(&self) -> Option<&[u8]> {
        self.0.fingerprint.as_deref()
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("kind", &self.0.kind)
            .field("seed", &self.seed())
            .finish_non_exhaustive()
    }
}

/// Makes `type` and `version` the integer, as the reference does with every meta it receives.
fn fix_kind(map: &mut Map<String, Value>, rules: &[MetaRule]) -> Result<MetaKind, ProtoError> {
    let present = |field: &str| map.get(field).filter(|value| !value.is_null());
    let given = present("type").or_else(|| present("version")).cloned();
    let kind = given
        .as_ref()
        .and_then(|value| MetaKind::from_value(value, rules))
        .ok_or(ProtoError::new("meta.type", "1, 2 or 4, or its name"))?;
    // Only the newer field: a name under `version` was never an algorithm.
    if let Some(Value::String(name)) = map.get("type")
        && name.len() > 2
        && !map.contains_key("algorithm")
    {
        map.insert("algorithm".into(), name.clone().into());
    }
    map.insert("type".into(), kind.code().into());
    map.insert("version".into(), kind.code().into());
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Meta, ProtoError> {
        Meta::from_map(value.as_object().unwrap())
    }

    #[test]
    fn every_spelling_of_the_kind_becomes_the_integer() {
        for kind in [json!(4), json!("4"), json!("ETH"), json!("eth")] {
            let old = read(json!({"version": kind, "key": {}, "x": 1})).unwrap();
            let new = read(json!({"type": kind, "version": 9, "key": {}})).unwrap();
            assert_eq!((old.kind(), new.kind()), (MetaKind::Eth, MetaKind::Eth));
            assert_eq!(old.to_map().get("type"), Some(&json!(4)));
            assert_eq!(new.to_map().get("version"), Some(&json!(4)));
            assert_eq!(old.to_map().get("x"), Some(&json!(1)));
        }
        assert_eq!(
            read(json!({"type": "BTC", "key": {}})).unwrap().to_map().get("algorithm"),
            Some(&json!("BTC"))
        );
        let old = read(json!({"version": "BTC", "key": {}})).unwrap();
        assert_eq!(old.to_map().get("algorithm"), None);
        for bad in [json!(3), json!("5"), json!("9"), json!(null), json!(1.5), json!([1])] {
            assert!(read(json!({"type": bad, "key": {}})).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_is_demanded_or_forbidden_by_the_kind() {
        let named = |seed: Value, print: Value| {
            read(json!({"type": 1, "key": {}, "seed": seed, "fingerprint": print}))
        };
        assert_eq!(named(json!("a"), json!("YWJj")).unwrap().fingerprint(), Some(&b"abc"[..]));
        assert!(named(json!(""), json!("YWJj")).is_err());
        assert!(named(json!("a"), json!("")).is_err());
        assert!(named(json!("a"), json!("?")).is_err());
        assert!(read(json!({"type": 2, "key": {}, "seed": "a"})).is_err());
        assert!(read(json!({"type": 4, "key": {}, "fingerprint": null})).is_err());
        assert!(read(json!({"type": 4, "key": "PEM"})).is_err());
    }
}
