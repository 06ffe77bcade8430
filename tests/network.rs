//! `etc/network`: one command starts three stations and three bots that serve users of all three, and
//! another one stops them.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs and stops at the first surprise"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// For an answer that takes a few milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The last one only where it has settings.
const NAMES: [&str; 7] =
    ["station1", "station2", "station3", "archivist", "assistant", "monitor", "announcer"];

/// The network on a folder and ports of its own; stopped when it is dropped.
struct Network {
    folder: TempDir,
    ports: [u16; 3],
}

impl Network {
    fn new() -> Self {
        // Free for a moment is as free as it gets.
        let taken = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = taken.map(|listener| listener.local_addr().unwrap().port());
        Self { folder: tempfile::tempdir().unwrap(), ports }
    }

    fn run(&self, word: &str) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/network"))
            .arg(word)
            .env("DIM_NETWORK", self.folder.path().join("network"))
            .env("DIM_NETWORK_PORTS", self.ports.map(|port| port.to_string()).join(" "))
            .env("DIMS", env!("CARGO_BIN_EXE_dims"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Each process, and whether it runs.
    fn status(&self) -> Vec<bool> {
        let output = self.run("status");
        let text = String::from_utf8(output.stdout).unwrap();
        let runs = |(line, name): (&str, &str)| {
            assert!(line.starts_with(name), "{text}");
            line.contains(" runs, process ")
        };
        let all: Vec<bool> = text.lines().zip(NAMES).map(runs).collect();
        assert_eq!(output.status.success(), all.iter().all(|runs| *runs));
        all
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.run("stop");
    }
}

/// `dims chat` at one of the stations.
struct Chat {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    id: String,
}

impl Chat {
    fn login(network: &Network, at: usize, name: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["chat", "--as", name, "--station", &format!("127.0.0.1:{}", network.ports[at])])
            .arg("--data-dir")
            .arg(network.folder.path().join(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        let mut chat = Self { child, input, lines, id: String::new() };
        chat.id = chat.wait("account 0x").split(' ').nth(1).unwrap().to_owned();
        chat.wait("login ");
        chat
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The next line with `part`.
    fn wait(&mut self, part: &str) -> String {
        let (until, mut heard) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("did not hear {part:?}, only {heard:#?}"),
            }
        }
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_command_starts_three_stations_with_bots_and_another_stops_them() {
    let network = Network::new();
    assert_eq!(network.status(), [false; 6]);
    let started = network.run("start");
    assert!(started.status.success(), "{started:?}");
    assert_eq!(network.status(), [true; 6]);
    assert!(!network.run("start").status.success(), "it runs already");

    let mut alice = Chat::login(&network, 0, "Alice");
    let mut bob = Chat::login(&network, 2, "Bob");
    alice.say(&format!("/to {}", bob.id));
    alice.say("hello from the first to the third");
    bob.wait("hello from the first to the third");
    bob.say(&format!("/to {}", alice.id));
    bob.say("and back");
    alice.wait("and back");
    // The archivist is a client of the first station, and known by its name at the third.
    bob.say("/search Alice");
    bob.wait(&alice.id);
    drop((alice, bob));

    assert!(network.run("stop").status.success());
    assert_eq!(network.status(), [false; 6]);

    // Settings without any key are settings; what is said then is the announcer's own test.
    let folder = network.folder.path().join("network/announcer");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("announcer.toml"), "stations = []\n").unwrap();
    let started = network.run("start");
    assert!(started.status.success(), "{started:?}");
    assert_eq!(network.status(), [true; 7]);
}

#[test]
fn each_unit_starts_a_command_that_there_is() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let mut commands = Vec::new();
    for entry in std::fs::read_dir(etc).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "service") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap().replace("%i", "archivist");
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "/usr/local/bin/dims", "{}", path.display());
        let mut asked = Command::new(env!("CARGO_BIN_EXE_dims"));
        let output = asked.args(&words[1..]).arg("--help").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", path.display());
        commands.push(words[1].to_owned());
    }
    commands.sort();
    assert_eq!(commands, ["bot", "bridge", "run"]);
}
