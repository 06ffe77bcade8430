//! What fuzzing has found, each as the least input that shows it; see docs/fuzzing.md.

use std::sync::Arc;

use bytes::Bytes;
use dim::bot::{Archivist, Bot};
use dim::proto::directory::{Ans, Names};
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::{MessageError, ReliableMessage};
use dim::wire::{DeframeLimits, Deframer, WireError};

fn message(text: &str) -> Result<ReliableMessage, MessageError> {
    let mut names = Names::new(Arc::new(Ans::default()));
    ReliableMessage::parse(Bytes::copy_from_slice(text.as_bytes()), &mut Parser::new(), &mut names)
}

/// A copy has long names only, so it would have had the same name twice.
#[test]
fn a_null_under_one_name_and_a_value_under_the_other_are_the_same_field_twice() {
    let with = |more: &str| {
        message(&format!(r#"{{"sender":"moky@anywhere","data":"AAAA","signature":"AAAA",{more}}}"#))
    };
    for more in [
        r#""receiver":null,"R":"gsp@everywhere""#,
        r#""R":"gsp@everywhere","receiver":null"#,
        r#""group":null,"G":"everyone@everywhere""#,
        r#""keys":null,"K":{}"#,
        r#""meta":null,"M":{}"#,
    ] {
        assert!(matches!(with(more), Err(MessageError::Twice(_))), "{more}");
    }
    assert!(with(r#""receiver":null,"group":null,"keys":null,"key":null"#).is_ok());
}

/// What is told of a line without an end must not depend on how the network cut it.
#[test]
fn a_line_that_is_too_long_ends_the_same_way_however_it_is_cut() {
    let limits =
        DeframeLimits { message_bytes_max: 8, bare_lines: true, ..DeframeLimits::default() };
    for text in ["{23456789abc", "{23456789abc\n"] {
        for size in 1..=text.len() {
            let mut deframer = Deframer::new(limits);
            let end = text.as_bytes().chunks(size).find_map(|piece| {
                deframer.feed(Bytes::copy_from_slice(piece));
                deframer.next_event().err()
            });
            assert_eq!(end, Some(WireError::FrameTooLong { bytes: 9 }), "cut at each {size}");
        }
    }
}

/// The index has a line for each account; a file may say what it likes.
#[test]
fn a_note_of_an_account_on_two_lines_is_refused() {
    let mut bot = Archivist::new(&Id::moky()).expect("a table");
    assert!(bot.recall(br#"{"Account":["a@b\nc@d","name"]}"#).is_err());
    assert!(bot.recall(br#"{"Account":["a@b","name\nof two"]}"#).is_ok());
    assert_eq!(bot.accounts(), 1);
}
