//! Accepting connections: one thread that waits on the listening socket and deals out what comes.
//!
//! The socket is kept out of every io_uring on purpose. A ring that polls it holds it open for some
//! milliseconds after a `kill -9`, in which clients would connect to a station that is dead, and a
//! restarted one would find its port taken.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::config::Plain;
use super::mesh::{Letter, Mailbox};
use super::tls::admits_plain;

/// How long the thread waits when the system has no descriptor left: those that close make room.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there are, and from where.
#[derive(Debug)]
pub(super) struct Admission {
    open: AtomicUsize,
    open_max: AtomicUsize,
    /// Touched only when a connection comes or goes.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    by_address_max: AtomicUsize,
}

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) open_max: usize,
    /// From one address; 0 is no bound.
    pub(super) by_address_max: usize,
}

/// The right of one connection to be open; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            open_max: bounds.open_max.into(),
            by_address: Mutex::default(),
            by_address_max: bounds.by_address_max.into(),
        })
    }

    /// Other bounds from now on; who is connected stays.
    pub(super) fn set(&self, bounds: Bounds) {
        self.open_max.store(bounds.open_max, Ordering::Relaxed);
        self.by_address_max.store(bounds.by_address_max, Ordering::Relaxed);
    }

    /// A permit for a connection from `address`, or the reason why there is none. The machine
    /// itself has no bound of its own: a reverse proxy there speaks for many.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, &'static str> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.open_max.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err("limits.connections_max is reached");
        }
        let mut permit = Permit { admission: self.clone(), address: None };
        let by_address_max = self.by_address_max.load(Ordering::Relaxed);
        if by_address_max > 0 && !address.is_loopback() {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(address).or_default();
            if *count >= by_address_max {
                return Err("limits.connections_per_address_max is reached");
            }
            *count += 1;
            permit.address = Some(address);
        }
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else { return };
        let by_address = &self.admission.by_address;
        let mut by_address = by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
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
        mailboxes: Vec<Arc<Mailbox>>,
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
    mailboxes: &[Arc<Mailbox>],
    stopping: &AtomicBool,
) {
    let mut turn = mailboxes.iter().cycle();
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
        let permit = match admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(why) => {
                tracing::warn!(%peer, why, "refused a connection");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_by_address_and_given_back() {
        let admission = Admission::new(Bounds { open_max: 3, by_address_max: 1 });
        let (here, a) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let first = admission.admit(a).expect("room");
        assert!(admission.admit(a).is_err());
        let others = (admission.admit(here).expect("room"), admission.admit(here).expect("room"));
        assert!(admission.admit(here).is_err());
        drop(first);
        drop(admission.admit(a).expect("room again"));
        admission.set(Bounds { open_max: 4, by_address_max: 1 });
        drop(admission.admit(here).expect("room is made"));
        drop(others);
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
    }
}
