//! Why a stream cannot go on: always the peer's fault.

use std::fmt;

use super::event::Framing;
use super::upgrade::NOT_AN_UPGRADE;

/// What the peer did wrong. The stream is lost after it: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// A message longer than the limit was announced or gathered.
    FrameTooLong {
        /// Bytes of the body as far as they are known.
        bytes: u64,
    },
    /// The limit of undecided bytes passed without the header of any framing.
    NoFraming,
    /// An HTTP request did not end within the limit.
    UpgradeTooLong,
    /// An HTTP request that asks for no WebSocket.
    NotAnUpgrade,
    /// A station's answer to our upgrade request that opens no WebSocket.
    UpgradeRefused,
    /// A WebSocket frame from a station with a mask, which only clients put on.
    Masked,
    /// A WebSocket frame with a reserved bit, though no extension was agreed on.
    ReservedBits,
    /// A WebSocket frame with an opcode that has no meaning.
    UnknownOpcode(u8),
    /// A WebSocket control frame that is too long or in pieces.
    ControlFrame,
    /// A WebSocket continuation without a beginning.
    LooseContinuation,
    /// A WebSocket message that began inside another one.
    MessageInside,
    /// A WebSocket text that is not UTF-8.
    NotUtf8,
    /// More MTP fragments than the limit wait for the rest of their messages.
    TooManyFragments,
    /// The MTP fragments that wait for the rest of their messages are longer than the limit.
    FragmentsTooLong,
}

impl WireError {
    /// Bytes that tell the peer what it did, for a station that is polite before it closes: an
    /// HTTP answer or a WebSocket CLOSE frame, empty where the framing has no word for it. The
    /// reference says nothing, so silence is always right.
    pub fn last_words(&self, framing: Option<Framing>) -> &'static [u8] {
        match self {
            Self::NotAnUpgrade | Self::UpgradeTooLong => NOT_AN_UPGRADE,
            Self::ReservedBits
            | Self::UnknownOpcode(_)
            | Self::ControlFrame
            | Self::LooseContinuation
            | Self::MessageInside => b"\x88\x02\x03\xea", // 1002: protocol error
            Self::NotUtf8 => b"\x88\x02\x03\xef", // 1007: payload inconsistent with its type
            Self::FrameTooLong { .. } if framing == Some(Framing::WebSocket) => {
                b"\x88\x02\x03\xf1" // 1009: message too big
            }
            Self::FrameTooLong { .. }
            | Self::UpgradeRefused
            | Self::Masked
            | Self::NoFraming
            | Self::TooManyFragments
            | Self::FragmentsTooLong => b"",
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrameTooLong { bytes } => {
                return write!(f, "peer's message of {bytes} bytes is too long");
            }
            Self::UnknownOpcode(opcode) => {
                return write!(f, "peer's websocket frame has unknown opcode {opcode}");
            }
            Self::NoFraming => "peer speaks no known framing",
            Self::UpgradeTooLong => "peer's http request is too long",
            Self::NotAnUpgrade => "peer's http request is no websocket upgrade",
            Self::UpgradeRefused => "station does not open a websocket",
            Self::Masked => "station's websocket frame is masked",
            Self::ReservedBits => "peer's websocket frame has reserved bits",
            Self::ControlFrame => "peer's websocket control frame is long or in pieces",
            Self::LooseContinuation => "peer's websocket continuation has no beginning",
            Self::MessageInside => "peer's websocket message begins inside another one",
            Self::NotUtf8 => "peer's websocket text is not utf-8",
            Self::TooManyFragments => "peer left too many fragments unfinished",
            Self::FragmentsTooLong => "peer left too many bytes in unfinished fragments",
        })
    }
}

impl std::error::Error for WireError {}
