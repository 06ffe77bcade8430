//! A table of what to do with each kind of content: for bots, clients and whatever else answers.
//! It decides nothing and sends nothing; answers go back to whoever asked.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::content::{Content, ContentError};
use super::kind::{Key, Kind};
use super::registry::{REGISTERED_MAX, Registry, RegistryError};

/// Most answers to one content; more are dropped. An answer is a message of its own.
pub const ANSWERS_MAX: usize = 64;

/// Contents to send in answer, as [`Content::to_map`] yields them.
pub type Answers = Vec<Map<String, Value>>;

type Process<C> =
    Box<dyn FnMut(&mut C, &Content, &Registry) -> Result<Answers, ContentError> + Send>;

/// Closures by the kind of content that they take, with a context `C` that they share.
///
/// ```
/// use dim::proto::command::{Receipt, Search, Stamp};
/// use dim::proto::content::{Content, Text};
/// use dim::proto::kind::Key;
/// use dim::proto::processors::Processors;
/// use dim::proto::registry::Registry;
///
/// let mut table = Processors::<u64>::new();
/// // A type says itself what it stands for.
/// table.on(|heard: &mut u64, content: &Content, text: Text| {
///     *heard += 1;
///     let said = Receipt { text: format!("heard {}", text.text), ..Receipt::default() };
///     vec![Content::of(Stamp { sn: *heard, time: 0.0 }, &said).to_map()]
/// })?;
/// // All commands that nobody else takes.
/// table.on_key(Key::Content(136), |_, _| Vec::new())?;
///
/// let (mut heard, none) = (0, Registry::new());
/// let stamp = Stamp { sn: 1, time: 0.0 };
/// let hello = Content::of(stamp, &Text { text: "hello".to_owned() });
/// let answers = table.process(&mut heard, &hello, &none)?.expect("somebody takes texts");
/// assert_eq!(answers[0]["text"], "heard hello");
/// let search = Content::of(stamp, &Search::default());
/// assert_eq!(table.process(&mut heard, &search, &none)?, Some(Vec::new()));
/// assert_eq!(heard, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Processors<C> {
    table: BTreeMap<Key<'static>, usize>,
    /// Apart, since a type with several keys has one closure.
    closures: Vec<Process<C>>,
}

impl<C> Default for Processors<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for Processors<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.keys()).finish()
    }
}

impl<C> Processors<C> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { table: BTreeMap::new(), closures: Vec::new() }
    }

    /// Gives all contents that `T` stands for to a closure, read.
    pub fn on<T: Kind>(
        &mut self,
        mut process: impl FnMut(&mut C, &Content, T) -> Answers + Send + 'static,
    ) -> Result<(), RegistryError> {
        self.place(
            T::KEYS,
            Box::new(move |context, content, registry| {
                let value = registry.view(content)?;
                Ok(process(context, content, value))
            }),
        )
    }

    /// Gives all contents with this key to a closure, if no narrower key finds another.
    pub fn on_key(
        &mut self,
        key: Key<'static>,
        mut process: impl FnMut(&mut C, &Content) -> Answers + Send + 'static,
    ) -> Result<(), RegistryError> {
        self.place(&[key], Box::new(move |context, content, _| Ok(process(context, content))))
    }

    fn place(&mut self, keys: &[Key<'static>], process: Process<C>) -> Result<(), RegistryError> {
        if keys.iter().any(|key| self.table.contains_key(key)) {
            return Err(RegistryError::Taken);
        }
        if self.table.len() + keys.len() > REGISTERED_MAX {
            return Err(RegistryError::Full);
        }
        self.table.extend(keys.iter().map(|key| (*key, self.closures.len())));
        self.closures.push(process);
        Ok(())
    }

    /// What is answered to a content; none if nobody takes it. An error is the fault of whoever
    /// wrote the content.
    pub fn process(
        &mut self,
        context: &mut C,
        content: &Content,
        registry: &Registry,
    ) -> Result<Option<Answers>, ContentError> {
        let place = content.keys().find_map(|key| self.table.get(&key).copied());
        let Some(process) = place.and_then(|place| self.closures.get_mut(place)) else {
            return Ok(None);
        };
        let mut answers = process(context, content, registry)?;
        answers.truncate(ANSWERS_MAX);
        Ok(Some(answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::command::{GroupCommand, Search};
    use serde_json::json;

    #[test]
    fn the_narrowest_entry_takes_a_content() {
        let mut table = Processors::<Vec<&'static str>>::new();
        let mut entry = |key: Key<'static>, name: &'static str| {
            table.on_key(key, move |taken, _| {
                taken.push(name);
                vec![Map::new(); 100]
            })
        };
        entry(Key::Content(204), "customized").unwrap();
        entry(Key::Customized("app", "mod"), "module").unwrap();
        entry(Key::Action("app", "mod", "act"), "action").unwrap();
        entry(Key::Command("search"), "search").unwrap();
        assert_eq!(entry(Key::Command("search"), "again"), Err(RegistryError::Taken));
        let taken = |table: &mut Processors<Vec<&'static str>>, content: Value| {
            let mut taken = Vec::new();
            let content = Content::read(content).unwrap();
            let answers = table.process(&mut taken, &content, Registry::none()).unwrap();
            (taken.pop(), answers.map(|answers| answers.len()))
        };
        for (content, name) in [
            (json!({"type": 204, "app": "app", "mod": "mod", "act": "act"}), "action"),
            (json!({"type": 160, "app": "app", "mod": "mod", "act": "act"}), "action"),
            (json!({"type": 204, "app": "app", "mod": "mod", "act": "other"}), "module"),
            (json!({"type": "customized", "app": "app", "mod": "other"}), "customized"),
            (json!({"type": 136, "cmd": "search"}), "search"),
        ] {
            assert_eq!(taken(&mut table, content), (Some(name), Some(ANSWERS_MAX)));
        }
        for content in [json!({"type": 136, "cmd": "other"}), json!({"text": "?"})] {
            assert_eq!(taken(&mut table, content), (None, None));
        }
    }

    #[test]
    fn a_type_of_many_names_has_one_closure_and_what_it_cannot_read_is_an_error() {
        let mut table = Processors::<u32>::new();
        table.on(|_, _, _: Search| Vec::new()).unwrap();
        let count = |count: &mut u32, _: &Content, _: GroupCommand| {
            *count += 1;
            Vec::new()
        };
        table.on(count).unwrap();
        assert_eq!(table.on(count), Err(RegistryError::Taken));
        let mut counted = 0;
        let mut process = |content: Value| {
            let content = Content::read(content).unwrap();
            table.process(&mut counted, &content, Registry::none())
        };
        for command in ["join", "quit"] {
            let content = json!({"type": 137, "command": command, "group": "all"});
            assert_eq!(process(content), Ok(Some(Vec::new())));
        }
        let nameless = json!({"type": 137, "command": "join"});
        assert_eq!(process(nameless), Err(ContentError::Missing("group")));
        assert_eq!(counted, 2);
    }
}
