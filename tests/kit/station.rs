//! The station under test: the real program on a folder of its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, Form, Person};

pub(crate) struct Station {
    folder: TempDir,
    flags: Vec<String>,
    env: Vec<(String, OsString)>,
    running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) id: String,
}

struct Running {
    child: Child,
    /// Held open, so that the station can always say something.
    _out: BufReader<ChildStdout>,
}

impl Station {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut station = Self::stopped(flags);
        station.restart();
        station
    }

    /// A folder for a station that has not been started yet.
    pub(crate) fn stopped(flags: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            env: Vec::new(),
            running: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            id: String::new(),
        }
    }

    /// The folder of everything that is its own; the data folder is `data` in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The file that standard error goes to.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Writes the settings that lie in its data folder.
    pub(crate) fn write_settings(&self, text: &str) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.data_dir());
        made.unwrap();
        std::fs::write(self.data_dir().join("station.toml"), text).unwrap();
    }

    /// Something in its environment, from the next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.to_owned(), value.into()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it runs");
        kill_process(Pid::from_child(&running.child), signal).unwrap();
    }

    /// Starts it, on the folder that is there and on whatever port is free.
    pub(crate) fn restart(&mut self) {
        self.launch(0);
    }

    /// Starts it on the port that it had, where clients look for it.
    pub(crate) fn restart_here(&mut self) {
        self.launch(self.address.port());
    }

    fn launch(&mut self, port: u16) {
        assert!(self.running.is_none(), "it runs already");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
        for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
            command.env_remove(format!("DIM_{name}"));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.flags)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut value = |name: &str| {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let value = line.strip_prefix(name).map(str::trim);
            value.unwrap_or_else(|| panic!("no {name}: {line:?}\n{}", self.log())).to_owned()
        };
        let (id, address) = (value("station"), value("address"));
        assert!(self.id.is_empty() || self.id == id, "the identity stays");
        (self.id, self.address) = (id, address.parse().unwrap());
        self.running = Some(Running { child, _out: out });
    }

    pub(crate) fn connect(&self, who: &Person, form: Form) -> Client {
        Client::connect(self.address, &self.id, who, form)
    }

    /// A client that has logged in.
    pub(crate) fn login(&self, who: &Person, form: Form) -> Client {
        let mut client = self.connect(who, form);
        client.login();
        client
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// SIGTERM; how it ended, if it did in time.
    pub(crate) fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut running = self.running.take().expect("it runs");
        let process = Pid::from_child(&running.child);
        let (tell, told) = mpsc::channel();
        kill_process(process, Signal::TERM).unwrap();
        std::thread::spawn(move || {
            let ended = running.child.wait();
            let _ = tell.send(ended);
        });
        match told.recv_timeout(patience) {
            Ok(ended) => Some(ended.unwrap()),
            Err(_) => {
                // It has not been waited for, so the number is still its own.
                kill_process(process, Signal::KILL).unwrap();
                None
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(self.log_path())
            .and_then(|mut file| file.read_to_string(&mut text));
        text
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if std::thread::panicking() {
            println!("--- the station's log\n{}---", self.log());
        }
    }
}
