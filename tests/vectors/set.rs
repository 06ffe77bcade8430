//! A set of vectors: the committed one, or the folder that `DIM_VECTORS` names.

use std::borrow::Cow;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use dim::base::encode::hex_decode;
use serde_json::{Map, Value};

/// Longest text of a value in a report, in characters.
const SHOWN_CHARS: usize = 600;

/// What we answered. It is listed where the vector leaves the answer open, or where we differ.
pub(crate) struct Answer {
    text: Cow<'static, str>,
    differs: bool,
}

/// An answer that the vector does not allow.
pub(crate) struct Wrong {
    expected: String,
    got: String,
}

pub(crate) type Outcome = Result<Answer, Wrong>;

/// The exact value that was asked for.
pub(crate) fn exact() -> Outcome {
    Ok(Answer { text: "exact".into(), differs: false })
}

/// A deviation on purpose from a binding vector; it must stand in the reviewed table.
pub(crate) fn differs(text: &'static str) -> Outcome {
    Ok(Answer { text: text.into(), differs: true })
}

pub(crate) fn wrong(expected: impl Into<String>, got: impl Into<String>) -> Wrong {
    Wrong { expected: expected.into(), got: got.into() }
}

/// Holds an answer to `expect`, unless the vector leaves it open.
pub(crate) fn judge(vector: &Value, accepted: bool) -> Outcome {
    let word = |accepted| if accepted { "accept" } else { "reject" };
    match text(vector, "expect") == word(accepted) || vector["must"] == false {
        true => Ok(Answer { text: word(accepted).into(), differs: false }),
        false => Err(wrong(text(vector, "expect"), word(accepted))),
    }
}

/// Holds one value of an answer to the expected one.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), Wrong> {
    let show = |value: T| format!("{what} {}", brief(&format!("{value:?}")));
    if got == expected { Ok(()) } else { Err(wrong(show(expected), show(got))) }
}

fn brief(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()).into(),
        None => text.into(),
    }
}

pub(crate) fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {vector}"))
}

pub(crate) fn number(vector: &Value, key: &str) -> u32 {
    let number = vector[key].as_u64().and_then(|number| number.try_into().ok());
    number.unwrap_or_else(|| panic!("{key} is no number in {vector}"))
}

pub(crate) fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    hex_decode(text(vector, key)).unwrap_or_else(|_| panic!("{key} is not hex in {vector}"))
}

pub(crate) fn map<'a>(vector: &'a Value, key: &str) -> &'a Map<String, Value> {
    vector[key].as_object().unwrap_or_else(|| panic!("{key} is no object in {vector}"))
}

pub(crate) fn list<'a>(vector: &'a Value, key: &str) -> &'a [Value] {
    vector[key].as_array().unwrap_or_else(|| panic!("{key} is no list in {vector}"))
}

pub(crate) fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/data")
}

/// The folder under test, and whether it is another one than ours.
pub(crate) fn folder() -> (PathBuf, bool) {
    match std::env::var_os("DIM_VECTORS") {
        Some(folder) => (folder.into(), true),
        None => (committed(), false),
    }
}

pub(crate) fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file of that name in the set.
pub(crate) fn file(name: &str) -> Value {
    read(&folder().0.join(name))
}

/// Runs `check` over the vectors of a file.
pub(crate) fn run(name: &str, check: impl Fn(&Value) -> Outcome) {
    let file = file(name);
    let vectors = list(&file, "vectors");
    assert_eq!(Some(vectors.len() as u64), file["count"].as_u64(), "{name} is not whole");
    let label = |vector: &Value| {
        let found =
            ["name", "id", "text", "meta_kind", "kind"].iter().find_map(|key| vector[key].as_str());
        found.unwrap_or_default().to_owned()
    };
    run_items(name, vectors.iter().map(|vector| (label(vector), vector)), check);
}

/// Runs `check` over labelled vectors. All failures are shown at once; what a vector leaves open
/// is printed and, for the committed set, compared with the reviewed table.
pub(crate) fn run_items<'a>(
    name: &str,
    items: impl Iterator<Item = (String, &'a Value)>,
    check: impl Fn(&Value) -> Outcome,
) {
    let (mut failures, mut open, mut count) = (Vec::new(), Vec::new(), 0);
    for (index, (label, vector)) in items.enumerate() {
        count += 1;
        let note = ["note", "reason", "description"].iter().find_map(|key| vector[key].as_str());
        match check(vector) {
            Ok(answer) => {
                let left_open = vector["must"] == false || vector["must_flags"] == false;
                if left_open || answer.differs {
                    open.push(format!("{name} {index} {}: {label:?}", answer.text));
                }
            }
            Err(Wrong { expected, got }) => failures.push(format!(
                "{name} {index} {} ({})\n  expected {expected}\n  got      {got}",
                brief(&label),
                note.unwrap_or_default()
            )),
        }
    }
    println!("{name}: {count} answered, of these {} open:\n  {}", open.len(), open.join("\n  "));
    assert!(count > 0, "{name} is empty");
    assert!(failures.is_empty(), "{}\n{} of {count} wrong", failures.join("\n"), failures.len());
    if !folder().1 {
        let reviewed: Vec<&str> = include_str!("open.txt")
            .lines()
            .filter(|line| line.split(' ').next() == Some(name))
            .collect();
        assert_eq!(open, reviewed, "tests/vectors/open.txt lists other answers");
    }
}
