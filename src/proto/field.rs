//! Fields of contents as Rust values: what each type reads, and what it leaves on the wire.
//!
//! Reading is as generous as the reference where nothing is lost by it: numbers may be texts, an
//! absent text is empty, an ID that cannot be read is left out of a list.

use serde_json::{Map, Number, Value};

use super::content::{ContentError, number, seconds};
use super::document::Document;
use super::id::Id;
use super::meta::Meta;
use super::registry::Registry;
use crate::base::encode::{DecodeError, base64_encode, ted_decode};

/// The fields of one content, and the registry that says which forms IDs and metas may have.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The fields.
    pub map: &'a Map<String, Value>,
    /// What an application has added to the protocol.
    pub registry: &'a Registry,
}

impl<'a> Source<'a> {
    /// The value of a field; null is as good as none.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A field by the first of `names` that is there.
    pub fn field<F: Field>(&self, names: &[&'static str]) -> Result<F, ContentError> {
        let value = names.iter().find_map(|name| self.value(name));
        let name = names.first().copied().unwrap_or_default();
        F::read(value, self.registry).ok_or(match value {
            Some(_) => ContentError::Kind(name),
            None => ContentError::Missing(name),
        })
    }

    /// The text of a field, empty if there is none.
    pub fn text(&self, name: &str) -> &'a str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The fields of an object inside; those of no object are none.
    pub fn inside(&self, name: &str) -> Option<Source<'a>> {
        let map = self.value(name)?.as_object()?;
        Some(Source { map, registry: self.registry })
    }
}

/// A value that stands in a field.
pub trait Field: Sized {
    /// Reads it; none if the value is of another kind, or if it is absent and has to be there.
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self>;

    /// The value to write; none leaves the field out.
    fn write(&self) -> Option<Value>;
}

/// A field that may be absent.
impl<F: Field> Field for Option<F> {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        match value {
            Some(value) => F::read(Some(value), registry).map(Some),
            None => Some(None),
        }
    }

    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(F::write)
    }
}

/// A text; empty when absent.
impl Field for String {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        match value {
            None => Some(Self::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(self.as_str().into())
    }
}

/// An ID that has to be there.
impl Field for Id {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        registry.id(value?.as_str()?).ok()
    }

    fn write(&self) -> Option<Value> {
        Some(self.as_str().into())
    }
}

/// A list of IDs; those that cannot be read are left out. Empty when absent.
impl Field for Vec<Id> {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        let Some(value) = value else {
            return Some(Self::new());
        };
        let texts = value.as_array()?.iter().filter_map(Value::as_str);
        Some(texts.filter_map(|text| registry.id(text).ok()).collect())
    }

    fn write(&self) -> Option<Value> {
        Some(self.iter().map(Id::as_str).collect())
    }
}

/// A number that is neither rounded nor changed in its form; 0 when absent.
impl Field for Number {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        match value {
            None => Some(0.into()),
            Some(Value::Number(number)) => Some(number.clone()),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Number(self.clone()))
    }
}

/// A count; 0 when absent.
impl Field for u64 {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        value.map_or(Some(0), number)
    }

    fn write(&self) -> Option<Value> {
        Some((*self).into())
    }
}

/// A whole number that may be negative; 0 when absent.
impl Field for i64 {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        let number = Number::read(value, registry)?;
        // Python writes whole numbers as floats too; a cast keeps within the bounds.
        number.as_i64().or_else(|| number.as_f64().map(|float| float as Self))
    }

    fn write(&self) -> Option<Value> {
        Some((*self).into())
    }
}

/// Seconds: a time since 1970, or a duration. Finite and not negative; 0 when absent.
impl Field for f64 {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        value.map_or(Some(0.0), seconds)
    }

    fn write(&self) -> Option<Value> {
        Number::from_f64(*self).map(Value::Number)
    }
}

/// Bytes, as base64 and its older forms on the wire.
impl Field for Vec<u8> {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        match ted_decode(value?) {
            Err(DecodeError::Empty) => Some(Self::new()),
            bytes => bytes.ok(),
        }
    }

    fn write(&self) -> Option<Value> {
        Some(base64_encode(self).into())
    }
}

/// An object, as it is; empty when absent.
impl Field for Map<String, Value> {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        value.map_or_else(|| Some(Self::new()), |value| value.as_object().cloned())
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Object(self.clone()))
    }
}

/// A list of values, as they are; empty when absent.
impl Field for Vec<Value> {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        value.map_or_else(|| Some(Self::new()), |value| value.as_array().cloned())
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.clone()))
    }
}

/// A meta that has the shape of one; unproven.
impl Field for Meta {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        Self::from_map_with(value?.as_object()?, registry).ok()
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Object(self.to_map()))
    }
}

/// Documents that have the shape of one, unproven; others are left out. Empty when absent.
impl Field for Vec<Document> {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        let Some(value) = value else {
            return Some(Self::new());
        };
        let maps = value.as_array()?.iter().filter_map(Value::as_object);
        Some(maps.filter_map(|map| Document::from_map_with(map, registry).ok()).collect())
    }

    fn write(&self) -> Option<Value> {
        Some(self.iter().map(|document| Value::Object(document.to_map())).collect())
    }
}

/// A picture or another small file beside a content: its place or its bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// A URL, or a data URI.
    Text(String),
    /// An object with `data` or `URL`, perhaps `filename` and the `key` that opens it.
    Object(Map<String, Value>),
}

impl Field for Resource {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        match value? {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Object(map) => Some(Self::Object(map.clone())),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some(match self {
            Self::Text(text) => text.as_str().into(),
            Self::Object(map) => Value::Object(map.clone()),
        })
    }
}
