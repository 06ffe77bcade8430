//! The binary from outside: exit codes, what it says about a configuration, and which source wins.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs and writes files"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dim::server::config::{Args, Config, Origin};
use tempfile::TempDir;

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs in a folder of its own with nothing of the surroundings' settings.
fn dims(folder: &Path, line: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dims"));
    for name in ["CONFIG", "DATA_DIR", "HOST", "PORT", "ANS", "LOG"] {
        command.env_remove(format!("DIM_{name}"));
    }
    let output = command.args(line).envs(env.iter().copied()).current_dir(folder).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn help_and_version_are_fine() {
    let place = folder();
    for (line, word) in [
        (&["--help"][..], "Usage: dims"),
        (&["-h"], "Usage: dims"),
        (&["help"], "Usage: dims"),
        (&["run", "--help"], "--data-dir"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let said = dims(place.path(), line, &[]);
        assert_eq!(said.code, 0, "{line:?}");
        assert!(said.out.contains(word), "{line:?}: {}", said.out);
    }
}

#[test]
fn wrong_usage_is_two() {
    let place = folder();
    for line in [
        &["walk"][..],
        &["--no-such-flag"],
        &["--port", "70000"],
        &["--host", "nowhere"],
        &["--set", "listen.prot=1"],
        &["init", "a", "b"],
    ] {
        let said = dims(place.path(), line, &[]);
        assert_eq!(said.code, 2, "{line:?}: {}", said.err);
        assert!(!said.err.is_empty(), "{line:?}");
    }
}

#[test]
fn a_missing_config_file_is_one() {
    let place = folder();
    for line in [&["--config=none.ini"][..], &["run", "--config", "none.ini"]] {
        let said = dims(place.path(), line, &[]);
        assert_eq!(said.code, 1);
        assert_eq!(said.err, "dims: none.ini: config file not found; `dims init` writes one\n");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let place = folder();
    file(&place, "a.toml", "# a station\n[limits]\nidle_msmax = 1\n");
    for line in [&["--config=a.toml"][..], &["run", "--config=a.toml"]] {
        let said = dims(place.path(), line, &[]);
        assert_eq!(said.code, 1);
        let expected =
            "dims: a.toml:3:1: limits.idle_msmax: unknown key; did you mean `idle_ms_max`?\n";
        assert_eq!(said.err, expected);
    }
    let said = dims(place.path(), &["check", "--config=a.toml"], &[]);
    assert_eq!(said.code, 1);
    let expected = "FAULT   a.toml:3:1: limits.idle_msmax: unknown key [config-unknown-key]\n\
                    \x20       -> did you mean `idle_ms_max`?\n";
    assert!(said.out.starts_with(expected), "{}", said.out);
}

#[test]
fn init_makes_a_station_that_check_accepts() {
    let place = folder();
    let said = dims(place.path(), &["init", "mine"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let dir = place.path().join("mine");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);

    let said = dims(place.path(), &["check", "--data-dir", "mine", "--port", "0"], &[]);
    assert!(said.out.contains("ok      config mine/station.toml\n"), "{}", said.out);
    assert!(said.out.contains("ok      data folder mine (--data-dir) is writable and private\n"));
    assert!(!said.out.contains("station.toml:"), "{}", said.out);

    let again = dims(place.path(), &["init", "mine"], &[]);
    assert_eq!(again.code, 1);
    assert_eq!(again.err, "dims: mine/station.toml is there already; nothing was changed\n");
}

#[test]
fn check_names_the_port_in_use_and_who_set_it() {
    let place = folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let said = dims(place.path(), &["check"], &[("DIM_PORT", &port), ("DIM_DATA_DIR", "d")]);
    assert_eq!(said.code, 1);
    let expected = format!("FAULT   address 127.0.0.1:{port} (DIM_PORT) is in use [port-taken]\n");
    assert!(said.out.contains(&expected), "{}", said.out);
    assert!(said.out.contains("data folder d (DIM_DATA_DIR) will be made"), "{}", said.out);
    assert!(!place.path().join("d").exists());
}

#[test]
fn the_references_ini_is_accepted() {
    let place = folder();
    let ini = "[database]\nroot = data\n[redis]\nenable = on\n[station]\n\
               id = gsp@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR\nhost = example.com\nport = 9400\n\
               colour = red\n[ans]\narchivist = 2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR\n";
    file(&place, "config.ini", ini);
    let line = ["check", "--config=config.ini", "--port=0", "--host=127.0.0.1"];
    let said = dims(place.path(), &line, &[]);
    for expected in [
        "ok      config config.ini\n",
        "warning config.ini:3:1: [redis] (enable) is not needed: mail is kept in the data folder [ini-unused]\n",
        "warning config.ini:9:1: [station] colour: unknown key, has no effect [ini-unknown]\n",
        "ok      data folder data (config.ini:2:1) will be made\n",
    ] {
        assert!(said.out.contains(expected), "{expected:?} in {}", said.out);
    }
}

#[test]
fn flags_win_over_environment_over_file() {
    let place = folder();
    let text = "data_dir = \"from-file\"\n[listen]\nport = 1001\n[log]\nlevel = \"warn\"\n";
    file(&place, "a.toml", text);
    let check = |line: &[&str], env: &[(&str, &str)]| {
        let line = [&["check", "--config=a.toml", "--host=192.0.2.1"], line].concat();
        dims(place.path(), &line, env).out
    };
    let from_file = check(&[], &[]);
    assert!(from_file.contains("192.0.2.1:1001 (a.toml:3:1)"), "{from_file}");
    assert!(from_file.contains("data folder from-file (a.toml:1:1)"), "{from_file}");
    let env = [("DIM_PORT", "1002"), ("DIM_DATA_DIR", "from-env")];
    let from_env = check(&[], &env);
    assert!(from_env.contains("192.0.2.1:1002 (DIM_PORT)"), "{from_env}");
    assert!(from_env.contains("data folder from-env (DIM_DATA_DIR)"), "{from_env}");
    let from_flag = check(&["--port=1003", "--data-dir=from-flag"], &env);
    assert!(from_flag.contains("192.0.2.1:1003 (--port)"), "{from_flag}");
    assert!(from_flag.contains("data folder from-flag (--data-dir)"), "{from_flag}");
}

#[test]
fn a_program_may_load_the_configuration_by_itself() {
    let place = folder();
    let path = file(
        &place,
        "a.toml",
        "[ans]\narchivist = \"2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR\"\n[policy]\nverify = \"session\"\n",
    );
    let args = Args {
        config: Some(path.clone()),
        port: Some(0),
        set: vec!["station.name=Our Station".to_owned()],
        ..Args::default()
    };
    let loaded = Config::load(&args).unwrap();
    assert_eq!(loaded.config.station.name, "Our Station");
    assert_eq!(loaded.config.listen.port, 0);
    assert!(loaded.config.shards >= 1);
    assert_eq!(loaded.file, Some(path));
    assert_eq!(loaded.origins.get("listen.port"), Some(&Origin::Flag("--port")));
}
