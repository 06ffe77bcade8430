//! A push service as a test has it: HTTP/2 over TLS, as much as one client needs.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use loona_hpack::{Decoder, Encoder};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::kit::PATIENCE;

/// What it was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
    /// As JSON, null if it is none.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// What it answers, in order; afterwards 200.
type Answers = Arc<Mutex<VecDeque<(u16, Value)>>>;

pub(crate) struct Service {
    address: SocketAddr,
    certificate: String,
    asked: Receiver<Asked>,
    answers: Answers,
}

impl Service {
    pub(crate) fn start() -> Self {
        let keys = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&keys).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(keys.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        let mut tls = tls.unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = channel();
        let answers = Answers::default();
        let script = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(tls.clone()).unwrap();
                let stream = StreamOwned::new(session, stream.unwrap());
                let (tell, script) = (tell.clone(), script.clone());
                // It ends with the connection, however that ends.
                std::thread::spawn(move || Talk::new(stream, tell, script).go_on());
            }
        });
        Self { address, certificate: certificate.pem(), asked, answers }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The next notification is answered like this.
    pub(crate) fn answer(&self, status: u16, body: Value) {
        self.answers.lock().unwrap().push_back((status, body));
    }

    pub(crate) fn next(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("the service is asked")
    }
}

struct Talk {
    stream: StreamOwned<ServerConnection, TcpStream>,
    tell: Sender<Asked>,
    answers: Answers,
    decoder: Decoder<'static>,
    encoder: Encoder<'static>,
    open: BTreeMap<u32, (BTreeMap<String, String>, Vec<u8>)>,
    given: usize,
}

impl Talk {
    fn new(
        stream: StreamOwned<ServerConnection, TcpStream>,
        tell: Sender<Asked>,
        answers: Answers,
    ) -> Self {
        let mut encoder = Encoder::new();
        // The client wants none.
        encoder.set_max_table_size(0);
        let (decoder, open) = (Decoder::new(), BTreeMap::new());
        Self { stream, tell, answers, decoder, encoder, open, given: 0 }
    }

    fn go_on(mut self) -> Option<()> {
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).ok()?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // A narrow window for bodies, and a question of its own.
        self.frame(4, 0, 0, &[0, 4, 0, 0, 0, 50, 0, 3, 0, 0, 0, 8])?;
        self.frame(6, 0, 0, b"are you?")?;
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes(stream);
            match kind {
                0 => {
                    let (_, body) = self.open.get_mut(&stream).unwrap();
                    body.extend_from_slice(&payload);
                    for of in [0, stream] {
                        let more = u32::try_from(payload.len()).unwrap().to_be_bytes();
                        if !payload.is_empty() {
                            self.frame(8, 0, of, &more)?;
                        }
                    }
                    if flags & 1 != 0 {
                        self.answer(stream)?;
                    }
                }
                1 => {
                    assert_eq!(flags, 4, "headers are whole, and a body follows");
                    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                    let headers = self.decoder.decode(&payload).unwrap().into_iter();
                    let headers = headers.map(|(name, value)| (text(name), text(value))).collect();
                    self.open.insert(stream, (headers, Vec::new()));
                }
                4 if flags == 0 => self.frame(4, 1, 0, &[])?,
                6 => assert_eq!((flags, payload.as_slice()), (1, &b"are you?"[..])),
                4 | 8 => {}
                other => panic!("a frame of kind {other}"),
            }
        }
    }

    fn answer(&mut self, stream: u32) -> Option<()> {
        let (headers, body) = self.open.remove(&stream).unwrap();
        let text = String::from_utf8(body).unwrap();
        let path = headers[":path"].clone();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let (status, answer) = if path == "/token" {
            self.given += 1;
            let token = format!("access-{}", self.given);
            (200, json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))
        } else {
            self.answers.lock().unwrap().pop_front().unwrap_or((200, json!({})))
        };
        let _ = self.tell.send(Asked { path, headers, body, text });
        let status = status.to_string();
        let block = [(&b":status"[..], status.as_bytes()), (b"content-type", b"application/json")];
        let block = self.encoder.encode(block);
        // In two frames, the second of which is padded.
        let (first, rest) = block.split_at(1);
        self.frame(1, 0, stream, first)?;
        self.frame(9, 4, stream, rest)?;
        let body = answer.to_string();
        let padded = [&[3], body.as_bytes(), &[0; 3]].concat();
        self.frame(0, 8 | 1, stream, &padded)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).ok()?;
        self.stream.flush().ok()
    }
}
