//! What fuzzing has found, each as the least input that shows it; see docs/fuzzing.md.

use std::sync::Arc;

use bytes::Bytes;
use dim::proto::directory::{Ans, Names};
use dim::proto::json::Parser;
use dim::proto::message::{MessageError, ReliableMessage};

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
