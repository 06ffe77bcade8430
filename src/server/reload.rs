//! SIGHUP: the settings are read anew, and what can change in a running station changes. A file that
//! cannot be used changes nothing at all. A renewed certificate serves the connections that come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::config::{Args, Config, Loaded};
use super::listen::Admission;
use super::log::Lines;
use super::mesh::{Letter, Mailbox};
use super::neighbors::Roster;
use super::tls::Tls;
use super::{notify, start};

/// Sections that a running station takes over; everything else waits for the next start.
const LIVE: &[&str] = &["ans", "limits", "log", "mail", "neighbors", "policy"];

/// What is needed to read settings again, and what they were.
pub(super) struct Settings {
    pub(super) args: Args,
    pub(super) loaded: Loaded,
    pub(super) lines: Lines,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Settings {
    /// Reads the settings and hands them on.
    pub(super) fn reload(
        &mut self,
        mailboxes: &[Arc<Mailbox<Letter>>],
        admission: &Admission,
        roster: &Roster,
    ) {
        notify::reloading();
        match self.take() {
            Ok((letter, changes)) => {
                for mailbox in mailboxes {
                    mailbox.deliver(letter());
                }
                admission.set(start::bounds(&self.loaded.config));
                roster.read_again(self.loaded.config.neighbors.clone());
                changes.say();
            }
            Err(wrong) => {
                tracing::error!(%wrong, "settings stay as they are");
            }
        }
        notify::ready();
    }

    fn take(&mut self) -> Result<(impl Fn() -> Letter + use<>, Changes), String> {
        let loaded = Config::load(&self.args).map_err(|error| error.to_string())?;
        // Defaults in place of a file that is gone for a moment would be nobody's wish.
        if let Some(file) = self.loaded.file.as_ref().filter(|_| loaded.file != self.loaded.file) {
            return Err(format!("{}: the config file is gone", file.display()));
        }
        let ans = Arc::new(start::ans(&loaded.config).map_err(|error| error.to_string())?);
        let policy = Arc::new(start::policy(&loaded.config));
        if let Some(tls) = &self.tls {
            tls.reload().map_err(|error| error.to_string())?;
        }
        // Last, since it cannot be taken back.
        self.lines.reload(&loaded.config.log)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let changes = Changes::between(&self.loaded.keys, &loaded.keys);
        // What waits for the next start is compared with what runs, however often it is read again.
        let mut keys = loaded.keys.clone();
        for section in self.loaded.keys.keys().filter(|section| !is_live(section)) {
            keys.insert(section.clone(), self.loaded.keys[section].clone());
        }
        self.loaded = Loaded { keys, ..loaded };
        Ok((move || Letter::Reload { policy: policy.clone(), ans: ans.clone() }, changes))
    }
}

fn is_live(section: &str) -> bool {
    LIVE.contains(&section)
}

/// Names of keys whose values changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    live: BTreeSet<String>,
    later: BTreeSet<String>,
}

impl Changes {
    fn between(old: &toml::Table, new: &toml::Table) -> Self {
        let mut changes = Self::default();
        let nothing = toml::Value::from(toml::Table::new());
        let sections: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for section in sections {
            let of = |table: &toml::Table| table.get(section).unwrap_or(&nothing).clone();
            let changed = match (of(old), of(new)) {
                (toml::Value::Table(old), toml::Value::Table(new)) => {
                    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                    let differs = |key: &&&String| old.get(**key) != new.get(**key);
                    keys.iter().filter(differs).map(|key| format!("{section}.{key}")).collect()
                }
                (old, new) if old != new => vec![section.clone()],
                _ => Vec::new(),
            };
            if is_live(section) { &mut changes.live } else { &mut changes.later }.extend(changed);
        }
        changes
    }

    fn say(&self) {
        let list = |keys: &BTreeSet<String>| keys.iter().cloned().collect::<Vec<_>>().join(", ");
        tracing::info!(changed = list(&self.live), "settings read again");
        if !self.later.is_empty() {
            tracing::warn!("takes effect at the next start: {}", list(&self.later));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> (Vec<String>, Vec<String>) {
        let changes = Changes::between(&old.parse().unwrap(), &new.parse().unwrap());
        (changes.live.into_iter().collect(), changes.later.into_iter().collect())
    }

    #[test]
    fn changed_keys_are_told_by_when_they_take_effect() {
        let old = "shards = 1\n[listen]\nport = 1\n[ans]\na = \"x\"\nb = \"y\"\n[mail]\nexpiry_days = 7\n";
        let new = "shards = 2\n[listen]\nport = 1\n[ans]\na = \"x\"\nc = \"y\"\n[mail]\nexpiry_days = 8\n";
        assert_eq!(
            changes(old, new),
            (
                vec!["ans.b".into(), "ans.c".into(), "mail.expiry_days".into()],
                vec!["shards".into()]
            )
        );
        assert_eq!(changes(old, old), (vec![], vec![]));
        let moved = old.replace("port = 1", "port = 2");
        assert_eq!(changes(old, &moved).1, ["listen.port"]);
    }
}
