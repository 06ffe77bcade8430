//! JSON against serde_json: nothing is taken that it refuses, values are the same, and what only
//! we refuse has a reason that is one of our bounds.
#![no_main]

use dim::proto::json::{JsonError, Parser, parse, write};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Equal, with the last digit of a fraction left to the parser.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(1.0));
            a == b || (a - b).abs() <= a.abs().max(b.abs()) * 1e-12
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
        }
        _ => a == b,
    }
}

/// Whether a number in it may be too much for one of the parsers.
fn has_big_number(input: &[u8]) -> bool {
    input.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 18)
        || input.iter().any(|byte| matches!(byte, b'e' | b'E'))
}

fuzz_target!(|input: &[u8]| {
    let ours = parse(input);
    let theirs = serde_json::from_slice::<Value>(input);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert!(same(ours, theirs), "{ours} {theirs}"),
        (Ok(value), Err(error)) => panic!("only we take {value}: {error}"),
        (Err(JsonError::Syntax), Ok(value)) => {
            // Depth is a matter of syntax while the tape is made.
            let deep = input.iter().filter(|b| matches!(b, b'[' | b'{')).count() >= 64;
            assert!(deep || has_big_number(input), "only we refuse {value}");
        }
        (Err(_), _) => {}
    }
    if let Ok(value) = ours {
        let text = write(&value);
        assert!(!text.contains('\n'));
        let again = parse(text.as_bytes()).expect("what we write is JSON");
        assert!(same(&again, &value), "{text}");
    }
    // A parser that has seen other things gives the same.
    let mut used = Parser::new();
    let _ = used.value(b"{\"a\":[1,{\"b\":\"c\"}]}");
    let _ = used.value(b"{\"a\":[1,{");
    assert_eq!(used.value(input), parse(input));
});
