//! Accepting connections: one thread that waits on the listening socket and deals out what comes.
//!
//! The socket is kept out of every io_uring on purpose. A ring that polls it holds it open for some
//! milliseconds after a `kill -9`, in which clients would connect to a station that is dead, and a
//! restarted one would find its port taken.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::config::Plain;
use super::mesh::{Letter, Mailbox};
use super::tls::admits_plain;
use crate::shard::rate::{Bucket, Rate};

/// Addresses that are known before the quiet ones among them are forgotten.
const ADDRESSES_SWEEP: usize = 4096;

/// Refused connections are told of once in so long: strangers must not fill the log.
const REFUSED_SAID_EVERY: Duration = Duration::from_secs(10);

/// How long the thread waits when the system has no descriptor left: those that close make room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there are, and from where. Touched only when one comes or goes.
#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    open: usize,
    /// Those that are connected, or were lately.
    addresses: HashMap<IpAddr, Address>,
    /// With so many of them, the quiet ones are forgotten.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    open: usize,
    opened: Bucket,
}

/// How many connections may be open, and come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) open_max: usize,
    /// From one address; 0 is no bound.
    pub(super) by_address_max: usize,
    /// How fast they may come from one address.
    pub(super) by_address: Rate,
    /// Whether the machine itself is spared these two: a reverse proxy there speaks for many.
    pub(super) spare_loopback: bool,
}

/// The right of one connection to be open; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let addresses = HashMap::new();
        let state = State { bounds, open: 0, addresses, sweep_at: ADDRESSES_SWEEP };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other bounds from now on; who is connected stays.
    pub(super) fn set(&self, bounds: Bounds) {
        self.state().bounds = bounds;
    }

    /// A permit for a connection from `address`, or the reason why there is none. `now_ms` is of
    /// any clock that does not go back.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now_ms: u64,
    ) -> Result<Permit, &'static str> {
        let mut state = self.state();
        let State { bounds, open, addresses, sweep_at } = &mut *state;
        if *open >= bounds.open_max {
            return Err("limits.connections_max is reached");
        }
        let address = address.to_canonical();
        let mut counted = None;
        if !(bounds.spare_loopback && address.is_loopback()) {
            if addresses.len() >= *sweep_at {
                addresses.retain(|_, known| known.open > 0 || !known.opened.is_full(now_ms));
                *sweep_at = ADDRESSES_SWEEP.max(2 * addresses.len());
            }
            let known = addresses.entry(address).or_default();
            if bounds.by_address_max > 0 && known.open >= bounds.by_address_max {
                return Err("limits.connections_per_address_max is reached");
            }
            if !known.opened.try_take(bounds.by_address, now_ms) {
                return Err("limits.connections_per_minute_max is reached");
            }
            known.open += 1;
            counted = Some(address);
        }
        *open += 1;
        Ok(Permit { admission: self.clone(), address: counted })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.open -= 1;
        let Some(address) = self.address else { return };
        if let Some(known) = state.addresses.get_mut(&address) {
            known.open -= 1;
        }
    }
}

/// The thread and its socket.
pub(super) struct Listening {
    socket: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listening {
    /// Begins to accept; connections go to the shards in turn. Who may go without TLS is said by
    /// `plain`.
    pub(super) fn start(
        listener: TcpListener,
        plain: Plain,
        admission: Arc<Admission>,
        mailboxes: Vec<Arc<Mailbox<Letter>>>,
    ) -> std::io::Result<Self> {
        let socket = Arc::new(listener.as_fd().try_clone_to_owned()?);
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = std::thread::Builder::new()
            .name("dim-accept".into())
            .spawn(move || accept(&listener, plain, &admission, &mailboxes, &stop))?;
        Ok(Self { socket, stopping, thread })
    }

    /// Accepts no more; who is waiting is refused by the system.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        let _ = self.thread.join();
    }
}

fn accept(
    listener: &TcpListener,
    plain: Plain,
    admission: &Arc<Admission>,
    mailboxes: &[Arc<Mailbox<Letter>>],
    stopping: &AtomicBool,
) {
    let mut turn = mailboxes.iter().cycle();
    let started = Instant::now();
    let mut refused = Refused { count: 0, said: None };
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let (stream, peer): (_, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                std::thread::sleep(NO_ROOM_PAUSE);
                continue;
            }
        };
        let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let permit = match admission.admit(peer.ip(), now_ms) {
            Ok(permit) => permit,
            Err(why) => {
                refused.say(peer, why);
                let _ = stream.shutdown(Shutdown::Both);
                continue;
            }
        };
        // Small frames go out at once: they are gathered here, not in the kernel.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_nonblocking(true);
        if let Some(mailbox) = turn.next() {
            let plain = admits_plain(plain, peer.ip());
            mailbox.deliver(Letter::Accepted { socket: stream.into(), peer, permit, plain });
        }
    }
}

/// Connections that were refused since that was said.
struct Refused {
    count: u64,
    said: Option<Instant>,
}

impl Refused {
    fn say(&mut self, peer: SocketAddr, why: &'static str) {
        self.count += 1;
        if self.said.is_none_or(|said| said.elapsed() >= REFUSED_SAID_EVERY) {
            tracing::warn!(count = self.count, last = %peer, why, "refused connections");
            *self = Self { count: 0, said: Some(Instant::now()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(open_max: usize, by_address_max: usize, per_minute: u64) -> Bounds {
        let by_address = Rate::within(per_minute, 60);
        Bounds { open_max, by_address_max, by_address, spare_loopback: true }
    }

    #[test]
    fn permits_are_counted_by_address_and_given_back() {
        let admission = Admission::new(bounds(3, 1, 0));
        let (here, a) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let first = admission.admit(a, 0).expect("room");
        assert!(admission.admit(a, 0).is_err());
        let others =
            (admission.admit(here, 0).expect("room"), admission.admit(here, 0).expect("room"));
        assert!(admission.admit(here, 0).is_err());
        drop(first);
        drop(admission.admit(a, 0).expect("room again"));
        admission.set(bounds(4, 1, 0));
        drop(admission.admit(here, 0).expect("room is made"));
        drop(others);
        assert_eq!(admission.state().open, 0);
    }

    #[test]
    fn who_connects_too_often_waits_and_the_quiet_are_forgotten() {
        let admission = Admission::new(bounds(10, 0, 2));
        let a = IpAddr::from([192, 0, 2, 1]);
        let tries = [0, 0, 0, 30_000].map(|now_ms| admission.admit(a, now_ms).is_ok());
        assert_eq!(tries, [true, true, false, true]);
        for number in 0..=u16::try_from(ADDRESSES_SWEEP).unwrap() {
            let [high, low] = number.to_be_bytes();
            drop(admission.admit(IpAddr::from([10, 0, high, low]), 100_000).expect("room"));
        }
        assert!(!admission.state().addresses.contains_key(&a));
        let sixth = "::ffff:127.0.0.1".parse().unwrap();
        drop(admission.admit(sixth, 100_000).expect("it is this machine"));
    }
}
