//! Lines: how several messages share one payload, and the bare framing of 2019 that consists of
//! nothing else.

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::buffer::Buffer;
use super::deframe::Step;
use super::error::WireError;
use super::event::{Ack, Event};
use super::limits::DeframeLimits;

/// Shorter lines cannot be messages: the reference ignores up to four bytes.
pub const LINE_BYTES_MIN: usize = 5;

/// The messages in a payload: each line, if it starts with `{`, else the payload as it is.
/// Lines too short for a message are left out.
pub fn lines_of(payload: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    split_lines(payload).filter(|line| line.len() >= LINE_BYTES_MIN)
}

/// As [`lines_of`], with short and empty lines. Lines end at LF, CR or CR LF; a line end at the
/// end of the payload begins no further line.
pub fn split_lines(payload: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let mut rest = payload.clone();
    let in_lines = rest.starts_with(b"{");
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match in_lines {
            true => memchr2(b'\n', b'\r', &rest).unwrap_or(rest.len()),
            false => rest.len(),
        };
        let line = rest.split_to(end);
        let line_end = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        drop(rest.split_to(line_end));
        Some(line)
    })
}

/// One connection's bare lines.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Bytes of the unfinished line in which there is no line feed.
    scanned: usize,
}

impl Stream {
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Step, WireError> {
        let fresh = buffer.view().get(self.scanned..).unwrap_or_default();
        let end = memchr(b'\n', fresh).map(|at| self.scanned + at);
        let line_len = end.unwrap_or(buffer.len());
        if line_len > limits.message_bytes_max {
            // How long it would be depends on how it was cut; up to where it was read does not.
            return Err(WireError::FrameTooLong { bytes: limits.message_bytes_max as u64 + 1 });
        }
        let Some(end) = end else {
            self.scanned = buffer.len();
            return Ok(Step::NeedBytes);
        };
        self.scanned = 0;
        let mut body = buffer.take(end);
        buffer.skip(1);
        if body.ends_with(b"\r") {
            body.truncate(body.len() - 1);
        }
        Ok(Step::Event(match body.is_empty() {
            true => Event::Reply(Bytes::from_static(b"\n")),
            false => Event::Message { ack: Ack::None, body },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(payload: &'static str) -> Vec<Bytes> {
        split_lines(&Bytes::from(payload)).collect()
    }

    #[test]
    fn a_payload_of_json_is_split_at_every_kind_of_line_end() {
        assert_eq!(split("{a}\n{b}\r\n{c}\r{d}\n"), ["{a}", "{b}", "{c}", "{d}"]);
        assert_eq!(split("{a}\n\n\r\rb"), ["{a}", "", "", "", "b"]);
        assert_eq!(split("{"), ["{"]);
    }

    #[test]
    fn any_other_payload_stays_whole() {
        assert_eq!(split("a\nb\r\n"), ["a\nb\r\n"]);
        assert_eq!(split("\n{}"), ["\n{}"]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn short_lines_are_no_messages() {
        let payload = Bytes::from("{abc}\n{ab}\n\n{abcd}");
        assert!(lines_of(&payload).eq(["{abc}", "{abcd}"]));
        assert_eq!(lines_of(&Bytes::from("PING")).next(), None);
    }

    #[test]
    fn a_lone_line_feed_is_a_heartbeat() {
        let limits = DeframeLimits { message_bytes_max: 10, ..DeframeLimits::default() };
        let (mut stream, mut buffer) = (Stream::default(), Buffer::default());
        let mut step = |fed: &'static str| {
            buffer.push(Bytes::from(fed));
            stream.step(&mut buffer, &limits)
        };
        let message = |body| Event::Message { ack: Ack::None, body: Bytes::from_static(body) };
        assert_eq!(step("{}"), Ok(Step::NeedBytes));
        assert_eq!(step("\r\n\n"), Ok(Step::Event(message(b"{}"))));
        assert_eq!(step(""), Ok(Step::Event(Event::Reply(Bytes::from("\n")))));
        assert_eq!(step("{123456789"), Ok(Step::NeedBytes));
        assert_eq!(step("a"), Err(WireError::FrameTooLong { bytes: 11 }));
    }
}
