//! From what was typed to what the station may rely on: bounds, relations and the values that a 0 or
//! an empty string stand for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::names::{id_fault, is_reserved, name_fault};
use super::{Config, ConfigError, ConfigFile, DATA_DIR, Origin, Plain};
use crate::server::trouble::Trouble;

/// More shards than this are more threads than any machine of today has cores.
const SHARDS_MAX: u16 = 256;
/// Shorter waits end sessions on a busy machine; longer ones than a day are as good as none.
const WAIT_MS: RangeInclusive<u64> = 50..=86_400_000;
/// A login alone takes some KiB; a length in the frame's head goes no higher than 32 bits, and a
/// buffer of more than 1 GiB for one message is out of reason.
const MESSAGE_BYTES: RangeInclusive<u64> = 16_384..=1 << 30;
/// Beyond this nobody would look at what a count bounds.
const COUNT_MAX: u64 = 100_000_000;

pub(super) fn complete(
    file: ConfigFile,
    origins: &BTreeMap<String, Origin>,
    cores: u16,
) -> Result<Config, ConfigError> {
    let blame = Blame { origins };
    bounds(&file, &blame)?;
    relations(&file, &blame)?;
    words(&file, &blame)?;
    let shards = if file.shards == 0 { cores.clamp(1, SHARDS_MAX) } else { file.shards };
    Ok(Config {
        data_dir: file.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
        shards,
        station: file.station,
        listen: file.listen,
        tls: file.tls,
        limits: file.limits,
        mail: file.mail,
        policy: file.policy,
        ans: file.ans,
        neighbors: file.neighbors,
        store: file.store,
        log: file.log,
        reference: None,
    })
}

/// Knows who set a key.
struct Blame<'a> {
    origins: &'a BTreeMap<String, Origin>,
}

impl Blame<'_> {
    fn of(&self, key: &str, wrong: impl Into<String>, right: impl Into<String>) -> ConfigError {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        ConfigError::new(origin, key, wrong, right)
    }

    /// For a pair of keys that contradict each other: whichever the operator did set.
    fn of_either(&self, key: &str, other: &str, wrong: String, right: String) -> ConfigError {
        let set = if self.origins.contains_key(key) { key } else { other };
        self.of(set, wrong, right)
    }
}

fn bounds(file: &ConfigFile, blame: &Blame<'_>) -> Result<(), ConfigError> {
    let (limits, mail, store) = (&file.limits, &file.mail, &file.store);
    let rows: &[(&str, u64, RangeInclusive<u64>)] = &[
        ("shards", file.shards.into(), 0..=SHARDS_MAX.into()),
        ("limits.message_bytes_max", limits.message_bytes_max.into(), MESSAGE_BYTES),
        ("limits.login_ms_max", limits.login_ms_max.into(), WAIT_MS),
        ("limits.frame_ms_max", limits.frame_ms_max.into(), WAIT_MS),
        ("limits.idle_ms_max", limits.idle_ms_max.into(), WAIT_MS),
        ("limits.connections_max", limits.connections_max.into(), 0..=COUNT_MAX),
        (
            "limits.connections_per_address_max",
            limits.connections_per_address_max.into(),
            0..=COUNT_MAX,
        ),
        ("limits.session_out_bytes_max", limits.session_out_bytes_max.into(), 4096..=1 << 30),
        ("limits.parked_messages_max", limits.parked_messages_max.into(), 1..=10_000),
        (
            "limits.messages_before_login_max",
            limits.messages_before_login_max.into(),
            8..=COUNT_MAX,
        ),
        ("mail.expiry_days", mail.expiry_days.into(), 1..=3650),
        ("mail.messages_per_user_max", mail.messages_per_user_max.into(), 1..=COUNT_MAX),
        ("mail.bytes_per_user_max", mail.bytes_per_user_max, 1..=1 << 50),
        ("mail.receipts_ms", mail.receipts_ms.into(), 0..=10_000),
        ("mail.acknowledge_ms", mail.acknowledge_ms.into(), 0..=60_000),
        ("policy.monitor_every_ms", file.policy.monitor_every_ms.into(), 1000..=*WAIT_MS.end()),
        ("store.cache_mib", store.cache_mib.into(), 1..=1 << 20),
        ("store.write_buffer_mib", store.write_buffer_mib.into(), 1..=1 << 16),
    ];
    for (key, value, range) in rows {
        if !range.contains(value) {
            let right = format!("expected {} to {}", range.start(), range.end());
            let wrong = format!("out of bounds: {value}");
            return Err(blame.of(key, wrong, right).of_kind(Trouble::ConfigRange));
        }
    }
    Ok(())
}

fn relations(file: &ConfigFile, blame: &Blame<'_>) -> Result<(), ConfigError> {
    let (limits, mail) = (&file.limits, &file.mail);
    if mail.bytes_per_user_max < limits.message_bytes_max.into() {
        let wrong = format!(
            "bytes_per_user_max {} is less than message_bytes_max {}",
            mail.bytes_per_user_max, limits.message_bytes_max
        );
        let right = "one message of the greatest length must fit".to_owned();
        let (key, other) = ("mail.bytes_per_user_max", "limits.message_bytes_max");
        let error = blame.of_either(key, other, wrong, right);
        return Err(error.of_kind(Trouble::MailBelowMessage));
    }
    tls(file, blame)
}

fn tls(file: &ConfigFile, blame: &Blame<'_>) -> Result<(), ConfigError> {
    let (tls, listen) = (&file.tls, &file.listen);
    match (&tls.certificate, &tls.key) {
        (Some(_), None) => return Err(blame.of("tls.certificate", "no tls.key for it", BOTH)),
        (None, Some(_)) => return Err(blame.of("tls.key", "no tls.certificate for it", BOTH)),
        (None, None) if tls.port != 0 => {
            return Err(blame.of("tls.port", "there is no tls.certificate", BOTH));
        }
        (None, None) if tls.plain != Plain::Anyone => {
            return Err(blame.of("tls.plain", "there is no tls.certificate", BOTH));
        }
        _ => {}
    }
    if tls.port != 0 && tls.port == listen.port {
        let right = "0, since TLS is spoken on listen.port in any case, or another port";
        return Err(blame.of("tls.port", "the same as listen.port", right));
    }
    Ok(())
}

const BOTH: &str = "name both files, or neither for no TLS";

fn words(file: &ConfigFile, blame: &Blame<'_>) -> Result<(), ConfigError> {
    for (name, id) in &file.ans {
        if let Some((wrong, right)) = name_fault(name).or_else(|| id_fault(id)) {
            let kind = if is_reserved(name) { Trouble::AnsReserved } else { Trouble::AnsNotAnId };
            return Err(blame.of(&format!("ans.{name}"), wrong, right).of_kind(kind));
        }
    }
    for id in &file.policy.admins {
        if let Some((wrong, right)) = id_fault(id) {
            return Err(blame.of("policy.admins", wrong, right));
        }
    }
    for station in &file.neighbors.list {
        let fault = Some(station.id.as_str()).filter(|id| !id.is_empty()).and_then(id_fault);
        if let Some((wrong, right)) = fault {
            return Err(blame.of("neighbors.list", wrong, right));
        }
        if station.host.trim().is_empty() || station.port == 0 {
            let right = "each with a host and a port";
            return Err(blame.of("neighbors.list", "a station without a place", right));
        }
        if station.tls && ServerName::try_from(station.host.as_str()).is_err() {
            let wrong = format!("tls = true, and no certificate can be for {:?}", station.host);
            let right = "a host name or an IP address, by itself";
            return Err(blame.of("neighbors.list", wrong, right));
        }
    }
    if let Some((wrong, right)) = file.station.id.as_deref().and_then(id_fault) {
        return Err(blame.of("station.id", wrong, right).of_kind(Trouble::StationId));
    }
    if file.station.name.trim().is_empty() {
        return Err(blame.of("station.name", "empty", "a name that people see"));
    }
    if !file.log.level.split(',').all(is_level) {
        let wrong = format!("not a log level: {:?}", file.log.level);
        let right = "expected off, error, warn, info, debug or trace, \
                     also for a part: `info,dim::shard=debug`";
        return Err(blame.of("log.level", wrong, right));
    }
    Ok(())
}

/// `info`, or `part=info`.
fn is_level(directive: &str) -> bool {
    let (part, level) = directive.trim().split_once('=').unwrap_or(("dim", directive.trim()));
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    !part.is_empty() && known.iter().any(|word| word.eq_ignore_ascii_case(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let at = |line, column| Origin::File { path: "s.toml".into(), line, column };
        let layer = super::super::text::read(text, at).unwrap();
        complete(layer.table.try_into().unwrap(), &layer.origins, 1).unwrap_err().to_string()
    }

    #[test]
    fn bounds_and_relations_name_the_line() {
        for (text, expected) in [
            (
                "[limits]\nidle_ms_max = 1\n",
                "s.toml:2:1: limits.idle_ms_max: out of bounds: 1; expected 50 to 86400000",
            ),
            ("shards = 300\n", "s.toml:1:1: shards: out of bounds: 300; expected 0 to 256"),
            (
                "[limits]\nmessage_bytes_max = 100_000_000\n",
                "s.toml:2:1: limits.message_bytes_max: bytes_per_user_max 67108864 is less than \
                 message_bytes_max 100000000; one message of the greatest length must fit",
            ),
            (
                "[ans]\narchivist = \"2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR\"\nowner = \"x@y\"\n",
                "s.toml:3:1: ans.owner: a reserved word; choose another name",
            ),
            (
                "[ans]\narchivist = \"\"\n",
                "s.toml:2:1: ans.archivist: not an ID; `name@address` or an address alone, copied \
                 whole: an address has a checksum",
            ),
            (
                "[tls]\ncertificate = \"chain.pem\"\n",
                "s.toml:2:1: tls.certificate: no tls.key for it; \
                 name both files, or neither for no TLS",
            ),
            (
                "[tls]\nplain = \"nobody\"\n",
                "s.toml:2:1: tls.plain: there is no tls.certificate; \
                 name both files, or neither for no TLS",
            ),
            (
                "[tls]\ncertificate = \"a\"\nkey = \"b\"\nport = 9394\n",
                "s.toml:4:1: tls.port: the same as listen.port; \
                 0, since TLS is spoken on listen.port in any case, or another port",
            ),
            (
                "[neighbors]\nlist = [{ host = \"tls://a\", tls = true }]\n",
                "s.toml:2:1: neighbors.list: tls = true, and no certificate can be for \"tls://a\"; \
                 a host name or an IP address, by itself",
            ),
            (
                "[log]\nlevel = \"loud\"\n",
                "s.toml:2:1: log.level: not a log level: \"loud\"; expected off, error, warn, info, \
                 debug or trace, also for a part: `info,dim::shard=debug`",
            ),
        ] {
            assert_eq!(said(text), expected);
        }
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        let config = complete(ConfigFile::default(), &BTreeMap::new(), 3).unwrap();
        assert_eq!(config.shards, 3);
        assert_eq!(
            config,
            Config { shards: 3, listen: config.listen.clone(), ..Config::in_folder(DATA_DIR) }
        );
    }

    #[test]
    fn levels_may_be_given_for_parts() {
        for level in ["info", "WARN", "info,dim::shard=debug", "off"] {
            assert!(level.split(',').all(is_level), "{level}");
        }
        for level in ["", "inof", "dim=loud", "=info", "info,"] {
            assert!(!level.split(',').all(is_level), "{level}");
        }
    }
}
