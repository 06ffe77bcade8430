//! Connections that are made from here: to neighbours, and to who has a list of them. Waits, so it is
//! for threads that may.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::tls::session::Session;
use super::tls::trust::Trust;

/// How long a server may take to accept a connection, to stand under TLS, to answer a question.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// A station that was dialled.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Does not wait.
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// It stands, and the peer's certificate is the right one. None: the link is plain.
    pub(crate) tls: Option<Box<Session>>,
}

/// Dials a station; with `trust`, under TLS. If TLS is refused, that is said in the log: somebody
/// has to mend something, which a station that is only down need not be.
pub(crate) fn reach(host: &str, port: u16, trust: Option<&Trust>) -> io::Result<Reached> {
    let (stream, peer) = connect(host, port)?;
    stream.set_nodelay(true)?;
    let (stream, tls) = match trust {
        None => (stream, None),
        Some(trust) => {
            let mut wire = Hurried::new(stream);
            let session = trust.greet(host, &mut wire).inspect_err(|error| {
                tracing::warn!(host, port, "a neighbour is not used: {error}");
            })?;
            (wire.stream, Some(Box::new(Session::dialed(session))))
        }
    };
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    stream.set_nonblocking(true)?;
    Ok(Reached { stream, peer, tls })
}

/// The first address of a host that takes a connection.
pub(super) fn connect(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no address of that name");
    for address in (host, port).to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket of which everything together may take [`PATIENCE`], in however small pieces it comes.
pub(super) struct Hurried {
    stream: TcpStream,
    until: Instant,
}

impl Hurried {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, until: Instant::now() + PATIENCE }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(too_late()) } else { Ok(Some(left)) }
    }
}

impl Read for Hurried {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes).map_err(in_time)
    }
}

impl Write for Hurried {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn in_time(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { too_late() } else { error }
}

fn too_late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("no answer for {} s", PATIENCE.as_secs()))
}
