//! Recognising a connection's framing from its first bytes.

use bytes::Bytes;

use super::buffer::Buffer;
use super::error::WireError;
use super::event::Framing;
use super::limits::DeframeLimits;
use super::scan::Scan;
use super::upgrade::{REQUEST_START, answer, request_key, request_len};
use super::{mars, mtp};

/// What is known of a connection whose framing is not.
#[derive(Debug)]
pub(super) struct Sniffer {
    /// Whether what came may still be the start of a text: an HTTP request, or lines.
    at_start: bool,
    /// Bytes in which there is no blank line (of an HTTP request), or nothing but white space.
    scanned: usize,
    /// Bytes dropped as noise.
    noise: usize,
}

/// What sniffing found.
#[derive(Debug)]
pub(super) enum Sniffed {
    /// More bytes are needed.
    NeedBytes,
    /// A framing whose first package is at the start of the buffer.
    Framing(Framing),
    /// A WebSocket, to be opened with these bytes. The request is no longer in the buffer.
    Upgrade(Bytes),
}

impl Default for Sniffer {
    fn default() -> Self {
        Self { at_start: true, scanned: 0, noise: 0 }
    }
}

impl Sniffer {
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Sniffed, WireError> {
        if self.at_start {
            let view = buffer.view();
            if view.starts_with(REQUEST_START) {
                return self.on_request(buffer, limits);
            }
            if REQUEST_START.starts_with(view) {
                return Ok(Sniffed::NeedBytes);
            }
            if limits.bare_lines {
                let fresh = view.get(self.scanned..).unwrap_or_default();
                let blank = fresh.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                self.scanned += blank;
                if self.scanned > limits.undecided_bytes_max {
                    return Err(WireError::NoFraming);
                }
                match fresh.get(blank) {
                    Some(b'{') => return Ok(Sniffed::Framing(Framing::Lines)),
                    Some(_) => {}
                    None => return Ok(Sniffed::NeedBytes),
                }
            }
            self.at_start = false;
        }
        let (noise, framing) = first_header(buffer.view());
        buffer.skip(noise);
        self.noise += noise;
        // Even if a header follows: the limit must not depend on how the stream was cut.
        if self.noise > limits.undecided_bytes_max {
            return Err(WireError::NoFraming);
        }
        Ok(framing.map_or(Sniffed::NeedBytes, Sniffed::Framing))
    }

    fn on_request(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Sniffed, WireError> {
        let found = request_len(buffer.view(), self.scanned);
        if found.unwrap_or(buffer.len()) > limits.upgrade_bytes_max {
            return Err(WireError::UpgradeTooLong);
        }
        let Some(len) = found else {
            self.scanned = buffer.len();
            return Ok(Sniffed::NeedBytes);
        };
        let request = buffer.take(len);
        let key = request_key(&request).ok_or(WireError::NotAnUpgrade)?;
        Ok(Sniffed::Upgrade(answer(key)))
    }
}

/// The first offset at which there is, or may be, a header of either framing, and the framing if
/// the header is whole. An offset that may still become one holds up the later ones: whichever
/// comes first decides, however the stream was cut.
fn first_header(view: &[u8]) -> (usize, Option<Framing>) {
    for at in memchr::memchr2_iter(mtp::FIRST, mars::FIRST, view) {
        let bytes = view.get(at..).unwrap_or_default();
        match (mtp::parse_head(bytes), mars::parse_head(bytes)) {
            (Scan::Found(_), _) => return (at, Some(Framing::Mtp)),
            (_, Scan::Found(_)) => return (at, Some(Framing::Mars)),
            (Scan::No, Scan::No) => {}
            _ => return (at, None),
        }
    }
    (view.len(), None)
}
