//! The shell: one thread, one executor, thousands of connections. It moves bytes between sockets and
//! [`Light`]s and knows the time; what anything means is decided elsewhere.
#![expect(clippy::disallowed_methods, reason = "the load generator's shell reads the clock")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use dim::base::random::split_mix;
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::sleep;

use crate::error::Failure;
use crate::light::{Form, Light, Said, Shared};
use crate::meter::Spread;
use crate::people::Person;
use crate::traffic::{Came, Traffic};

/// Patience with a connection that is being made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Bytes of one read of somebody who reads slowly.
const SLOW_READ_BYTES: usize = 4 << 10;
/// Stations close a connection after 128 s of silence.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How often the flusher is woken in any case.
const BEAT: Duration = Duration::from_millis(10);
/// How often something is waited for is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// A connection of a user.
#[derive(Debug)]
struct Link {
    user: usize,
    stream: RefCell<TcpStream>,
    light: RefCell<Light>,
    dirty: Cell<bool>,
    /// Goes away when all is written; what comes now is for the next login.
    leaving: Cell<bool>,
    closed: Cell<bool>,
    /// Logged in since.
    here_ns: Cell<Option<u64>>,
}

/// A login that waits for its turn, and what it is measured from.
#[derive(Debug, Clone, Copy)]
struct Arriving {
    user: usize,
    scheduled_ns: Option<u64>,
}

/// How logins went.
#[derive(Debug)]
pub(crate) struct Logins {
    waiting: VecDeque<Arriving>,
    under_way: usize,
    at_once: usize,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) took: Spread,
    /// Why the last one failed.
    pub(crate) fault: Option<String>,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Fleet {
    address: SocketAddr,
    people: Vec<Person>,
    links: Vec<RefCell<Option<Rc<Link>>>>,
    /// Bytes a second that a user reads; 0: as fast as can be.
    slow: Vec<Cell<usize>>,
    form: Cell<Form>,
    pub(crate) shared: RefCell<Shared>,
    pub(crate) traffic: RefCell<Option<Traffic>>,
    pub(crate) logins: RefCell<Logins>,
    /// Connections that ended by themselves after their login.
    pub(crate) cut: Cell<u64>,
    pub(crate) online: Cell<usize>,
    dirty: RefCell<Vec<Rc<Link>>>,
    flusher: RefCell<Option<Waker>>,
    scratch: RefCell<Vec<u8>>,
    text: RefCell<String>,
    seed: Cell<u64>,
    started: Instant,
}

impl Fleet {
    /// Connections for `people` to `address`, none of them made yet. `seed` is random.
    pub(crate) fn start(address: SocketAddr, people: Vec<Person>, seed: u64) -> Rc<Self> {
        let logins = Logins {
            waiting: VecDeque::new(),
            under_way: 0,
            at_once: 1,
            done: 0,
            failed: 0,
            took: Spread::new(),
            fault: None,
        };
        let fleet = Rc::new(Self {
            address,
            links: people.iter().map(|_| RefCell::new(None)).collect(),
            slow: people.iter().map(|_| Cell::new(0)).collect(),
            people,
            form: Cell::new(Form::Mtp),
            shared: RefCell::default(),
            traffic: RefCell::new(None),
            logins: RefCell::new(logins),
            cut: Cell::new(0),
            online: Cell::new(0),
            dirty: RefCell::default(),
            flusher: RefCell::new(None),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            text: RefCell::default(),
            seed: Cell::new(seed),
            started: Instant::now(),
        });
        let flushing = fleet.clone();
        let flush = poll_fn(move |context| {
            *flushing.flusher.borrow_mut() = Some(context.waker().clone());
            flushing.turn(context);
            Poll::<()>::Pending
        });
        glommio::spawn_local(flush).detach();
        glommio::spawn_local(fleet.clone().beat()).detach();
        fleet
    }

    /// Nanoseconds since the fleet was started.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970.
    pub(crate) fn now_s() -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    fn random(&self) -> u64 {
        let mut state = self.seed.get();
        let drawn = split_mix(&mut state);
        self.seed.set(state);
        drawn
    }

    pub(crate) fn set_form(&self, form: Form) {
        self.form.set(form);
    }

    /// How fast `user` reads from the next read on, in bytes a second; 0: as fast as can be.
    pub(crate) fn set_slow(&self, user: usize, bytes_per_second: usize) {
        if let Some(slow) = self.slow.get(user) {
            slow.set(bytes_per_second);
        }
    }

    /// Heartbeats, and a wake now and then: this executor can go to sleep with tasks that are ready.
    async fn beat(self: Rc<Self>) {
        let mut pinged = Instant::now();
        loop {
            sleep(BEAT).await;
            if pinged.elapsed() > PING_EVERY {
                pinged = Instant::now();
                for link in self.links.iter().filter_map(|link| link.borrow().clone()) {
                    link.light.borrow_mut().ping();
                    self.mark(&link);
                }
            }
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.flusher.borrow() {
            waker.wake_by_ref();
        }
    }

    fn mark(&self, link: &Rc<Link>) {
        if !link.dirty.replace(true) {
            self.dirty.borrow_mut().push(link.clone());
        }
    }

    /// Sends what may be sent and writes what is to be written, once for each connection.
    fn turn(&self, context: &mut Context<'_>) {
        loop {
            let next = self.traffic.borrow_mut().as_mut().and_then(Traffic::next);
            let Some(number) = next else {
                break;
            };
            self.send(number, self.now_ns());
        }
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for link in dirty {
            link.dirty.set(false);
            if !flush(&link, context) {
                self.mark(&link);
            }
        }
    }

    /// Sends all copies of a message that was due at `scheduled_ns`.
    pub(crate) fn send(&self, number: usize, scheduled_ns: u64) {
        let mut traffic = self.traffic.borrow_mut();
        let Some(traffic) = &mut *traffic else {
            return;
        };
        let (sender, receiver) = traffic.corpus.pair(number);
        let user = traffic.first_sender + sender;
        let link = self.links.get(user).and_then(|link| link.borrow().clone());
        let (Some(link), Some(from)) = (link, self.people.get(user)) else {
            // Who was cut off has been counted already.
            return;
        };
        let copies = traffic.corpus.plan().copies();
        let receivers = if copies > 1 { 0..copies } else { receiver..receiver + 1 };
        let (mut text, now_s) = (self.text.borrow_mut(), Self::now_s());
        for (copy, receiver) in receivers.enumerate() {
            let Some(to) = self.people.get(traffic.first_receiver + receiver) else {
                continue;
            };
            let ids = (&from.id, &to.id);
            if traffic.corpus.write(number, receiver, ids, now_s, &mut text).is_some() {
                link.light.borrow_mut().send(text.as_bytes());
                traffic.sent(number, copy, scheduled_ns);
            }
        }
        self.mark(&link);
    }

    /// Whether `user` has logged in and not left.
    pub(crate) fn is_here(&self, user: usize) -> bool {
        let link = self.links.get(user).and_then(|link| link.borrow().clone());
        link.is_some_and(|link| link.here_ns.get().is_some() && !link.leaving.get())
    }

    /// Whether `user` has no connection at all.
    pub(crate) fn is_gone(&self, user: usize) -> bool {
        self.links.get(user).is_none_or(|link| link.borrow().is_none())
    }

    /// Logs a user in when there is room, measured from `scheduled_ns` or from its beginning.
    pub(crate) fn log_in(self: &Rc<Self>, user: usize, scheduled_ns: Option<u64>) {
        self.logins.borrow_mut().waiting.push_back(Arriving { user, scheduled_ns });
        self.next_logins();
    }

    pub(crate) fn set_at_once(&self, at_once: usize) {
        self.logins.borrow_mut().at_once = at_once;
    }

    /// Whether any login has not ended yet.
    pub(crate) fn is_logging_in(&self) -> bool {
        let logins = self.logins.borrow();
        logins.under_way > 0 || !logins.waiting.is_empty()
    }

    fn next_logins(self: &Rc<Self>) {
        loop {
            let mut logins = self.logins.borrow_mut();
            if logins.under_way >= logins.at_once {
                return;
            }
            let Some(arriving) = logins.waiting.pop_front() else {
                return;
            };
            logins.under_way += 1;
            drop(logins);
            glommio::spawn_local(self.clone().live(arriving)).detach();
        }
    }

    /// One connection from its beginning to its end.
    async fn live(self: Rc<Self>, arriving: Arriving) {
        let began_ns = arriving.scheduled_ns.unwrap_or_else(|| self.now_ns());
        let link = match self.connect(arriving.user).await {
            Ok(link) => link,
            Err(fault) => return self.login_ended(Some(fault)),
        };
        let fault = self.listen(&link, began_ns).await.err();
        link.closed.set(true);
        if let Some(place) = self.links.get(link.user) {
            place.borrow_mut().take();
        }
        if link.here_ns.get().is_none() {
            let fault = fault.unwrap_or_else(|| "the station closed the connection".to_owned());
            self.login_ended(Some(fault));
        } else {
            self.online.set(self.online.get() - 1);
            if !link.leaving.get() {
                self.cut.set(self.cut.get() + 1);
                self.logins.borrow_mut().fault = fault;
            }
        }
    }

    fn login_ended(self: &Rc<Self>, fault: Option<String>) {
        let mut logins = self.logins.borrow_mut();
        logins.under_way -= 1;
        match fault {
            None => logins.done += 1,
            Some(fault) => {
                logins.failed += 1;
                logins.fault = Some(fault);
            }
        }
        drop(logins);
        self.next_logins();
    }

    async fn connect(&self, user: usize) -> Result<Rc<Link>, String> {
        let stream = TcpStream::connect_timeout(self.address, CONNECT_PATIENCE).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let form = match self.form.get() {
            Form::Both if user % 2 == 1 => Form::WebSocket,
            Form::Both => Form::Mtp,
            form => form,
        };
        let host = self.address.ip().to_string();
        let light = Light::new(form, (&host, self.address.port()), self.random());
        let link = Rc::new(Link {
            user,
            stream: RefCell::new(stream),
            light: RefCell::new(light),
            dirty: Cell::new(false),
            leaving: Cell::new(false),
            closed: Cell::new(false),
            here_ns: Cell::new(None),
        });
        let (place, person) = (self.links.get(user), self.people.get(user));
        let (Some(place), Some(person)) = (place, person) else {
            return Err("no such user".to_owned());
        };
        *place.borrow_mut() = Some(link.clone());
        link.light.borrow_mut().greet(person, Self::now_s());
        self.mark(&link);
        self.wake();
        Ok(link)
    }

    /// Reads until the connection is over.
    async fn listen(self: &Rc<Self>, link: &Rc<Link>, began_ns: u64) -> Result<(), String> {
        loop {
            let slow = self.slow.get(link.user).map_or(0, Cell::get);
            if slow > 0 && link.here_ns.get().is_some() {
                sleep(Duration::from_secs_f64(SLOW_READ_BYTES as f64 / slow as f64)).await;
            }
            let bytes_max = if slow > 0 { SLOW_READ_BYTES } else { READ_BYTES };
            let bytes = poll_fn(|context| {
                let mut scratch = self.scratch.borrow_mut();
                let to = scratch.get_mut(..bytes_max).unwrap_or_default();
                let mut stream = link.stream.borrow_mut();
                Pin::new(&mut *stream).poll_read(context, to).map_ok(|count| {
                    Bytes::copy_from_slice(scratch.get(..count).unwrap_or_default())
                })
            });
            let bytes = bytes.await.map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return Ok(());
            }
            if !link.leaving.get() {
                self.hear(link, bytes, began_ns)?;
            }
        }
    }

    fn hear(self: &Rc<Self>, link: &Rc<Link>, bytes: Bytes, began_ns: u64) -> Result<(), String> {
        let person = self.people.get(link.user).ok_or("no such user")?;
        let (now_ns, now_s) = (self.now_ns(), Self::now_s());
        let (mut is_in, mut fault) = (false, None);
        let shared = &mut *self.shared.borrow_mut();
        let light = &mut *link.light.borrow_mut();
        light.hear(bytes, person, shared, now_s, |light, shared, said| match said {
            Said::Nothing => {}
            Said::LoggedIn => {
                is_in = true;
                link.here_ns.set(Some(now_ns));
            }
            Said::Message(body) => {
                let heard = self.on_message(link, light, shared, person, &body, (now_ns, now_s));
                fault = fault.take().or(heard.err());
            }
        })?;
        if is_in {
            self.online.set(self.online.get() + 1);
            self.logins.borrow_mut().took.add(now_ns.saturating_sub(began_ns));
            self.login_ended(None);
        }
        if !light.out.is_empty() {
            self.mark(link);
        }
        self.wake();
        fault.map_or(Ok(()), Err)
    }

    fn on_message(
        &self,
        link: &Link,
        light: &mut Light,
        shared: &mut Shared,
        person: &Person,
        body: &Bytes,
        (now_ns, now_s): (u64, f64),
    ) -> Result<(), String> {
        let mut traffic = self.traffic.borrow_mut();
        let Some(traffic) = &mut *traffic else {
            return Ok(());
        };
        let is_prompt = self.slow.get(link.user).is_none_or(|slow| slow.get() == 0);
        let here_ns = link.here_ns.get().unwrap_or(now_ns);
        let came = traffic.came(body, link.user, (here_ns, now_ns), is_prompt);
        if came == Came::Other && traffic.wants_receipt() {
            for receipt in light.listen(body, person, shared, now_s)? {
                traffic.receipt(receipt, now_ns);
            }
        }
        Ok(())
    }

    /// Lets a user go once everything is written.
    pub(crate) fn leave(&self, user: usize) {
        if let Some(link) = self.links.get(user).and_then(|link| link.borrow().clone()) {
            link.leaving.set(true);
            self.mark(&link);
            self.wake();
        }
    }

    /// Lets everybody go, and waits until the station knows.
    pub(crate) async fn leave_all(&self, patience: Duration) -> Result<(), Failure> {
        (0..self.links.len()).for_each(|user| self.leave(user));
        let until = Instant::now() + patience;
        while self.online.get() > 0 {
            if Instant::now() > until {
                return Err(Failure::new("the station does not end connections that were closed"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Writes what the kernel takes; whether that was all.
fn flush(link: &Link, context: &mut Context<'_>) -> bool {
    if link.closed.get() {
        return true;
    }
    let (mut stream, mut light) = (link.stream.borrow_mut(), link.light.borrow_mut());
    while !light.out.is_empty() {
        match Pin::new(&mut *stream).poll_write(context, &light.out) {
            Poll::Ready(Ok(count)) => light.out.advance(count),
            Poll::Ready(Err(_)) => {
                // The reader hears of it.
                light.out.clear();
                return true;
            }
            Poll::Pending => return false,
        }
    }
    if light.out.capacity() > 16 << 10 {
        // An idle connection keeps no buffer.
        light.out = bytes::BytesMut::new();
    }
    if link.leaving.get() && !link.closed.replace(true) {
        let _ = Pin::new(&mut *stream).poll_close(context);
    }
    true
}
