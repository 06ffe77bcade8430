//! The handshake with a station, from the side that logs in: a question, a session key that the
//! station wants signed, and the word that it is done. For clients, bots and bridges alike.

use crate::proto::address::EntityKind;
use crate::proto::command::title;
use crate::proto::id::Id;

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Idle,
    Asked,
    Signed { session: String },
    Done { session: String },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send the first handshake, with meta and visa, to the station (or to any, while it is not
    /// known).
    Ask,
    /// Send the handshake with this session key, signed and for the station alone.
    Sign {
        /// In hex, as it came.
        session: String,
    },
    /// Logged in.
    Done,
    /// Nothing: said again, or by somebody else.
    Nothing,
}

/// One connection's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The station that it must be, if one is demanded.
    demanded: Option<Id>,
    /// The station that it is: the demanded one, or the first that answers.
    station: Option<Id>,
    stage: Stage,
}

impl Login {
    /// A login at `station`, or at whichever station there is.
    pub fn new(station: Option<Id>) -> Self {
        let demanded = station.map(|id| id.naked());
        Self { station: demanded.clone(), demanded, stage: Stage::Idle }
    }

    /// A new connection, or patience has ended.
    pub fn begin(&mut self) -> Step {
        self.stage = Stage::Asked;
        Step::Ask
    }

    /// The connection is over. Where none was demanded, another station may stand there next time.
    pub fn reset(&mut self) {
        self.station.clone_from(&self.demanded);
        self.stage = Stage::Idle;
    }

    /// A handshake that `sender` was proved to have sent.
    pub fn heard(&mut self, sender: &Id, said: &str, session: Option<&str>) -> Step {
        if sender.kind() != EntityKind::Station || self.stage == Stage::Idle {
            return Step::Nothing;
        }
        if self.station.as_ref().is_some_and(|station| !station.is_same_as(sender)) {
            return Step::Nothing;
        }
        match (said, session, &self.stage) {
            // Asked again while logged in: the connection may go on as it is, and the station wants
            // the same signature once more.
            (title::AGAIN, Some(session), _) => {
                self.station = Some(sender.naked());
                self.stage = Stage::Signed { session: session.to_owned() };
                Step::Sign { session: session.to_owned() }
            }
            // Only for the key that we signed.
            (title::SUCCESS, session, Stage::Signed { session: signed })
                if session.is_none_or(|session| session == signed) =>
            {
                self.stage = Stage::Done { session: signed.clone() };
                Step::Done
            }
            _ => Step::Nothing,
        }
    }

    /// The station, once it is known.
    pub fn station(&self) -> Option<&Id> {
        self.station.as_ref()
    }

    /// The session key, once logged in.
    pub fn session(&self) -> Option<&str> {
        match &self.stage {
            Stage::Done { session } => Some(session),
            _ => None,
        }
    }

    /// Whether `sender` is the station that we talk to.
    pub fn is_station(&self, sender: &Id) -> bool {
        self.station.as_ref().is_some_and(|station| station.is_same_as(sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(n: u8) -> Id {
        Id::build(Some("s"), &crate::proto::address::Address::btc(2, &[n])).unwrap()
    }

    #[test]
    fn a_login_is_asked_for_signed_and_done() {
        let (mut login, here) = (Login::new(None), station(1));
        assert_eq!(login.heard(&here, title::AGAIN, Some("k")), Step::Nothing);
        assert_eq!(login.begin(), Step::Ask);
        assert_eq!(login.heard(&here, title::SUCCESS, Some("k")), Step::Nothing);
        let sign = Step::Sign { session: "k".to_owned() };
        assert_eq!(login.heard(&here, title::AGAIN, Some("k")), sign);
        assert_eq!(login.heard(&here, title::SUCCESS, Some("another")), Step::Nothing);
        assert_eq!(login.heard(&station(2), title::SUCCESS, Some("k")), Step::Nothing);
        assert_eq!(login.heard(&here, title::SUCCESS, Some("k")), Step::Done);
        assert_eq!((login.session(), login.station()), (Some("k"), Some(&here)));
        assert_eq!(login.heard(&here, title::SUCCESS, Some("k")), Step::Nothing);
        assert_eq!(login.heard(&here, title::AGAIN, Some("k")), sign);
        login.reset();
        login.begin();
        assert_eq!(login.heard(&station(2), title::AGAIN, Some("k")), sign);
    }

    #[test]
    fn nobody_but_the_demanded_station_may_ask() {
        let mut login = Login::new(Some(station(1)));
        login.begin();
        assert_eq!(login.heard(&station(2), title::AGAIN, Some("k")), Step::Nothing);
        let user = Id::parse("hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj").unwrap();
        assert_eq!(Login::new(None).heard(&user, title::AGAIN, Some("k")), Step::Nothing);
    }
}
