//! Questions and answers, in the words of the reference's tool.

use std::io::{self, BufRead, Read, Write};

use serde_json::{Map, Value};

use super::super::Refusal;
use super::Field;
use crate::client::account::Account;
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::id::Id;

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

const LINE: &str = "!!! ========================================================================";
const THIN_LINE: &str =
    "!!! ------------------------------------------------------------------------";

/// Standard input and output, or what stands for them in a test.
pub(super) struct Prompt<R, W> {
    input: R,
    output: W,
}

impl Prompt<io::StdinLock<'static>, io::Stdout> {
    pub(super) fn standard() -> Self {
        Self { input: io::stdin().lock(), output: io::stdout() }
    }
}

impl<R: BufRead, W: Write> Prompt<R, W> {
    /// A line of the answer. Who closes our output still gets the account that was asked for.
    pub(super) fn say(&mut self, text: &str) {
        let _ = writeln!(self.output, "{text}");
    }

    /// Asks, and gives the answer without blanks around it.
    pub(super) fn ask(&mut self, question: &str) -> Result<String, Refusal> {
        let _ = write!(self.output, "{question}").and_then(|()| self.output.flush());
        let mut answer = String::new();
        let read = Read::take(&mut self.input, ANSWER_BYTES_MAX).read_line(&mut answer);
        let refuse = |said: &str| {
            Err(Refusal::here(format!("{said}; nothing was written ({})", question.trim_end())))
        };
        match read {
            Ok(0) => refuse("the input ended before the last answer"),
            Ok(_) if answer.len() as u64 >= ANSWER_BYTES_MAX => refuse("the answer is too long"),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(_) => refuse("the answer cannot be read as text"),
        }
    }

    /// Asks for one of some numbers until one of them is given.
    pub(super) fn choose(&mut self, of: &[(u8, &str)], name: &str) -> Result<u8, Refusal> {
        self.say(&format!("--- {name}(s) ---"));
        for (number, text) in of {
            self.say(&format!("{number:5}: {text}"));
        }
        loop {
            let answer = self.ask(&format!(">>> please input {name}: "))?;
            let number = answer.parse().ok().filter(|n| of.iter().any(|(known, _)| known == n));
            if let Some(number) = number {
                self.say(&format!("!!! {name}: {number}"));
                return Ok(number);
            }
            self.say(&format!("!!! {name} error: {answer}"));
        }
    }

    /// Asks for each field; a blank answer keeps what is there, or takes the default.
    pub(super) fn edit(
        &mut self,
        id: &Id,
        fields: &[Field],
        properties: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        self.say("!!!");
        self.say(LINE);
        self.say(&format!("!!!   Editing document for: {id}"));
        self.say(THIN_LINE);
        self.say("!!!");
        for field in fields {
            let present = properties.get(field.name).filter(|value| !value.is_null()).cloned();
            let value = self.value(field, present)?;
            self.say(&format!("<<<   {} = {};", field.name, shown(&value)));
            self.say("!!!");
            properties.insert(field.name.to_owned(), value);
        }
        self.say(THIN_LINE);
        self.say("!!!   Done!");
        self.say(LINE);
        self.say("!!!");
        Ok(())
    }

    fn value(&mut self, field: &Field, present: Option<Value>) -> Result<Value, Refusal> {
        let default = present.unwrap_or_else(|| match field.default.parse::<u16>() {
            Ok(number) if field.is_number => number.into(),
            _ => field.default.into(),
        });
        let quote = if field.is_number { "" } else { "\"" };
        let (called, old) = (field.called, shown(&default));
        loop {
            let question =
                format!(">>>   please input {called} (default is {quote}{old}{quote}): ");
            let answer = self.ask(&question)?;
            match answer.parse::<u16>() {
                _ if answer.is_empty() => return Ok(default),
                Ok(number) if field.is_number => return Ok(number.into()),
                Err(_) if field.is_number => self.say(&format!("!!! {called} error: {answer}")),
                _ => return Ok(answer.into()),
            }
        }
    }

    /// The account as it is now.
    pub(super) fn show(&mut self, account: &Account, founder: Option<&Id>) -> Result<(), Refusal> {
        let document = account.document();
        let kind = document.map_or("", |document| document.kind_text());
        let name = document.and_then(|document| document.properties().get("name"));
        let name = name.map(shown).unwrap_or_default();
        let meta = account.meta().kind().code();
        let key = match account.sign_key() {
            SignKey::Ecc(_) => "ECC",
            SignKey::Rsa(_) => "RSA",
        };
        self.say("!!!");
        self.say(&format!("!!! ID: {}", account.id()));
        self.say("!!!");
        self.say(&format!("!!! meta type: {meta}, document type: {kind}, name: \"{name}\""));
        self.say("!!!");
        match founder {
            Some(founder) => self.say(&format!("!!! founder: {founder}, private key: {key}")),
            None => {
                let keys = algorithms(account.message_keys());
                self.say(&format!("!!! private key: {key}, msg keys: [{keys}]"));
            }
        }
        self.say("!!!");
        Ok(())
    }
}

fn algorithms(keys: &[OpenKey]) -> String {
    keys.iter().map(|_| "'RSA'").collect::<Vec<_>>().join(", ")
}

/// A value as a person wrote it: a text without quotes, anything else as JSON.
pub(super) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
