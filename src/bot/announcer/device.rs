//! A device that can be woken, as its application describes it.

use serde::{Deserialize, Serialize};

use super::service::{Answer, Service, Verdict};
use crate::proto::command::{self, PushService};

/// Longest token, in bytes: Apple's have 32 or more as hex, Google's some 160.
const TOKEN_BYTES_MAX: usize = 1024;
/// Longest application's name, in bytes.
const TOPIC_BYTES_MAX: usize = 128;

/// Whose device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Maker {
    /// Woken by APNs.
    Apple,
    /// Woken by FCM.
    Google,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) maker: Maker,
    pub(super) token: String,
    /// The application, if it has said so.
    pub(super) topic: Option<String>,
    /// Of Apple's test system; as configured if it has not said so.
    pub(super) sandbox: Option<bool>,
    /// When the token came, in seconds since 1970.
    pub(super) since_s: f64,
}

impl Device {
    /// None if it cannot be woken: an unknown system, or what is no token.
    pub(super) fn read(said: command::Device, now_s: f64) -> Option<Self> {
        let platform = said.platform.as_deref().map(str::to_lowercase);
        let maker = match platform.as_deref() {
            Some("ios" | "ipados" | "macos") => Maker::Apple,
            Some("android") => {
                let channel = said.channel.as_deref().unwrap_or("firebase");
                let fcm = ["firebase", "fcm"].iter().any(|name| channel.eq_ignore_ascii_case(name));
                fcm.then_some(Maker::Google)?
            }
            Some(_) => return None,
            None if said.service == PushService::Apns => Maker::Apple,
            None => Maker::Google,
        };
        let (topic, sandbox) = (said.topic.filter(|topic| !topic.is_empty()), said.sandbox);
        let device = Self { maker, token: said.token, topic, sandbox, since_s: now_s };
        device.is_sound().then_some(device)
    }

    /// Whether token and topic may stand in a request; the first is part of an address at Apple's.
    pub(super) fn is_sound(&self) -> bool {
        let letters = match self.maker {
            Maker::Apple => |byte: u8| byte.is_ascii_hexdigit(),
            Maker::Google => |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte),
        };
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = |text: &str, max| !text.is_empty() && text.len() <= max;
        fits(&self.token, TOKEN_BYTES_MAX)
            && self.token.bytes().all(letters)
            && self.topic.as_deref().is_none_or(|t| fits(t, TOPIC_BYTES_MAX) && t.bytes().all(name))
    }

    /// What an answer means for this device.
    pub(super) fn verdict(&self, answer: &Answer) -> Verdict {
        match self.maker {
            Maker::Apple => answer.of_apns(self.since_s),
            Maker::Google => answer.of_fcm(),
        }
    }

    /// The service that wakes it; `sandbox` where it has not said.
    pub(super) fn service(&self, sandbox: bool) -> Service {
        match self.maker {
            Maker::Apple if self.sandbox.unwrap_or(sandbox) => Service::ApnsSandbox,
            Maker::Apple => Service::Apns,
            Maker::Google => Service::Fcm,
        }
    }
}
