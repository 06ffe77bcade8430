//! Short names and the IDs behind them, as our own station tells them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::proto::id::Id;

/// Names that are kept; when full, all are forgotten and asked for anew.
pub const NAMES_MAX: usize = 1024;

/// Words of the protocol, which nobody may be called by: who could give them away could pass for
/// a part of the protocol.
const RESERVED: &[&str] = &[
    "all everyone anyone owner founder moky gsp stations",
    "dkd mkm dimp dim dimt rsa ecc aes des btc eth",
    "crypto key symmetric asymmetric public private secret password id address meta",
    "tai document profile visa bulletin entity user group contact",
    "member admin administrator assistant main polylogue chatroom social organization",
    "company school government department provider station thing bot robot",
    "message instant secure reliable envelope sender receiver time",
    "content forward command history keys data signature type serial sn",
    "text file image audio video page handshake receipt block mute",
    "register suicide found abdicate invite expel join quit reset query hire fire resign",
    "server client terminal local remote barrack cache transceiver ans facebook store messenger",
];

/// Whether a name is a word of the protocol, in whatever letter case.
pub fn is_reserved(name: &str) -> bool {
    let words = RESERVED.iter().flat_map(|line| line.split(' '));
    words.into_iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// The names that are known.
#[derive(Debug, Default)]
pub struct NameBook {
    names: HashMap<String, Id>,
}

impl NameBook {
    /// Whom a name stands for.
    pub fn resolve(&self, name: &str) -> Option<&Id> {
        self.names.get(name)
    }

    /// Takes the records of an answer, which must have come from our own station; yields how many
    /// were new. Reserved words, and what is no ID of somebody, are left out.
    pub fn learn(&mut self, records: &Map<String, Value>) -> usize {
        let mut learned = 0;
        for (name, id) in records.iter().take(NAMES_MAX) {
            let id = id.as_str().and_then(|text| Id::parse(text).ok());
            let Some(id) = id.filter(|id| !is_reserved(name) && !id.is_broadcast()) else {
                continue;
            };
            if self.names.len() >= NAMES_MAX {
                self.names.clear();
            }
            learned += usize::from(self.names.insert(name.clone(), id.clone()) != Some(id));
        }
        learned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_of_the_protocol_are_nobodys_name() {
        const HULK: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";
        let mut book = NameBook::default();
        let records = json!({"archivist": HULK, "Station": HULK, "all": HULK, "x": "?",
            "y": "anyone@anywhere", "z": 1});
        assert_eq!(book.learn(records.as_object().unwrap()), 1);
        assert_eq!(book.learn(records.as_object().unwrap()), 0);
        assert_eq!(book.resolve("archivist").map(Id::as_str), Some(HULK));
        assert_eq!(book.resolve("Station"), None);
    }
}
