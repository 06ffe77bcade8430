//! Whether this machine lets a station run: io_uring, locked memory, open files. Asked by raw system
//! calls before the runtime starts, since the runtime panics where io_uring is denied and a panic tells
//! an operator nothing.

use std::fmt;

use rustix::io::Errno;
use rustix::io_uring::{io_uring_params, io_uring_setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The runtime refuses to start a shard with less, as it may lock its rings and buffers.
pub const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// What the rings of a shard lock, for users who have a limit: measured on Linux 6.18 by lowering it
/// until shards no longer begin. The kernel counts all processes of the user together.
pub const MEMLOCK_BYTES_A_SHARD: u64 = 1536 << 10;
/// The bit of CAP_IPC_LOCK, whose holders have no limit.
const CAP_IPC_LOCK: u32 = 14;
/// Files that are not connections: the store's tables and logs, rings, pipes, the listeners.
pub const FILES_RESERVED: u64 = 1_024;
/// Fewer connections than this are too few for a station that others rely on.
pub const CONNECTIONS_EXPECTED: u64 = 1_024;
/// The smallest ring: enough to see whether one is granted.
const PROBE_ENTRIES: u32 = 1;
/// Says since Linux 6.6 who may use io_uring: 0 everybody, 1 a group, 2 nobody.
const URING_SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

/// What the machine grants. Taken once, before the runtime starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether a ring can be made.
    pub uring: Uring,
    /// Bytes that may be locked, now.
    pub memlock: Bound,
    /// Whether that limit holds for this process's rings.
    pub memlock_counts: bool,
    /// Files that may be open, now.
    pub files: Bound,
}

/// Whether the kernel gives out io_uring instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uring {
    /// It does.
    Ready,
    /// It answers with this error number.
    Denied {
        /// As in errno(3).
        errno: i32,
        /// The value of the sysctl `kernel.io_uring_disabled`, where there is one.
        switch: Option<u8>,
    },
}

/// A limit of the process; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What holds now.
    pub soft: Option<u64>,
    /// How far the process itself may raise it.
    pub hard: Option<u64>,
}

impl Bound {
    /// Whether `amount` is granted now.
    #[must_use]
    pub fn allows(self, amount: u64) -> bool {
        self.soft.is_none_or(|soft| soft >= amount)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.soft {
            Some(soft) => soft.fmt(f),
            None => f.write_str("no limit"),
        }
    }
}

/// Something that keeps the station from running, and how an operator removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong.
    pub wrong: String,
    /// What to change.
    pub remedy: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.wrong, self.remedy)
    }
}

impl Probe {
    /// Asks the kernel.
    #[must_use]
    pub fn take() -> Self {
        Self {
            uring: probe_uring(),
            memlock: bound(Resource::Memlock),
            memlock_counts: !may_lock_freely(),
            files: bound(Resource::Nofile),
        }
    }

    /// The first thing that keeps so many shards from starting, if anything does.
    #[must_use]
    pub fn obstacle(&self, shards: u16) -> Option<Obstacle> {
        self.uring.obstacle().or_else(|| self.memlock_obstacle(shards))
    }

    /// Connections that the limit of open files leaves room for; `None`: no limit.
    #[must_use]
    pub fn connections(&self) -> Option<u64> {
        self.files.soft.map(|files| files.saturating_sub(FILES_RESERVED))
    }

    /// Whether too little memory may be locked for so many shards.
    #[must_use]
    pub fn memlock_obstacle(&self, shards: u16) -> Option<Obstacle> {
        let wanted = match self.memlock_counts {
            true => u64::from(shards.max(1)).saturating_mul(MEMLOCK_BYTES_A_SHARD),
            false => MEMLOCK_BYTES_MIN,
        };
        (!self.memlock.allows(wanted)).then(|| Obstacle {
            wrong: format!(
                "only {} bytes of memory may be locked, {shards} shards need {wanted}",
                self.memlock
            ),
            remedy:
                "raise it: `ulimit -l 8192` in the shell, `LimitMEMLOCK=8M` in the systemd unit, \
                     `--ulimit memlock=8388608` for docker, or etc/limits.conf"
                    .to_owned(),
        })
    }
}

impl Uring {
    /// Why no ring is given out, and what to change.
    #[must_use]
    pub fn obstacle(self) -> Option<Obstacle> {
        let Self::Denied { errno, switch } = self else {
            return None;
        };
        let error = std::io::Error::from_raw_os_error(errno);
        let remedy = match (Errno::from_raw_os_error(errno), switch) {
            (_, Some(2)) => {
                "the sysctl kernel.io_uring_disabled is 2: set it to 0 (`sysctl -w \
                 kernel.io_uring_disabled=0`, to stay: a file in /etc/sysctl.d)"
            }
            (_, Some(1)) => {
                "the sysctl kernel.io_uring_disabled is 1: set it to 0, or run the station in the group \
                 that kernel.io_uring_group names"
            }
            (Errno::PERM | Errno::ACCESS, _) => {
                "a seccomp filter or security module denies it; docker and containerd do by default: \
                 allow io_uring_setup, io_uring_enter and io_uring_register in the profile (docker: \
                 `--security-opt seccomp=FILE`; systemd: a `SystemCallFilter=` line with them)"
            }
            (Errno::NOSYS, _) => "this kernel has no io_uring: Linux 5.8 or newer is needed",
            (Errno::NOMEM, _) => "too little memory may be locked: `ulimit -l 8192` or more",
            (Errno::MFILE | Errno::NFILE, _) => "too many files are open: raise `ulimit -n`",
            _ => "see io_uring_setup(2) for this error",
        };
        Some(Obstacle { wrong: format!("io_uring is denied: {error}"), remedy: remedy.to_owned() })
    }
}

/// Raises locked memory and open files as far as the process may by itself, since login shells grant
/// little and the rest only on request. What cannot be raised stays; `Probe::take` tells.
pub fn raise_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let limit = getrlimit(resource);
        if limit.current != limit.maximum {
            let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
            if setrlimit(resource, raised).is_err() {
                tracing::debug!(?resource, "limit stays as it is");
            }
        }
    }
}

fn bound(resource: Resource) -> Bound {
    let limit = getrlimit(resource);
    Bound { soft: limit.current, hard: limit.maximum }
}

#[expect(
    unsafe_code,
    reason = "the system call is declared unsafe for a flag that is not used here"
)]
fn probe_uring() -> Uring {
    let mut params = io_uring_params::default();
    // SAFETY: the only condition is that `wq_fd` is open when the flag ATTACH_WQ is set; the default
    // sets no flag, and the ring's descriptor is closed by its owner when it goes out of scope.
    match unsafe { io_uring_setup(PROBE_ENTRIES, &mut params) } {
        Ok(_ring) => Uring::Ready,
        Err(error) => Uring::Denied { errno: error.raw_os_error(), switch: uring_switch() },
    }
}

/// As the kernel tells of this process; if it does not, the limit is taken to hold.
fn may_lock_freely() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_IPC_LOCK) != 0)
}

fn uring_switch() -> Option<u8> {
    std::fs::read_to_string(URING_SWITCH).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Bound = Bound { soft: None, hard: None };

    fn denied(errno: Errno, switch: Option<u8>) -> String {
        let uring = Uring::Denied { errno: errno.raw_os_error(), switch };
        Probe { uring, memlock: FREE, memlock_counts: true, files: FREE }
            .obstacle(1)
            .unwrap()
            .to_string()
    }

    #[test]
    fn each_denial_says_what_to_change() {
        assert!(denied(Errno::PERM, None).contains("seccomp"));
        assert!(denied(Errno::PERM, Some(0)).contains("seccomp"));
        assert!(denied(Errno::PERM, Some(2)).contains("kernel.io_uring_disabled is 2"));
        assert!(denied(Errno::NOSYS, None).contains("Linux 5.8"));
        assert!(denied(Errno::NOMEM, None).contains("ulimit -l"));
    }

    #[test]
    fn little_locked_memory_is_an_obstacle() {
        let memlock = Bound { soft: Some(65_536), hard: Some(65_536) };
        let probe = Probe { uring: Uring::Ready, memlock, memlock_counts: false, files: FREE };
        let said = probe.obstacle(1).unwrap().to_string();
        assert!(said.starts_with("only 65536 bytes of memory may be locked"), "{said}");
        let memlock = Bound { soft: Some(MEMLOCK_BYTES_MIN), hard: None };
        let probe = Probe { memlock, ..probe };
        assert_eq!(probe.obstacle(64), None);
        let memlock = Bound { soft: Some(8 << 20), hard: None };
        let counted = Probe { memlock, memlock_counts: true, ..probe };
        assert_eq!(counted.obstacle(5), None);
        assert!(counted.obstacle(6).unwrap().wrong.ends_with("6 shards need 9437184"));
    }

    #[test]
    fn the_kernel_answers() {
        raise_limits();
        let probe = Probe::take();
        assert_eq!(probe.files.soft, probe.files.hard);
        assert!(probe.connections().is_none_or(|room| room < u64::MAX));
    }
}
