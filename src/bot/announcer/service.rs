//! What is said to Apple's and Google's push services, and what their answers mean. Authorization is
//! added by whoever holds the keys.

use serde_json::{Map, Value, json};

use super::device::{Device, Maker};
use crate::proto::command::PushItem;
use crate::proto::json;

/// Longest payload that APNs takes, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4096;
/// Longest text of a notification, in bytes; the rest of it is cut off.
const TEXT_BYTES_MAX: usize = 1024;
/// Longest pause that a service may ask for, in seconds.
const PAUSE_S_MAX: f64 = 300.0;

/// A service that wakes devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Apple's.
    Apns,
    /// Apple's for applications that are being tested.
    ApnsSandbox,
    /// Google's.
    Fcm,
}

/// The services that are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    /// Apple's, if there is a key for it.
    pub apns: Option<Apns>,
    /// Google's, if there is an account for it: its project.
    pub fcm_project: Option<String>,
}

/// How Apple's service is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apns {
    /// The application, where a device does not say.
    pub topic: String,
    /// Whether devices that do not say belong to the test system.
    pub sandbox: bool,
}

/// A POST request over HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Begins with a slash.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The service has answered.
    Came {
        /// HTTP's.
        status: u16,
        /// Seconds, from the header `retry-after`.
        retry_after_s: Option<u32>,
        /// JSON, mostly.
        body: Vec<u8>,
    },
    /// It could not be asked.
    None {
        /// Why.
        why: String,
    },
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The service wakes the device.
    Taken,
    /// The token is nobody's any more.
    Forget,
    /// Not now.
    Later {
        /// Seconds, if the service says so.
        pause_s: Option<f64>,
        /// Its word for it.
        why: String,
    },
    /// Never: its word for it.
    Refused(String),
}

impl Services {
    /// The service that wakes a device, if it is configured.
    pub(super) fn of(&self, device: &Device) -> Option<Service> {
        match device.maker {
            Maker::Apple => self.apns.as_ref().map(|apns| device.service(apns.sandbox)),
            Maker::Google => self.fcm_project.as_ref().map(|_| device.service(false)),
        }
    }

    /// What is said to the service of a device; times in seconds since 1970.
    pub(super) fn request(
        &self,
        device: &Device,
        item: &PushItem,
        badge: Option<u64>,
        until_s: f64,
        now_s: f64,
    ) -> Request {
        match device.maker {
            Maker::Apple => self.apns(device, item, badge, until_s),
            Maker::Google => self.fcm(device, item, badge, until_s, now_s),
        }
    }

    fn apns(&self, device: &Device, item: &PushItem, badge: Option<u64>, until_s: f64) -> Request {
        let topic = device.topic.as_ref().or(self.apns.as_ref().map(|apns| &apns.topic));
        let mut text_max = TEXT_BYTES_MAX;
        let body = loop {
            let body = apns_payload(item, badge, text_max);
            // Control characters take six bytes each in JSON.
            if body.len() <= PAYLOAD_BYTES_MAX || text_max == 0 {
                break body;
            }
            text_max /= 2;
        };
        Request {
            path: format!("/3/device/{}", device.token),
            headers: vec![
                ("apns-topic", topic.cloned().unwrap_or_default()),
                ("apns-push-type", "alert".to_owned()),
                ("apns-priority", "10".to_owned()),
                ("apns-expiration", (until_s as u64).to_string()),
                ("content-type", "application/json".to_owned()),
            ],
            body,
        }
    }

    fn fcm(
        &self,
        device: &Device,
        item: &PushItem,
        badge: Option<u64>,
        until_s: f64,
        now_s: f64,
    ) -> Request {
        let mut notification = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            notification.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("title", item.title.as_deref().map(|text| cut(text, TEXT_BYTES_MAX).into()));
        put("body", Some(cut(&item.body, TEXT_BYTES_MAX).into()));
        put("image", item.image.as_deref().map(Value::from));
        put("sound", item.sound.as_deref().map(Value::from));
        put("notification_count", badge.map(Value::from));
        let count = badge.unwrap_or_default().to_string();
        let ttl_s = (until_s - now_s).max(0.0) as u64;
        let message = json!({"message": {
            "token": device.token,
            "android": {
                "priority": "HIGH",
                "ttl": format!("{ttl_s}s"),
                "notification": notification,
                "data": {"badge_count": count},
            },
            "data": {"badge": count, "time": (now_s as u64).to_string()},
        }});
        let project = self.fcm_project.as_deref().unwrap_or_default();
        Request {
            path: format!("/v1/projects/{project}/messages:send"),
            headers: vec![("content-type", "application/json".to_owned())],
            body: json::write(&message).into_bytes(),
        }
    }
}

fn apns_payload(item: &PushItem, badge: Option<u64>, text_max: usize) -> Vec<u8> {
    let (mut alert, mut aps, mut payload) = (Map::new(), Map::new(), Map::new());
    let texts =
        [("title", &item.title), ("subtitle", &item.subtitle), ("body", &Some(item.body.clone()))];
    for (name, text) in texts {
        let text = text.as_deref().map(|text| (name.to_owned(), cut(text, text_max).into()));
        alert.extend(text);
    }
    aps.insert("alert".into(), alert.into());
    aps.extend(badge.map(|badge| ("badge".to_owned(), badge.into())));
    let sound = item.sound.as_deref().unwrap_or("default");
    aps.insert("sound".into(), cut(sound, text_max).into());
    if let Some(category) = &item.category {
        aps.insert("category".into(), cut(category, text_max).into());
    }
    if let Some(image) = item.image.as_ref().filter(|image| image.len() <= text_max) {
        // The application's extension may fetch it before anything is shown.
        aps.insert("mutable-content".into(), 1.into());
        payload.insert("image".into(), image.as_str().into());
    }
    payload.insert("aps".into(), aps.into());
    json::write(&payload.into()).into_bytes()
}

/// As much of a text as fits, whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Answer {
    /// As Apple means it. `since_s` is when the token came: it may be newer than the last that the
    /// service knows of the device.
    pub(super) fn of_apns(&self, since_s: f64) -> Verdict {
        let (status, body) = match self.parts() {
            Ok(parts) => parts,
            Err(verdict) => return verdict,
        };
        let reason = body.get("reason").and_then(Value::as_str).unwrap_or("no reason").to_owned();
        let gone_ms = body.get("timestamp").and_then(Value::as_f64);
        let stale = gone_ms.is_none_or(|gone_ms| since_s * 1000.0 <= gone_ms);
        match (status, reason.as_str()) {
            (200, _) => Verdict::Taken,
            (410, _) if stale => Verdict::Forget,
            (400, "BadDeviceToken" | "DeviceTokenNotForTopic") => Verdict::Forget,
            // A new token of the provider is made for the next one.
            (403, "ExpiredProviderToken") => Verdict::Later { pause_s: None, why: reason },
            _ => self.otherwise(status, reason),
        }
    }

    /// As Google means it.
    pub(super) fn of_fcm(&self) -> Verdict {
        let (status, body) = match self.parts() {
            Ok(parts) => parts,
            Err(verdict) => return verdict,
        };
        let error = body.get("error").and_then(Value::as_object);
        let details = error.and_then(|e| e.get("details")).and_then(Value::as_array);
        let code = details.into_iter().flatten().find_map(|d| d.get("errorCode")?.as_str());
        let word = code.or_else(|| error?.get("status")?.as_str());
        let reason = word.unwrap_or("no reason").to_owned();
        match (status, reason.as_str()) {
            (200, _) => Verdict::Taken,
            (404, "UNREGISTERED") => Verdict::Forget,
            // A new access token is fetched for the next one.
            (401, _) => Verdict::Later { pause_s: None, why: reason },
            _ => self.otherwise(status, reason),
        }
    }

    fn parts(&self) -> Result<(u16, Map<String, Value>), Verdict> {
        match self {
            Self::Came { status, body, .. } => {
                Ok((*status, json::parse_object(body).unwrap_or_default()))
            }
            Self::None { why } => Err(Verdict::Later { pause_s: None, why: why.clone() }),
        }
    }

    fn otherwise(&self, status: u16, reason: String) -> Verdict {
        let why = format!("{status} {reason}");
        let Self::Came { retry_after_s, .. } = self else {
            return Verdict::Refused(why);
        };
        match status {
            429 | 500..=599 => {
                let pause_s = retry_after_s.map(|pause| f64::from(pause).min(PAUSE_S_MAX));
                Verdict::Later { pause_s, why }
            }
            _ => Verdict::Refused(why),
        }
    }
}
