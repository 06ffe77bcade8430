//! A connection to a push service that is there when it is needed.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::http2::Connection;
use crate::bot::announcer::service::{Answer, Request};

/// For a connection, and for each look at it.
const PATIENCE: Duration = Duration::from_secs(10);
/// For all answers of one batch.
const BATCH_PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 16 << 10;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
    /// From the first slash on.
    pub(super) path: String,
}

impl Place {
    /// Reads `https://host[:port][/path]`; what is wrong with it otherwise.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let fault = || format!("\"{url}\" is no address: expected https://HOST[:PORT][/PATH]");
        let rest = url.strip_prefix("https://").ok_or_else(fault)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| fault())?),
            None => (authority, 443),
        };
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        if host.is_empty()
            || !host.bytes().all(sound)
            || !path.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(fault());
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }

    fn authority(&self) -> String {
        match self.port {
            443 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

/// A server that was not spoken to for so long may have left.
const IDLE_MAX: Duration = Duration::from_secs(60);

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A place, and the connection to it while there is one.
pub(super) struct Line {
    place: Place,
    tls: Arc<ClientConfig>,
    open: Option<Box<(Stream, Connection)>>,
    used: Instant,
}

/// A question: its tag, itself, who asks.
pub(super) type Question = (u64, Request, Option<String>);

impl Line {
    pub(super) fn new(place: Place, tls: Arc<ClientConfig>) -> Self {
        Self { place, tls, open: None, used: Instant::now() }
    }

    /// Asks all, and waits for the answers; each question has one.
    pub(super) fn ask(&mut self, questions: Vec<Question>) -> Vec<(u64, Answer)> {
        let mut waiting = questions.into_iter();
        let mut answers = Vec::new();
        if let Err(error) = self.exchange(&mut waiting, &mut answers) {
            let why = format!("{}: {error}", self.place.host);
            if let Some(mut open) = self.open.take() {
                answers.extend(open.1.give_up(&why));
            }
            answers.extend(waiting.map(|(tag, ..)| (tag, Answer::None { why: why.clone() })));
        }
        answers
    }

    fn exchange(
        &mut self,
        waiting: &mut std::vec::IntoIter<Question>,
        answers: &mut Vec<(u64, Answer)>,
    ) -> io::Result<()> {
        if self.used.elapsed() > IDLE_MAX {
            self.open = None;
        }
        self.used = Instant::now();
        let wanted = waiting.len();
        let until = Instant::now() + BATCH_PATIENCE;
        let mut buffer = [0; READ_BYTES];
        while answers.len() < wanted {
            // One that is over still gives the answers that are on their way.
            let done = |open: &(Stream, Connection)| {
                open.1.is_over() && wanted == answers.len() + waiting.len()
            };
            if self.open.as_deref().is_none_or(done) {
                self.open = Some(Box::new(self.dial()?));
            }
            let Some((stream, connection)) = self.open.as_deref_mut() else { return Ok(()) };
            while connection.room() > 0
                && let Some((tag, request, authorization)) = waiting.next()
            {
                connection.ask(tag, &request, authorization.as_deref());
            }
            stream.write_all(&connection.take_written())?;
            stream.flush()?;
            if Instant::now() > until {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let came = connection.receive(buffer.get(..count).unwrap_or_default());
            answers.extend(came.map_err(|fault| io::Error::other(fault.to_string()))?);
        }
        if let Some((stream, connection)) = self.open.as_deref_mut() {
            stream.write_all(&connection.take_written())?;
            stream.flush()?;
        }
        Ok(())
    }

    fn dial(&self) -> io::Result<(Stream, Connection)> {
        let name = ServerName::try_from(self.place.host.clone()).map_err(io::Error::other)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.place.host.as_str(), self.place.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(PATIENCE))?;
                    socket.set_write_timeout(Some(PATIENCE))?;
                    socket.set_nodelay(true)?;
                    let session = ClientConnection::new(self.tls.clone(), name.clone())
                        .map_err(io::Error::other)?;
                    let mut stream = StreamOwned::new(session, socket);
                    while stream.conn.is_handshaking() {
                        stream.conn.complete_io(&mut stream.sock)?;
                    }
                    if stream.conn.alpn_protocol() != Some(b"h2") {
                        return Err(io::Error::other("it does not offer HTTP/2"));
                    }
                    return Ok((stream, Connection::new(&self.place.authority())));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
