//! The handshake of a session, and the measuring of speed that goes by the same name.

use serde_json::{Map, Value};

use super::title;
use crate::proto::content::ContentError;
use crate::proto::field::Source;
use crate::proto::kind::{Key, Kind, set};

/// A client and a station agree on a session key, in four steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// Client: I want to log in.
    Start,
    /// Station: sign this session key.
    Again {
        /// The key.
        session: String,
        /// The client's address as the station sees it: host and port.
        remote: Option<(String, u16)>,
    },
    /// Client: here is the key, signed with the message around it.
    Restart {
        /// The key.
        session: String,
    },
    /// Station: accepted.
    Success {
        /// The key.
        session: Option<String>,
        /// The client's address as the station sees it: host and port.
        remote: Option<(String, u16)>,
    },
    /// Client: how fast are you?
    Ping {
        /// Comes back with the answer.
        session: Option<String>,
    },
    /// Station: this fast.
    Pong {
        /// What came with the question.
        session: Option<String>,
    },
}

impl Handshake {
    const fn title(&self) -> &'static str {
        match self {
            Self::Start | Self::Restart { .. } => title::HELLO,
            Self::Again { .. } => title::AGAIN,
            Self::Success { .. } => title::SUCCESS,
            Self::Ping { .. } => title::PING,
            Self::Pong { .. } => title::PONG,
        }
    }

    fn session(&self) -> Option<&String> {
        match self {
            Self::Start => None,
            Self::Again { session, .. } | Self::Restart { session } => Some(session),
            Self::Success { session, .. } | Self::Ping { session } | Self::Pong { session } => {
                session.as_ref()
            }
        }
    }

    const fn remote(&self) -> Option<&(String, u16)> {
        match self {
            Self::Again { remote, .. } | Self::Success { remote, .. } => remote.as_ref(),
            _ => None,
        }
    }
}

/// Host and port of a list; anything else is none, since nothing depends on it.
fn remote(source: &Source<'_>) -> Option<(String, u16)> {
    match source.value("remote_address")?.as_array()?.as_slice() {
        [host, port] => Some((host.as_str()?.to_owned(), port.as_u64()?.try_into().ok()?)),
        _ => None,
    }
}

impl Kind for Handshake {
    const KEYS: &'static [Key<'static>] = &[Key::Command("handshake")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        // Clients of 2019 say `message` only.
        let said: String = source.field(&["title", "message"])?;
        let session: Option<String> = source.field(&["session"])?;
        let session = session.filter(|session| !session.is_empty());
        Ok(match (said.as_str(), session) {
            (title::HELLO, None) => Self::Start,
            (title::HELLO, Some(session)) => Self::Restart { session },
            (title::AGAIN, Some(session)) => Self::Again { session, remote: remote(source) },
            (title::AGAIN, None) => return Err(ContentError::Missing("session")),
            (title::SUCCESS, session) => Self::Success { session, remote: remote(source) },
            (title::PING, session) => Self::Ping { session },
            (title::PONG, session) => Self::Pong { session },
            _ => return Err(ContentError::Kind("title")),
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        for name in ["title", "message"] {
            map.insert(name.into(), self.title().into());
        }
        set(map, &["session"], &self.session().cloned());
        map.shift_remove("remote_address");
        if let Some((host, port)) = self.remote() {
            let remote = vec![Value::from(host.as_str()), Value::from(*port)];
            map.insert("remote_address".into(), remote.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::content::Content;
    use serde_json::json;

    fn read(fields: Value) -> Result<Handshake, ContentError> {
        let mut map = json!({"type": 136, "cmd": "handshake"}).as_object().unwrap().clone();
        map.extend(fields.as_object().unwrap().clone());
        Content::read(map.into()).unwrap().view()
    }

    #[test]
    fn the_title_and_the_key_say_which_step_it_is() {
        let key = || "abc".to_owned();
        let table = [
            (json!({"title": "Hello world!"}), Handshake::Start),
            (json!({"message": "Hello world!", "session": ""}), Handshake::Start),
            (
                json!({"title": "Hello world!", "session": "abc"}),
                Handshake::Restart { session: key() },
            ),
            (
                json!({"title": "DIM?", "session": "abc", "remote_address": ["::1", 9]}),
                Handshake::Again { session: key(), remote: Some(("::1".to_owned(), 9)) },
            ),
            (
                json!({"message": "DIM!", "remote_address": [1]}),
                Handshake::Success { session: None, remote: None },
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(read(fields.clone()), Ok(expected), "{fields}");
        }
        assert_eq!(read(json!({"title": "DIM?"})), Err(ContentError::Missing("session")));
        assert_eq!(read(json!({"title": "OK!"})), Err(ContentError::Kind("title")));
    }
}
