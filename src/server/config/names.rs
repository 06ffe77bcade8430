//! Which short names an operator may give away: a user called `owner` or `station` would be believed.

use crate::proto::id::Id;

/// Words of the protocol, of its roles and of its tools. Clients refuse or resolve them by themselves,
/// so a record for one could only mislead. `archivist`, `announcer`, `monitor`, `master` and
/// `assistant` are roles as well, but those are what records are for.
const RESERVED: &[&str] = &[
    // everybody and nobody in particular
    "all",
    "anyone",
    "everyone",
    "founder",
    "owner",
    // the protocol's families, ciphers and chains
    "aes",
    "btc",
    "des",
    "dim",
    "dimp",
    "dimt",
    "dkd",
    "ecc",
    "eth",
    "mkm",
    "rsa",
    // identities and what proves them
    "address",
    "asymmetric",
    "bulletin",
    "contact",
    "crypto",
    "document",
    "entity",
    "group",
    "id",
    "key",
    "meta",
    "password",
    "private",
    "profile",
    "public",
    "secret",
    "symmetric",
    "tai",
    "user",
    "visa",
    // kinds of members
    "admin",
    "administrator",
    "bot",
    "chatroom",
    "company",
    "department",
    "government",
    "main",
    "member",
    "organization",
    "polylogue",
    "provider",
    "robot",
    "school",
    "social",
    "station",
    "thing",
    // messages
    "command",
    "content",
    "data",
    "envelope",
    "forward",
    "history",
    "instant",
    "keys",
    "message",
    "receiver",
    "reliable",
    "secure",
    "sender",
    "signature",
    "time",
    // contents and commands
    "abdicate",
    "audio",
    "block",
    "expel",
    "file",
    "fire",
    "found",
    "handshake",
    "hire",
    "image",
    "invite",
    "join",
    "mute",
    "page",
    "query",
    "quit",
    "receipt",
    "register",
    "reset",
    "resign",
    "serial",
    "sn",
    "suicide",
    "text",
    "type",
    "video",
    // machines and programs
    "ans",
    "barrack",
    "cache",
    "client",
    "facebook",
    "local",
    "messenger",
    "remote",
    "root",
    "server",
    "store",
    "supervisor",
    "terminal",
    "transceiver",
];

/// Whether no ANS record may have this name, in whatever case it is written.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Why `name` cannot be an ANS name: `(what is wrong, what would be right)`.
pub(crate) fn name_fault(name: &str) -> Option<(&'static str, &'static str)> {
    if is_reserved(name) {
        return Some(("a reserved word", "choose another name"));
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '/' | ',' | '=');
    (name.is_empty() || name.contains(odd))
        .then_some(("not a name", "one word without blanks, `@`, `/`, `,` and `=`"))
}

/// Why `id` is not the text of an ID.
pub(crate) fn id_fault(id: &str) -> Option<(&'static str, &'static str)> {
    let right = "`name@address` or an address alone, copied whole: an address has a checksum";
    Id::parse(id).is_err().then_some(("not an ID", right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_records_are_for_stay_free() {
        for name in ["archivist", "announcer", "monitor", "master", "assistant", "apns"] {
            assert_eq!(name_fault(name), None, "{name}");
        }
    }

    #[test]
    fn words_of_the_protocol_are_taken_in_any_case() {
        for name in ["station", "Station", "OWNER", "everyone", "sn", "visa"] {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_one_word() {
        for name in ["", "two words", "a@b", "a/b", "a,b"] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        assert_eq!(name_fault("小明"), None);
    }
}
