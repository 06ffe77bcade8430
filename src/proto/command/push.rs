//! What a station asks of the bot that wakes devices.

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::{Field, Source};
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};
use crate::proto::registry::Registry;

/// Wakes devices of some users.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Push {
    /// One for each user; those that cannot be read are left out.
    pub items: Vec<PushItem>,
}

/// What the devices of one user show.
#[derive(Debug, Clone, PartialEq)]
pub struct PushItem {
    /// The user.
    pub receiver: Id,
    /// First line.
    pub title: Option<String>,
    /// Second line.
    pub subtitle: Option<String>,
    /// The text.
    pub body: String,
    /// URL of a picture.
    pub image: Option<String>,
    /// The sound that it makes.
    pub sound: Option<String>,
    /// The number on the application's icon.
    pub badge: Option<u64>,
    /// What sort of message it is, for the application.
    pub category: Option<String>,
}

impl PushItem {
    /// Reads an item; `aps` may be missing around its fields, `alert` likewise.
    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let aps = source.inside("aps").unwrap_or(*source);
        let alert = aps.inside("alert").unwrap_or(aps);
        let body: Option<String> = alert.field(&["body", "content"])?;
        Ok(Self {
            receiver: source.field(&["receiver"])?,
            title: alert.field(&["title"])?,
            subtitle: alert.field(&["subtitle"])?,
            body: body.ok_or(ContentError::Missing("body"))?,
            image: alert.field(&["image"])?,
            sound: aps.field(&["sound"])?,
            badge: aps.field(&["badge"])?,
            category: aps.field(&["category"])?,
        })
    }
}

impl Field for PushItem {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        Self::read(&Source { map: value?.as_object()?, registry }).ok()
    }

    fn write(&self) -> Option<Value> {
        let (mut item, mut aps, mut alert) = (Map::new(), Map::new(), Map::new());
        set(&mut alert, &["title"], &self.title);
        set(&mut alert, &["subtitle"], &self.subtitle);
        set(&mut alert, &["body"], &self.body);
        set(&mut alert, &["image"], &self.image);
        aps.insert("alert".into(), alert.into());
        set(&mut aps, &["sound"], &self.sound);
        set(&mut aps, &["badge"], &self.badge);
        set(&mut aps, &["category"], &self.category);
        set(&mut item, &["receiver"], &self.receiver);
        item.insert("aps".into(), aps.into());
        Some(item.into())
    }
}

impl Kind for Push {
    const KEYS: &'static [Key<'static>] = &[Key::Command("push")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let Some(items) = source.value("items") else {
            // A single item may stand in the command itself.
            return Ok(Self { items: vec![PushItem::read(source)?] });
        };
        let items = items.as_array().ok_or(ContentError::Kind("items"))?;
        let read = |item| Field::read(Some(item), source.registry);
        Ok(Self { items: items.iter().filter_map(read).collect() })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        for single in ["receiver", "aps"] {
            map.shift_remove(single);
        }
        let items: Value = self.items.iter().filter_map(Field::write).collect();
        map.insert("items".into(), items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::content::Content;
    use serde_json::json;

    #[test]
    fn items_of_all_shapes_say_the_same() {
        let alert = json!({"title": "t", "body": "b"});
        for fields in [
            json!({"items": [{"receiver": "moky@anywhere", "aps": {"alert": alert, "badge": 2}}]}),
            json!({"receiver": "moky@anywhere", "alert": alert, "badge": "2"}),
            json!({"receiver": "moky@anywhere", "aps": {"title": "t", "content": "b", "badge": 2}}),
            json!({"items": [{"receiver": "moky@anywhere", "title": "t", "body": "b", "badge": 2},
                {"receiver": "moky@anywhere"}, {"aps": {"alert": alert}}, 7]}),
        ] {
            let mut map = fields.as_object().unwrap().clone();
            map.extend([("type".to_owned(), 136.into()), ("cmd".to_owned(), "push".into())]);
            let push = Content::read(map.into()).unwrap().view::<Push>().unwrap();
            let [item] = push.items.as_slice() else { panic!("{fields}") };
            assert_eq!((item.title.as_deref(), item.body.as_str()), (Some("t"), "b"), "{fields}");
            assert_eq!((item.badge, &item.receiver), (Some(2), &Id::moky()), "{fields}");
        }
    }
}
