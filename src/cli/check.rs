//! `dims check`: what keeps a station from running here, each finding with its place and its remedy.
//! Changes nothing; the port is opened for a moment only.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Access, access, statvfs};

use super::{CANNOT_RUN, run, say};
use crate::server::config::{Args, Config, Loaded, Origin};
use crate::server::probe::{CONNECTIONS_EXPECTED, FILES_RESERVED, Probe, raise_limits};
use crate::server::tls::Tls;

/// Below this the store cannot even write its own log and tables.
const DISK_BYTES_MIN: u64 = 256 << 20;
/// Below this an evening's pictures for absent users fill the disk.
const DISK_BYTES_EXPECTED: u64 = 2 << 30;
/// Others may enter, or even write.
const MODE_OTHERS: u32 = 0o077;
const MODE_OTHERS_WRITE: u32 = 0o022;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Fine,
    Warning,
    Fault,
}

struct Finding {
    weight: Weight,
    what: String,
    remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Fine => "ok",
            Weight::Warning => "warning",
            Weight::Fault => "FAULT",
        };
        write!(f, "{weight:<8}{}", self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "\n        -> {}", self.remedy)?;
        }
        Ok(())
    }
}

fn fine(what: impl Into<String>) -> Finding {
    Finding { weight: Weight::Fine, what: what.into(), remedy: String::new() }
}

fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { weight: Weight::Warning, what: what.into(), remedy: remedy.into() }
}

fn fault(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { weight: Weight::Fault, what: what.into(), remedy: remedy.into() }
}

pub(super) fn check(args: &Args) -> ExitCode {
    let mut findings = Vec::new();
    let mut code = CANNOT_RUN;
    match Config::load(args) {
        Ok(loaded) => of_config(&loaded, &mut findings),
        Err(mut error) => {
            code = run::code_of(&error);
            let remedy = std::mem::take(&mut error.right);
            findings.push(fault(error.to_string(), remedy));
        }
    }
    of_machine(&mut findings);
    findings.iter().for_each(say);
    let faults = findings.iter().filter(|finding| finding.weight == Weight::Fault).count();
    if faults == 0 {
        say("a station can run here");
        return ExitCode::SUCCESS;
    }
    say(format_args!("a station cannot run here: {faults} to mend"));
    ExitCode::from(code)
}

fn of_config(loaded: &Loaded, findings: &mut Vec<Finding>) {
    let config = &loaded.config;
    findings.push(match &loaded.file {
        Some(path) => fine(format!("config {}", path.display())),
        None => fine("no config file, so the defaults"),
    });
    findings.extend(loaded.warnings.iter().map(|text| warning(text.to_string(), "")));
    let set_by = |key: &str| match loaded.origins.get(key) {
        None | Some(Origin::Default) => String::new(),
        Some(origin) => format!(" ({origin})"),
    };
    let by = set_by("data_dir");
    findings.push(of_folder("data folder", &config.data_dir, &by));
    findings.push(of_disk(&config.data_dir));
    if let Some(dir) = &config.log.dir {
        findings.push(of_folder("log folder", dir, &set_by("log.dir")));
    }
    findings.push(of_port(config, &set_by("listen.port")));
    findings.extend(of_tls(config));
    findings.push(of_files(config, &set_by("limits.connections_max")));
}

fn of_tls(config: &Config) -> Option<Finding> {
    let validity = match Tls::load(&config.tls) {
        Ok(None) => return None,
        Ok(Some((_, validity))) => validity,
        Err(mut error) => {
            let remedy = std::mem::take(&mut error.right);
            return Some(fault(error.to_string(), remedy));
        }
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    Some(match validity.fault_at(now_s) {
        None => fine("tls.certificate and tls.key fit each other"),
        Some(what) => {
            warning(format!("tls.certificate {what}"), "renew it: clients refuse it then")
        }
    })
}

/// The station makes a missing folder itself, so then its nearest parent counts.
fn of_folder(name: &str, dir: &Path, by: &str) -> Finding {
    let what = |said: &str| format!("{name} {}{by} {said}", dir.display());
    let facts = match std::fs::metadata(dir) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = standing(dir);
            return match access(&parent, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => fine(what("will be made")),
                Err(error) => fault(
                    what(&format!("cannot be made: {}: {error}", parent.display())),
                    "name a folder that this user may write to, or make it for this user",
                ),
            };
        }
        Err(error) => return fault(what(&format!("cannot be read: {error}")), ""),
    };
    if !facts.is_dir() {
        return fault(what("is not a folder"), "name a folder");
    }
    if let Err(error) = access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let remedy = format!("chown it to the user that runs the station: {}", dir.display());
        return fault(what(&format!("cannot be written: {error}")), remedy);
    }
    let remedy = format!("chmod 700 {}", dir.display());
    let said = format!("is open to other users (mode {:o})", facts.mode() & 0o777);
    match facts.mode() {
        mode if mode & MODE_OTHERS_WRITE != 0 => fault(what(&said), remedy),
        mode if mode & MODE_OTHERS != 0 => warning(what(&said), remedy),
        _ => fine(what("is writable and private")),
    }
}

/// The nearest folder above that exists.
fn standing(dir: &Path) -> PathBuf {
    let above = dir.ancestors().skip(1).find(|above| above.is_dir());
    match above {
        Some(above) => above.to_owned(),
        None => PathBuf::from("."),
    }
}

fn of_disk(dir: &Path) -> Finding {
    let place = if dir.is_dir() { dir.to_owned() } else { standing(dir) };
    let facts = match statvfs(&place) {
        Ok(facts) => facts,
        Err(error) => return warning(format!("disk of {}: {error}", place.display()), ""),
    };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let what = format!("disk of {}: {} MiB free", place.display(), free >> 20);
    let remedy = |wanted: u64| format!("at least {} MiB should be free", wanted >> 20);
    match free {
        free if free < DISK_BYTES_MIN => fault(what, remedy(DISK_BYTES_MIN)),
        free if free < DISK_BYTES_EXPECTED => warning(what, remedy(DISK_BYTES_EXPECTED)),
        _ => fine(what),
    }
}

fn of_port(config: &Config, by: &str) -> Finding {
    let address = config.listen.address();
    let what = |said: &str| format!("address {address}{by} {said}");
    match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => fine(what("will be any free port")),
        Ok(_) => fine(what("is free")),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => fault(
                what("is in use"),
                "another station may run already; stop it, or choose another port (0: any free one)",
            ),
            io::ErrorKind::AddrNotAvailable => fault(
                what("is not this machine's"),
                "listen.host is the address to bind, \
                 station.host the one that clients are told",
            ),
            io::ErrorKind::PermissionDenied => fault(
                what("is not allowed"),
                "use a port of 1024 or more, or grant CAP_NET_BIND_SERVICE",
            ),
            _ => fault(what(&error.to_string()), ""),
        },
    }
}

fn of_files(config: &Config, by: &str) -> Finding {
    // As the station does at start, so that the answer is about the station and not about this shell.
    raise_limits();
    let probe = Probe::take();
    let remedy = "raise it: `ulimit -n`, `LimitNOFILE=` in the systemd unit, or etc/limits.conf";
    let wanted = u64::from(config.limits.connections_max);
    let Some(room) = probe.connections() else {
        return fine("open files: no limit");
    };
    let what = format!("open files: {}, room for {room} connections", probe.files);
    if wanted > room {
        let what = format!("{what}, but limits.connections_max is {wanted}{by}");
        return fault(what, remedy);
    }
    match room {
        0 => fault(format!("{what}; the station itself takes {FILES_RESERVED}"), remedy),
        room if room < CONNECTIONS_EXPECTED => warning(what, remedy),
        _ => fine(what),
    }
}

fn of_machine(findings: &mut Vec<Finding>) {
    raise_limits();
    let probe = Probe::take();
    findings.push(match probe.uring.obstacle() {
        None => fine("io_uring is granted"),
        Some(obstacle) => fault(obstacle.wrong, obstacle.remedy),
    });
    findings.push(match probe.memlock_obstacle() {
        None => fine(format!("locked memory: {}", probe.memlock)),
        Some(obstacle) => fault(obstacle.wrong, obstacle.remedy),
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, weight) in
            [(0o700, Weight::Fine), (0o750, Weight::Warning), (0o777, Weight::Fault)]
        {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(of_folder("data folder", dir.path(), "").weight, weight, "{mode:o}");
        }
    }

    #[test]
    fn a_missing_folder_will_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let finding = of_folder("data folder", &dir.path().join("a/b"), " (--data-dir)");
        assert_eq!(finding.weight, Weight::Fine);
        assert!(finding.to_string().ends_with("a/b (--data-dir) will be made"), "{finding}");
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert_eq!(of_folder("data folder", &file, "").weight, Weight::Fault);
    }

    #[test]
    fn a_port_in_use_is_a_fault() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::in_folder("x");
        assert_eq!(of_port(&config, "").weight, Weight::Fine);
        config.listen.port = listener.local_addr().unwrap().port();
        let finding = of_port(&config, " (DIM_PORT)");
        assert_eq!(finding.weight, Weight::Fault);
        assert!(finding.to_string().contains("(DIM_PORT) is in use\n"), "{finding}");
        config.listen.host = "192.0.2.1".parse().unwrap();
        config.listen.port = 0;
        assert!(of_port(&config, "").what.ends_with("is not this machine's"));
    }

    #[test]
    fn more_connections_than_files_are_a_fault() {
        let mut config = Config::in_folder("x");
        config.limits.connections_max = u32::MAX;
        let room = Probe::take().files.hard;
        let weight = of_files(&config, "").weight;
        assert_eq!(weight == Weight::Fault, room.is_some_and(|room| room < u32::MAX.into()));
    }
}
