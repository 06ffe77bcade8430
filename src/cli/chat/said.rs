//! What is shown: one event, as a line for scripts, as a JSON object, and as people read it.
//!
//! What others wrote is never printed as it came: control characters would move the cursor,
//! recolour the screen or forge a second line.

use serde_json::{Map, Value};

/// An event. In a plain line its fields stand in this order, with blanks between; a text is last.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) event: &'static str,
    fields: Vec<(&'static str, Value)>,
    screen: String,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people, at a terminal.
    Screen,
    /// A word and fields.
    Plain,
    /// An object.
    Json,
}

impl Said {
    pub(super) fn new(event: &'static str, fields: Vec<(&'static str, Value)>) -> Self {
        Self { event, fields, screen: String::new() }
    }

    /// The same, with what people read; it is cleaned when it is printed.
    pub(super) fn shown(mut self, screen: impl Into<String>) -> Self {
        self.screen = screen.into();
        self
    }

    /// Something that was not done, and why.
    pub(super) fn error(text: &str) -> Self {
        Self::new("error", vec![("text", text.into())]).shown(format!("! {text}"))
    }

    /// Something worth knowing.
    pub(super) fn note(text: &str) -> Self {
        Self::new("note", vec![("text", text.into())]).shown(format!("- {text}"))
    }

    /// The line, without its end.
    pub(super) fn line(&self, form: Form) -> String {
        match form {
            Form::Screen => clean(&self.screen, "\n    "),
            Form::Plain => self.plain(),
            Form::Json => {
                let mut map = Map::new();
                map.insert("event".into(), self.event.into());
                map.extend(self.fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
                Value::Object(map).to_string()
            }
        }
    }

    fn plain(&self) -> String {
        let mut line = self.event.to_owned();
        for (_, value) in &self.fields {
            line.push(' ');
            match value {
                Value::String(text) => line.push_str(&clean(text, "\\n")),
                Value::Null => line.push('-'),
                other => line.push_str(&other.to_string()),
            }
        }
        line
    }
}

/// A text without characters that do something instead of being seen.
pub(super) fn clean(text: &str, new_line: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\n' => out.push_str(new_line),
            '\t' => out.push(' '),
            // Those that turn the direction of writing can make one name look like another.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            _ if letter.is_control() => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
    out
}

/// The hour and minute of a time in seconds since 1970, in UTC.
pub(super) fn clock(time_s: f64) -> String {
    // A cast takes whatever time somebody claims; the day is cut off.
    let minutes = (time_s / 60.0) as u64 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_came_moves_the_cursor_or_forges_a_line() {
        let text = "a\u{1b}[2J\nerror x\u{202e}y\r";
        let said = Said::new("message", vec![("from", "x".into()), ("text", text.into())])
            .shown(format!("x: {text}"));
        assert_eq!(said.line(Form::Plain), "message x a\u{fffd}[2J\\nerror xy");
        assert_eq!(said.line(Form::Screen), "x: a\u{fffd}[2J\n    error xy");
        assert_eq!(said.line(Form::Json).lines().count(), 1);
    }

    #[test]
    fn a_clock_shows_the_hour_of_any_time() {
        assert_eq!(clock(86_400.0 + 3_661.5), "01:01");
        assert_eq!(clock(f64::NAN), "00:00");
        assert_eq!(clock(-5.0), "00:00");
    }
}
