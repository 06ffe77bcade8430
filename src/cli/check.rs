//! `dims check`: what keeps a station from running here, each finding with its place and its remedy.
//! Changes nothing; the port is opened for a moment only.

mod account;
mod folder;
mod machine;
mod settings;

use std::fmt;
use std::process::ExitCode;

use serde_json::json;

use super::{CANNOT_RUN, run, say};
use crate::server::config::{Args, Config, Loaded, Origin};
use crate::server::trouble::{Trouble, Weight};

/// Something that was looked at.
struct Finding {
    /// None: it is as it should be.
    trouble: Option<Trouble>,
    what: String,
    remedy: String,
}

impl Finding {
    const fn word(&self) -> &'static str {
        match self.trouble {
            None => "ok",
            Some(trouble) => match trouble.weight() {
                Weight::Warning => "warning",
                Weight::Fault => "FAULT",
            },
        }
    }

    fn is_fault(&self) -> bool {
        self.trouble.is_some_and(|trouble| trouble.weight() == Weight::Fault)
    }

    /// A remedy that knows more than the general one.
    fn by(self, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        if remedy.is_empty() { self } else { Self { remedy, ..self } }
    }

    fn as_json(&self) -> serde_json::Value {
        let code = self.trouble.map(Trouble::code);
        let weight = self.word().to_lowercase();
        json!({"weight": weight, "code": code, "what": self.what, "remedy": self.remedy})
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8}{}", self.word(), self.what)?;
        if let Some(trouble) = self.trouble {
            write!(f, " [{}]\n        -> {}", trouble.code(), self.remedy)?;
        }
        Ok(())
    }
}

fn fine(what: impl Into<String>) -> Finding {
    Finding { trouble: None, what: what.into(), remedy: String::new() }
}

fn found(trouble: Trouble, what: impl Into<String>) -> Finding {
    Finding { trouble: Some(trouble), what: what.into(), remedy: trouble.remedy().to_owned() }
}

/// Who set a key, in brackets, for the end of a name; empty for a default.
fn set_by(loaded: &Loaded, key: &str) -> String {
    match loaded.origins.get(key) {
        None | Some(Origin::Default) => String::new(),
        Some(origin) => format!(" ({origin})"),
    }
}

pub(super) fn check(args: &Args, as_json: bool) -> ExitCode {
    let mut findings = Vec::new();
    let mut code = CANNOT_RUN;
    let mut shards = 1;
    match Config::load(args) {
        Ok(loaded) => {
            shards = loaded.config.shards;
            of_station(&loaded, &mut findings);
        }
        Err(mut error) => {
            code = run::code_of(&error);
            let remedy = std::mem::take(&mut error.right);
            findings.push(found(error.kind, error.to_string()).by(remedy));
        }
    }
    machine::look(shards, &mut findings);
    let faults = findings.iter().filter(|finding| finding.is_fault()).count();
    if as_json {
        findings.iter().for_each(|finding| say(finding.as_json()));
    } else {
        findings.iter().for_each(say);
        match faults {
            0 => say("a station can run here"),
            faults => say(format_args!("a station cannot run here: {faults} to mend")),
        }
    }
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(code) }
}

fn of_station(loaded: &Loaded, findings: &mut Vec<Finding>) {
    settings::look(loaded, findings);
    let running = folder::look(loaded, findings);
    let id = account::look(&loaded.config, findings);
    settings::of_neighbors(loaded, id.as_ref(), findings);
    machine::of_port(loaded, running, findings);
    machine::of_files(loaded, findings);
    machine::of_memory(loaded, findings);
}
