//! Settings that are valid by themselves, and still not what anybody wants.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Finding, fine, found, set_by};
use crate::proto::id::Id;
use crate::server::config::{Config, Loaded};
use crate::server::neighbors::Source;
use crate::server::tls::{Tls, trust};
use crate::server::trouble::Trouble;

/// Others may write.
pub(super) const MODE_OTHERS_WRITE: u32 = 0o022;

pub(super) fn look(loaded: &Loaded, findings: &mut Vec<Finding>) {
    findings.push(match &loaded.file {
        Some(path) => of_file(path),
        None => fine("no config file, so the defaults"),
    });
    let warnings = loaded.warnings.iter();
    findings.extend(warnings.map(|warning| found(warning.kind, warning.to_string())));
    findings.extend(of_limits(loaded));
    findings.extend(of_hosts(loaded));
    findings.extend(of_tls(loaded));
    findings.extend(of_trust(loaded));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = loaded.config.shards;
    if usize::from(shards) > cores {
        let what = format!("shards{} is {shards}, cores are {cores}", set_by(loaded, "shards"));
        findings.push(found(Trouble::ShardsOverCores, what));
    }
    if !loaded.config.store.sync {
        let what = format!("store.sync{} is false", set_by(loaded, "store.sync"));
        findings.push(found(Trouble::StoreUnsynced, what));
    }
}

fn of_tls(loaded: &Loaded) -> Option<Finding> {
    let validity = match Tls::load(&loaded.config.tls) {
        Ok(None) => return None,
        Ok(Some((_, validity))) => validity,
        Err(mut error) => {
            let remedy = std::mem::take(&mut error.right);
            return Some(found(Trouble::TlsUnusable, error.to_string()).by(remedy));
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let by = set_by(loaded, "tls.certificate");
    Some(match validity.fault_at(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
        None => fine("tls.certificate and tls.key fit each other"),
        Some(what) => found(Trouble::TlsExpired, format!("tls.certificate{by} {what}")),
    })
}

fn of_file(path: &Path) -> Finding {
    let what = format!("config {}", path.display());
    match std::fs::metadata(path) {
        Ok(facts) if facts.mode() & MODE_OTHERS_WRITE != 0 => {
            let what = format!("{what} (mode {:o})", facts.mode() & 0o777);
            found(Trouble::ConfigWritable, what).by(format!("chmod go-w {}", path.display()))
        }
        _ => fine(what),
    }
}

/// Pairs of which the first is worth nothing unless it is below the second.
fn of_limits(loaded: &Loaded) -> Vec<Finding> {
    let (limits, mail) = (&loaded.config.limits, &loaded.config.mail);
    let idle = ("limits.idle_ms_max", limits.idle_ms_max);
    let pairs = [
        (("limits.login_ms_max", limits.login_ms_max), idle),
        (("mail.acknowledge_ms", mail.acknowledge_ms), idle),
        (
            ("limits.connections_per_address_max", limits.connections_per_address_max),
            ("limits.connections_max", limits.connections_max),
        ),
    ];
    let set = |key: &str| loaded.origins.contains_key(key);
    let odd = pairs.into_iter().filter(|((key, value), (other, bound))| {
        value > bound && *bound > 0 && (set(key) || set(other))
    });
    odd.map(|((key, value), (other, bound))| {
        let (by, of) = (set_by(loaded, key), set_by(loaded, other));
        found(Trouble::LimitsOdd, format!("{key}{by} is {value}, above {other}{of}, {bound}"))
    })
    .collect()
}

/// What clients are told must lead to where the station listens.
fn of_hosts(loaded: &Loaded) -> Option<Finding> {
    let config = &loaded.config;
    let by = set_by(loaded, "listen.host");
    let address = config.listen.host;
    let told = config.station.host.as_deref();
    if told.map_or(Some(address), |told| told.parse().ok()).is_some_and(|ip| ip.is_unspecified()) {
        let what = format!("listen.host{by} is {address} and station.host does not say more");
        return Some(found(Trouble::HostUnspecified, what));
    }
    let told = told.filter(|told| !is_local(told) && address.is_loopback())?;
    let of = set_by(loaded, "station.host");
    let what = format!("station.host{of} is {told}, listen.host{by} is {address}");
    Some(found(Trouble::HostLoopback, what))
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// By what stations under TLS and an https source are checked.
fn of_trust(loaded: &Loaded) -> Vec<Finding> {
    let neighbors = &loaded.config.neighbors;
    let mut findings = Vec::new();
    let mut wanted = neighbors.list.iter().any(|station| station.tls);
    if let Some(url) = &neighbors.source {
        match Source::read(url) {
            Ok(source) => wanted |= source.tls,
            Err(why) => {
                let by = set_by(loaded, "neighbors.source");
                let what = format!("neighbors.source{by}: {why}: {url}");
                findings.push(found(Trouble::NeighborsSource, what));
            }
        }
    }
    if wanted || neighbors.ca.is_some() {
        match trust::roots(neighbors.ca.as_deref()) {
            Ok(roots) => {
                findings.push(fine(format!("neighbours under TLS: {} roots", roots.len())));
            }
            Err(mut error) => {
                let remedy = std::mem::take(&mut error.right);
                findings.push(found(Trouble::NeighborsTrust, error.to_string()).by(remedy));
            }
        }
    }
    // Stations of a list that is elsewhere may be under TLS.
    let told = neighbors.source.is_some() || neighbors.output.is_some();
    if !wanted && !told && neighbors.ca.is_some() {
        let what = format!("neighbors.ca{} checks nobody", set_by(loaded, "neighbors.ca"));
        findings.push(found(Trouble::NeighborsCaIdle, what));
    }
    findings
}

/// The saved list of other stations; `own` is the station's ID where there is one.
pub(super) fn of_neighbors(loaded: &Loaded, own: Option<&Id>, findings: &mut Vec<Finding>) {
    let neighbors = &loaded.config.neighbors;
    let Some(path) = &neighbors.output else { return };
    let place = format!("neighbours {}{}", path.display(), set_by(loaded, "neighbors.output"));
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // It will be downloaded.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && neighbors.source.is_some() =>
        {
            return;
        }
        Err(error) => {
            let what = format!("{place} cannot be read: {error}");
            return findings.push(found(Trouble::NeighborsUnreadable, what));
        }
    };
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let what = format!("{}:{line}:{column}: neighbours: not JSON", path.display());
            return findings.push(found(Trouble::NeighborsBroken, what));
        }
    };
    let list = value.as_array().or_else(|| value.get("stations")?.as_array());
    let Some(list) = list else {
        return findings.push(found(Trouble::NeighborsBroken, format!("{place} hold no list")));
    };
    for (index, station) in list.iter().enumerate() {
        let what = |said: &str| format!("{place}: number {}: {said}", index + 1);
        if station["host"].as_str().is_none() || station["port"].as_u64().is_none() {
            findings.push(found(Trouble::NeighborsBroken, what("no host and port")));
        } else if station.get("tls").is_some_and(|tls| !tls.is_boolean()) {
            findings.push(found(Trouble::NeighborsBroken, what("tls is not true or false")));
        } else if is_self(station, own, &loaded.config) {
            findings.push(found(Trouble::NeighborsSelf, what("this station")));
        }
    }
    findings.push(fine(format!("{place}: {}", list.len())));
}

fn is_self(station: &Value, own: Option<&Id>, config: &Config) -> bool {
    let text = |name: &str| station[name].as_str();
    let id = text("did").or_else(|| text("ID")).or_else(|| text("id"));
    let same_id = id.and_then(|id| Id::parse(id).ok()).is_some_and(|id| Some(&id) == own);
    let port = if config.station.port == 0 { config.listen.port } else { config.station.port };
    let same_place = text("host") == config.station.host.as_deref()
        && station["port"].as_u64() == Some(port.into());
    same_id || same_place
}
