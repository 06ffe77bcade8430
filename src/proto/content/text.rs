//! What people say: texts, answers to texts, pages and name cards.

use serde_json::{Map, Value};

use super::{kind, number};
use crate::proto::field::Resource;
use crate::proto::id::Id;
use crate::proto::kind::{Key, record};

record! {
    /// A text.
    #[derive(Default)]
    Text: Key::Content(kind::TEXT);
    /// What is said.
    text: String = "text",
}

record! {
    /// A text about an earlier message.
    #[derive(Default)]
    Quote: Key::Content(kind::QUOTE);
    /// What is said.
    text: String = "text",
    /// The earlier message: `sender`, `receiver` (or the group in its place), `type`, `sn`.
    origin: Map<String, Value> = "origin",
}

impl Quote {
    /// Serial number of the earlier content.
    pub fn origin_sn(&self) -> Option<u64> {
        self.origin.get("sn").and_then(number)
    }
}

record! {
    /// A web page: its place, or all of it.
    #[derive(Default)]
    Page: Key::Content(kind::PAGE);
    /// What it is called.
    title: String = "title",
    /// Where it is.
    url: Option<String> = "URL",
    /// The page itself.
    html: Option<String> = "HTML",
    /// What it is about.
    desc: Option<String> = "desc",
    /// Its icon.
    icon: Option<Resource> = "icon",
    /// Type of `html`, such as `text/html`.
    mime_type: Option<String> = "mime_type",
    /// Encoding of `html`, such as `utf8`.
    encoding: Option<String> = "encoding",
    /// The address that links in `html` start from.
    base: Option<String> = "base",
}

record! {
    /// A name card: somebody is recommended.
    Card: Key::Content(kind::CARD);
    /// Who.
    did: Id = "did" | "ID",
    /// The name that the sender knows.
    name: String = "name",
    /// The face that the sender knows.
    avatar: Option<Resource> = "avatar",
}
