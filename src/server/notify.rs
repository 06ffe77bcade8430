//! What the service manager is told (sd_notify(3)): one datagram each, to the socket that it names in
//! the environment. Without a service manager nothing is sent; a lost datagram stops no station.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The station accepts connections.
pub(super) fn ready() {
    tell("READY=1");
}

/// Settings are read again; [`ready`] follows, whatever comes of it.
pub(super) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
}

/// The station ends.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&name, state)
    {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

fn send(name: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Tells the service manager that every shard goes on, for as long as every shard does.
pub(super) struct Watchdog {
    every: Duration,
    due: Instant,
    opened: Vec<u64>,
}

impl Watchdog {
    /// As the service manager asks for it in the environment of this process; none if it does not.
    pub(super) fn wanted() -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = Duration::from_micros(number("WATCHDOG_USEC").filter(|_| ours)?);
        let every = patience / 3;
        Some(Self { every, due: Instant::now() + every, opened: Vec::new() })
    }

    /// `opened` counts what each shard has taken out of its mailbox, which is more at each tick.
    pub(super) fn look(&mut self, opened: impl Iterator<Item = u64>) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + self.every;
        if self.all_went_on(opened.collect()) {
            tell("WATCHDOG=1");
        }
    }

    fn all_went_on(&mut self, opened: Vec<u64>) -> bool {
        let before = std::mem::replace(&mut self.opened, opened);
        self.opened.iter().zip(before.iter().chain(std::iter::repeat(&0))).all(|(now, b)| now > b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_reaches_a_named_and_an_abstract_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("dims-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (name, socket) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{abstract_name}").into(), UnixDatagram::bind_addr(&address).unwrap()),
        ] {
            send(&name, "READY=1").unwrap();
            let mut heard = [0; 64];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(send(OsStr::new("no/such/socket"), "READY=1").is_err());
    }

    #[test]
    fn a_shard_that_stands_still_silences_the_watchdog() {
        let every = Duration::from_secs(1);
        let mut dog = Watchdog { every, due: Instant::now(), opened: Vec::new() };
        assert!(dog.all_went_on(vec![5, 7]));
        assert!(dog.all_went_on(vec![6, 8]));
        assert!(!dog.all_went_on(vec![7, 8]));
        assert!(dog.all_went_on(vec![8, 9]));
    }
}
