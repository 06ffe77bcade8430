//! `dims bridge`: a station's messages taken to its neighbours and back, by a process beside it. What
//! it does is decided in `client::bridge`; here are its sockets, all looked after by one thread.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::ConfigArgs;
use super::{Refusal, say};
use crate::base::time::Now;
use crate::client::bridge::{Bridge, Effect, INNER, Input, LinkNo, Place};
use crate::server::config::{self, Config};
use crate::server::dial::{Reached, reach};
use crate::server::neighbors::{Own, Roster};
use crate::server::tls::session::Session;
use crate::server::tls::trust::Trust;
use crate::server::{identity, log};

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// The longest sleep, in milliseconds.
const TURN_MS: u64 = 1000;

#[derive(Debug, Args)]
pub(super) struct BridgeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// What other threads have to say.
enum Told {
    Neighbors(Vec<Place>),
    Dialed(LinkNo, Option<Reached>),
}

/// A connection, and what is still to be written to it.
struct Socket {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    /// With TLS: records.
    rest: VecDeque<Bytes>,
}

impl Socket {
    fn push(&mut self, bytes: Bytes) {
        match &mut self.tls {
            Some(tls) => tls.push(bytes),
            None => self.rest.push_back(bytes),
        }
    }

    fn wants_write(&self) -> bool {
        !self.rest.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// What the peer says; empty when it says nothing for now. Errors: it is over.
    fn read(&mut self) -> std::io::Result<Bytes> {
        let mut bytes = vec![0; READ_BYTES];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if is_patience(&error) => return Ok(Bytes::new()),
            Err(error) => return Err(error),
        };
        bytes.truncate(count);
        match &mut self.tls {
            None => Ok(bytes.into()),
            Some(tls) => match tls.open(&bytes)? {
                nothing if nothing.is_empty() && tls.has_ended() => {
                    Err(ErrorKind::UnexpectedEof.into())
                }
                said => Ok(said),
            },
        }
    }

    /// Writes as much as the kernel takes.
    fn write(&mut self) {
        loop {
            if let Some(tls) = self.tls.as_mut().filter(|_| self.rest.is_empty()) {
                tls.seal(false, &mut self.rest);
            }
            let Some(bytes) = self.rest.front_mut() else { return };
            match self.stream.write(bytes) {
                Ok(count) if count == bytes.len() => drop(self.rest.pop_front()),
                Ok(count) => bytes.advance(count),
                // What is wrong with it, the next read tells.
                Err(_) => return,
            }
        }
    }
}

struct Shell {
    bridge: Bridge,
    sockets: HashMap<LinkNo, Socket>,
    told: Receiver<Told>,
    tell: Sender<Told>,
    wake: Arc<UnixStream>,
    trust: Arc<Trust>,
    begun: Instant,
}

pub(super) fn bridge(args: BridgeArgs) -> Result<(), Refusal> {
    let args: config::Args = args.config.into();
    let config = Config::load(&args)?.config;
    let _log = log::start(&config.log).map_err(Refusal::usage)?;
    let account = identity::load(&config).map_err(Refusal::here)?;
    let (woken, wake) = UnixStream::pair().map_err(Refusal::here)?;
    for socket in [&woken, &wake] {
        socket.set_nonblocking(true).map_err(Refusal::here)?;
    }
    let (stop, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for (signal, flag) in [(SIGTERM, &stop), (SIGINT, &stop), (SIGHUP, &again)] {
        signal_hook::flag::register(signal, flag.clone()).map_err(Refusal::here)?;
    }
    let id = account.id().clone();
    // The reference's bridge goes there too, whatever host the station tells.
    let host = match config.listen.host {
        host if host.is_unspecified() => "127.0.0.1".to_owned(),
        host => host.to_string(),
    };
    let port = config.listen.port;
    let inner = Place { id: Some(id.clone()), host: host.clone(), port, tls: false };
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| Refusal::here("no randomness"))?;
    let (tell, told) = channel();
    let wake = Arc::new(wake);
    let (from, bell) = (tell.clone(), wake.clone());
    let own = Own { id: id.clone(), places: vec![(host, port)] };
    let trust = Arc::new(Trust::new(config.neighbors.ca.clone()));
    let roster = Roster::start(own, config.neighbors, trust.clone(), move |list| {
        let place = |n: &crate::shard::neighbor::Neighbor| Place {
            id: n.id.clone(),
            host: n.host.clone(),
            port: n.port,
            tls: n.tls,
        };
        // If nobody listens, the bridge is stopping.
        let _ = from.send(Told::Neighbors(list.iter().map(place).collect()));
        ring(&bell);
    });
    let roster = roster.map_err(Refusal::here)?;
    say(format_args!("bridge   {id}"));
    let bridge = Bridge::new(account, inner, u64::from_ne_bytes(seed));
    let sockets = HashMap::new();
    let begun = Instant::now();
    let mut shell = Shell { bridge, sockets, told, tell, wake, trust, begun };
    while !stop.load(Ordering::Relaxed) {
        if again.swap(false, Ordering::Relaxed) {
            match Config::load(&args) {
                Ok(loaded) => roster.read_again(loaded.config.neighbors),
                Err(error) => tracing::warn!(%error, "the settings stay as they were"),
            }
        }
        shell.turn(&woken).map_err(Refusal::here)?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Wakes the thread that polls; if the pipe is full, it is awake already.
fn ring(mut bell: &UnixStream) {
    let _ = bell.write(&[1]);
}

impl Shell {
    fn now(&self) -> Now {
        let number = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: number(self.begun.elapsed().as_millis()), wall_us: number(wall.as_micros()) }
    }

    /// Waits for something to happen, and deals with it.
    fn turn(&mut self, woken: &UnixStream) -> std::io::Result<()> {
        self.handle(Input::Timer);
        let left = self.bridge.next_deadline_ms().saturating_sub(self.now().mono_ms).min(TURN_MS);
        let timeout = Timespec {
            tv_sec: i64::try_from(left / 1000).unwrap_or(1),
            tv_nsec: i64::try_from(left % 1000).unwrap_or_default() * 1_000_000,
        };
        let mut places = Vec::with_capacity(self.sockets.len());
        let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
        for (no, socket) in &self.sockets {
            let out = if socket.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&socket.stream, PollFlags::IN | out));
            places.push(*no);
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().skip(1).map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut bells = [0; 64];
        while matches!((&*woken).read(&mut bells), Ok(1..)) {}
        while let Ok(told) = self.told.try_recv() {
            match told {
                Told::Neighbors(list) => self.handle(Input::Neighbors(list)),
                Told::Dialed(no, Some(Reached { stream, tls, .. })) => {
                    self.sockets.insert(no, Socket { stream, tls, rest: VecDeque::new() });
                    self.handle(Input::Connected(no));
                }
                Told::Dialed(no, None) => self.handle(Input::Closed(no)),
            }
        }
        for (no, _) in places.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.serve(no);
        }
        Ok(())
    }

    /// Reads and writes what a socket has and takes.
    fn serve(&mut self, no: LinkNo) {
        self.write(no);
        let Some(socket) = self.sockets.get_mut(&no) else { return };
        match socket.read() {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => self.handle(Input::Received(no, bytes)),
            Err(_) => self.lose(no),
        }
    }

    fn lose(&mut self, no: LinkNo) {
        if self.sockets.remove(&no).is_some() {
            self.handle(Input::Closed(no));
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.bridge.handle(input, self.now(), &mut effects);
        let mut written = Vec::new();
        for effect in effects {
            match effect {
                Effect::Dial(no, place) => self.dial(no, place),
                Effect::Write(no, bytes) => {
                    if let Some(socket) = self.sockets.get_mut(&no) {
                        socket.push(bytes);
                        written.push(no);
                    }
                }
                Effect::Close(no) => drop(self.sockets.remove(&no)),
            }
        }
        written.dedup();
        for no in written {
            self.write(no);
        }
    }

    fn write(&mut self, no: LinkNo) {
        if let Some(socket) = self.sockets.get_mut(&no) {
            socket.write();
        }
    }

    fn dial(&self, no: LinkNo, Place { host, port, tls, .. }: Place) {
        let trust = tls.then(|| self.trust.clone());
        let (tell, wake) = (self.tell.clone(), self.wake.clone());
        let dialing = std::thread::Builder::new().name("dim-dial".into()).spawn(move || {
            let reached = reach(&host, port, trust.as_deref());
            if let (Err(error), INNER) = (&reached, no) {
                tracing::warn!(host, port, %error, "the own station is not reached");
            }
            // If nobody listens, the bridge is stopping.
            let _ = tell.send(Told::Dialed(no, reached.ok()));
            ring(&wake);
        });
        if dialing.is_err() {
            let _ = self.tell.send(Told::Dialed(no, None));
        }
    }
}

fn is_patience(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
