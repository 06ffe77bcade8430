//! Bounds on what one connection may make us hold, each with its reason.

/// Longest message, in bytes of its body. Pictures inside messages take some hundred KiB; the
/// formats themselves would allow 1 GiB (MTP) or more.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes without any header before the connection is given up. The reference discards its search
/// buffer at the same size; a real client's first bytes are a header.
pub const UNDECIDED_BYTES_MAX: usize = 64 * 1024;

/// Longest WebSocket upgrade request, in bytes. Browsers with many cookies send a few KiB.
pub const UPGRADE_BYTES_MAX: usize = 64 * 1024;

/// Messages of one connection that may be in pieces at once. Only datagram peers split messages,
/// so on a stream any number above one is already unusual.
pub const FRAGMENT_SETS_MAX: usize = 16;

/// Pieces that one connection may leave waiting: the longest message in pieces of 512 bytes, as
/// the reference cuts them, and as many again. Bounds the bookkeeping of empty pieces.
pub const FRAGMENT_PIECES_MAX: usize = 2 * MESSAGE_BYTES_MAX / 512;

/// Bytes that one connection may leave waiting in pieces: one longest message.
pub const FRAGMENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Finished fragmented messages whose late pieces are only acknowledged. The reference remembers
/// for an hour; without a clock a count serves, and a repetition follows within 360 s.
pub const FRAGMENT_FINISHED_MAX: usize = 256;

/// Longest payload of a WebSocket control frame, in bytes (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest Mars header with its options, in bytes. Known clients use at most 12 bytes of options;
/// without a bound an announced 4 GiB of them would be waited for.
pub const MARS_HEAD_BYTES_MAX: u32 = 65_536;

/// Pushes of one connection that may wait for their acknowledgement. A client answers in order,
/// so what waits is the window; the rest stays in the inbox.
pub const PENDING_PUSHES_MAX: usize = 1024;

/// Bytes of pushes of one connection that may wait for their acknowledgement: one longest
/// message on its way while another one is being answered.
pub const PENDING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

const _: () = assert!(FRAGMENT_BYTES_MAX >= MESSAGE_BYTES_MAX, "one longest message must fit");
const _: () = assert!(PENDING_BYTES_MAX >= MESSAGE_BYTES_MAX, "one longest message must fit");

/// What a [`Deframer`](super::Deframer) holds at most. All counts are per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeframeLimits {
    /// Longest message body, in bytes.
    pub message_bytes_max: usize,
    /// Bytes without any header before the connection is given up.
    pub undecided_bytes_max: usize,
    /// Longest WebSocket upgrade request, in bytes.
    pub upgrade_bytes_max: usize,
    /// Messages in pieces at once; the longest untouched one makes room.
    pub fragment_sets_max: usize,
    /// Pieces waiting for the rest of their messages.
    pub fragment_pieces_max: usize,
    /// Bytes of those pieces.
    pub fragment_bytes_max: usize,
    /// Whether bare JSON lines are a framing. Off by default: every published station since 2021
    /// takes them for noise.
    pub bare_lines: bool,
}

impl Default for DeframeLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX,
            undecided_bytes_max: UNDECIDED_BYTES_MAX,
            upgrade_bytes_max: UPGRADE_BYTES_MAX,
            fragment_sets_max: FRAGMENT_SETS_MAX,
            fragment_pieces_max: FRAGMENT_PIECES_MAX,
            fragment_bytes_max: FRAGMENT_BYTES_MAX,
            bare_lines: false,
        }
    }
}
