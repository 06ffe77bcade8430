//! What the machine grants: the port, io_uring, locked memory, open files, memory.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::folder::Running;
use super::{Finding, fine, found, set_by};
use crate::server::config::Loaded;
use crate::server::probe::{CONNECTIONS_EXPECTED, FILES_RESERVED, Obstacle, Probe, raise_limits};
use crate::server::trouble::Trouble;

pub(super) fn look(shards: u16, findings: &mut Vec<Finding>) {
    // As the station does at start, so that the answer is about the station and not about this shell.
    raise_limits();
    let probe = Probe::take();
    let of = |obstacle: Option<Obstacle>, kind, well: String| match obstacle {
        None => fine(well),
        Some(obstacle) => found(kind, obstacle.wrong).by(obstacle.remedy),
    };
    let well = "io_uring is granted".to_owned();
    findings.push(of(probe.uring.obstacle(), Trouble::UringDenied, well));
    let well = format!("locked memory: {}", probe.memlock);
    findings.push(of(probe.memlock_obstacle(shards), Trouble::MemlockLow, well));
}

/// Whether the address can be listened on. A station in the same folder has it by right.
pub(super) fn of_port(loaded: &Loaded, running: Running, findings: &mut Vec<Finding>) {
    let address = loaded.config.listen.address();
    let by = set_by(loaded, "listen.port");
    findings.push(match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => {
            fine(format!("address {address}{by} will be any free port"))
        }
        Ok(_) => fine(format!("address {address}{by} is free")),
        Err(error) => of_bind(address, &by, running, &error),
    });
}

fn of_bind(address: SocketAddr, by: &str, running: Running, error: &io::Error) -> Finding {
    let what = |said: &str| format!("address {address}{by} {said}");
    match error.kind() {
        io::ErrorKind::AddrInUse => match running {
            Some(_) => found(Trouble::PortTaken, what("is in use"))
                .by("by the station that runs in the data folder, as it seems"),
            None => found(Trouble::PortTaken, what("is in use")).by(format!(
                "another program, or a station of another folder: `ss -ltnp sport = :{}` names it; \
                 stop it, or choose another port (0: any free one)",
                address.port()
            )),
        },
        io::ErrorKind::AddrNotAvailable => {
            found(Trouble::AddressForeign, what("is not this machine's"))
        }
        io::ErrorKind::PermissionDenied => found(Trouble::PortPrivileged, what("is not allowed")),
        _ => found(Trouble::AddressUnusable, what(&error.to_string())),
    }
}

pub(super) fn of_files(loaded: &Loaded, findings: &mut Vec<Finding>) {
    raise_limits();
    let probe = Probe::take();
    let remedy = "raise it: `ulimit -n`, `LimitNOFILE=` in the systemd unit, or etc/limits.conf";
    let wanted = u64::from(loaded.config.limits.connections_max);
    let Some(room) = probe.connections() else {
        return findings.push(fine("open files: no limit"));
    };
    let what = format!("open files: {}, room for {room} connections", probe.files);
    findings.push(if wanted > room {
        let by = set_by(loaded, "limits.connections_max");
        let what = format!("{what}, but limits.connections_max{by} is {wanted}");
        found(Trouble::FilesLow, what).by(remedy)
    } else if room == 0 {
        let what = format!("{what}; the station itself takes {FILES_RESERVED}");
        found(Trouble::FilesLow, what).by(remedy)
    } else if room < CONNECTIONS_EXPECTED {
        found(Trouble::FilesFew, what).by(remedy)
    } else {
        fine(what)
    });
}

/// What the system, or the group of processes that we are in, has.
pub(super) fn of_memory(loaded: &Loaded, findings: &mut Vec<Finding>) {
    let read = |path| std::fs::read_to_string(path).ok();
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    let total = read("/proc/meminfo").and_then(|text| total_of(&text));
    let Some(memory) = [group, total].into_iter().flatten().min() else { return };
    let store = &loaded.config.store;
    let wanted = (u64::from(store.cache_mib) + u64::from(store.write_buffer_mib)) << 20;
    let what = format!(
        "memory: {} MiB, for the store {} MiB (store.cache_mib{}, store.write_buffer_mib{})",
        memory >> 20,
        wanted >> 20,
        set_by(loaded, "store.cache_mib"),
        set_by(loaded, "store.write_buffer_mib")
    );
    findings.push(match wanted > memory / 2 {
        true => found(Trouble::MemoryLow, what),
        false => fine(what),
    });
}

/// `MemTotal:  16384 kB` in bytes.
fn total_of(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::probe::{Bound, Uring};

    #[test]
    fn what_the_system_says_of_a_port_is_told_apart() {
        let address: SocketAddr = ([127, 0, 0, 1], 80).into();
        for (kind, running, code, remedy) in [
            (io::ErrorKind::AddrInUse, None, "port-taken", "`ss -ltnp sport = :80` names it"),
            (io::ErrorKind::AddrInUse, Some(None), "port-taken", "runs in the data folder"),
            (io::ErrorKind::PermissionDenied, None, "port-privileged", "CAP_NET_BIND_SERVICE"),
            (io::ErrorKind::AddrNotAvailable, None, "address-foreign", "the address to bind"),
            (io::ErrorKind::Other, None, "address-unusable", "what the system says"),
        ] {
            let finding = of_bind(address, " (a.toml:2:1)", running, &kind.into());
            assert_eq!(finding.trouble.unwrap().code(), code);
            assert!(finding.what.starts_with("address 127.0.0.1:80 (a.toml:2:1) "), "{finding}");
            assert!(finding.remedy.contains(remedy), "{finding}");
        }
    }

    #[test]
    fn a_machine_without_io_uring_is_a_fault_with_the_probes_remedy() {
        let uring = Uring::Denied { errno: 1, switch: Some(2) };
        let free = Bound { soft: None, hard: None };
        let obstacle =
            Probe { uring, memlock: free, memlock_counts: true, files: free }.obstacle(1).unwrap();
        let finding = found(Trouble::UringDenied, obstacle.wrong).by(obstacle.remedy);
        assert!(finding.is_fault());
        assert!(finding.to_string().contains("[uring-denied]\n        -> the sysctl"), "{finding}");
    }

    #[test]
    fn the_whole_memory_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(total_of(text), Some(16 << 20));
        assert_eq!(total_of("x"), None);
    }
}
