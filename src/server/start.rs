//! The order in which a station starts and stops, and why.
//!
//! Start: what may be refused without harm comes first (settings, io_uring), then the store, whose
//! lock keeps a second station away from the folder, then the identity in it, then the socket, so
//! that nobody is accepted before everything stands. Stop is the reverse: no more from clients,
//! what is in flight goes to the store, the store syncs and ends.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::config::{self, Args, Config, Loaded, Plain};
use super::executor::{self, Job};
use super::identity::{self, IdentityError};
use super::listen::{Admission, Bounds, Listening};
use super::lock::{FolderLock, LockError};
use super::log;
use super::mesh::{Letter, Mailbox};
use super::neighbors::{Own, Roster};
use super::notify::{self, Watchdog};
use super::probe::{self, Probe};
use super::reload::Settings;
use super::tls::trust::Trust;
use super::tls::{Tls, TlsError};
use crate::client::account::Account;
use crate::client::folder::{Fault, FolderError};
use crate::proto::directory::Ans;
use crate::proto::id::Id;
use crate::shard::neighbor::Neighbor;
use crate::shard::rate::Rate;
use crate::shard::ring::{Ring, ShardIndex};
use crate::shard::{LoginMessages, Policy, Shard, Station, Verify};
use crate::store::rocks::{RocksSettings, RocksStore};
use crate::store::writer::{Writer, WriterSettings};
use crate::store::{Store, StoreAnswer, StoreError};
use crate::wire::DeframeLimits;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Memory that glommio pins per shard for storage, which is not used here.
const IO_MEMORY: usize = 512 << 10;
/// Entries of a shard's rings. Each connection may have a poll in it that is not yet submitted, and
/// with the default of 128 a hundred busy ones filled it.
const RING_DEPTH: usize = 4096;
/// How long a busy shard goes on before it asks the kernel what else is ready. Its tasks end their
/// turns by themselves.
const PREEMPT: Duration = Duration::from_millis(3);
/// How long a shard's thread may take to begin, and how many threads are tried.
const START_PATIENCE: Duration = Duration::from_secs(1);
const START_TRIES: u32 = 20;
/// How long shards may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a taken port is tried again.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a station does not run. Each says what to do.
#[derive(Debug)]
pub enum StartError {
    /// This host denies what shards run on.
    Host(String),
    /// The identity's files.
    Identity(IdentityError),
    /// A station runs in the data folder already.
    Folder(PathBuf, LockError),
    /// The store in it.
    Store(StoreError),
    /// The certificate or its key.
    Tls(TlsError),
    /// The listening socket.
    Listen(SocketAddr, io::Error),
    /// A record of the address name service.
    Ans(String, String),
    /// Threads.
    Thread(String),
    /// The log.
    Log(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(text) => write!(f, "{text}"),
            Self::Identity(error) => {
                write!(f, "no identity to start with: {error}")?;
                match error {
                    IdentityError::File(FolderError { fault: Fault::Missing, .. }) => f.write_str(
                        "; put the keys of the station's ID there, from a backup or from the \
                             station that it comes from, or let station.id name another one",
                    ),
                    _ => Ok(()),
                }
            }
            Self::Folder(path, LockError::Running(pid)) => {
                write!(f, "a station runs already in {}", path.display())?;
                pid.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
            }
            Self::Folder(path, LockError::File(error)) => write!(
                f,
                "the data folder cannot be used: {}: {error}; it must belong to the user who runs \
                 the station",
                path.display()
            ),
            Self::Store(error) => write!(f, "the data folder cannot be used: {error}"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: the port is taken, perhaps by a station that runs \
                 already; choose another one (listen.port or DIM_PORT; tls.port)"
            ),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Ans(name, id) => write!(f, "ans.{name}: \"{id}\" is not an ID"),
            Self::Log(text) => write!(f, "no log: {text}"),
            Self::Thread(text) => write!(f, "a shard did not start: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs a station until it is told to stop (SIGTERM, SIGINT). SIGHUP reads the settings again, by the
/// same `args`.
pub fn run(args: Args, loaded: Loaded) -> Result<(), StartError> {
    let config = loaded.config.clone();
    let lines = log::start(&config.log).map_err(StartError::Log)?;
    probe::raise_limits();
    let probe = Probe::take();
    if let Some(obstacle) = probe.obstacle(config.shards) {
        return Err(StartError::Host(obstacle.to_string()));
    }
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| StartError::Thread(error.to_string()))?;
    let ans = Arc::new(ans(&config)?);
    let tls = tls(&config)?;
    let trust = Arc::new(Trust::new(config.neighbors.ca.clone()));
    let _folder = own_folder(&config)?;
    let rocks = Arc::new(open_store(&config).map_err(StartError::Store)?);
    let listener = listen(config.listen.address())?;
    let address = listener.local_addr().unwrap_or(config.listen.address());
    let mut doors = vec![Door { listener, plain: config.tls.plain }];
    if config.tls.port != 0 {
        let listener = listen(SocketAddr::new(config.listen.host, config.tls.port))?;
        doors.push(Door { listener, plain: Plain::Nobody });
    }
    let account = identity(&config, address).map_err(StartError::Identity)?;
    let station = Arc::new(station(&account));
    let own = Own { id: station.id.clone(), places: own_places(&config, address) };
    let fleet = Fleet::start(&config, &station, &ans, &rocks, (tls.clone(), trust.clone()), doors)?;
    announce(&station.id, address, &config, fleet.shards);
    notify::ready();
    let hear = tell_neighbors(fleet.mailboxes.clone());
    let roster = Roster::start(own, config.neighbors.clone(), trust, hear)
        .map_err(|error| StartError::Thread(error.to_string()))?;
    fleet.serve(signals, &roster, Settings { args, loaded, lines, tls });
    if let Err(error) = rocks.settle() {
        tracing::warn!(%error, "the store keeps its log for the next start");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells every shard of the neighbours.
fn tell_neighbors(mailboxes: Vec<Arc<Mailbox<Letter>>>) -> impl Fn(Arc<[Neighbor]>) {
    move |list| {
        for mailbox in &mailboxes {
            mailbox.deliver(Letter::Neighbors(list.clone()));
        }
    }
}

/// Makes the data folder where it is missing, and keeps other stations out of it.
pub(crate) fn own_folder(config: &Config) -> Result<FolderLock, StartError> {
    let path = &config.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(LockError::File)
        .and_then(|()| FolderLock::take(path))
        .map_err(|error| StartError::Folder(path.clone(), error))
}

/// The station's TLS, if its settings ask for it.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, StartError> {
    let Some((tls, validity)) = Tls::load(&config.tls).map_err(StartError::Tls)? else {
        return Ok(None);
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    if let Some(fault) = validity.fault_at(now_s) {
        tracing::warn!("tls.certificate {fault}; clients refuse it then");
    }
    Ok(Some(Arc::new(tls)))
}

pub(super) fn ans(config: &Config) -> Result<Ans, StartError> {
    let mut records = HashMap::new();
    for (name, text) in &config.ans {
        let id = Id::parse(text).map_err(|_| StartError::Ans(name.clone(), text.clone()))?;
        records.insert(name.clone(), id);
    }
    Ok(Ans::new(records))
}

/// Opens the store of a data folder; refused while a station runs on it.
pub fn open_store(config: &Config) -> Result<RocksStore, StoreError> {
    let mib = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    let settings = RocksSettings {
        sync: config.store.sync,
        block_cache_bytes: mib(config.store.cache_mib),
        write_buffer_bytes: mib(config.store.write_buffer_mib),
        ..RocksSettings::default()
    };
    RocksStore::open(config.data_dir.join("store"), settings)
}

fn identity(config: &Config, address: SocketAddr) -> Result<Account, IdentityError> {
    let host = config.station.host.clone().unwrap_or_else(|| address.ip().to_string());
    let port = if config.station.port == 0 { address.port() } else { config.station.port };
    let profile: Map<String, Value> = [
        ("name", Value::from(config.station.name.as_str())),
        ("host", host.into()),
        ("port", port.into()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = now.unwrap_or_default().as_secs_f64();
    identity::load_or_create(config, &profile, now_s)
}

/// Where lists of stations may name this one.
fn own_places(config: &Config, address: SocketAddr) -> Vec<(String, u16)> {
    let told = if config.station.port == 0 { address.port() } else { config.station.port };
    let named = config.station.host.clone().map(|host| (host, told));
    named.into_iter().chain([(address.ip().to_string(), address.port())]).collect()
}

fn station(account: &Account) -> Station {
    Station {
        id: account.id().clone(),
        meta: account.meta().to_map(),
        visa: account.document().map(|document| document.to_map()).unwrap_or_default(),
        sign: account.sign_key().clone(),
        open: account.message_keys().to_vec(),
    }
}

/// One socket for all shards. Not shared with a second station: its start is refused here.
fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let refused = |error| StartError::Listen(address, error);
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).map_err(refused)?;
    socket.set_reuse_address(true).map_err(refused)?;
    // The kernel may need a moment to take down the sockets of a station that was killed.
    let until = std::time::Instant::now() + PORT_PATIENCE;
    while let Err(error) = socket.bind(&address.into()).and_then(|()| socket.listen(BACKLOG)) {
        if error.kind() != io::ErrorKind::AddrInUse || std::time::Instant::now() > until {
            return Err(refused(error));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(socket.into())
}

fn announce(id: &Id, address: SocketAddr, config: &Config, shards: u16) {
    // Standard output is for programs that start this one; the log goes elsewhere.
    println!("station  {id}");
    println!("address  {address}");
    if config.tls.plain != Plain::Nobody {
        println!("connect  MTP and JSON lines: tcp://{address}   browsers: ws://{address}/");
    }
    if config.tls.certificate.is_some() {
        let port = if config.tls.port == 0 { address.port() } else { config.tls.port };
        let address = SocketAddr::new(address.ip(), port);
        println!("encrypted  MTP and JSON lines: tls://{address}   browsers: wss://{address}/");
    }
    tracing::info!(%id, %address, shards, "the station is up");
}

/// A listening socket, and who may go without TLS there.
struct Door {
    listener: TcpListener,
    plain: Plain,
}

/// The shards and what they share.
struct Fleet {
    shards: u16,
    clock: Clock,
    listening: Vec<Listening>,
    admission: Arc<Admission>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    store: Arc<Writer>,
    ended: mpsc::Receiver<ShardIndex>,
}

impl Fleet {
    fn start(
        config: &Config,
        station: &Arc<Station>,
        ans: &Arc<Ans>,
        rocks: &Arc<RocksStore>,
        (tls, trust): (Option<Arc<Tls>>, Arc<Trust>),
        doors: Vec<Door>,
    ) -> Result<Self, StartError> {
        let shards = shards(config);
        let ring = Ring::new(shards);
        let policy = Arc::new(policy(config));
        let mailboxes: Vec<_> = (0..shards).map(|_| Mailbox::new()).collect();
        let store = writer(rocks, &mailboxes)?;
        let (report, reports) = mpsc::channel();
        let (farewell, ended) = mpsc::channel();
        for index in (0..shards).map(ShardIndex) {
            let mut seed = [0; 8];
            aws_lc_rs::rand::fill(&mut seed)
                .map_err(|_| StartError::Thread("no random bytes from the system".into()))?;
            let plan = Plan {
                index,
                ring,
                seed: u64::from_be_bytes(seed),
                station: station.clone(),
                policy: policy.clone(),
                ans: ans.clone(),
                mailboxes: mailboxes.clone(),
                store: store.clone(),
                tls: tls.clone(),
                trust: trust.clone(),
                taken: Arc::default(),
            };
            let mut tries = 0..START_TRIES;
            loop {
                tries
                    .next()
                    .ok_or_else(|| StartError::Thread("it did not report in time".into()))?;
                plan.clone().launch(report.clone(), farewell.clone())?;
                if reports.recv_timeout(START_PATIENCE).is_ok() {
                    break;
                }
            }
        }
        let admission = Admission::new(bounds(config));
        let open = |Door { listener, plain }| {
            Listening::start(listener, plain, admission.clone(), mailboxes.clone())
                .map_err(|error| StartError::Thread(error.to_string()))
        };
        let listening = doors.into_iter().map(open).collect::<Result<_, _>>()?;
        let clock = Clock::start(mailboxes.clone())
            .map_err(|error| StartError::Thread(error.to_string()))?;
        Ok(Self { shards, clock, listening, admission, mailboxes, store, ended })
    }

    /// Waits for the signal to stop, then for everything to be safe.
    fn serve(self, mut signals: Signals, roster: &Roster, mut settings: Settings) {
        let mut signal = None;
        for came in signals.forever() {
            if came != SIGHUP {
                signal = Some(came);
                break;
            }
            settings.reload(&self.mailboxes, &self.admission, roster);
        }
        notify::stopping();
        tracing::info!(?signal, "stopping: no more from clients, what is in flight is kept");
        self.listening.into_iter().for_each(Listening::stop);
        for mailbox in &self.mailboxes {
            mailbox.deliver(Letter::Stop);
        }
        let mut all = true;
        for _ in 0..self.shards {
            all &= self.ended.recv_timeout(PATIENCE).is_ok();
        }
        self.clock.stop();
        // Whatever was acknowledged is synced already; this ends what was not.
        self.store.shutdown();
        if !all {
            tracing::warn!("a shard did not stop in time; unacknowledged messages come again");
        }
    }
}

/// What a shard's thread is given to begin with.
#[derive(Clone)]
struct Plan {
    index: ShardIndex,
    ring: Ring,
    seed: u64,
    station: Arc<Station>,
    policy: Arc<Policy>,
    ans: Arc<Ans>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    store: Arc<Writer>,
    tls: Option<Arc<Tls>>,
    trust: Arc<Trust>,
    /// The first thread that comes to work on it has it.
    taken: Arc<AtomicBool>,
}

impl Plan {
    /// Starts a thread for the shard, which says so in `report` when it runs. An executor may fall
    /// asleep before its first task (see [`Mailbox::beat`]): then another one is started, and
    /// should the first wake up some day, it finds its work taken and ends.
    fn launch(
        self,
        report: mpsc::Sender<ShardIndex>,
        farewell: mpsc::Sender<ShardIndex>,
    ) -> Result<(), StartError> {
        LocalExecutorBuilder::new(Placement::Unbound)
            .name(&format!("shard-{}", self.index.0))
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .spawn(move || async move {
                if self.taken.swap(true, Ordering::SeqCst) {
                    return;
                }
                let Self { index, ring, seed, station, policy, ans, .. } = self;
                let shard = Shard::new(index, ring, station, policy, ans, seed);
                let Self { mailboxes, store, tls, trust, .. } = self;
                executor::run(Job { shard, index, mailboxes, store, tls, trust }, || {
                    let _ = report.send(index);
                })
                .await;
                let _ = farewell.send(index);
            })
            .map(drop)
            .map_err(|error| StartError::Thread(error.to_string()))
    }
}

/// The thread that tells the shards that time passes.
struct Clock {
    stopping: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Clock {
    fn start(mailboxes: Vec<Arc<Mailbox<Letter>>>) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name("dim-clock".into()).spawn(move || {
            let mut watchdog = Watchdog::wanted();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(executor::TICK);
                if let Some(watchdog) = &mut watchdog {
                    watchdog.look(mailboxes.iter().map(|mailbox| mailbox.opened()));
                }
                for mailbox in &mailboxes {
                    // A full mailbox is being read, and the next tick will find room.
                    let _ = mailbox.send(vec![Letter::Tick]);
                    mailbox.beat();
                }
            }
        })?;
        Ok(Self { stopping, thread })
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

fn writer(
    rocks: &Arc<RocksStore>,
    mailboxes: &[Arc<Mailbox<Letter>>],
) -> Result<Arc<Writer>, StartError> {
    let store: Arc<dyn Store> = rocks.clone();
    let mailboxes = mailboxes.to_vec();
    let answers = Arc::new(move |shard: u16, answers: Vec<(u64, StoreAnswer)>| {
        let Some(mailbox) = mailboxes.get(usize::from(shard)) else {
            return;
        };
        let mut letter = vec![Letter::Answers(answers)];
        // A full mailbox means a shard that is far behind; the store may wait for it.
        while let Err(back) = mailbox.send(letter) {
            letter = back;
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let writer = Writer::spawn(store, WriterSettings::default(), answers)
        .map_err(|error| StartError::Thread(error.to_string()))?;
    Ok(Arc::new(writer))
}

fn shards(config: &Config) -> u16 {
    if config.shards > 0 {
        return config.shards;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Open connections of all shards together, below the limit of open files, and from one address.
pub(super) fn bounds(config: &Config) -> Bounds {
    let set = u64::from(config.limits.connections_max);
    let room = Probe::take().connections().unwrap_or(u64::MAX).max(64);
    let all = if set > 0 { set.min(room) } else { room };
    let wide = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let by_address_max = wide(config.limits.connections_per_address_max.into());
    let by_address = Rate::within(config.limits.connections_per_minute_max.into(), 60);
    let spare_loopback = config.limits.spare_loopback;
    Bounds { open_max: wide(all), by_address_max, by_address, spare_loopback }
}

pub(super) fn policy(config: &Config) -> Policy {
    let wide = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Policy {
        verify: match config.policy.verify {
            config::Verify::Every => Verify::Every,
            config::Verify::Session => Verify::Session,
        },
        login_messages: match config.policy.login_messages {
            config::LoginMessages::Auto => LoginMessages::Auto,
            config::LoginMessages::Never => LoginMessages::Never,
            config::LoginMessages::Always => LoginMessages::Always,
        },
        framing: DeframeLimits {
            message_bytes_max: wide(config.limits.message_bytes_max),
            // The clients of 2019 are served.
            bare_lines: true,
            ..DeframeLimits::default()
        },
        login_ms_max: u64::from(config.limits.login_ms_max),
        frame_ms_max: u64::from(config.limits.frame_ms_max),
        idle_ms_max: u64::from(config.limits.idle_ms_max),
        parked_messages_max: wide(config.limits.parked_messages_max),
        flying_bytes_max: wide(config.limits.session_out_bytes_max),
        receipts_ms: u64::from(config.mail.receipts_ms),
        acknowledge_ms: u64::from(config.mail.acknowledge_ms),
        mailbox_messages_max: u64::from(config.mail.messages_per_user_max),
        mailbox_bytes_max: config.mail.bytes_per_user_max,
        mail_ms_max: u64::from(config.mail.expiry_days) * 24 * 3600 * 1000,
        spare_loopback: config.limits.spare_loopback,
        messages: Rate::per_second(config.limits.messages_per_second_max.into()),
        bytes: Rate::per_second(config.limits.bytes_per_second_max.into()),
        early_messages_max: config.limits.messages_before_login_max,
        refusals: Rate::within(config.limits.refusals_per_minute_max.into(), 60),
        uploads: Rate::within(config.limits.uploads_per_hour_max.into(), 3600),
        monitor_every_ms: u64::from(config.policy.monitor_every_ms),
        monitor_addresses: config.policy.monitor_addresses,
        admins: config.policy.admins.iter().filter_map(|id| Id::parse(id).ok()).collect(),
        links: config.neighbors.links,
        ..Policy::default()
    }
}
