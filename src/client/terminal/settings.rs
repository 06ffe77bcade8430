//! How a terminal behaves, and what bounds it.

use crate::proto::id::Id;
use crate::wire::Framing;

/// Silence after which a connection is given up, in milliseconds; stations do the same.
pub const SILENCE_MS_MAX: u64 = 128_000;

/// Patience with an upgrade and a handshake, in milliseconds.
pub const LOGIN_MS_MAX: u64 = 30_000;

/// How often a client says where it is logged in, in milliseconds.
pub const ONLINE_MS: u64 = 300_000;

/// How soon a question for an account is asked again, in milliseconds.
pub const QUERY_AGAIN_MS: u64 = 30_000;

/// How long a message to a group waits for members who are not known, in milliseconds; then it
/// goes to the others. Some may be gone for ever.
pub const MEMBERS_MS_MAX: u64 = 2 * QUERY_AGAIN_MS;

/// Accounts that are asked for within [`QUERY_AGAIN_MS`]; the others have to wait.
pub const QUERIES_MAX: usize = 256;

/// Age at which a visa is signed anew before a login, in seconds, so that stations keep preferring
/// it.
pub const VISA_AGE_S_MAX: f64 = 24.0 * 3600.0;

/// Contacts that are sent a new visa at a login; the others get it with the next message.
pub const CONTACTS_TOLD_MAX: usize = 64;

/// Contents in one array, or messages in one forward, that are looked at.
pub const PARTS_MAX: usize = 256;

/// How deep arrays and forwards may lie in each other.
pub const DEPTH_MAX: u8 = 3;

/// Packages that wait for the application's word; beyond, the oldest is left to the next login.
pub const UNCONFIRMED_MAX: usize = 16_384;

/// Token of what a terminal sends by itself and keeps until it is acknowledged. An application that
/// uses it for its own is not told what becomes of it.
pub const OWN: u64 = 0;

/// How a terminal behaves. Terminals may share one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// [`Framing::Mtp`] or [`Framing::WebSocket`]; clients have no other, so all else is MTP.
    pub framing: Framing,
    /// The station's host name or address.
    pub host: String,
    /// The station's port.
    pub port: u16,
    /// Which station it must be, if that is known.
    pub station: Option<Id>,
    /// What the client calls itself.
    pub agent: String,
    /// Whether visa and whereabouts are broadcast after a login. Without, other stations do not
    /// learn where this user is.
    pub announces: bool,
    /// Whether a person's message is answered with "Message received.".
    pub receipts: bool,
    /// Whether a package is acknowledged only when the application says so, with
    /// [`Input::Confirm`](super::Input::Confirm). For those who must not lose what they were told.
    pub confirms: bool,
    /// Silence of the station after which it is asked for a sign of life, in milliseconds.
    pub ping_ms: u64,
    /// The first pause before dialling again, in milliseconds; it doubles each time.
    pub pause_ms_min: u64,
    /// The longest pause before dialling again, in milliseconds.
    pub pause_ms_max: u64,
}

impl Settings {
    /// The usual behaviour, over MTP.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            framing: Framing::Mtp,
            host: host.to_owned(),
            port,
            station: None,
            agent: concat!("dim-station/", env!("CARGO_PKG_VERSION")).to_owned(),
            announces: true,
            receipts: true,
            confirms: false,
            ping_ms: 16_000,
            pause_ms_min: 1000,
            pause_ms_max: 128_000,
        }
    }
}
