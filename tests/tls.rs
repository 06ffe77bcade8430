//! TLS at a running station: every framing over it, what peers may do wrong on it, and what an
//! operator may. The client's side is rustls too; `tests/interop` has another one.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use dim::server::config;
use dim::server::tls::Tls;
use kit::{Client, Form, Heard, PATIENCE, Person, Pieces, Station, frame};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;

/// What handshakes are made for.
const NAME: &str = "station.example";

/// A certificate and its key, in files.
struct Identity {
    folder: TempDir,
    certificate: CertificateDer<'static>,
}

impl Identity {
    fn new() -> Self {
        Self::until(4000)
    }

    fn until(year: i32) -> Self {
        let identity =
            Self { folder: tempfile::tempdir().unwrap(), certificate: Vec::new().into() };
        identity.renewed(year)
    }

    /// The same files with another certificate and key.
    fn renewed(self, year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new([NAME.to_owned()]).unwrap();
        wanted.not_after = date_time_ymd(year, 1, 1);
        let made = wanted.self_signed(&key).unwrap();
        std::fs::write(self.path("chain.pem"), made.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        Self { certificate: made.der().clone(), ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn flags(&self) -> Vec<String> {
        ["certificate=chain.pem", "key=key.pem"]
            .map(|item| item.split_once('=').unwrap())
            .into_iter()
            .flat_map(|(key, file)| {
                ["--set".to_owned(), format!("tls.{key}={}", self.path(file).display())]
            })
            .collect()
    }

    fn station(&self, more: &[&str]) -> Station {
        let own = self.flags();
        let flags = own.iter().map(String::as_str).chain(["--shards", "2"]);
        Station::start(&flags.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap()
    }

    fn stream(&self, address: SocketAddr, piece: usize) -> StreamOwned<ClientConnection, Pieces> {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(self.client(&[&TLS13, &TLS12]), Pieces { socket, piece })
    }

    fn connect(&self, station: &Station, who: &Person, form: Form) -> Client {
        Client::over(self.stream(station.address, 0), &station.id, who, form)
    }

    fn login(&self, station: &Station, who: &Person, form: Form) -> Client {
        let mut client = self.connect(station, who, form);
        client.login();
        client
    }
}

/// Somebody logs in over TLS: the station lives.
fn all_is_well(identity: &Identity, station: &Station) {
    identity.login(station, &Person::new(), Form::Mtp).leave();
}

/// What is read until the other side ends, and whether it ended as it should.
fn rest_of(stream: &mut impl Read) -> (Vec<u8>, bool) {
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    (rest, ended.is_ok())
}

#[test]
fn every_framing_is_spoken_with_and_without_tls_on_one_port() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "mail.acknowledge_ms=100"]);
    let plain: Vec<Person> = Form::ALL.iter().map(|_| Person::new()).collect();
    let mut at_plain: Vec<Client> =
        plain.iter().zip(Form::ALL).map(|(who, form)| station.login(who, form)).collect();
    // Half of them move to the other shard, whichever it is.
    for round in 0..4 {
        for form in Form::ALL {
            let alice = Person::new();
            let mut at_alice = identity.login(&station, &alice, form);
            for (bob, at_bob) in plain.iter().zip(&mut at_plain) {
                let there = alice.letter(bob, 300);
                let id = at_alice.send(&there);
                at_bob.wait_letter(&there);
                at_alice.wait_receipt(&there);
                if form.is_mtp() {
                    at_alice.wait_ok(id);
                }
                let back = bob.letter(&alice, 300);
                at_bob.send(&back);
                at_alice.wait_letter(&back);
                let told = at_bob.wait_receipt(&back);
                let silent = form == Form::MtpSilent;
                assert_eq!(told == "Message cached.", silent, "{form:?} {round}: {told}");
            }
            at_alice.ping();
            at_alice.leave();
        }
    }
}

#[test]
fn many_connections_are_handed_from_shard_to_shard_with_their_tls() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "mail.acknowledge_ms=60000"]);
    // All of them begin before the first one logs in.
    let people: Vec<Person> = (0..60).map(|_| Person::new()).collect();
    let mut clients: Vec<Client> = people
        .iter()
        .zip(Form::ALL.iter().filter(|form| form.acknowledges()).cycle())
        .map(|(who, form)| identity.connect(&station, who, *form))
        .collect();
    for client in &mut clients {
        client.login();
    }
    for (from, to) in (0..60).map(|from| (from, (from + 7) % 60)) {
        let letter = people[from].letter(&people[to], 200);
        clients[from].send(&letter);
        clients[to].wait_letter(&letter);
        assert_eq!(clients[from].wait_receipt(&letter), "Message delivered.");
    }
}

#[test]
fn a_login_may_come_byte_by_byte() {
    let identity = Identity::new();
    let station = identity.station(&[]);
    for (versions, form) in [(&TLS13, Form::Mtp), (&TLS12, Form::Mtp), (&TLS13, Form::WebSocketAck)]
    {
        let mut stream = identity.stream(station.address, 1);
        stream.conn = identity.client(&[versions]);
        let mut client = Client::over(stream, &station.id, &Person::new(), form);
        client.login();
        client.ping();
        client.leave();
    }
}

#[test]
fn a_first_flight_may_be_cut_anywhere() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "limits.connections_per_address_max=0"]);
    let mut probe = identity.client(&[&TLS13]);
    let mut hello = Vec::new();
    while probe.wants_write() {
        probe.write_tls(&mut hello).unwrap();
    }
    assert_eq!(hello[0], 0x16);
    let mut barrier = station.connect(&Person::new(), Form::Mtp);
    let places: Vec<usize> = (1..hello.len()).step_by(1 + hello.len() / 400).collect();
    for some in places.chunks(100) {
        let begun: Vec<_> = some
            .iter()
            .map(|at| {
                let mut stream = identity.stream(station.address, 0);
                stream.conn = identity.client(&[&TLS13]);
                let mut hello = Vec::new();
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut hello).unwrap();
                }
                let rest = hello.split_off(*at.min(&(hello.len() - 1)));
                stream.sock.socket.write_all(&hello).unwrap();
                (stream, rest)
            })
            .collect();
        // The station has had a turn, so it has most likely read the first parts by themselves.
        barrier.ping();
        for (mut stream, rest) in begun {
            stream.sock.socket.write_all(&rest).unwrap();
            Client::over(stream, &station.id, &Person::new(), Form::Mtp).ping();
        }
    }
}

#[test]
fn a_long_message_passes_both_ways() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "mail.acknowledge_ms=60000"]);
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_alice = identity.login(&station, &alice, Form::Mtp);
    let mut at_bob = identity.login(&station, &bob, Form::WebSocketAck);
    for len in [1 << 20, 10, 3 << 20] {
        let there = alice.letter(&bob, len);
        at_alice.send(&there);
        assert_eq!(
            at_bob.wait_letter(&there).map["data"].as_str().unwrap().len(),
            len.div_ceil(3) * 4
        );
        assert_eq!(at_alice.wait_receipt(&there), "Message delivered.");
        let back = bob.letter(&alice, len);
        at_bob.send(&back);
        at_alice.wait_letter(&back);
        assert_eq!(at_bob.wait_receipt(&back), "Message delivered.");
    }
}

#[test]
fn what_a_slow_reader_does_not_take_waits_on_disk_and_comes_in_order() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "mail.acknowledge_ms=100"]);
    for form in [Form::Mtp, Form::WebSocket] {
        let (alice, bob) = (Person::new(), Person::new());
        let mut at_alice = identity.login(&station, &alice, Form::Mtp);
        let mut at_bob = identity.login(&station, &bob, form);
        let letters: Vec<_> = (0..60).map(|_| alice.letter(&bob, 200_000)).collect();
        for letter in &letters {
            at_alice.send(letter);
        }
        // He has not read a byte, and nobody waits for him: neither the sender nor the station.
        let told: Vec<_> = letters.iter().map(|letter| at_alice.wait_receipt(letter)).collect();
        assert_eq!(told.last().unwrap(), "Message cached.", "{form:?}");
        at_alice.ping();
        at_bob.wait_letter(letters.last().unwrap());
        let order: Vec<_> = at_bob.inbox.iter().map(|message| message.signature()).collect();
        let mut wanted = letters.iter().map(|letter| letter.signature.as_str()).peekable();
        for signature in order {
            wanted.next_if_eq(&signature);
        }
        assert_eq!(wanted.count(), 0, "{form:?}");
    }
}

#[test]
fn both_sides_say_when_they_end() {
    let identity = Identity::new();
    // Longer than anything is waited for: no deadline ends what should have ended.
    let station = identity.station(&[
        "--set",
        "limits.login_ms_max=600000",
        "--set",
        "limits.idle_ms_max=600000",
    ]);
    // The client ends: with a word and with a FIN, with a word alone, with a FIN alone.
    for (word, fin) in [(true, true), (true, false), (false, true)] {
        let mut stream = identity.stream(station.address, 0);
        stream.write_all(&frame(Form::Mtp, *b"a number", b"PING")).unwrap();
        let mut answer = [0; 20];
        stream.read_exact(&mut answer[..1]).unwrap();
        if word {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        if fin {
            stream.sock.socket.shutdown(Shutdown::Write).unwrap();
        }
        let (_, ended) = rest_of(&mut stream);
        assert!(ended, "no word at the end: {word} {fin}");
    }
    // Its last words and the end of them come at once, and are answered.
    let mut stream = identity.stream(station.address, 0);
    stream.conn.writer().write_all(&frame(Form::Mtp, *b"a number", b"PING")).unwrap();
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream.conn.writer().write_all(&frame(Form::Mtp, *b"a letter", b"PING")).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let (rest, ended) = rest_of(&mut stream);
    assert!(ended && rest.starts_with(b"DIM"), "{}", rest.escape_ascii());
    // The station ends: after a WebSocket CLOSE.
    let mut client = identity.connect(&station, &Person::new(), Form::WebSocket);
    client.write(b"\x88\x80mask").unwrap();
    let mut stream = client.into_link();
    let (rest, ended) = rest_of(&mut stream);
    assert_eq!((rest.as_slice(), ended), (b"\x88\x00".as_slice(), true));
    // And when it stops.
    let mut station = station;
    let mut stream = identity.connect(&station, &Person::new(), Form::WebSocket).into_link();
    assert!(station.terminate(PATIENCE).unwrap().success());
    let (rest, ended) = rest_of(&mut stream);
    let going = [b"\x88\x0a\x03\xe9", b"stopping".as_slice()].concat();
    assert_eq!((rest, ended), (going, true));
}

#[test]
fn what_is_no_tls_after_all_ends_with_an_alert() {
    let identity = Identity::new();
    let station = identity.station(&[]);
    let garbage: [&[u8]; 5] = [
        b"\x16",
        b"\x16\x03\x01\x00\x05hello and more",
        b"\x16GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff too long for a record",
        &[0x16; 40_000],
    ];
    for (bytes, at) in garbage.into_iter().zip(0..) {
        let mut socket = TcpStream::connect(station.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let (rest, ended) = rest_of(&mut socket);
        assert!(ended, "{at}");
        assert_eq!(rest.first(), Some(&0x15), "{at}: {rest:?}");
    }
    all_is_well(&identity, &station);
}

#[test]
fn a_client_that_does_not_trust_the_certificate_does_not_come_in() {
    let identity = Identity::new();
    let station = identity.station(&[]);
    let mut stream = Identity::new().stream(station.address, 0);
    let error = stream.write_all(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    drop(stream);
    all_is_well(&identity, &station);
}

#[test]
fn handshakes_that_are_broken_off_leave_nothing_behind() {
    let identity = Identity::new();
    // Ten and no more, so that one that is not given back would be missed.
    let station = identity.station(&["--set", "limits.connections_max=10"]);
    let mut hello = Vec::new();
    identity.client(&[&TLS13]).write_tls(&mut hello).unwrap();
    for round in 0..5 {
        let sockets: Vec<TcpStream> = (0..10)
            .map(|number| {
                let mut socket = TcpStream::connect(station.address).unwrap();
                let part = 1 + (round * 10 + number) * (hello.len() - 1) / 50;
                socket.write_all(&hello[..part]).unwrap();
                socket
            })
            .collect();
        drop(sockets);
        let until = Instant::now() + PATIENCE;
        loop {
            // Refused as long as the station has not heard that they are gone.
            let mut stream = identity.stream(station.address, 0);
            let asked = stream.write_all(&frame(Form::Mtp, *b"a number", b"PING"));
            if asked.and_then(|()| stream.read_exact(&mut [0; 1])).is_ok() {
                break;
            }
            assert!(Instant::now() < until, "round {round}");
        }
    }
}

#[test]
fn a_handshake_has_the_deadline_of_a_login() {
    let identity = Identity::new();
    let station = identity.station(&["--set", "limits.login_ms_max=200"]);
    let mut hello = Vec::new();
    identity.client(&[&TLS13]).write_tls(&mut hello).unwrap();
    for len in [0, 1, 100, hello.len()] {
        let mut socket = TcpStream::connect(station.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&hello[..len]).unwrap();
        assert!(rest_of(&mut socket).1, "{len}");
    }
}

#[test]
fn where_tls_is_required_others_are_told_and_sent_away() {
    let identity = Identity::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let own_port = format!("tls.port={}", free.port());
    let strict = identity.station(&["--set", "tls.plain=nobody"]);
    let beside = identity.station(&["--set", "tls.plain=loopback", "--set", &own_port]);
    for address in [strict.address, free] {
        let ask = |bytes: &[u8]| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.write_all(bytes).unwrap();
            rest_of(&mut socket).0
        };
        let said = String::from_utf8(ask(&kit::handshake_request())).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\nonly https: and wss: are here\n"), "{said}");
        assert_eq!(ask(&frame(Form::Mtp, *b"a number", b"PING")), b"");
    }
    all_is_well(&identity, &strict);
    all_is_well(&identity, &beside);
    let stream = identity.stream(free, 0);
    Client::over(stream, &beside.id, &Person::new(), Form::WebSocketAck).login();
    // The test comes over loopback, and so may a program that does TLS for others.
    beside.login(&Person::new(), Form::Mtp);
}

/// Runs `dims` with the files of `identity`, and without waiting for a station to end.
fn dims(command: &str, identity: &Identity, more: &[&str]) -> Output {
    let data = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_dims"))
        .arg(command)
        .args(["--port", "0", "--data-dir"])
        .arg(data.path())
        .args(identity.flags())
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn an_operator_is_told_which_file_is_wrong_and_what_would_be_right() {
    let (identity, other) = (Identity::new(), Identity::new());
    let (missing, empty) = (identity.path("none.pem"), identity.path("empty.pem"));
    std::fs::write(&empty, "nothing here\n").unwrap();
    let (other, key) = (other.path("key.pem"), identity.path("key.pem"));
    for (setting, file, wrong) in [
        ("certificate", &missing, "cannot be read: No such file or directory (os error 2)"),
        ("certificate", &empty, "no certificate in it; the certificate chain as PEM"),
        ("certificate", &key, "no certificate in it; the certificate chain as PEM"),
        ("key", &missing, "cannot be read: No such file or directory (os error 2)"),
        ("key", &empty, "no private key in it; an RSA, ECDSA or Ed25519 key as PEM"),
        ("key", &other, "does not fit the first certificate of "),
    ] {
        let set = format!("tls.{setting}={}", file.display());
        let said = format!("tls.{setting}: {}: {wrong}", file.display());
        let run = dims("run", &identity, &["--set", &set]);
        assert_eq!(run.status.code(), Some(1));
        let error = String::from_utf8(run.stderr).unwrap();
        assert!(error.contains(&format!("dims: no TLS: {said}")), "{said}\n{error}");
        let check = dims("check", &identity, &["--set", &set]);
        assert_eq!(check.status.code(), Some(1));
        let findings = String::from_utf8(check.stdout).unwrap();
        let said = said.split(';').next().unwrap();
        assert!(findings.contains(&format!("FAULT   {said}")), "{said}\n{findings}");
    }
    let check = dims("check", &identity, &[]);
    let findings = String::from_utf8(check.stdout).unwrap();
    assert!(findings.contains("ok      tls.certificate and tls.key fit each other"), "{findings}");
    let expired = Identity::until(2020);
    let findings = String::from_utf8(dims("check", &expired, &[]).stdout).unwrap();
    assert!(findings.contains("has expired on 2020-01-01 [tls-expired]"), "{findings}");
    // It is not the station that minds.
    assert!(expired.station(&[]).log().contains("tls.certificate has expired on 2020-01-01"));
}

/// Moves bytes between a client and a server in memory until neither has more to say.
fn talk(client: &mut ClientConnection, server: &mut rustls::ServerConnection) {
    while client.wants_write() || server.wants_write() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        client.write_tls(&mut there).unwrap();
        server.write_tls(&mut back).unwrap();
        let (mut there, mut back) = (there.as_slice(), back.as_slice());
        while !there.is_empty() {
            server.read_tls(&mut there).unwrap();
            server.process_new_packets().unwrap();
        }
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

#[test]
fn a_certificate_is_exchanged_for_those_who_come_later() {
    let identity = Identity::new();
    let settings = config::Tls {
        certificate: Some(identity.path("chain.pem")),
        key: Some(identity.path("key.pem")),
        ..config::Tls::default()
    };
    let (tls, _) = Tls::load(&settings).unwrap().unwrap();
    let meet = |identity: &Identity| {
        let mut client = identity.client(&[&TLS13]);
        let mut server = rustls::ServerConnection::new(tls.config()).unwrap();
        talk(&mut client, &mut server);
        (client, server)
    };
    let (mut before, mut before_server) = meet(&identity);
    assert_eq!(before.peer_certificates().unwrap()[0], identity.certificate);

    let renewed = identity.renewed(3000);
    tls.reload().unwrap();
    let (after, _) = meet(&renewed);
    assert_eq!(after.peer_certificates().unwrap()[0], renewed.certificate);
    // Half of the files is new: nothing changes.
    std::fs::write(renewed.path("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = tls.reload().unwrap_err();
    assert_eq!(error.key, "tls.key");
    assert_eq!(meet(&renewed).0.peer_certificates().unwrap()[0], renewed.certificate);
    // The one from before goes on.
    before.writer().write_all(b"still here").unwrap();
    talk(&mut before, &mut before_server);
    let mut heard = [0; 10];
    before_server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
}

#[test]
fn a_client_of_a_station_that_has_ended_hears_it() {
    let identity = Identity::new();
    let mut station = identity.station(&[]);
    let mut client = identity.login(&station, &Person::new(), Form::Mtp);
    station.kill();
    assert_eq!(client.hear(Instant::now() + PATIENCE), Heard::End);
}

#[test]
fn a_renewed_certificate_is_taken_up_on_a_signal() {
    let identity = Identity::new();
    let station = identity.station(&[]);
    let mut before = identity.login(&station, &Person::new(), Form::Mtp);
    let renewed = identity.renewed(3000);
    station.signal(Signal::HUP);
    let until = Instant::now() + PATIENCE;
    loop {
        let mut stream = renewed.stream(station.address, 0);
        // The old certificate is none that this client trusts.
        if stream.conn.complete_io(&mut stream.sock).is_ok() && !stream.conn.is_handshaking() {
            break;
        }
        assert!(Instant::now() < until, "the old certificate is still shown");
    }
    all_is_well(&renewed, &station);
    before.ping();
}
