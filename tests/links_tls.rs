//! Neighbours under TLS: real programs that let nobody in without it, whatever their certificates are.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs, writes their settings and stops at the first surprise"
)]

mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use kit::{Client, Form, PATIENCE, Person, Pieces, Station, command};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use rustls::StreamOwned;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::json;
use tempfile::TempDir;

/// Where all stations are, and what their certificates are for when they are right.
const HOST: &str = "127.0.0.1";

/// A root of our own, and the certificates that it has signed, in files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(Vec::new()).unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.distinguished_name.push(DnType::CommonName, "stations' own root");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), wanted.self_signed(&key).unwrap().pem())
            .unwrap();
        Self { folder, issuer: Issuer::new(wanted, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A chain for `host` and its key, as `OWNER.pem` and `OWNER.key`.
    fn sign(&self, owner: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let wanted = CertificateParams::new([host.to_owned()]).unwrap();
        let made = wanted.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{owner}.pem")), made.pem()).unwrap();
        std::fs::write(self.path(&format!("{owner}.key")), key.serialize_pem()).unwrap();
    }

    fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("root.pem")).unwrap()
    }

    /// Settings of a station that shows the certificate of `owner`; `more` is of `[neighbors]`.
    fn settings(&self, owner: &str, plain: &str, more: &str) -> String {
        let file = |name: String| self.path(&name).display().to_string();
        format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nplain = \"{plain}\"\n[neighbors]\n{more}\n",
            file(format!("{owner}.pem")),
            file(format!("{owner}.key")),
        )
    }

    /// Of `[neighbors]`: these stations, checked by this authority.
    fn neighbors(&self, list: &[String]) -> String {
        format!("list = [{}]\nca = \"{}\"", list.join(", "), self.path("root.pem").display())
    }

    fn login(&self, who: &Person, station: &Station) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(HOST).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(station.address).unwrap();
        let stream = StreamOwned::new(session, Pieces { socket, piece: 0 });
        let mut client = Client::over(stream, &station.id, who, Form::Mtp);
        client.login();
        client
    }

    /// Logs in and lets everybody know.
    fn arrive(&self, who: &Person, station: &Station) -> Client {
        let mut client = self.login(who, station);
        announce(&mut client, station);
        client
    }
}

fn announce(client: &mut Client, station: &Station) {
    let did = client.who.id().to_owned();
    let place = json!({"did": station.id, "host": HOST, "port": station.address.port()});
    let fields = json!({"did": did, "ID": did, "station": place});
    let login = client.who.say("everyone@everywhere", &command("login", fields));
    for letter in [login, client.who.publish()] {
        client.send(&letter);
        client.wait_receipt(&letter);
    }
}

/// A station with identity and port, and its settings still to be written.
fn station() -> Station {
    let mut station = Station::start(&["--set", "log.level=debug"]);
    assert!(station.terminate(PATIENCE).unwrap().success());
    station
}

fn listed(station: &Station) -> String {
    let port = station.address.port();
    format!("{{ id = \"{}\", host = \"{HOST}\", port = {port}, tls = true }}", station.id)
}

/// Known, and never reached.
fn listed_nowhere(station: &Station) -> String {
    format!("{{ id = \"{}\", host = \"{HOST}\", port = 1 }}", station.id)
}

/// Waits until a station has said something so often.
fn wait_log(station: &Station, words: &str, times: usize) {
    let until = Instant::now() + PATIENCE;
    while station.log().matches(words).count() < times {
        assert!(Instant::now() < until, "never said {times} times: {words}\n{}", station.log());
        std::thread::yield_now();
    }
}

#[test]
fn mail_passes_both_ways_between_stations_that_admit_nobody_without_tls() {
    let authority = Authority::new();
    let mut all = [station(), station()];
    let places = all.each_ref().map(listed);
    for (at, station) in all.iter_mut().enumerate() {
        authority.sign(&at.to_string(), HOST);
        let neighbors = authority.neighbors(&places[1 - at..2 - at]);
        station.write_settings(&authority.settings(&at.to_string(), "nobody", &neighbors));
        station.restart_here();
    }
    for station in &all {
        wait_log(station, "neighbour reached", 1);
    }
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = authority.arrive(&alice, &all[0]);
    let mut b = authority.arrive(&bob, &all[1]);
    // Short ones, and one that takes many records.
    for len in [300, 300, 200_000] {
        let (there, back) = (alice.letter(&bob, len), bob.letter(&alice, len));
        a.send(&there);
        assert_eq!(a.wait_receipt(&there), "Message redirected.");
        b.wait_letter(&there);
        b.send(&back);
        assert_eq!(b.wait_receipt(&back), "Message redirected.");
        a.wait_letter(&back);
        assert_eq!((b.copies_of(&there), a.copies_of(&back)), (1, 1));
    }
}

#[test]
fn mail_waits_while_the_neighbours_certificate_is_another_ones() {
    let authority = Authority::new();
    let [mut here, mut there] = [station(), station()];
    authority.sign("here", HOST);
    authority.sign("there", HOST);
    let neighbors = authority.neighbors(&[listed(&there)]);
    here.write_settings(&authority.settings("here", "nobody", &neighbors));
    // Only one of them dials, or mail would come the other way.
    let neighbors = authority.neighbors(&[listed_nowhere(&here)]);
    there.write_settings(&authority.settings("there", "nobody", &neighbors));
    here.restart_here();
    there.restart_here();
    wait_log(&here, "neighbour reached", 1);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = authority.arrive(&alice, &here);
    let mut b = authority.arrive(&bob, &there);
    let first = alice.letter(&bob, 300);
    // The login record of Bob may still be on its way.
    a.send(&first);
    b.wait_letter(&first);
    // Somebody puts another host's certificate there.
    authority.sign("there", "elsewhere.example");
    there.kill();
    there.restart_here();
    wait_log(&here, "a neighbour is not used: certificate not valid for name \"127.0.0.1\"", 1);
    let letters: Vec<_> = (0..20).map(|_| alice.letter(&bob, 300)).collect();
    for letter in &letters {
        a.send(letter);
        assert_eq!(a.wait_receipt(letter), "Message redirected.");
    }
    // And, having seen it, the right one.
    authority.sign("there", HOST);
    there.signal(Signal::HUP);
    wait_log(&here, "neighbour reached", 2);
    let mut b = authority.login(&bob, &there);
    for letter in &letters {
        b.wait_letter(letter);
    }
    b.ping();
    assert!(letters.iter().all(|letter| b.copies_of(letter) == 1));
}

#[test]
fn a_root_that_is_named_later_is_taken_up_on_a_signal() {
    let (authority, other) = (Authority::new(), Authority::new());
    let [mut here, mut there] = [station(), station()];
    authority.sign("here", HOST);
    authority.sign("there", HOST);
    let neighbors = authority.neighbors(&[listed_nowhere(&here)]);
    there.write_settings(&authority.settings("there", "nobody", &neighbors));
    let wrong = other.neighbors(&[listed(&there)]);
    here.write_settings(&authority.settings("here", "nobody", &wrong));
    here.restart_here();
    there.restart_here();
    // Once after the other, with the wait of any station that is not reached.
    wait_log(&here, "let neighbors.ca name a file with its root", 2);
    assert_eq!(here.log().matches("neighbour reached").count(), 0);
    let right = authority.neighbors(&[listed(&there)]);
    here.write_settings(&authority.settings("here", "nobody", &right));
    here.signal(Signal::HUP);
    wait_log(&here, "neighbour reached", 1);
}

#[test]
fn a_station_without_tls_is_not_spoken_to_where_tls_is_wanted() {
    let authority = Authority::new();
    let [mut here, mut there] = [station(), station()];
    authority.sign("here", HOST);
    there.write_settings(&format!("[neighbors]\nlist = [{}]\n", listed_nowhere(&here)));
    let neighbors = authority.neighbors(&[listed(&there)]);
    here.write_settings(&authority.settings("here", "nobody", &neighbors));
    there.restart_here();
    here.restart_here();
    wait_log(&here, "its operator sets [tls] there", 1);
    // A list without that word is what it takes.
    here.write_settings(&authority.settings("here", "nobody", &neighbors.replace("true", "false")));
    here.signal(Signal::HUP);
    wait_log(&here, "neighbour reached", 1);
}

/// Answers everybody who asks under TLS with this list.
fn list_server(authority: &Authority, list: String) -> u16 {
    authority.sign("list", "localhost");
    let chain = vec![CertificateDer::from_pem_file(authority.path("list.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(authority.path("list.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(session, stream.unwrap());
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.extend(byte);
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n{list}");
        }
    });
    port
}

#[test]
fn a_list_that_is_fetched_under_tls_names_stations_that_are_dialled_under_tls() {
    let authority = Authority::new();
    let [mut here, mut there] = [station(), station()];
    authority.sign("here", HOST);
    authority.sign("there", HOST);
    let place = json!([{
        "did": there.id, "host": HOST, "port": there.address.port(), "tls": true,
    }]);
    let port = list_server(&authority, place.to_string());
    let source = format!("source = \"https://localhost:{port}/stations.json\"\n");
    let neighbors = source + &authority.neighbors(&[]);
    here.write_settings(&authority.settings("here", "nobody", &neighbors));
    let neighbors = authority.neighbors(&[listed_nowhere(&here)]);
    there.write_settings(&authority.settings("there", "nobody", &neighbors));
    there.restart_here();
    here.restart_here();
    wait_log(&here, "neighbour reached", 1);
}

/// A bridge beside a station, killed when it is dropped.
struct Bridge {
    child: Child,
    log: PathBuf,
}

impl Bridge {
    fn start(station: &Station) -> Self {
        let log = station.folder().join("bridge.log");
        let child = Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["bridge", "--host", HOST, "--log", "debug"])
            .args(["--port", &station.address.port().to_string()])
            .arg("--data-dir")
            .arg(station.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let bridge = Self { child, log };
        let until = Instant::now() + PATIENCE;
        // At its own station, and at the neighbour.
        while bridge.said().matches("bridge: logged in").count() < 2 {
            assert!(Instant::now() < until, "no login");
            std::thread::yield_now();
        }
        bridge
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- the bridge's log\n{}---", self.said());
        }
    }
}

#[test]
fn a_bridge_goes_to_neighbours_under_tls_too() {
    let authority = Authority::new();
    let [mut here, mut there] = [station(), station()];
    authority.sign("here", HOST);
    authority.sign("there", HOST);
    let neighbors = authority.neighbors(&[listed(&there)]) + "\nlinks = false";
    // The bridge is at its own station without TLS.
    here.write_settings(&authority.settings("here", "loopback", &neighbors));
    let neighbors = authority.neighbors(&[listed_nowhere(&here)]);
    there.write_settings(&authority.settings("there", "nobody", &neighbors));
    here.restart_here();
    there.restart_here();
    let _bridge = Bridge::start(&here);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = authority.arrive(&alice, &here);
    let mut b = authority.arrive(&bob, &there);
    let until = Instant::now() + PATIENCE;
    // Until the login record has come.
    loop {
        let letter = alice.letter(&bob, 100_000);
        a.send(&letter);
        let said = a.wait_receipt(&letter);
        b.wait_letter(&letter);
        if said == "Message redirected." {
            break;
        }
        assert!(Instant::now() < until, "Bob is not known to be there: {said}");
    }
    let back = bob.letter(&alice, 100_000);
    b.send(&back);
    a.wait_letter(&back);
}
