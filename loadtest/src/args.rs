//! The command line, and the order of a run.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::rand;
use clap::{Args, Parser, Subcommand};
use glommio::{LocalExecutorBuilder, Placement};

use crate::compare;
use crate::corpus::Shelf;
use crate::error::Failure;
use crate::files;
use crate::fleet::Fleet;
use crate::machine::{self, Server};
use crate::outcome::{Measured, Outcome};
use crate::people::{People, Person};
use crate::phases::Conductor;
use crate::report;
use crate::scenario::{Phase, Scenario};

/// Exit code where a delivery was not perfect.
const NOT_PERFECT: u8 = 1;
/// Exit code where nothing could be measured, for a reason that was said.
const CANNOT_RUN: u8 = 2;
/// Memory that the executor registers with the kernel, in bytes: reads and writes do not use it.
const IO_MEMORY: usize = 64 << 10;
/// Open files besides the connections.
const FILES_SPARE: u64 = 64;

/// Load for a DIM station, and what it made of it. Exit codes: 0 every delivery was perfect, 1 one was
/// not, 2 nothing could be measured.
#[derive(Debug, Parser)]
#[command(name = "dim-loadtest", version)]
struct Typed {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario against a station that is there.
    Run(Run),
    /// Makes one HTML page of results.
    Report {
        /// Results of `run`; those of one scenario stand side by side.
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// The page.
        #[arg(long, short, default_value = "report.html")]
        output: PathBuf,
    },
    /// Tells what has changed between two results of one scenario.
    Compare {
        /// The earlier result.
        old: PathBuf,
        /// The later one.
        new: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// A TOML file, as those in loadtest/scenarios.
    scenario: PathBuf,
    /// Host and port of the station.
    #[arg(long, default_value = "127.0.0.1:9394")]
    station: String,
    /// Process of the station, whose CPU and memory are read from /proc.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Its children count too.
    #[arg(long, requires = "server_pid")]
    server_tree: bool,
    /// Folder of users and signed messages, kept for the next run.
    #[arg(long, default_value = "target/loadtest")]
    cache: PathBuf,
    /// File for the result, as JSON; the page goes beside it.
    #[arg(long, short, default_value = "result.json")]
    output: PathBuf,
    /// What is measured, for the reader.
    #[arg(long, default_value = "station")]
    label: String,
    /// With the phases' small keys: for slow stations and a quick look.
    #[arg(long)]
    small: bool,
    /// A key of all phases, as senders=10; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// An earlier result to compare with.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Number of the first user: another process with other users may run at the same time.
    #[arg(long, default_value_t = 0, value_name = "N")]
    first_user: usize,
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(said) => {
            let _ = said.print();
            return ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(CANNOT_RUN));
        }
    };
    let done = match typed.command {
        Command::Run(run) => run.go(),
        Command::Report { results, output } => page(&results, &output),
        Command::Compare { old, new } => compared(&old, &new),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_PERFECT),
        Err(failure) => {
            eprintln!("dim-loadtest: {failure}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn read(path: &Path) -> Result<Outcome, Failure> {
    let text = files::read_text(path)?;
    serde_json::from_str(&text).map_err(|error| Failure::file(path, error))
}

fn page(results: &[PathBuf], output: &Path) -> Result<bool, Failure> {
    let outcomes = results.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    files::write_whole(output, report::page(&outcomes, &[]).as_bytes())?;
    Ok(outcomes.iter().all(Outcome::is_perfect))
}

fn compared(old: &Path, new: &Path) -> Result<bool, Failure> {
    let (old, new) = (read(old)?, read(new)?);
    print!("{}", compare::text(&compare::compare(&old, &new)?));
    Ok(true)
}

impl Run {
    fn go(self) -> Result<bool, Failure> {
        let text = files::read_text(&self.scenario)?;
        let scenario = Scenario::read(&text, self.small, &self.set)
            .map_err(|failure| Failure::file(&self.scenario, failure))?;
        let old = self.compare.as_deref().map(read).transpose()?;
        let found = self.station.to_socket_addrs();
        let found = found.map_err(|error| Failure::new(format!("{}: {error}", self.station)))?;
        let address = found.into_iter().next();
        let address = address.ok_or_else(|| Failure::new(format!("{}: nowhere", self.station)))?;
        if let Some(pid) = self.server_pid
            && (Server { pid, tree: false }).usage().is_none()
        {
            return Err(Failure::new(format!("--server-pid {pid}: there is no such process")));
        }
        allow_files(scenario.users() as u64)?;
        let label = self.label.clone();
        let (output, small) = (self.output.clone(), self.small);
        let (about, name) = (scenario.about.clone(), scenario.name.clone());
        let set = self.set.clone();
        let (station, measured) = on_executor(move || self.measure(address, scenario))?;
        let outcome = Outcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            label,
            scenario: name,
            about,
            station,
            machine: machine::describe(),
            started_s: Fleet::now_s() as u64,
            small,
            set,
            measured,
        };
        print!("{}", report::text(&outcome));
        let changes = old.map(|old| compare::compare(&old, &outcome)).transpose()?;
        let changes = changes.unwrap_or_default();
        print!("{}", compare::text(&changes));
        let json = serde_json::to_vec_pretty(&outcome).unwrap_or_default();
        files::write_whole(&output, &json)?;
        let html = output.with_extension("html");
        let perfect = outcome.is_perfect();
        files::write_whole(&html, report::page(&[outcome], &changes).as_bytes())?;
        println!("written: {} and {}", output.display(), html.display());
        Ok(perfect)
    }

    async fn measure(
        self,
        address: SocketAddr,
        scenario: Scenario,
    ) -> Result<(String, Vec<Measured>), Failure> {
        let mut say = |line: &str| eprintln!("{line}");
        let people = People::load(&self.cache, Fleet::now_s())?;
        let crowd = crowd(&people, self.first_user, scenario.users())?;
        let mut seed = [0; 8];
        rand::fill(&mut seed).map_err(|_| Failure::new("the system has no randomness"))?;
        let fleet = Fleet::start(address, crowd, u64::from_ne_bytes(seed));
        let shelf = Shelf::new(&self.cache, &people);
        let mut conductor = Conductor {
            fleet: Rc::clone(&fleet),
            people: &people,
            shelf: &shelf,
            server: self.server_pid.map(|pid| Server { pid, tree: self.server_tree }),
            station: String::new(),
            first_user: self.first_user,
            say: &mut say,
        };
        conductor.meet().await?;
        let station = conductor.station.clone();
        let mut measured = Vec::new();
        for phase in &scenario.phase {
            match conductor.run(phase).await {
                Ok(more) => measured.extend(more),
                Err(failure) if measured.is_empty() => return Err(failure),
                // What was measured before is not lost, and the next phases would meet the same.
                Err(failure) => {
                    measured.push(Measured::failed(&phase.name, &failure));
                    break;
                }
            }
        }
        Ok((station, measured))
    }
}

/// Users, made by all cores.
fn crowd(people: &People, first: usize, count: usize) -> Result<Vec<Person>, Failure> {
    #[expect(clippy::disallowed_methods, reason = "making users takes all cores there are")]
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = count.div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let make = |from: usize| {
            let until = first + count.min(from + share);
            (first + from..until).map(|user| people.person(user)).collect::<Result<Vec<_>, _>>()
        };
        let starts = (0..count).step_by(share);
        let threads: Vec<_> = starts.map(|from| scope.spawn(move || make(from))).collect();
        let mut all = Vec::with_capacity(count);
        for thread in threads {
            all.extend(thread.join().map_err(|_| Failure::new("a thread ended"))??);
        }
        Ok(all)
    })
}

/// Raises the limit of open files as far as this process may.
fn allow_files(connections: u64) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections + FILES_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
        if !enough || setrlimit(Resource::Nofile, raised).is_err() {
            return Err(Failure::new(format!(
                "{connections} connections need {wanted} open files: raise the limit (ulimit -n)"
            )));
        }
    }
    Ok(())
}

/// Runs something on an executor of its own and waits for it.
fn on_executor<T: Send + 'static, F: Future<Output = Result<T, Failure>> + 'static>(
    make: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Failure> {
    let why = |error: &dyn std::fmt::Display| {
        Failure::new(format!("io_uring cannot be used here (dims check says more): {error}"))
    };
    let handle = LocalExecutorBuilder::new(Placement::Unbound)
        .name("load")
        .io_memory(IO_MEMORY)
        .spawn(make)
        .map_err(|error| why(&error))?;
    handle.join().map_err(|error| why(&error))?
}

impl Conductor<'_> {
    /// Learns who the station is: one user logs in and leaves.
    async fn meet(&mut self) -> Result<(), Failure> {
        let phase = Phase { name: "meet".to_owned(), ..Phase::default() };
        self.log_in(0..1, &phase).await?;
        self.fleet.leave_all(Duration::from_secs_f64(phase.patience_s)).await?;
        let station = self.fleet.shared.borrow().station.clone();
        self.station = station.map(|id| id.to_string()).unwrap_or_default();
        Ok(())
    }
}
