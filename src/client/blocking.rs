//! The shell around a [`Terminal`]: standard sockets, and one thread that reads. For programs that
//! may wait: command lines, bots, applications.
//!
//! Whoever has something to say writes it, the thread or the caller, but only one at a time; a
//! station that takes nothing holds up the caller who sends, and never the reading.
#![expect(
    clippy::disallowed_methods,
    reason = "the client's shell: it owns the socket, the clock and the thread"
)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use serde_json::{Map, Value};

use super::account::Account;
use super::keys::KeyStore;
use super::messenger::Outgoing;
use super::source::Source;
use super::terminal::{Effect, Event, Input, Settings, Terminal};
use crate::base::time::Now;
use crate::proto::id::Id;

/// Patience with one address while connecting.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a station that takes no bytes may hold up a caller who sends, or a client that leaves.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// How long one write may hold up the thread that reads.
const WRITE_TURN: Duration = Duration::from_millis(20);

/// How long the thread reads before it looks for bytes that are left to be written, or a deadline
/// that another thread has moved.
const READ_TURN: Duration = Duration::from_millis(500);

/// Events that wait for the application before no more is read.
const EVENTS_MAX: usize = 1024;

/// Events that are kept at all. An application that sends and sends, and never asks what became of
/// it, is not told the oldest.
const EVENTS_KEPT_MAX: usize = 64 * EVENTS_MAX;

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// Seconds since 1970, by the system's clock.
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A client that runs until it is dropped or closed. Handles may be shared between threads.
pub struct Client<S> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<S> {
    state: Mutex<State<S>>,
    /// There is an event to be taken, or room for more, or the connection is wanted or over.
    changed: Condvar,
    /// The socket to write to; whoever holds it writes.
    writer: Mutex<Writer>,
    host: String,
    port: u16,
    started: Instant,
}

struct State<S> {
    terminal: Terminal<S>,
    events: VecDeque<Event>,
    outgoing: VecDeque<Bytes>,
    /// The terminal wants a connection.
    dial: bool,
    /// The terminal wants the connection closed when all is written.
    close: bool,
    left: bool,
    last_token: u64,
}

/// The socket, and what of the last bytes is not written yet.
#[derive(Default)]
struct Writer {
    stream: Option<TcpStream>,
    rest: Bytes,
}

impl<S: Source + Send + 'static> Client<S> {
    /// Starts a client; it connects and logs in by itself, and does so again whenever it must.
    /// Fails if no thread can be started, or the system has no randomness.
    pub fn start(
        settings: Settings,
        account: Account,
        source: S,
        keys: KeyStore,
    ) -> io::Result<Self> {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no randomness"))?;
        let (host, port) = (settings.host.clone(), settings.port);
        let seed = u64::from_ne_bytes(seed);
        let terminal = Terminal::new(Arc::new(settings), account, source, keys, seed);
        let state = State {
            terminal,
            events: VecDeque::new(),
            outgoing: VecDeque::new(),
            dial: false,
            close: false,
            left: false,
            last_token: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            writer: Mutex::new(Writer::default()),
            host,
            port,
            started: Instant::now(),
        });
        shared.handle(Input::Start);
        let run = shared.clone();
        let thread = Builder::new().name("dim-client".to_owned()).spawn(move || run.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sends a content; yields the token under which events speak of it.
    pub fn send(&self, receiver: &Id, content: Map<String, Value>) -> u64 {
        let mut state = self.shared.state();
        state.last_token += 1;
        let (token, receiver) = (state.last_token, receiver.clone());
        self.shared.step(&mut state, Input::Send(Outgoing { token, receiver, content }));
        drop(state);
        self.shared.flush(WRITE_PATIENCE);
        token
    }

    /// What was made of these packages is safe; with [`Settings::confirms`].
    pub fn confirm(&self, packages: impl IntoIterator<Item = u64>) {
        let mut state = self.shared.state();
        for package in packages {
            self.shared.step(&mut state, Input::Confirm(package));
        }
        drop(state);
        self.shared.flush(WRITE_PATIENCE);
    }

    /// The next event; none if nothing happened within `patience`.
    pub fn next_event(&self, patience: Duration) -> Option<Event> {
        let until = Instant::now() + patience;
        let mut state = self.shared.state();
        loop {
            if let Some(event) = state.events.pop_front() {
                self.shared.changed.notify_all();
                return Some(event);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = wait(&self.shared.changed, state, left);
        }
    }

    /// Something of the terminal, or done to it: accounts, keys, names. Nothing is read meanwhile.
    pub fn with<T>(&self, f: impl FnOnce(&mut Terminal<S>) -> T) -> T {
        f(&mut self.shared.state().terminal)
    }
}

impl<S> Client<S> {
    /// Writes what is on its way, closes the connection and waits for the thread. Yields what the
    /// terminal has to be asked for afterwards: keys to be saved, messages that were not
    /// acknowledged.
    pub fn close(mut self) -> Option<Terminal<S>>
    where
        S: Source,
    {
        self.leave();
        let shared = self.shared.clone();
        drop(self);
        let state = Arc::into_inner(shared)?.state;
        Some(state.into_inner().unwrap_or_else(PoisonError::into_inner).terminal)
    }

    fn leave(&mut self) {
        self.shared.state().left = true;
        self.shared.changed.notify_all();
        // A read that waits ends at once; writing goes on.
        if let Some(stream) = &self.shared.writer().stream {
            let _ = stream.shutdown(Shutdown::Read);
        }
        if let Some(thread) = self.thread.take() {
            // If it has panicked, it has said so, and there is nothing to save.
            let _ = thread.join();
        }
    }
}

impl<S> Drop for Client<S> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<S> Shared<S> {
    fn state(&self) -> MutexGuard<'_, State<S>> {
        // Whoever panicked was the application, in `with`; the terminal itself does not.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source> Shared<S> {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        Now {
            mono_ms: number(self.started.elapsed().as_millis()),
            wall_us: number(wall.as_micros()),
        }
    }

    fn handle(&self, input: Input) {
        self.step(&mut self.state(), input);
    }

    /// Hands an input to the terminal, and keeps what it wants done.
    fn step(&self, state: &mut State<S>, input: Input) {
        let mut effects = Vec::new();
        state.terminal.handle(input, self.now(), &mut effects);
        for effect in effects {
            match effect {
                Effect::Dial => state.dial = true,
                Effect::Write(bytes) => state.outgoing.push_back(bytes),
                Effect::Close => state.close = true,
                Effect::Event(event) => state.events.push_back(event),
            }
        }
        let excess = state.events.len().saturating_sub(EVENTS_KEPT_MAX);
        state.events.drain(..excess);
        self.changed.notify_all();
    }

    /// The thread: one connection after the other.
    fn run(&self) {
        while self.wait_for_dial() {
            match self.connect() {
                Ok(mut stream) => {
                    self.handle(Input::Connected);
                    self.serve(&mut stream);
                    self.forget_connection();
                }
                Err(_) => self.handle(Input::Closed),
            }
        }
        self.handle(Input::Leave);
    }

    /// Waits until a connection is wanted; false when the client leaves.
    fn wait_for_dial(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.left {
                return false;
            }
            if std::mem::take(&mut state.dial) {
                return true;
            }
            let deadline_ms = state.terminal.next_deadline_ms();
            let now_ms = self.now().mono_ms;
            match deadline_ms {
                Some(at) if at <= now_ms => self.step(&mut state, Input::Timer),
                at => {
                    let left = at.map_or(READ_TURN, |at| Duration::from_millis(at - now_ms));
                    state = wait(&self.changed, state, left);
                }
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, "host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(WRITE_TURN))?;
                    *self.writer() =
                        Writer { stream: Some(stream.try_clone()?), rest: Bytes::new() };
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads until the connection is over, for whatever reason.
    fn serve(&self, stream: &mut TcpStream) {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            // What another thread is writing is left to it.
            let rest = self.flush(Duration::ZERO);
            let Some(turn) = self.reading_turn(rest) else { return };
            if turn.is_zero() {
                self.handle(Input::Timer);
                continue;
            }
            if stream.set_read_timeout(Some(turn)).is_err() {
                return self.handle(Input::Closed);
            }
            match stream.read(&mut bytes) {
                Ok(count @ 1..) => {
                    let read = bytes.get(..count).unwrap_or_default();
                    self.handle(Input::Received(Bytes::copy_from_slice(read)));
                }
                Err(error) if is_patience(&error) => self.handle(Input::Timer),
                // The end, perhaps because we leave.
                Ok(_) | Err(_) => {
                    self.flush(if self.state().left { WRITE_PATIENCE } else { Duration::ZERO });
                    return self.handle(Input::Closed);
                }
            }
        }
    }

    /// How long to read next: not at all while the application has too many events to look at.
    /// None if the connection is to end.
    fn reading_turn(&self, rest: bool) -> Option<Duration> {
        let mut state = self.state();
        if state.events.len() >= EVENTS_MAX && !state.left && !state.close {
            drop(wait(&self.changed, state, READ_TURN));
            return Some(Duration::ZERO);
        }
        if state.left || state.close {
            if !state.close {
                self.step(&mut state, Input::Closed);
            }
            drop(state);
            self.flush(WRITE_PATIENCE);
            return None;
        }
        let turn = if rest { WRITE_TURN } else { READ_TURN };
        let deadline_ms = state.terminal.next_deadline_ms();
        let left = deadline_ms.map(|at| at.saturating_sub(self.now().mono_ms).max(1));
        Some(left.map_or(turn, |left| turn.min(Duration::from_millis(left))))
    }

    /// Writes what is on its way for at most `patience`, unless another thread does so; whether
    /// something is left.
    fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            let Ok(mut writer) = self.writer.try_lock() else {
                return false;
            };
            let written = self.write_some(&mut writer);
            drop(writer);
            match written {
                // Somebody may have added bytes while we held the socket and turned away.
                Ok(true) if self.state().outgoing.is_empty() => return false,
                Ok(true) => {}
                Ok(false) if Instant::now() < until => {}
                Ok(false) => return true,
                Err(_) => {
                    // The thread that reads will see the end.
                    if let Some(stream) = &self.writer().stream {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                    return false;
                }
            }
        }
    }

    /// Writes until all is written (true) or the station takes no more for now (false).
    fn write_some(&self, writer: &mut Writer) -> io::Result<bool> {
        let Writer { stream, rest } = writer;
        let Some(stream) = stream else {
            return Ok(true);
        };
        loop {
            if rest.is_empty() {
                let mut state = self.state();
                if state.outgoing.len() < 2 {
                    *rest = state.outgoing.pop_front().unwrap_or_default();
                } else {
                    *rest = state.outgoing.drain(..).collect::<Vec<_>>().concat().into();
                }
                if rest.is_empty() {
                    return Ok(true);
                }
            }
            match stream.write(rest) {
                Ok(count) => rest.advance(count.min(rest.len())),
                Err(error) if is_patience(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn forget_connection(&self) {
        if let Some(stream) = std::mem::take(&mut *self.writer()).stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let mut state = self.state();
        // What was not written belongs to a connection that is no more; the terminal says it again.
        state.outgoing.clear();
        state.close = false;
    }
}

fn wait<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    patience: Duration,
) -> MutexGuard<'a, T> {
    changed.wait_timeout(guard, patience).unwrap_or_else(PoisonError::into_inner).0
}

/// Whether a socket only has nothing to do.
fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
