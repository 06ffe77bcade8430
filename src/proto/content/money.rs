//! Amounts of money, as said by their sender; nothing here moves any.

use serde_json::Number;

use super::kind;
use crate::proto::id::Id;
use crate::proto::kind::{Key, record};

record! {
    /// An amount of money.
    Money: Key::Content(kind::MONEY);
    /// The currency, such as `RMB` or `USDT`.
    currency: String = "currency",
    /// How much, as it was written.
    amount: Number = "amount",
}

record! {
    /// Money from one to another.
    Transfer: Key::Content(kind::TRANSFER);
    /// The currency, such as `RMB` or `USDT`.
    currency: String = "currency",
    /// How much, as it was written.
    amount: Number = "amount",
    /// Who pays.
    remitter: Option<Id> = "remitter",
    /// Who is paid.
    remittee: Option<Id> = "remittee",
}
