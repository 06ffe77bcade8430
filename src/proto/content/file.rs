//! Files, pictures, sounds and films: inside the content, or encrypted at some address.

use serde_json::{Map, Value};

use super::{ContentError, kind};
use crate::proto::field::{Resource, Source};
use crate::proto::kind::{Key, Kind, set};

/// The file of a content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    /// The bytes themselves; not encrypted apart from the message.
    pub data: Option<Vec<u8>>,
    /// Where the file can be fetched, encrypted with `key`.
    pub url: Option<String>,
    /// Its name, with extension.
    pub filename: Option<String>,
    /// The key object that opens what is at `url`.
    pub key: Option<Map<String, Value>>,
}

impl Attachment {
    /// A file that travels inside the content.
    pub fn inside(filename: &str, data: Vec<u8>) -> Self {
        Self { data: Some(data), filename: Some(filename.to_owned()), ..Self::default() }
    }

    /// A file at some address, and the key object that opens it.
    pub fn at(url: &str, filename: &str, key: Map<String, Value>) -> Self {
        let (url, filename) = (Some(url.to_owned()), Some(filename.to_owned()));
        Self { data: None, url, filename, key: Some(key) }
    }

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        // The published clients write an empty address where they have none.
        let url: Option<String> = source.field(&["URL"])?;
        Ok(Self {
            data: source.field(&["data"])?,
            url: url.filter(|url| !url.is_empty()),
            filename: source.field(&["filename"])?,
            key: source.field(&["key", "password"])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["data"], &self.data);
        set(map, &["URL"], &self.url);
        set(map, &["filename"], &self.filename);
        set(map, &["key", "password"], &self.key);
    }
}

/// A content with an attachment and fields beside it.
macro_rules! file {
    (
        $(#[$attribute:meta])*
        $name:ident: $number:expr;
        $($(#[$doc:meta])* $field:ident: $type:ty = $wire:literal,)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            /// The file.
            pub file: Attachment,
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Kind for $name {
            const KEYS: &'static [Key<'static>] = &[Key::Content($number)];

            fn read(source: &Source<'_>) -> Result<Self, ContentError> {
                Ok(Self {
                    file: Attachment::read(source)?,
                    $($field: source.field(&[$wire])?,)*
                })
            }

            fn write(&self, map: &mut Map<String, Value>) {
                self.file.write(map);
                $(set(map, &[$wire], &self.$field);)*
            }
        }
    };
}

file! {
    /// A file of any sort.
    File: kind::FILE;
}

file! {
    /// A picture.
    Image: kind::IMAGE;
    /// A small one, to be shown before it is fetched.
    thumbnail: Option<Resource> = "thumbnail",
}

file! {
    /// A sound.
    Audio: kind::AUDIO;
    /// How long it is, in seconds.
    duration: Option<f64> = "duration",
    /// What was understood of it.
    text: Option<String> = "text",
}

file! {
    /// A film.
    Video: kind::VIDEO;
    /// One picture of it.
    snapshot: Option<Resource> = "snapshot",
}
