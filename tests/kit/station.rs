//! The station under test: the real program on a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, Form, Person};

pub(crate) struct Station {
    folder: TempDir,
    flags: Vec<String>,
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
        let mut station = Self {
            folder: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            running: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            id: String::new(),
        };
        station.restart();
        station
    }

    /// Starts it, on the folder that is there and on whatever port is free.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
        for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
            command.env_remove(format!("DIM_{name}"));
        }
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", "0", "--log", "info"])
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
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
        let path = self.folder.path().join("log");
        let _ = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
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
