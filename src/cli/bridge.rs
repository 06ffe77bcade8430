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
use crate::server::neighbors::{Own, Roster, connect};
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
    Dialed(LinkNo, Option<TcpStream>),
}

/// A connection, and what is still to be written to it.
struct Socket {
    stream: TcpStream,
    rest: VecDeque<Bytes>,
}

struct Shell {
    bridge: Bridge,
    sockets: HashMap<LinkNo, Socket>,
    told: Receiver<Told>,
    tell: Sender<Told>,
    wake: Arc<UnixStream>,
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
    let inner = Place { id: Some(id.clone()), host: host.clone(), port: config.listen.port };
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| Refusal::here("no randomness"))?;
    let (tell, told) = channel();
    let wake = Arc::new(wake);
    let (from, bell) = (tell.clone(), wake.clone());
    let own = Own { id: id.clone(), places: vec![(host, config.listen.port)] };
    let roster = Roster::start(own, config.neighbors, move |list| {
        let place = |n: &crate::shard::neighbor::Neighbor| Place {
            id: n.id.clone(),
            host: n.host.clone(),
            port: n.port,
        };
        // If nobody listens, the bridge is stopping.
        let _ = from.send(Told::Neighbors(list.iter().map(place).collect()));
        ring(&bell);
    });
    let roster = roster.map_err(Refusal::here)?;
    say(format_args!("bridge   {id}"));
    let bridge = Bridge::new(account, inner, u64::from_ne_bytes(seed));
    let sockets = HashMap::new();
    let mut shell = Shell { bridge, sockets, told, tell, wake, begun: Instant::now() };
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
            let out = if socket.rest.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
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
                Told::Dialed(no, Some(stream)) => {
                    self.sockets.insert(no, Socket { stream, rest: VecDeque::new() });
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
        let mut bytes = vec![0; READ_BYTES];
        match socket.stream.read(&mut bytes) {
            Ok(count @ 1..) => {
                bytes.truncate(count);
                self.handle(Input::Received(no, bytes.into()));
            }
            Err(error) if is_patience(&error) => {}
            Ok(_) | Err(_) => self.lose(no),
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
                Effect::Dial(no, host, port) => self.dial(no, host, port),
                Effect::Write(no, bytes) => {
                    if let Some(socket) = self.sockets.get_mut(&no) {
                        socket.rest.push_back(bytes);
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
        let Some(Socket { stream, rest }) = self.sockets.get_mut(&no) else { return };
        while let Some(bytes) = rest.front_mut() {
            match stream.write(bytes) {
                Ok(count) if count == bytes.len() => drop(rest.pop_front()),
                Ok(count) => bytes.advance(count),
                // What is wrong with it, the next read tells.
                Err(_) => return,
            }
        }
    }

    fn dial(&self, no: LinkNo, host: String, port: u16) {
        let (tell, wake) = (self.tell.clone(), self.wake.clone());
        let dialing = std::thread::Builder::new().name("dim-dial".into()).spawn(move || {
            let stream = connect(&host, port).and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            });
            if let (Err(error), INNER) = (&stream, no) {
                tracing::warn!(host, port, %error, "the own station is not reached");
            }
            // If nobody listens, the bridge is stopping.
            let _ = tell.send(Told::Dialed(no, stream.ok()));
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
