//! TLS between socket and shard: under any order of words from both sides, cut anywhere, each side
//! hears what the other one said; after bytes that nobody sealed it hears nothing more.
#![no_main]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use dim::server::tls::session::Session;
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// Operations of one input; more are cut off, so that an execution stays short.
const OPS_MAX: usize = 24;
/// A handshake takes a handful of turns.
const TURNS_MAX: usize = 1000;

#[derive(Debug, Arbitrary)]
enum Op {
    /// Some are longer than a record.
    Ask {
        times: u8,
        text: Vec<u8>,
    },
    Answer {
        times: u8,
        text: Vec<u8>,
    },
    /// What has been said crosses the network.
    Cross {
        cut: u8,
    },
    /// Bytes that a stranger puts in between.
    Noise(Vec<u8>),
    Leave,
    Close,
}

#[derive(Debug, Arbitrary)]
struct Story {
    old: bool,
    ops: Vec<Op>,
}

struct Both {
    client: [Arc<ClientConfig>; 2],
    server: Arc<ServerConfig>,
}

fn both() -> &'static Both {
    static BOTH: OnceLock<Both> = OnceLock::new();
    BOTH.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
            let config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            Arc::new(config)
        });
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they fit");
        Both { client, server: Arc::new(server) }
    })
}

struct Run {
    client: ClientConnection,
    station: Session,
    asked: Vec<u8>,
    answered: Vec<u8>,
    /// What each side has heard.
    at_station: Vec<u8>,
    at_client: Vec<u8>,
    closing: bool,
    /// Somebody has put bytes in between, and it was noticed.
    broken: bool,
}

impl Run {
    fn feed(&mut self, bytes: &[u8], cut: u8) {
        for piece in bytes.chunks(usize::from(cut).max(1)) {
            if self.broken {
                return;
            }
            match self.station.open(piece) {
                Ok(opened) => self.at_station.extend_from_slice(&opened),
                Err(_) => self.broken = true,
            }
        }
    }

    /// Everything that either side has to say reaches the other.
    fn cross(&mut self, cut: u8) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it does not end");
            let (mut there, mut back) = (Vec::new(), VecDeque::new());
            while self.client.wants_write() {
                self.client.write_tls(&mut there).expect("memory");
            }
            self.feed(&there, cut);
            let waiting = self.station.waiting();
            let sealed = self.station.seal(self.closing, &mut back);
            assert_eq!(self.station.waiting() + sealed.plain, waiting);
            assert_eq!(back.iter().map(|part| part.len()).sum::<usize>(), sealed.records);
            if there.is_empty() && back.is_empty() {
                return;
            }
            for part in back {
                let mut rest = &part[..];
                while !rest.is_empty() && !self.broken {
                    self.client.read_tls(&mut rest).expect("memory");
                    let state = self.client.process_new_packets().expect("what a station seals");
                    let from = self.at_client.len();
                    self.at_client.resize(from + state.plaintext_bytes_to_read(), 0);
                    self.client.reader().read_exact(&mut self.at_client[from..]).expect("memory");
                }
            }
        }
    }
}

fuzz_target!(|story: Story| {
    let name = ServerName::try_from("here").expect("a name");
    let config = both().client[usize::from(!story.old)].clone();
    let mut run = Run {
        client: ClientConnection::new(config, name).expect("a client"),
        station: Session::new(both().server.clone()).expect("a session"),
        asked: Vec::new(),
        answered: Vec::new(),
        at_station: Vec::new(),
        at_client: Vec::new(),
        closing: false,
        broken: false,
    };
    let (mut noise, mut left) = (false, false);
    for op in story.ops.into_iter().take(OPS_MAX) {
        match op {
            Op::Ask { times, text } if !left && !run.client.is_handshaking() => {
                let text = text.repeat(usize::from(times));
                // As much as the client's own buffer takes.
                let count = run.client.writer().write(&text).expect("memory");
                run.asked.extend_from_slice(&text[..count]);
            }
            Op::Answer { times, text } if !run.closing => {
                let text = text.repeat(usize::from(times));
                run.station.push(text.clone().into());
                run.answered.extend_from_slice(&text);
            }
            Op::Cross { cut } => run.cross(cut),
            Op::Noise(bytes) => {
                noise |= !bytes.is_empty() && !run.station.has_ended();
                run.feed(&bytes, 0);
            }
            Op::Leave => {
                left = true;
                // In the middle of a greeting that is a breach of it.
                noise |= run.client.is_handshaking();
                run.client.send_close_notify();
            }
            Op::Close if !run.client.is_handshaking() => run.closing = true,
            Op::Close | Op::Ask { .. } | Op::Answer { .. } => {}
        }
        assert!(run.asked.starts_with(&run.at_station), "only what was said is heard");
        assert!(run.answered.starts_with(&run.at_client), "only what was said is heard");
    }
    if noise {
        return;
    }
    run.cross(0xff);
    assert!(!run.broken, "nobody put anything in between");
    assert_eq!(run.at_station, run.asked);
    // Who leaves before the greeting is over is told nothing.
    if !left && !run.closing {
        assert_eq!(run.at_client, run.answered);
        assert!(!run.station.wants_write() && run.station.is_settled(run.answered.len() as u64));
    }
    assert!(left == run.station.has_ended() || run.closing);
});
