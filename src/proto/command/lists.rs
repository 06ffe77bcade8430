//! Lists that a user keeps at a station: whom not to hear, and of whom not to be woken.

use crate::proto::id::Id;
use crate::proto::kind::{Key, record};

record! {
    /// Says whose messages are to be dropped, or asks for the list.
    #[derive(Default)]
    Block: Key::Command("block");
    /// Users and groups; none in a question.
    list: Option<Vec<Id>> = "list",
}

record! {
    /// Says whose messages wake no device, or asks for the list.
    #[derive(Default)]
    Mute: Key::Command("mute");
    /// Users and groups; none in a question.
    list: Option<Vec<Id>> = "list",
}
