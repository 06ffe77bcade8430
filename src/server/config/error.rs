//! What is wrong with a configuration, where, and what would be right. Always the operator's to mend.

use std::fmt;
use std::path::PathBuf;

use crate::server::trouble::Trouble;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file; line and column count from 1, and 0 is the file as a whole.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line.
        line: u32,
        /// Column, in characters.
        column: u32,
    },
    /// An environment variable.
    Env(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
    /// Nobody set it.
    Default,
}

impl Origin {
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why the station cannot use its configuration; the operator's to mend.
/// Reads as `FILE:LINE:COLUMN: KEY: what is wrong; what would be right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What kind of fault it is.
    pub kind: Trouble,
    /// Where it was set.
    pub origin: Origin,
    /// The key with its section, as `listen.port`; empty when no single key is at fault.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; empty when the first says it.
    pub right: String,
}

impl ConfigError {
    pub(crate) fn new(
        origin: Origin,
        key: impl Into<String>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) -> Self {
        let (key, wrong, right) = (key.into(), wrong.into(), right.into());
        Self { kind: Trouble::ConfigValue, origin, key, wrong, right }
    }

    /// The same as another kind than a value that means nothing.
    pub(crate) fn of_kind(self, kind: Trouble) -> Self {
        Self { kind, ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.wrong)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Something in a configuration that has no effect, or not the one it seems to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind of thing it is.
    pub kind: Trouble,
    /// Where it stands.
    pub origin: Origin,
    /// What to know about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// Farther apart than this, two words are not a slip of the finger.
const SLIPS_MAX: usize = 3;

/// The known word that `typed` most likely meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (slips(typed, word), word))
        .filter(|&(slips, word)| slips <= SLIPS_MAX && slips * 2 < word.len().max(typed.len()))
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, word)| word)
}

/// Single letters to change, add, drop or swap with their neighbour, from one word to the other.
fn slips(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (row, letter) in from.chars().enumerate() {
        let mut line = Vec::with_capacity(to.len() + 1);
        let mut left = row + 1;
        line.push(left);
        for (column, wanted) in to.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let changed = at(&above, column) + usize::from(letter != *wanted);
            left = changed.min(left + 1).min(at(&above, column + 1) + 1);
            let swapped =
                column > 0 && last == Some(*wanted) && to.get(column - 1) == Some(&letter);
            if swapped {
                left = left.min(at(&before, column - 1).saturating_add(1));
            }
            line.push(left);
        }
        before = std::mem::replace(&mut above, line);
        last = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_count_letters() {
        for (from, to, count) in [
            ("port", "port", 0),
            ("prot", "port", 1),
            ("prt", "port", 1),
            ("", "port", 4),
            ("hst", "port", 3),
        ] {
            assert_eq!(slips(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn only_a_likely_word_is_suggested() {
        let known = ["host", "port"];
        assert_eq!(nearest("prt", known), Some("port"));
        assert_eq!(nearest("hots", known), Some("host"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("verbosity", known), None);
    }

    #[test]
    fn an_error_reads_as_one_line() {
        let origin = Origin::File { path: "a.toml".into(), line: 3, column: 1 };
        let error = ConfigError::new(origin, "listen.prot", "unknown key", "did you mean `port`?");
        assert_eq!(error.to_string(), "a.toml:3:1: listen.prot: unknown key; did you mean `port`?");
        let error = ConfigError::new(Origin::file("a.toml"), "", "not found", "");
        assert_eq!(error.to_string(), "a.toml: not found");
    }
}
