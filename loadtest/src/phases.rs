//! What is done in which order: one function for each kind of phase.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;

use crate::checker::Check;
use crate::corpus::{Recipe, Shelf};
use crate::error::Failure;
use crate::fleet::{Fleet, LOOK};
use crate::machine::Server;
use crate::meter::{Meter, Spread};
use crate::outcome::{Measured, Second};
use crate::people::People;
use crate::scenario::{Kind, Phase};
use crate::schedule::{Pace, Pattern, Plan, messages_until};
use crate::traffic::{Loop, Traffic};

const SECOND_NS: u64 = 1_000_000_000;
/// How finely a fast open loop is cut: neither later than a tenth of a millisecond nor a timer for
/// each message.
const PACE_LOOK: Duration = Duration::from_micros(100);
/// What is fast, in messages a second.
const PACE_RATE: f64 = 100.0;
/// Between storing and fetching.
const PAUSE: Duration = Duration::from_secs(1);
/// How long something that should not come again is waited for.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Words about what goes on.
pub(crate) type Say<'a> = &'a mut dyn FnMut(&str);

/// Runs phases on a fleet.
pub(crate) struct Conductor<'a> {
    pub(crate) fleet: Rc<Fleet>,
    pub(crate) people: &'a People,
    pub(crate) shelf: &'a Shelf,
    pub(crate) server: Option<Server>,
    pub(crate) station: String,
    pub(crate) first_user: usize,
    pub(crate) say: Say<'a>,
}

/// Whether anything has moved lately.
struct Patience {
    seen: u64,
    since_ns: u64,
    ns: u64,
}

impl Patience {
    fn new(seconds: f64, now_ns: u64) -> Self {
        Self { seen: u64::MAX, since_ns: now_ns, ns: nanoseconds(seconds) }
    }

    fn is_over(&mut self, progress: u64, now_ns: u64) -> bool {
        if self.seen != progress {
            (self.seen, self.since_ns) = (progress, now_ns);
        }
        now_ns - self.since_ns > self.ns
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Receivers who come and go.
struct Comings {
    leaves: Pace,
    receivers: Range<usize>,
    next: usize,
    away: Vec<(u64, usize)>,
    away_ns: u64,
}

impl Comings {
    fn step(&mut self, fleet: &Rc<Fleet>, since_ns: u64, now_ns: u64) {
        while self.leaves.take(now_ns - since_ns).is_some() {
            let user = self.receivers.start + self.next % self.receivers.len();
            self.next += 1;
            if fleet.is_here(user) {
                fleet.leave(user);
                self.away.push((now_ns + self.away_ns, user));
            }
        }
        self.bring_back(fleet, now_ns);
    }

    /// Those whose time is over, once their old connection has ended.
    fn bring_back(&mut self, fleet: &Rc<Fleet>, now_ns: u64) {
        self.away.retain(|(until_ns, user)| {
            let back = *until_ns <= now_ns && fleet.is_gone(*user);
            if back {
                fleet.log_in(*user, None);
            }
            !back
        });
    }
}

/// What happens at which time of a relay.
struct Course {
    since_ns: u64,
    /// An open loop's.
    pace: Option<Pace>,
    count: usize,
    number: usize,
    comings: Comings,
    patience: Patience,
}

impl Course {
    fn new(phase: &Phase, since_ns: u64, count: usize) -> Self {
        let span_ns = nanoseconds(phase.warmup_s) + nanoseconds(phase.seconds);
        let is_open = phase.window == 0;
        Self {
            since_ns,
            pace: is_open.then(|| Pace::new(phase.rate, &phase.curve, span_ns)),
            count,
            number: 0,
            comings: Comings {
                leaves: Pace::new(phase.leaves_per_second, &[], 1),
                receivers: phase.senders..phase.senders + phase.receivers,
                next: phase.slow_receivers,
                away: Vec::new(),
                away_ns: nanoseconds(phase.away_s),
            },
            patience: Patience::new(phase.patience_s, since_ns),
        }
    }

    /// Does what is due; whether it goes on after that.
    fn step(&mut self, fleet: &Rc<Fleet>, now_ns: u64, until_ns: u64) -> bool {
        let since_ns = self.since_ns;
        while self.number < self.count
            && let Some(due_ns) = self.pace.as_mut().and_then(|pace| pace.take(now_ns - since_ns))
        {
            fleet.send(self.number, since_ns + due_ns);
            self.number += 1;
        }
        self.comings.step(fleet, since_ns, now_ns);
        fleet.wake();
        let traffic = fleet.traffic.borrow();
        let state = traffic.as_ref().map(|traffic| (traffic.is_used_up, traffic.progress()));
        state.is_some_and(|(used_up, progress)| {
            now_ns < until_ns && !used_up && !self.patience.is_over(progress, now_ns)
        })
    }

    /// Nothing more is sent; whether something may still come.
    fn wait(&mut self, fleet: &Rc<Fleet>, now_ns: u64) -> bool {
        self.comings.bring_back(fleet, now_ns);
        let left = fleet.traffic.borrow().as_ref().map_or(0, Traffic::in_flight);
        let waiting = left > 0 || !self.comings.away.is_empty() || fleet.is_logging_in();
        waiting && !self.patience.is_over(left, now_ns)
    }
}

impl Conductor<'_> {
    /// Runs a phase; a store and a drain are measured apart.
    pub(crate) async fn run(&mut self, phase: &Phase) -> Result<Vec<Measured>, Failure> {
        self.fleet.set_form(phase.framing);
        self.fleet.cut.set(0);
        let mut measured = match phase.kind {
            Some(Kind::Relay) => vec![self.relay(phase, phase.pattern).await?],
            Some(Kind::FanOut) => vec![self.relay(phase, Pattern::Everybody).await?],
            Some(Kind::Idle) => vec![self.idle(phase).await?],
            Some(Kind::Logins) => vec![self.logins(phase).await?],
            Some(Kind::Offline) => self.offline(phase).await?,
            None => Vec::new(),
        };
        *self.fleet.traffic.borrow_mut() = None;
        self.fleet.leave_all(Duration::from_secs_f64(phase.patience_s)).await?;
        let cut = self.fleet.cut.take();
        if let (Some(last), true) = (measured.last_mut(), cut > 0) {
            last.check.broken += cut;
            last.notes.push(format!("{cut} connections were cut: {}", self.fault()));
        }
        Ok(measured)
    }

    fn fault(&self) -> String {
        let logins = self.fleet.logins.borrow();
        logins.fault.clone().unwrap_or_else(|| "the station closed them".to_owned())
    }

    /// Logs users in, `at_once` at a time, and waits for all of them. Failure if any does not get in.
    pub(crate) async fn log_in(
        &mut self,
        users: Range<usize>,
        phase: &Phase,
    ) -> Result<(), Failure> {
        let wanted = users.len() as u64;
        self.fleet.set_at_once(phase.at_once);
        {
            let mut logins = self.fleet.logins.borrow_mut();
            (logins.done, logins.failed, logins.took) = (0, 0, Spread::new());
        }
        users.for_each(|user| self.fleet.log_in(user, None));
        self.until_logged_in(wanted, phase).await
    }

    async fn until_logged_in(&mut self, wanted: u64, phase: &Phase) -> Result<(), Failure> {
        let mut patience = Patience::new(phase.patience_s, self.fleet.now_ns());
        loop {
            let (done, failed) = {
                let logins = self.fleet.logins.borrow();
                (logins.done, logins.failed)
            };
            if done == wanted {
                return Ok(());
            }
            if failed > 0 || patience.is_over(done, self.fleet.now_ns()) {
                let why = if failed > 0 { self.fault() } else { "no answer".to_owned() };
                return Err(Failure::new(format!(
                    "phase {:?}: {done} of {wanted} users are logged in: {why}",
                    phase.name
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits, with a word each second, while `step` says that there is something to wait for.
    async fn watch(
        &mut self,
        phase: &Phase,
        what: &str,
        pause: Duration,
        mut step: impl FnMut(&Rc<Fleet>, u64) -> bool,
    ) {
        let mut next_ns = self.fleet.now_ns() + SECOND_NS;
        loop {
            let now_ns = self.fleet.now_ns();
            if !step(&self.fleet, now_ns) {
                return;
            }
            if now_ns >= next_ns {
                next_ns += SECOND_NS;
                let line = match &mut *self.fleet.traffic.borrow_mut() {
                    Some(traffic) => {
                        let in_flight = traffic.in_flight();
                        shown(&traffic.meter.tick(now_ns), in_flight)
                    }
                    None => format!("{} online", self.fleet.online.get()),
                };
                (self.say)(&format!("{} {what}: {line}", phase.name));
            }
            sleep(pause).await;
        }
    }

    /// With what is being sent; a fault of this program if nothing is.
    fn traffic<T>(&self, with: impl FnOnce(&mut Traffic) -> T) -> Result<T, Failure> {
        let mut traffic = self.fleet.traffic.borrow_mut();
        traffic.as_mut().map(with).ok_or_else(|| Failure::new("nothing is being sent"))
    }

    fn begin(
        &mut self,
        phase: &Phase,
        pattern: Pattern,
        count: usize,
        control: Loop,
    ) -> Result<(), Failure> {
        let plan = Plan { pattern, senders: phase.senders, receivers: phase.receivers };
        let recipe = Recipe {
            plan,
            first_sender: self.first_user,
            first_receiver: self.first_user + phase.senders,
            data_bytes: phase.data_bytes,
        };
        let corpus = self.shelf.take(&recipe, self.people, &self.station, count, self.say)?;
        let meter = Meter::new(self.server);
        let traffic = Traffic::new(corpus, meter, control, 0, phase.senders);
        *self.fleet.traffic.borrow_mut() = Some(traffic);
        Ok(())
    }

    async fn relay(&mut self, phase: &Phase, pattern: Pattern) -> Result<Measured, Failure> {
        let (warmup_ns, span_ns) = (nanoseconds(phase.warmup_s), nanoseconds(phase.seconds));
        let is_open = phase.window == 0;
        let count = match is_open {
            true => messages_until(phase.rate, &phase.curve, warmup_ns + span_ns),
            false => phase.messages,
        };
        let control = if is_open { Loop::Open } else { Loop::OnArrival { window: phase.window } };
        // Signing may take longer than a station bears silence, so it comes before the logins.
        self.begin(phase, pattern, count, control)?;
        let traffic = self.fleet.traffic.take();
        let users = phase.senders + phase.receivers;
        self.log_in(0..users, phase).await?;
        for slow in (phase.senders..users).take(phase.slow_receivers) {
            self.fleet.set_slow(slow, phase.slow_bytes_per_second);
        }
        *self.fleet.traffic.borrow_mut() = traffic;

        let since_ns = self.fleet.now_ns();
        let mut course = Course::new(phase, since_ns, count);
        let pause = if phase.rate > PACE_RATE { PACE_LOOK } else { LOOK };
        let until_ns = since_ns + warmup_ns;
        self.watch(phase, "warms up", pause, |fleet, now| course.step(fleet, now, until_ns)).await;
        let start_ns = self.fleet.now_ns();
        self.traffic(|traffic| traffic.meter.start(start_ns))?;
        let until_ns = start_ns + span_ns;
        self.watch(phase, "runs", pause, |fleet, now| course.step(fleet, now, until_ns)).await;
        let unit = if pattern == Pattern::Everybody { "deliveries" } else { "messages" };
        let end_ns = self.fleet.now_ns();
        let mut measured = self.traffic(|traffic| {
            traffic.stop();
            traffic.meter.stop(end_ns, &phase.name, unit)
        })?;

        (phase.senders..users).for_each(|user| self.fleet.set_slow(user, 0));
        course.patience = Patience::new(phase.patience_s, end_ns);
        self.watch(phase, "waits for the rest", LOOK, |fleet, now| course.wait(fleet, now)).await;
        self.close(&mut measured)?;
        Ok(measured)
    }

    /// Puts the account of deliveries with what was measured.
    fn close(&self, measured: &mut Measured) -> Result<(), Failure> {
        let failed = self.fleet.logins.borrow().failed;
        self.traffic(|traffic| {
            traffic.broke(failed);
            measured.check = traffic.check();
            if traffic.is_used_up {
                measured.notes.push("ended early: all messages were used up".to_owned());
            }
            if traffic.fetched > 0 {
                let fetched = traffic.fetched;
                measured.notes.push(format!(
                    "{fetched} messages came while their receivers were away, and are not in the latencies"
                ));
            }
            for (text, count) in &traffic.receipts {
                measured.notes.push(format!("receipt {text:?}: {count} of those opened"));
            }
        })
    }

    async fn idle(&mut self, phase: &Phase) -> Result<Measured, Failure> {
        let before = self.server.and_then(Server::usage);
        let began_ns = self.fleet.now_ns();
        self.log_in(0..phase.receivers, phase).await?;
        let logged_in_ns = self.fleet.now_ns();
        let between = self.server.and_then(Server::usage);
        let mut meter = Meter::new(self.server);
        meter.start(logged_in_ns);
        let until_ns = logged_in_ns + nanoseconds(phase.seconds);
        self.watch(phase, "is quiet", LOOK, |_, now_ns| now_ns < until_ns).await;
        let now_ns = self.fleet.now_ns();
        let mut measured = meter.stop(now_ns, &phase.name, "connections");
        measured.count = phase.receivers as u64;
        let login_s = (logged_in_ns - began_ns) as f64 / 1e9;
        measured.per_second = phase.receivers as f64 / login_s.max(1e-9);
        measured.notes.push(format!("logins: {:.0} a second", measured.per_second));
        let after = self.server.and_then(Server::usage);
        if let (Some(before), Some(between), Some(after)) = (before, between, after) {
            let grown_kib = after.rss_kib.saturating_sub(before.rss_kib) as f64;
            measured.rss_kib_each = Some(grown_kib / phase.receivers as f64);
            let used_us = between.cpu_us.saturating_sub(before.cpu_us) as f64;
            measured.server_us = Some(used_us / phase.receivers as f64);
            measured.notes.push("server CPU is that of one login".to_owned());
        }
        measured.latency = self.fleet.logins.borrow().took.latency();
        let online = self.fleet.online.get() as u64;
        let sent = phase.receivers as u64;
        measured.check = Check { sent, delivered: online, ..Check::default() };
        Ok(measured)
    }

    async fn logins(&mut self, phase: &Phase) -> Result<Measured, Failure> {
        let mut all = Meter::new(self.server);
        all.start(self.fleet.now_ns());
        let mut latencies = None;
        let mut at_once = phase.clone();
        if phase.rate > 0.0 {
            at_once.at_once = usize::MAX;
        }
        self.fleet.set_at_once(at_once.at_once);
        for round in 1..=phase.rounds {
            let since_ns = self.fleet.now_ns();
            if phase.rate > 0.0 {
                self.storm(&at_once, since_ns).await?;
            } else {
                self.log_in(0..phase.receivers, &at_once).await?;
            }
            (0..phase.receivers).for_each(|_| all.count());
            let second = all.tick(self.fleet.now_ns());
            latencies = self.fleet.logins.borrow().took.latency();
            (self.say)(&format!("{} round {round}: {:.0} logins/s", phase.name, second.rate()));
            self.fleet.leave_all(Duration::from_secs_f64(phase.patience_s)).await?;
        }
        let mut measured = all.stop(self.fleet.now_ns(), &phase.name, "logins");
        measured.latency = latencies;
        measured.notes.push("latencies are those of the last round".to_owned());
        let (sent, cut) = (measured.count, self.fleet.cut.get());
        measured.check = Check { sent, delivered: sent, broken: cut, ..Check::default() };
        self.fleet.cut.set(0);
        Ok(measured)
    }

    /// Logins at a fixed rate, however many are under way.
    async fn storm(&mut self, phase: &Phase, since_ns: u64) -> Result<(), Failure> {
        {
            let mut logins = self.fleet.logins.borrow_mut();
            (logins.done, logins.failed, logins.took) = (0, 0, Spread::new());
        }
        let mut pace = Pace::new(phase.rate, &[], 1);
        let mut user = 0;
        self.watch(phase, "storms", LOOK, |fleet, now_ns| {
            while user < phase.receivers
                && let Some(due_ns) = pace.take(now_ns - since_ns)
            {
                fleet.log_in(user, Some(since_ns + due_ns));
                user += 1;
            }
            user < phase.receivers
        })
        .await;
        self.until_logged_in(phase.receivers as u64, phase).await
    }

    async fn offline(&mut self, phase: &Phase) -> Result<Vec<Measured>, Failure> {
        let window = phase.window;
        let control = Loop::OnReceipts { window, receipts: phase.receipts };
        self.begin(phase, Pattern::RoundRobin, phase.messages, control)?;
        let traffic = self.fleet.traffic.take();
        let (senders, users) = (phase.senders, phase.senders + phase.receivers);
        // The station comes to know them, and that they are away.
        self.log_in(senders..users, phase).await?;
        self.fleet.leave_all(Duration::from_secs_f64(phase.patience_s)).await?;
        self.log_in(0..senders, phase).await?;

        *self.fleet.traffic.borrow_mut() = traffic;
        let now_ns = self.fleet.now_ns();
        self.traffic(|traffic| traffic.meter.start(now_ns))?;
        self.fleet.wake();
        let stored = self.store(phase).await?;
        sleep(PAUSE).await;

        let began_ns = self.fleet.now_ns();
        self.traffic(|traffic| traffic.meter.start(began_ns))?;
        self.fleet.set_at_once(phase.at_once);
        (senders..users).for_each(|user| self.fleet.log_in(user, None));
        let mut patience = Patience::new(phase.patience_s, began_ns);
        self.watch(phase, "fetches", LOOK, |fleet, now_ns| {
            let left = fleet.traffic.borrow().as_ref().map_or(0, Traffic::in_flight);
            left > 0 && !patience.is_over(left, now_ns)
        })
        .await;
        let now_ns = self.fleet.now_ns();
        let name = format!("{}: drain", phase.name);
        let mut drained = self.traffic(|traffic| traffic.meter.stop(now_ns, &name, "messages"))?;
        drained.notes.push("logins are part of it".to_owned());
        self.fleet.leave_all(Duration::from_secs_f64(phase.patience_s)).await?;
        // What was acknowledged must not come again.
        self.log_in(senders..users, phase).await?;
        sleep(AFTERMATH).await;
        self.close(&mut drained)?;
        Ok(vec![stored, drained])
    }
}

impl Conductor<'_> {
    /// Waits until all messages are acknowledged as stored, and accounts for that.
    async fn store(&mut self, phase: &Phase) -> Result<Measured, Failure> {
        let mut patience = Patience::new(phase.patience_s, self.fleet.now_ns());
        let wanted = phase.messages as u64;
        self.watch(phase, "stores", LOOK, |fleet, now_ns| {
            let traffic = fleet.traffic.borrow();
            traffic.as_ref().is_some_and(|traffic| {
                let stored = traffic.acknowledged;
                stored < wanted && !patience.is_over(traffic.progress(), now_ns)
            })
        })
        .await;
        let now_ns = self.fleet.now_ns();
        self.traffic(|traffic| {
            traffic.stop();
            let mut stored =
                traffic.meter.stop(now_ns, &format!("{}: store", phase.name), "messages");
            let (delivered, refused) = (traffic.acknowledged, traffic.check().refused);
            let lost = wanted - delivered;
            stored.check = Check { sent: wanted, delivered, lost, refused, ..Check::default() };
            stored.notes.push("delivered means: acknowledged as stored".to_owned());
            stored
        })
    }
}

/// One second, in a line.
fn shown(second: &Second, in_flight: u64) -> String {
    let ms = |us: u64| us as f64 / 1000.0;
    let mut line = format!(
        "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {in_flight} on the way",
        second.rate(),
        ms(second.p50),
        ms(second.p99)
    );
    if let (Some(us), true) = (second.server_us, second.count > 0) {
        line += &format!(", server {:.1} us each", us as f64 / second.count as f64);
    }
    if let Some(kib) = second.rss_kib {
        line += &format!(", {} MiB", kib / 1024);
    }
    line
}
