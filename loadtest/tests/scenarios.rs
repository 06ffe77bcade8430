//! The real program against the real station: a little of every kind, and nothing may be missing.
//!
//! The station is `DIM_LOADTEST_STATION`, or `dims` beside the program, or what cargo builds.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs, reads their files and stops at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_dim-loadtest");

struct Station {
    child: Child,
    /// Held open, so that the station can always say something.
    out: BufReader<ChildStdout>,
    address: String,
    folder: TempDir,
}

fn dims() -> PathBuf {
    if let Some(path) = std::env::var_os("DIM_LOADTEST_STATION") {
        return path.into();
    }
    let beside = Path::new(TOOL).with_file_name("dims");
    if !beside.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let build = ["build", "--quiet", "-p", "dim-station", "--bin", "dims"];
        let built = Command::new(cargo).args(build).status().unwrap();
        assert!(built.success(), "dims cannot be built");
    }
    beside
}

impl Station {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(dims());
        for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
            command.env_remove(format!("DIM_{name}"));
        }
        let mut child = command
            .args(["run", "--host", "127.0.0.1", "--port", "0", "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut station = Self { child, out, address: String::new(), folder };
        let mut line = String::new();
        while station.address.is_empty() && station.out.read_line(&mut line).unwrap() > 0 {
            station.address = line.strip_prefix("address").unwrap_or_default().trim().to_owned();
            line.clear();
        }
        let log = std::fs::read_to_string(station.folder.path().join("log")).unwrap();
        assert!(!station.address.is_empty(), "the station does not start:\n{log}");
        station
    }

    /// The program with a scenario, not started yet.
    fn tool(&self, scenario: &str, flags: &[&str]) -> Command {
        let path = self.folder.path().join("scenario.toml");
        std::fs::write(&path, scenario).unwrap();
        let mut command = Command::new(TOOL);
        command
            .arg("run")
            .arg(&path)
            .args(["--station", &self.address, "--server-pid", &self.child.id().to_string()])
            .arg("--cache")
            .arg(self.folder.path().join("cache"))
            .arg("--output")
            .arg(self.folder.path().join("result.json"))
            .args(flags);
        command
    }

    fn result(&self) -> Option<Value> {
        let json = std::fs::read(self.folder.path().join("result.json")).ok();
        json.map(|json| serde_json::from_slice(&json).unwrap())
    }

    /// Runs a scenario; the program's exit code and words, and the result if there is one.
    fn load(&self, scenario: &str, flags: &[&str]) -> (Output, Option<Value>) {
        (self.tool(scenario, flags).output().unwrap(), self.result())
    }

    fn perfect(&self, scenario: &str, flags: &[&str]) -> Value {
        let (output, result) = self.load(scenario, flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        result.unwrap()
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EVERYTHING: &str = r#"
name = "everything"
about = "A little of every kind."

[[phase]]
name = "closed"
kind = "relay"
senders = 3
receivers = 3
window = 4
messages = 300
warmup_s = 0
seconds = 20

[[phase]]
name = "open"
kind = "relay"
framing = "websocket"
pattern = "pairs"
senders = 4
receivers = 4
rate = 200
warmup_s = 0.1
seconds = 1

[[phase]]
name = "day"
kind = "relay"
framing = "both"
senders = 4
receivers = 6
rate = 200
curve = [0.5, 1.0]
slow_receivers = 1
slow_bytes_per_second = 20_000
leaves_per_second = 4
away_s = 0.2
warmup_s = 0
seconds = 2

[[phase]]
name = "idle"
kind = "idle"
framing = "both"
receivers = 20
seconds = 0.2

[[phase]]
name = "logins"
kind = "logins"
receivers = 10
at_once = 5
rounds = 2

[[phase]]
name = "storm"
kind = "logins"
receivers = 10
rate = 50

[[phase]]
name = "offline"
kind = "offline"
senders = 2
receivers = 5
window = 8
messages = 100

[[phase]]
name = "group"
kind = "fan-out"
senders = 1
receivers = 10
window = 2
messages = 20
warmup_s = 0
seconds = 20
"#;

#[test]
fn every_kind_of_phase_delivers_perfectly() {
    let station = Station::start();
    let result = station.perfect(EVERYTHING, &[]);
    let measured = result["measured"].as_array().unwrap();
    let names: Vec<&str> = measured.iter().map(|one| one["name"].as_str().unwrap()).collect();
    let wanted = ["closed", "open", "day", "idle", "logins", "storm"];
    assert_eq!(names[..6], wanted);
    assert_eq!(names[6..], ["offline: store", "offline: drain", "group"]);
    let sent = |at: usize| measured[at]["check"]["sent"].as_u64().unwrap();
    // A closed loop ends when the first of its senders has no more.
    assert!((100..=300).contains(&sent(0)), "{}", sent(0));
    assert!((100..=200).contains(&sent(8)), "{}", sent(8));
    assert_eq!((sent(6), sent(7)), (100, 100));
    assert!((210..=225).contains(&sent(1)) && sent(2) > 250, "{} {}", sent(1), sent(2));
    assert_eq!((sent(3), sent(4), sent(5)), (20, 20, 10));
    for one in measured {
        assert!(one["server_us"].as_f64().is_some() && one["rss_mib"].as_f64().unwrap() > 1.0);
        assert_eq!(one["check"]["delivered"], one["check"]["sent"]);
    }
    let page = std::fs::read_to_string(station.folder.path().join("result.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("offline: drain"));

    // Once more on the same station: other messages, so they are delivered too; and compared.
    let old = station.folder.path().join("old.json");
    std::fs::rename(station.folder.path().join("result.json"), &old).unwrap();
    let (first, _) = EVERYTHING.split_once("[[phase]]\nname = \"open\"").unwrap();
    let again = station.perfect(first, &["--compare", old.to_str().unwrap()]);
    assert!(again["measured"][0]["check"]["delivered"].as_u64().unwrap() >= 100);
}

#[test]
fn what_cannot_be_measured_is_said_with_another_exit_code() {
    let station = Station::start();
    let (output, result) = station.load(EVERYTHING, &["--set", "windw=3"]);
    assert_eq!((output.status.code(), result), (Some(2), None));
    assert!(String::from_utf8_lossy(&output.stderr).contains("windw"));
    let mut nowhere = station;
    nowhere.address = "127.0.0.1:1".to_owned();
    let (output, _) = nowhere.load(EVERYTHING, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
}

#[test]
fn a_station_that_dies_is_not_perfect() {
    let mut station = Station::start();
    let scenario = "name = \"n\"\nabout = \"a\"\n[[phase]]\nname = \"p\"\nkind = \"relay\"\n\
        senders = 2\nreceivers = 2\nrate = 50\nseconds = 60\nwarmup_s = 0\npatience_s = 1\n\
        [[phase]]\nname = \"after\"\nkind = \"idle\"\nreceivers = 1\n";
    let mut command = station.tool(scenario, &[]);
    let mut tool = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tool.stderr.take().unwrap()).lines();
    // It says each second how it goes.
    assert!(lines.any(|line| line.unwrap().contains("p runs: ")));
    station.child.kill().unwrap();
    lines.for_each(drop);
    assert_eq!(tool.wait().unwrap().code(), Some(1));
    let result = station.result().unwrap();
    let (measured, after) = (&result["measured"][0], &result["measured"][1]);
    assert_eq!((&measured["check"]["broken"], &after["check"]["broken"]), (&4.into(), &1.into()));
    assert!(after["notes"][0].as_str().unwrap().contains("cannot connect"), "{after}");
    assert!(measured["check"]["delivered"].as_u64().unwrap() > 0);
}
