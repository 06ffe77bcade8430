//! Shows the monitor's sums to whoever scrapes them on this machine.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For a scraper to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 8 << 10;

/// What is shown.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<String>>);

impl Shown {
    pub(super) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers `GET /metrics` there, one scraper after the other; where it listens.
pub(super) fn serve(address: SocketAddr, shown: Shown) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let answered = stream.and_then(|stream| answer(stream, &shown));
            if let Err(error) = answered {
                tracing::debug!(%error, "a scraper was not answered");
            }
        }
    })?;
    Ok(address)
}

fn answer(mut stream: TcpStream, shown: &Shown) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut question, mut part) = (Vec::new(), [0; 1024]);
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut part)?;
        question.extend_from_slice(part.get(..count).unwrap_or_default());
        if count == 0 || question.len() > QUESTION_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    let (status, body) = match question.starts_with(b"GET /metrics ") {
        true => ("200 OK", shown.text()),
        false => ("404 Not Found", "only /metrics is here\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
