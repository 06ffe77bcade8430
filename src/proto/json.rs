//! JSON: one strict parser for everything that strangers send.
//!
//! simd-json rewrites its input, so it works on a scratch copy and the received bytes stay as
//! they are. Only its tape is used: its own conversions to values keep one of two duplicate
//! keys, and another parser may keep the other, so that two readers of one message would
//! disagree on who sent it. Here a text with duplicate keys is refused.

use std::fmt;

use serde_json::{Map, Number, Value};
use simd_json::{Buffers, Node, StaticNode, Tape};

use crate::base::limits::{
    JSON_DEPTH_MAX, JSON_MEMBERS_MAX, JSON_PAIRWISE_MAX, JSON_SCRATCH_BYTES_MAX,
};

/// Why a text was refused. The fault of whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// It starts with a byte order mark.
    ByteOrderMark,
    /// It is not JSON, not UTF-8, nested too deep, or has a number beyond 64 bits.
    Syntax,
    /// Arrays and objects are nested deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
    /// An object has more than [`JSON_MEMBERS_MAX`] members.
    TooManyMembers,
    /// An object has two members of one name.
    DuplicateKey,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByteOrderMark => "text starts with a byte order mark",
            Self::Syntax => "not valid json",
            Self::TooDeep => "nested too deep",
            Self::TooManyMembers => "too many members in an object",
            Self::DuplicateKey => "duplicate key in an object",
        })
    }
}

impl std::error::Error for JsonError {}

/// A parser that keeps its buffers between inputs. One a shard.
pub struct Parser {
    scratch: Vec<u8>,
    buffers: Buffers,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser").field("scratch_bytes", &self.scratch.capacity()).finish()
    }
}

impl Parser {
    /// A parser without buffers yet; they grow with the first inputs.
    pub fn new() -> Self {
        Self { scratch: Vec::new(), buffers: Buffers::with_max_depth(0, JSON_DEPTH_MAX) }
    }

    /// The tape of `input`: flat, in order, every limit of this module already checked.
    /// It borrows the parser's scratch, not the input.
    pub fn tape<'a>(&'a mut self, input: &[u8]) -> Result<Tape<'a>, JsonError> {
        if input.starts_with(b"\xef\xbb\xbf") {
            return Err(JsonError::ByteOrderMark);
        }
        if input.is_empty() {
            return Err(JsonError::Syntax);
        }
        if self.scratch.capacity() > JSON_SCRATCH_BYTES_MAX && input.len() <= JSON_SCRATCH_BYTES_MAX
        {
            *self = Self::new();
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(input);
        let tape = simd_json::to_tape_with_buffers(&mut self.scratch, &mut self.buffers)
            .map_err(|_| JsonError::Syntax)?;
        check(&tape.0)?;
        Ok(tape)
    }

    /// `input` as a tree of values.
    pub fn value(&mut self, input: &[u8]) -> Result<Value, JsonError> {
        let tape = self.tape(input)?;
        build(&mut tape.0.iter(), 0)
    }
}

/// `input` as a tree of values, with buffers made for this call. For rare texts; a shard keeps
/// a [`Parser`].
pub fn parse(input: &[u8]) -> Result<Value, JsonError> {
    Parser::new().value(input)
}

/// `input` as a JSON object.
pub fn parse_object(input: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match parse(input)? {
        Value::Object(map) => Ok(map),
        _ => Err(JsonError::Syntax),
    }
}

/// The text of `value`: compact, members in their order, never a raw line break.
pub fn write(value: &Value) -> String {
    value.to_string()
}

/// The text of an object: compact, members in their order, never a raw line break.
pub fn write_object(map: &Map<String, Value>) -> String {
    // Keys are texts and numbers are finite by type, so writing to memory cannot fail.
    serde_json::to_string(map).unwrap_or_default()
}

/// Nodes of a value, itself included.
fn span(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        _ => 1,
    }
}

/// Checks width and names of every object. The depth was bounded while the tape was made.
fn check(nodes: &[Node<'_>]) -> Result<(), JsonError> {
    for (index, node) in nodes.iter().enumerate() {
        if let Node::Object { len, count } = node {
            if *len > JSON_MEMBERS_MAX {
                return Err(JsonError::TooManyMembers);
            }
            let inside = nodes.get(index + 1..=index + count).ok_or(JsonError::Syntax)?;
            distinct(inside, *len)?;
        }
    }
    Ok(())
}

/// Checks that the `len` keys of an object, whose nodes are `inside`, all differ.
fn distinct(inside: &[Node<'_>], len: usize) -> Result<(), JsonError> {
    if len < 2 {
        return Ok(());
    }
    if len > JSON_PAIRWISE_MAX {
        let mut names: Vec<&str> = keys(inside).collect();
        names.sort_unstable();
        return match names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            true => Err(JsonError::DuplicateKey),
            false => Ok(()),
        };
    }
    let mut seen = [""; JSON_PAIRWISE_MAX];
    for (count, key) in keys(inside).take(JSON_PAIRWISE_MAX).enumerate() {
        if seen.iter().take(count).any(|other| *other == key) {
            return Err(JsonError::DuplicateKey);
        }
        if let Some(slot) = seen.get_mut(count) {
            *slot = key;
        }
    }
    Ok(())
}

/// Names of an object's members, from the nodes inside it: name, value, name, value…
fn keys<'t, 'i>(mut inside: &'t [Node<'i>]) -> impl Iterator<Item = &'i str> + use<'t, 'i> {
    std::iter::from_fn(move || {
        let (Node::String(key), rest) = inside.split_first()? else {
            return None;
        };
        inside = rest.get(span(rest.first()?)..)?;
        Some(*key)
    })
}

/// The next value of the tape. Recursion is bounded by [`JSON_DEPTH_MAX`].
fn build<'t, 'i: 't>(
    nodes: &mut impl Iterator<Item = &'t Node<'i>>,
    depth: usize,
) -> Result<Value, JsonError> {
    if depth > JSON_DEPTH_MAX {
        return Err(JsonError::TooDeep);
    }
    match nodes.next().ok_or(JsonError::Syntax)? {
        Node::String(text) => Ok(Value::String((*text).to_owned())),
        Node::Static(leaf) => build_leaf(leaf),
        Node::Array { len, .. } => {
            // Not `with_capacity(len)`: the length was written by a stranger; the tape is proof
            // enough that it is true, but growth costs little.
            let mut items = Vec::new();
            for _ in 0..*len {
                items.push(build(nodes, depth + 1)?);
            }
            Ok(Value::Array(items))
        }
        Node::Object { len, .. } => {
            let mut map = Map::with_capacity(*len);
            for _ in 0..*len {
                let Some(Node::String(key)) = nodes.next() else {
                    return Err(JsonError::Syntax);
                };
                map.insert((*key).to_owned(), build(nodes, depth + 1)?);
            }
            Ok(Value::Object(map))
        }
    }
}

fn build_leaf(leaf: &StaticNode) -> Result<Value, JsonError> {
    Ok(match leaf {
        StaticNode::Null => Value::Null,
        StaticNode::Bool(truth) => Value::Bool(*truth),
        StaticNode::I64(number) => Value::Number((*number).into()),
        StaticNode::U64(number) => Value::Number((*number).into()),
        StaticNode::F64(number) => {
            Value::Number(Number::from_f64(*number).ok_or(JsonError::Syntax)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_what_serde_json_reads() {
        let text =
            r#" {"a":[1,-2,3.5,true,null,"ü\n\ud83d\ude00"],"b":{},"c":{"a":[[]]},"t":1.0} "#;
        assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(text).unwrap()));
        assert_eq!(parse(b"18446744073709551615"), Ok(json!(u64::MAX)));
        assert_eq!(parse(br#""x""#), Ok(json!("x")));
    }

    #[test]
    fn the_order_of_members_stays() {
        let text = r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#;
        assert_eq!(write(&parse(text.as_bytes()).unwrap()), text);
    }

    #[test]
    fn duplicate_keys_are_refused_in_small_and_large_objects_at_any_depth() {
        for bad in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":[1,2],"b":2,"\u0061":3}}]"#] {
            assert_eq!(parse(bad.as_bytes()), Err(JsonError::DuplicateKey), "{bad}");
        }
        for width in [1, 15, 16, 17, 18, 300] {
            let mut members: Vec<String> = (0..width).map(|n| format!("\"k{n}\":[{n}]")).collect();
            assert!(parse(format!("{{{}}}", members.join(",")).as_bytes()).is_ok());
            members.push("\"k0\":0".to_owned());
            let twice = format!("{{{}}}", members.join(","));
            assert_eq!(parse(twice.as_bytes()), Err(JsonError::DuplicateKey), "{width}");
        }
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(JSON_DEPTH_MAX + 2).as_bytes()).is_err());
        assert!(parse(nested(200_000).as_bytes()).is_err());
        let wide = |width| {
            let members: Vec<String> = (0..width).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(parse(wide(JSON_MEMBERS_MAX).as_bytes()).is_ok());
        let refused = parse(wide(JSON_MEMBERS_MAX + 1).as_bytes());
        assert_eq!(refused, Err(JsonError::TooManyMembers));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let bad: [&[u8]; 12] = [
            b"",
            b" ",
            b"\xef\xbb\xbf{}",
            b"{",
            b"{}x",
            b"{} {}",
            b"NaN",
            b"{\"a\":\"\xff\"}",
            b"[1,]",
            b"{\"a\" 1}",
            b"1e999",
            b"\"\\ud800\"",
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_parser_is_reusable_after_an_error_and_lets_go_of_huge_buffers() {
        let mut parser = Parser::new();
        let huge = format!("[\"{}\"]", "x".repeat(2 * JSON_SCRATCH_BYTES_MAX));
        assert!(parser.value(huge.as_bytes()).is_ok());
        assert!(parser.value(b"{").is_err());
        assert_eq!(parser.value(b"[1]"), Ok(json!([1])));
        assert!(parser.scratch.capacity() <= JSON_SCRATCH_BYTES_MAX);
    }

    #[test]
    fn written_text_has_no_raw_line_breaks() {
        assert_eq!(write(&json!({"a": "x\r\n"})), r#"{"a":"x\r\n"}"#);
    }
}
