//! What a client's bytes go over: a socket, or TLS on one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustls::{ClientConnection, StreamOwned};

pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Pieces>>),
}

/// A socket that writes in pieces of at most this length, if it is not 0.
pub(crate) struct Pieces {
    pub(crate) socket: TcpStream,
    pub(crate) piece: usize,
}

impl From<TcpStream> for Link {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl From<StreamOwned<ClientConnection, Pieces>> for Link {
    fn from(stream: StreamOwned<ClientConnection, Pieces>) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl Link {
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock.socket,
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.read(bytes)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = if self.piece == 0 { bytes.len() } else { self.piece.min(bytes.len()) };
        self.socket.write(&bytes[..piece])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
