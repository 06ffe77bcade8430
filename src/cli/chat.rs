//! `dims chat`: talking with others, at a terminal or from a script.

mod book;
mod command;
mod event;
mod files;
mod group;
mod line;
mod said;
mod talk;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::book::{Book, accounts};
use self::line::Out;
use self::said::{Form, Said};
use self::talk::{Awaited, Not, Step, Talk};
use super::{Refusal, now_s};
use crate::client::account::Account;
use crate::client::blocking::Client;
use crate::client::folder::Folder;
use crate::client::terminal::{Event, Settings};
use crate::proto::content::Body;
use crate::proto::id::Id;
use crate::server::lock::{FolderLock, LockError};
use crate::wire::Framing;

/// Read after the flags.
const NOTES: &str = "\
A line that begins with / is a command, /help lists them; any other line is said to whom you talk with.

From a pipe, each line is done before the next one is read, and each event is a line of its own: a
word, then its fields with blanks between, a text last (--json: an object with the same names).

  account ID NAME          login STATION             disconnected SECONDS
  to ID NAME               sent NUMBER TO TEXT       receipt NUMBER STATE RECEIVER TEXT
  message CONVERSATION FROM TEXT                     file CONVERSATION FROM BYTES PATH
  group ID NAME MEMBERS    profile ID NAME TEXT      history TIME FROM TEXT
  error TEXT               note TEXT                 contact, user, member, … ID NAME

STATE is delivered, cached (kept for later), received (says its reader), refused, failed or told.
At the end of the input it waits until the station has what was sent, at most 30 seconds.
Exit codes: 0 fine, 1 something was not done (each time an `error` line), 2 wrong usage.";

/// Patience with the station at the end, in seconds; and with its receipts, once it has all.
const END_S: u64 = 30;
const RECEIPTS_S: u64 = 3;

/// Patience with the station's answer what a name means, in seconds.
const NAME_S: u64 = 5;

/// Events that a later `/wait` may still be about.
const HEARD_MAX: usize = 4096;

/// Happenings that the loop has not heard of yet; then events wait in the client, which has bounds.
const TOLD_MAX: usize = 64;

/// How long one look for events lasts; leaving waits for it.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct ChatArgs {
    /// The station
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9394")]
    station: String,
    /// Talk WebSocket to it, as browsers do
    #[arg(long)]
    ws: bool,
    /// Which account of the folder; a name that none has makes a new one
    #[arg(long = "as", value_name = "NAME|ID")]
    account: Option<String>,
    /// Folder of accounts, conversations and downloads
    #[arg(long, value_name = "DIR", default_value = "dim-chat")]
    data_dir: PathBuf,
    /// Folder in place of a file server, which both sides see
    #[arg(long, value_name = "DIR")]
    upload_dir: Option<PathBuf>,
    /// Events as JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// What the loop is told.
enum Happened {
    Line(Result<String, String>),
    End,
    Interrupt,
    Client(Box<Event>),
}

pub(super) fn chat(args: &ChatArgs) -> Result<(), Refusal> {
    let settings = settings(args)?;
    files::make_folder(&args.data_dir)
        .map_err(|error| Refusal::here(format!("{}: {error}", args.data_dir.display())))?;
    let (tell, told) = mpsc::sync_channel(TOLD_MAX);
    let (next, wanted) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(Refusal::here)?;
    let signal = tell.clone();
    let spawned = thread::Builder::new().name("dim-signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if signal.send(Happened::Interrupt).is_err() {
                return;
            }
        }
    });
    spawned.map_err(Refusal::here)?;
    let at_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !args.json;
    let _mode = at_terminal.then(TerminalMode::keep);
    let out = match at_terminal {
        true => line::read_terminal(tell.clone(), wanted).map_err(Refusal::here)?,
        false => {
            line::read_pipe(tell.clone(), wanted).map_err(Refusal::here)?;
            Out::Pipe(if args.json { Form::Json } else { Form::Plain })
        }
    };
    let mut chat = Loop {
        args,
        settings,
        tell,
        told,
        next,
        out,
        at_terminal,
        faults: 0,
        heard: VecDeque::new(),
        waiting: None,
        ready: false,
        left: false,
    };
    let mut who = args.account.clone();
    while let Some(account) = chat.run(who.as_deref())? {
        who = Some(account);
    }
    match chat.faults {
        0 => Ok(()),
        _ if at_terminal => Ok(()),
        1 => Err(Refusal::here("one thing was not done")),
        faults => Err(Refusal::here(format!("{faults} things were not done"))),
    }
}

/// How the terminal was. The editor's thread may be in the midst of a line when a signal ends us.
struct TerminalMode(Option<Termios>);

impl TerminalMode {
    fn keep() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        if let Some(mode) = &self.0 {
            // A terminal that is gone needs nothing more; the sequence ends bracketed pastes.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, mode);
            let _ = io::stdout().write_all(b"\x1b[?2004l\r\x1b[K");
        }
    }
}

fn settings(args: &ChatArgs) -> Result<Settings, Refusal> {
    let wrong = || Refusal::usage(format!("--station={}: this should be HOST:PORT", args.station));
    let (host, port) = args.station.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    if host.is_empty() {
        return Err(wrong());
    }
    let framing = if args.ws { Framing::WebSocket } else { Framing::Mtp };
    Ok(Settings { framing, ..Settings::new(host, port) })
}

/// The account that is meant, and whether it was made now.
fn account(folder: &Folder, who: Option<&str>) -> Result<(Account, bool), Refusal> {
    let all = accounts(folder)?;
    let fits = |(id, name): &&(Id, String)| {
        who.is_none_or(|who| name == who || id.is_named_by(who) || id.address() == who)
    };
    let found: Vec<&Id> = all.iter().filter(fits).map(|(id, _)| id).collect();
    match (&found[..], who) {
        ([id], _) => Ok((folder.account(id, None)?, false)),
        ([], Some(who)) if Id::parse(who).is_ok() => {
            Err(Refusal::here(format!("no private key of {who} is in this folder")))
        }
        ([], _) => {
            let name = who.unwrap_or("somebody");
            // A moment ago, so that a station whose clock is behind takes it.
            let account = Account::register(name, now_s() - 1.0).map_err(Refusal::here)?;
            folder.save(&account)?;
            Ok((account, true))
        }
        (several, _) => {
            let list: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            Err(Refusal::usage(format!("which account? --as one of {}", list.join(", "))))
        }
    }
}

/// A line that is not done yet.
struct Waiting {
    until: Awaited,
    /// The line to be tried again when a name is known.
    again: Option<String>,
    deadline: Instant,
    /// The input is over: leave then.
    leave: bool,
}

struct Loop<'a> {
    args: &'a ChatArgs,
    settings: Settings,
    tell: SyncSender<Happened>,
    told: Receiver<Happened>,
    next: Sender<String>,
    out: Out,
    at_terminal: bool,
    /// Commands that were not done.
    faults: u64,
    /// Lines of events since the last one that was waited for.
    heard: VecDeque<String>,
    waiting: Option<Waiting>,
    /// The next line may be read.
    ready: bool,
    left: bool,
}

impl Loop<'_> {
    /// Goes on as one account; yields the next one, or none at the end.
    fn run(&mut self, who: Option<&str>) -> Result<Option<String>, Refusal> {
        let root = &self.args.data_dir;
        let folder = Folder::below(root);
        let (account, new) = account(&folder, who)?;
        let _lock = lock(root, account.id())?;
        let book = Book::open(&folder, root, &account)?;
        let id = account.id().clone();
        let mut talk = Talk::start(self.args, self.settings.clone(), root, account, book)?;
        let pump = Pump::start(talk.client.clone(), self.tell.clone()).map_err(Refusal::here)?;
        let name = talk.book(|book| book.name_of(&id));
        if new {
            talk.note(&format!("a new account was made in {}", root.display()));
        }
        let fields = vec![("id", id.as_str().into()), ("name", name.clone().into())];
        talk.show(Said::new("account", fields).shown(format!("- you are {name}: {id}")));
        if self.at_terminal {
            let place = &self.args.station;
            talk.note(&format!("calling the station at {place}; /help lists what you can do"));
        }
        self.print(&mut talk);
        self.ask(&talk);
        let switch = self.serve(&mut talk);
        self.left |= pump.stop(&self.told);
        self.close(talk);
        Ok(switch.filter(|_| !self.left))
    }

    /// Until the end; yields who is to go on.
    fn serve(&mut self, talk: &mut Talk) -> Option<String> {
        loop {
            let happened = match &self.waiting {
                None => self.told.recv().ok(),
                Some(waiting) => {
                    let left = waiting.deadline.saturating_duration_since(Instant::now());
                    match self.told.recv_timeout(left) {
                        Ok(happened) => Some(happened),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => return None,
                    }
                }
            };
            let mut step = Step::Done;
            match happened {
                Some(Happened::Interrupt) => return None,
                Some(Happened::Line(line)) => step = self.line(talk, line),
                Some(Happened::End) => {
                    let until = Awaited::Receipts;
                    self.wait(until, END_S, None);
                    self.waiting.iter_mut().for_each(|waiting| waiting.leave = true);
                }
                Some(Happened::Client(event)) => {
                    if let Some(line) = self.event(talk, *event) {
                        step = self.line(talk, Ok(line));
                    }
                }
                None => step = self.too_late(talk),
            }
            match step {
                Step::Leave => return None,
                Step::Switch(who) => return Some(who),
                Step::Done | Step::Wait { .. } | Step::Asked => {}
            }
            if !self.print(talk) || self.is_over(talk) {
                return None;
            }
            // Only now, or what it shows would mingle with the next line.
            if std::mem::take(&mut self.ready) {
                self.ask(talk);
            }
        }
    }

    /// Takes an event in; yields a line that can be tried again now.
    fn event(&mut self, talk: &mut Talk, event: Event) -> Option<String> {
        let mut named = false;
        if let Event::Received(opened) = &event
            && let Body::Command(_) = opened.content.body
        {
            named = talk.told_names(&opened.content);
        }
        talk.on_event(event);
        if named && self.waiting.as_ref().is_some_and(|waiting| waiting.again.is_some()) {
            return self.waiting.take().and_then(|waiting| waiting.again);
        }
        None
    }

    fn line(&mut self, talk: &mut Talk, line: Result<String, String>) -> Step {
        let done = line.as_ref().map_err(Clone::clone).and_then(|line| command::parse(line));
        let step = match done.map(|command| talk.command(command)) {
            Ok(Ok(step)) => step,
            Ok(Err(Not::Said(said))) | Err(said) => self.fault(talk, &said),
            Ok(Err(Not::Unknown(name))) => match talk.ask_name(&name) {
                true => Step::Asked,
                false => self.fault(talk, &Talk::nobody(&name)),
            },
        };
        match step {
            Step::Wait { until, seconds } => {
                self.wait(until, seconds, None);
                return Step::Done;
            }
            Step::Asked => self.wait(Awaited::Login, NAME_S, line.ok()),
            Step::Done => self.ready = true,
            Step::Leave | Step::Switch(_) => {}
        }
        step
    }

    fn fault(&mut self, talk: &mut Talk, said: &str) -> Step {
        self.faults += 1;
        talk.show(Said::error(said));
        Step::Done
    }

    fn wait(&mut self, until: Awaited, seconds: u64, again: Option<String>) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        self.waiting = Some(Waiting { until, again, deadline, leave: false });
    }

    /// Wants the next line.
    fn ask(&self, talk: &Talk) {
        let prompt = talk.to.as_ref().map(|to| talk.name_of(to)).unwrap_or_default();
        let prompt = format!("{}> ", said::clean(&prompt, " "));
        // If nobody reads lines any more, the loop is told so.
        let _ = self.next.send(prompt);
    }

    /// What waited is over, if what it waited for has happened; whether to leave then.
    fn is_over(&mut self, talk: &Talk) -> bool {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.again.is_none()) else {
            return false;
        };
        let over = match &waiting.until {
            Awaited::Login => talk.client.with(|terminal| terminal.is_logged_in()),
            Awaited::Receipts => talk.sent.iter().all(talk::Sent::is_answered),
            Awaited::Text(text) => match self.heard.iter().position(|line| line.contains(text)) {
                Some(at) => {
                    self.heard.drain(..=at);
                    true
                }
                None => false,
            },
        };
        if waiting.leave && !over && talk.sent.iter().all(talk::Sent::is_safe) {
            waiting.deadline =
                waiting.deadline.min(Instant::now() + Duration::from_secs(RECEIPTS_S));
        }
        let leave = over && waiting.leave;
        if over {
            self.waiting = None;
            self.ready = !leave;
        }
        leave
    }

    /// Patience has ended.
    fn too_late(&mut self, talk: &mut Talk) -> Step {
        let Some(waiting) = self.waiting.take() else { return Step::Leave };
        if let Some(line) = waiting.again {
            // What was asked is not asked again, so this says what is wrong.
            return self.line(talk, Ok(line));
        }
        let open = talk.sent.iter().filter(|sent| !sent.is_safe()).count();
        match (&waiting.until, waiting.leave) {
            (_, true) if open == 0 => {}
            (_, true) => {
                self.fault(talk, &format!("{open} messages were not acknowledged by the station"));
            }
            (Awaited::Login, _) => drop(self.fault(talk, "not logged in in time")),
            (Awaited::Receipts, _) => drop(self.fault(talk, "not all was answered in time")),
            (Awaited::Text(text), _) => {
                let said = format!("nothing with {text:?} came in time");
                self.fault(talk, &said);
            }
        }
        if waiting.leave {
            self.print(talk);
            return Step::Leave;
        }
        self.ready = true;
        Step::Done
    }

    /// Prints what is to be shown; whether somebody is there to read it.
    fn print(&mut self, talk: &mut Talk) -> bool {
        self.out.complete(|| talk.words());
        for said in talk.out.drain(..) {
            // What was typed is no event that could be waited for.
            if !["sent", "to", "help", "error", "history"].contains(&said.event) {
                self.heard.push_back(said.line(Form::Plain));
            }
            if self.heard.len() > HEARD_MAX {
                self.heard.pop_front();
            }
            if !self.out.print(&said) {
                return false;
            }
        }
        true
    }

    /// Leaves the station, and keeps what a later run needs.
    fn close(&mut self, talk: Talk) {
        let Talk { client, .. } = talk;
        let Some(mut terminal) = Arc::into_inner(client).and_then(Client::close) else { return };
        let keys = terminal.messenger().keys().save();
        if let Err(error) = terminal.messenger_mut().source_mut().save_keys(keys) {
            self.faults += 1;
            self.out.print(&Said::error(&error.to_string()));
        }
    }
}

/// One chat an account: two would mix their records.
fn lock(root: &Path, id: &Id) -> Result<FolderLock, Refusal> {
    let own = root.join("chat").join(id.address());
    let here = |error: io::Error| Refusal::here(format!("{}: {error}", own.display()));
    files::make_folder(&own).map_err(here)?;
    FolderLock::take(&own).map_err(|error| match error {
        LockError::File(error) => here(error),
        LockError::Running(Some(pid)) => {
            Refusal::here(format!("process {pid} chats as {id} already; --as chooses another"))
        }
        LockError::Running(None) => Refusal::here(format!("somebody chats as {id} already")),
    })
}

/// Hands events of a client to the loop.
struct Pump {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pump {
    fn start(client: Arc<Client<Book>>, tell: SyncSender<Happened>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("dim-events".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(event) = client.next_event(LOOK)
                    && tell.send(Happened::Client(Box::new(event))).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it, and takes out what it has said; whether somebody wants to leave.
    fn stop(self, told: &Receiver<Happened>) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        let mut left = false;
        // It may be waiting until it can say something.
        while !self.thread.is_finished() {
            left |= matches!(told.recv_timeout(LOOK), Ok(Happened::Interrupt));
        }
        // If it has panicked, it has said so.
        let _ = self.thread.join();
        left
    }
}
