//! What a client says of its session: where it is logged in, whether somebody is there, how its
//! device is woken.

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::{Field, Source};
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};

/// Says where a user is logged in. Stations keep it and show it to others, signed as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// Who.
    pub did: Id,
    /// The client's name and version.
    pub agent: Option<String>,
    /// The kind of device.
    pub device: Option<String>,
    /// The terminal of the user's ID that this session serves.
    pub terminal: Option<String>,
    /// The station.
    pub station: Option<StationPlace>,
    /// The provider that the station belongs to.
    pub provider: Option<Id>,
}

/// A station, and where it listens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StationPlace {
    /// Its ID; none while the client does not know it.
    pub did: Option<Id>,
    /// Host name or address.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u64>,
}

impl Kind for Login {
    const KEYS: &'static [Key<'static>] = &[Key::Command("login")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let station = source.inside("station").map(|station| {
            Ok(StationPlace {
                did: station.field(&["did", "ID"])?,
                host: station.field(&["host"])?,
                port: station.field(&["port"])?,
            })
        });
        let provider = source.inside("provider").map(|provider| provider.field(&["did", "ID"]));
        Ok(Self {
            did: source.field(&["did", "ID"])?,
            agent: source.field(&["agent"])?,
            device: source.field(&["device"])?,
            terminal: source.field(&["terminal"])?,
            station: station.transpose()?,
            provider: provider.transpose()?.flatten(),
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["did", "ID"], &self.did);
        set(map, &["agent"], &self.agent);
        set(map, &["device"], &self.device);
        set(map, &["terminal"], &self.terminal);
        inside(map, "station", self.station.as_ref(), |map, station| {
            set(map, &["did", "ID"], &station.did);
            set(map, &["host"], &station.host);
            set(map, &["port"], &station.port);
        });
        inside(map, "provider", self.provider.as_ref(), |map, did| set(map, &["did", "ID"], did));
    }
}

/// Writes into the object of that name what `write` says of `value`; without a value there is
/// no object.
fn inside<T>(
    map: &mut Map<String, Value>,
    name: &str,
    value: Option<&T>,
    write: impl FnOnce(&mut Map<String, Value>, &T),
) {
    let Some(value) = value else {
        map.shift_remove(name);
        return;
    };
    let object = map.entry(name).or_insert_with(|| Map::new().into());
    if !object.is_object() {
        *object = Map::new().into();
    }
    if let Some(object) = object.as_object_mut() {
        write(object, value);
    }
}

/// Says whether somebody is there, or how to wake the device.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Messages may be pushed.
    Online,
    /// Messages wait.
    Offline,
    /// The token that wakes this device.
    Device(Device),
}

/// The token by which a push service knows a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Whose token it is.
    pub service: PushService,
    /// The token.
    pub token: String,
    /// The platform, such as `iOS`.
    pub platform: Option<String>,
    /// The application, such as `chat.dim.sechat`.
    pub topic: Option<String>,
    /// Whether it belongs to the service's test system.
    pub sandbox: Option<bool>,
    /// The way that pushes take on Android, such as `firebase`.
    pub channel: Option<String>,
    /// The device's model.
    pub model: Option<String>,
    /// The device's system.
    pub system: Option<String>,
}

/// A service that wakes devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushService {
    /// Apple's.
    Apns,
    /// Google's, by the name it had.
    C2dm,
}

impl PushService {
    const fn title(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::C2dm => "c2dm",
        }
    }
}

impl Field for bool {
    fn read(value: Option<&Value>, _: &crate::proto::registry::Registry) -> Option<Self> {
        match value? {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => Some(number.as_f64()? != 0.0),
            _ => None,
        }
    }

    fn write(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl Device {
    fn read(source: &Source<'_>, service: PushService) -> Result<Self, ContentError> {
        // The oldest clients write the token alone.
        let device = source.inside("device").unwrap_or(*source);
        let token: Option<String> = device.field(&["token", "device_token"])?;
        Ok(Self {
            service,
            token: token.ok_or(ContentError::Missing("token"))?,
            platform: device.field(&["platform"])?,
            topic: device.field(&["topic"])?,
            sandbox: device.field(&["sandbox"])?,
            channel: device.field(&["channel"])?,
            model: device.field(&["model"])?,
            system: device.field(&["system"])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["token", "device_token"], &self.token);
        set(map, &["platform"], &self.platform);
        set(map, &["topic"], &self.topic);
        set(map, &["sandbox"], &self.sandbox);
        set(map, &["channel"], &self.channel);
        set(map, &["model"], &self.model);
        set(map, &["system"], &self.system);
    }
}

/// The title of a report; those of 2019 said it in another field or by their name.
pub(super) fn report_title(map: &Map<String, Value>) -> &str {
    let text = |name: &str| map.get(name).and_then(Value::as_str);
    match (text("command"), text("title"), text("state")) {
        (Some(name @ ("online" | "offline")), ..) => name,
        // 2019's words; a title beside them says only that it is a report.
        (_, None | Some("report"), Some("foreground")) => "online",
        (_, None | Some("report"), Some("background")) => "offline",
        (_, title, _) => title.unwrap_or_default(),
    }
}

impl Kind for Report {
    const KEYS: &'static [Key<'static>] = &[
        Key::Command("report"),
        Key::Command("online"),
        Key::Command("offline"),
        Key::Command("broadcast"),
    ];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        Ok(match report_title(source.map) {
            "online" => Self::Online,
            "offline" => Self::Offline,
            "apns" => Self::Device(Device::read(source, PushService::Apns)?),
            "c2dm" => Self::Device(Device::read(source, PushService::C2dm)?),
            _ => return Err(ContentError::Kind("title")),
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        for old in ["state", "token", "device_token"] {
            map.shift_remove(old);
        }
        let (title, device) = match self {
            Self::Online => ("online", None),
            Self::Offline => ("offline", None),
            Self::Device(device) => (device.service.title(), Some(device)),
        };
        map.insert("title".into(), title.into());
        inside(map, "device", device, |map, device| device.write(map));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::content::Content;
    use serde_json::json;

    fn read(fields: Value) -> Result<Report, ContentError> {
        let mut map = fields.as_object().unwrap().clone();
        map.insert("type".into(), 136.into());
        Content::read(map.into()).unwrap().view()
    }

    #[test]
    fn reports_of_all_ages_are_read() {
        for (fields, expected) in [
            (json!({"cmd": "report", "title": "online"}), Report::Online),
            (json!({"cmd": "report", "state": "foreground"}), Report::Online),
            (json!({"cmd": "report", "state": "background"}), Report::Offline),
            (json!({"cmd": "offline"}), Report::Offline),
        ] {
            assert_eq!(read(fields.clone()), Ok(expected), "{fields}");
        }
        for fields in [
            json!({"cmd": "report", "title": "apns", "device_token": "ab"}),
            json!({"cmd": "report", "title": "apns", "device": {"token": "ab"}}),
        ] {
            let Ok(Report::Device(device)) = read(fields.clone()) else { panic!("{fields}") };
            assert_eq!((device.service, device.token.as_str()), (PushService::Apns, "ab"));
        }
        assert_eq!(
            read(json!({"cmd": "report", "title": "c2dm"})),
            Err(ContentError::Missing("token"))
        );
        assert_eq!(
            read(json!({"cmd": "report", "title": "asleep"})),
            Err(ContentError::Kind("title"))
        );
    }

    #[test]
    fn a_login_keeps_what_it_does_not_know_also_inside() {
        let did = "moky@anywhere";
        let mut content = Content::read(json!({"type": 136, "cmd": "login", "ID": did, "x": 1,
            "station": {"ID": did, "host": "a", "port": 1, "y": 2}, "provider": {"ID": did}}))
        .unwrap();
        let mut login = content.view::<Login>().unwrap();
        login.station = login.station.map(|s| StationPlace { host: Some("b".to_owned()), ..s });
        content.put(&login);
        let sent = Value::Object(content.to_map());
        let station = json!({"did": did, "ID": did, "host": "b", "port": 1, "y": 2});
        assert_eq!(sent["station"], station);
        assert_eq!((&sent["x"], &sent["provider"]["ID"]), (&json!(1), &json!(did)));
        login.station = None;
        content.put(&login);
        assert!(!content.map.contains_key("station"));
    }
}
