//! What a stream yields, in words that all framings share.

use bytes::Bytes;

/// The form in which a connection wraps its messages. It is chosen from the client's first bytes
/// and never changes afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Packages with a `DIM` header.
    Mtp,
    /// RFC 6455 frames after an HTTP upgrade.
    WebSocket,
    /// Packages with a 20-byte header of client version 200.
    Mars,
    /// The bare JSON lines of 2019.
    Lines,
}

/// Something that the stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A payload for the message layer: one or several messages, see
    /// [`lines_of`](super::lines_of). It may be empty and still want its acknowledgement.
    Message {
        /// What to write, by [`encode_ack`](super::encode_ack), once the payload is safe.
        ack: Ack,
        /// The payload without its framing.
        body: Bytes,
    },
    /// Bytes to write at once.
    Reply(Bytes),
    /// The client has received the push with this key.
    Acknowledged(PushKey),
    /// Bytes to write before closing. Nothing follows.
    Close(Bytes),
    /// A package that only says that its sender is still there.
    Heartbeat,
}

/// What the transport owes to the sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Nothing: the framing has no acknowledgement, or the message answers one of ours.
    None,
    /// `OK` to an MTP message, with its own id and place.
    Mtp {
        /// Whether the message came as a command, so that a command response answers it.
        command: bool,
        /// Transaction id; all zero where the header had none.
        id: [u8; 8],
        /// Page count of the header answered.
        pages: u32,
        /// Page number of the header answered.
        index: u32,
    },
    /// No bytes of its own: the first response goes out with the request's own numbers.
    Mars {
        /// Command number of the request.
        cmd: u32,
        /// Sequence number of the request.
        seq: u32,
    },
}

/// By which a client's acknowledgement finds the push that it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PushKey {
    /// Transaction id.
    Mtp([u8; 8]),
    /// Serial number.
    Mars(u32),
    /// The signature, or else the time, cut out of a JSON text.
    Text(Bytes),
}
