//! The one door for received bytes: feed them in, take events out.

use std::collections::VecDeque;

use bytes::Bytes;

use super::buffer::Buffer;
use super::error::WireError;
use super::event::{Event, Framing};
use super::limits::DeframeLimits;
use super::sniff::{Sniffed, Sniffer};
use super::{lines, mars, mtp, upgrade, websocket};

/// What a framing made of the bytes at the start of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No whole package is there. Noise before it is gone.
    NeedBytes,
    /// A package that says nothing yet was taken.
    Again,
    /// A package was taken.
    Event(Event),
    /// A package was taken that says two things.
    Pair(Event, Event),
    /// The last package was taken.
    Last(Event),
}

impl Step {
    /// A package that says at most two things; nothing at all is a heartbeat.
    pub(super) fn from_events(first: Option<Event>, second: Option<Event>) -> Self {
        match (first, second) {
            (Some(first), Some(second)) => Self::Pair(first, second),
            (Some(event), None) | (None, Some(event)) => Self::Event(event),
            (None, None) => Self::Event(Event::Heartbeat),
        }
    }
}

/// Turns one connection's bytes into [`Event`]s. It recognises the framing by itself and owns the
/// bytes that are not yet understood, so it can move to another thread at any moment.
///
/// Feed what was read, then take events until there are none. The work for all of it is linear in
/// the bytes, however they were cut, and what is held is bounded by [`DeframeLimits`] plus what
/// was fed and not yet taken.
#[derive(Debug)]
pub struct Deframer {
    limits: DeframeLimits,
    buffer: Buffer,
    framing: Option<Framing>,
    state: State,
    /// Events that come before any from the buffer.
    waiting: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    Sniffing(Sniffer),
    /// We asked a station for a WebSocket.
    Upgrading {
        accept: String,
        /// Bytes in which there is no blank line.
        scanned: usize,
        masks: websocket::Masks,
    },
    Mtp(mtp::Stream),
    WebSocket(websocket::Stream),
    Mars,
    Lines(lines::Stream),
    /// Nothing more is read: after an error, or after a close.
    Ended {
        error: Option<WireError>,
        acknowledged: bool,
    },
}

impl Deframer {
    /// A deframer for a new connection.
    pub fn new(limits: DeframeLimits) -> Self {
        Self {
            limits,
            buffer: Buffer::default(),
            framing: None,
            state: State::Sniffing(Sniffer::default()),
            waiting: VecDeque::new(),
        }
    }

    /// A deframer for our own connection to a station, over MTP.
    pub fn mtp_client(limits: DeframeLimits) -> Self {
        let state = State::Mtp(mtp::Stream::default());
        Self { framing: Some(Framing::Mtp), state, ..Self::new(limits) }
    }

    /// A deframer for our own connection to a station that was asked for a WebSocket with `key`
    /// (see [`upgrade::request`]). The framing is known once the station has agreed; `masks` are
    /// for the replies.
    pub fn websocket_client(key: &str, masks: websocket::Masks, limits: DeframeLimits) -> Self {
        let accept = upgrade::accept(key.as_bytes());
        Self { state: State::Upgrading { accept, scanned: 0, masks }, ..Self::new(limits) }
    }

    /// Add bytes that were read. After an error or a close they are ignored.
    pub fn feed(&mut self, bytes: Bytes) {
        if !matches!(self.state, State::Ended { .. }) {
            self.buffer.push(bytes);
        }
    }

    /// The next event; none until more bytes are fed. Each call takes at most one package that
    /// says something. Bodies are slices of the bytes fed, or of the block in which a partial
    /// package was gathered. An error is final and comes again on every call.
    pub fn next_event(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                if self.waiting.is_empty() {
                    // An idle connection holds no room for events.
                    self.waiting = VecDeque::new();
                }
                return Ok(Some(event));
            }
            match self.step() {
                Ok(Step::NeedBytes) => return Ok(None),
                Ok(Step::Again) => {}
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Pair(first, second)) => {
                    self.waiting.push_back(second);
                    return Ok(Some(first));
                }
                Ok(Step::Last(event)) => {
                    self.end(None);
                    return Ok(Some(event));
                }
                Err(error) => {
                    self.end(Some(error));
                    return Err(error);
                }
            }
        }
    }

    /// Put an event back that was taken: it is the next one again. When several are put back, the
    /// one taken last goes first.
    pub fn put_back(&mut self, event: Event) {
        self.waiting.push_front(event);
    }

    /// The connection's framing, once it is known; also after an error or a close.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Whether the client acknowledges pushes, so that one counts as delivered only then. A
    /// WebSocket client does so from its first acknowledgement on; before, and on bare lines,
    /// what was written counts as delivered. Stays as it is after an error or a close.
    pub fn acknowledges(&self) -> bool {
        match &self.state {
            State::Mtp(_) | State::Mars => true,
            State::WebSocket(stream) => stream.acknowledges,
            State::Ended { acknowledged, .. } => *acknowledged,
            State::Sniffing(_) | State::Upgrading { .. } | State::Lines(_) => false,
        }
    }

    /// Whether a package or message has begun and not ended. Meaningful when
    /// [`next_event`](Self::next_event) has said that there is nothing more.
    pub fn has_partial(&self) -> bool {
        let joining = match &self.state {
            State::Mtp(stream) => stream.is_joining(),
            State::WebSocket(stream) => stream.is_joining(),
            _ => false,
        };
        joining || !self.buffer.is_empty()
    }

    /// Bytes that were fed and not yet taken, events put back not counted.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    fn step(&mut self) -> Result<Step, WireError> {
        let (buffer, limits) = (&mut self.buffer, &self.limits);
        match &mut self.state {
            State::Mtp(stream) => stream.step(buffer, limits),
            State::WebSocket(stream) => stream.step(buffer, limits),
            State::Mars => mars::step(buffer, limits),
            State::Lines(stream) => stream.step(buffer, limits),
            State::Upgrading { .. } => self.upgrade(),
            State::Sniffing(sniffer) => {
                let sniffed = sniffer.step(buffer, limits)?;
                Ok(self.on_sniffed(sniffed))
            }
            State::Ended { error, .. } => error.map_or(Ok(Step::NeedBytes), Err),
        }
    }

    fn on_sniffed(&mut self, sniffed: Sniffed) -> Step {
        let framing = match &sniffed {
            Sniffed::NeedBytes => return Step::NeedBytes,
            Sniffed::Framing(framing) => *framing,
            Sniffed::Upgrade(_) => Framing::WebSocket,
        };
        self.framing = Some(framing);
        self.state = match framing {
            Framing::Mtp => State::Mtp(mtp::Stream::default()),
            Framing::WebSocket => State::WebSocket(websocket::Stream::default()),
            Framing::Mars => State::Mars,
            Framing::Lines => State::Lines(lines::Stream::default()),
        };
        match sniffed {
            Sniffed::Upgrade(answer) => Step::Event(Event::Reply(answer)),
            Sniffed::NeedBytes | Sniffed::Framing(_) => Step::Again,
        }
    }

    fn upgrade(&mut self) -> Result<Step, WireError> {
        let State::Upgrading { accept, scanned, masks } = &mut self.state else {
            return Ok(Step::NeedBytes);
        };
        let found = upgrade::request_len(self.buffer.view(), *scanned);
        if found.unwrap_or(self.buffer.len()) > self.limits.upgrade_bytes_max {
            return Err(WireError::UpgradeTooLong);
        }
        let Some(len) = found else {
            *scanned = self.buffer.len();
            return Ok(Step::NeedBytes);
        };
        if !upgrade::opens(&self.buffer.take(len), accept) {
            return Err(WireError::UpgradeRefused);
        }
        self.state = State::WebSocket(websocket::Stream::client(masks.clone()));
        self.framing = Some(Framing::WebSocket);
        Ok(Step::Again)
    }

    fn end(&mut self, error: Option<WireError>) {
        self.state = State::Ended { error, acknowledged: self.acknowledges() };
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Ack;

    #[test]
    fn a_client_upgrades_however_the_answer_is_cut() {
        let stream = [&upgrade::answer(b"k")[..], b"\x81\x02{}"].concat();
        for cut in 0..=stream.len() {
            let masks = websocket::Masks::new(1);
            let mut client = Deframer::websocket_client("k", masks, DeframeLimits::default());
            let (first, second) = stream.split_at(cut);
            let mut events = Vec::new();
            for part in [first, second] {
                client.feed(Bytes::copy_from_slice(part));
                events.extend(client.next_event().unwrap());
            }
            let body = Bytes::from_static(b"{}");
            assert_eq!(events, [Event::Message { ack: Ack::None, body }]);
            assert_eq!(client.framing(), Some(Framing::WebSocket));
        }
    }

    #[test]
    fn a_client_takes_no_other_answer_for_an_upgrade() {
        let masks = websocket::Masks::new(1);
        let mut client = Deframer::websocket_client("k", masks, DeframeLimits::default());
        client.feed(Bytes::from_static(upgrade::NOT_AN_UPGRADE));
        assert_eq!(client.next_event(), Err(WireError::UpgradeRefused));
    }

    const PING: &[u8] = b"DIM@12345678\0\0\0\x04PING";

    fn fed(bytes: &[u8], limits: DeframeLimits) -> Deframer {
        let mut deframer = Deframer::new(limits);
        deframer.feed(Bytes::copy_from_slice(bytes));
        deframer
    }

    #[test]
    fn a_deframer_moves_between_threads_with_its_bytes() {
        fn movable<T: Send + 'static>() {}
        movable::<Deframer>();
        let message = b"DIMB12345678\0\0\0\x02{}";
        let mut deframer = fed(&[message.as_slice(), PING].concat(), DeframeLimits::default());
        let event = deframer.next_event().unwrap().unwrap();
        assert!(matches!(&event, Event::Message { body, .. } if body == "{}"));
        deframer.put_back(event.clone());
        assert_eq!(deframer.unread(), PING.len());
        assert_eq!(deframer.next_event(), Ok(Some(event)));
        assert!(matches!(deframer.next_event(), Ok(Some(Event::Reply(_)))));
        assert_eq!(deframer.next_event(), Ok(None));
        assert!(!deframer.has_partial());
        deframer.feed(Bytes::from_static(b"DI"));
        assert_eq!(deframer.next_event(), Ok(None));
        assert!(deframer.has_partial());
    }

    #[test]
    fn an_error_is_final() {
        let mut deframer = fed(b"DIMB12345678\x3f\0\0\0", DeframeLimits::default());
        let error = WireError::FrameTooLong { bytes: 0x3f00_0000 };
        assert_eq!(deframer.next_event(), Err(error));
        deframer.feed(Bytes::from_static(PING));
        assert_eq!(deframer.next_event(), Err(error));
        assert_eq!(deframer.unread(), 0);
    }

    #[test]
    fn noise_without_a_header_is_bounded() {
        let limits = DeframeLimits { undecided_bytes_max: 50, ..DeframeLimits::default() };
        let mut deframer = fed(&[7; 50], limits);
        assert_eq!(deframer.next_event(), Ok(None));
        assert_eq!(deframer.unread(), 0);
        deframer.feed(Bytes::from_static(b"x"));
        assert_eq!(deframer.next_event(), Err(WireError::NoFraming));
        // Once a header was seen, noise is only noise.
        let mut deframer = fed(&[PING, &[7; 500], PING].concat(), limits);
        assert!(matches!(deframer.next_event(), Ok(Some(Event::Reply(_)))));
        assert!(matches!(deframer.next_event(), Ok(Some(Event::Reply(_)))));
    }

    #[test]
    fn requests_are_bounded_and_must_be_upgrades() {
        let limits = DeframeLimits { upgrade_bytes_max: 100, ..DeframeLimits::default() };
        let mut deframer = fed(&[b"GET /".as_slice(), &[b'x'; 96]].concat(), limits);
        assert_eq!(deframer.next_event(), Err(WireError::UpgradeTooLong));
        let mut deframer = fed(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", limits);
        assert_eq!(deframer.next_event(), Err(WireError::NotAnUpgrade));
        assert!(WireError::NotAnUpgrade.last_words(None).starts_with(b"HTTP/1.1 400 "));
    }

    #[test]
    fn bare_lines_are_a_framing_only_when_asked_for() {
        let talk = b"\n {\"a\":1}\n\n";
        let mut deframer = fed(talk, DeframeLimits::default());
        assert_eq!((deframer.next_event(), deframer.framing()), (Ok(None), None));
        let limits = DeframeLimits { bare_lines: true, ..DeframeLimits::default() };
        let mut deframer = fed(talk, limits);
        let line_feed = || Ok(Some(Event::Reply(Bytes::from_static(b"\n"))));
        let message = Event::Message { ack: Ack::None, body: Bytes::from(" {\"a\":1}") };
        assert_eq!(deframer.next_event(), line_feed());
        assert_eq!(deframer.framing(), Some(Framing::Lines));
        assert_eq!(deframer.next_event(), Ok(Some(message)));
        assert_eq!(deframer.next_event(), line_feed());
        assert_eq!(fed(PING, limits).next_event().map(|event| event.is_some()), Ok(true));
    }

    #[test]
    fn bodies_are_slices_of_the_bytes_fed() {
        let read = Bytes::from([b"DIMB12345678\0\0\0\x02{}".as_slice(), PING].concat());
        let mut deframer = Deframer::new(DeframeLimits::default());
        deframer.feed(read.clone());
        let Ok(Some(Event::Message { body, .. })) = deframer.next_event() else { panic!() };
        assert_eq!(body.as_ptr(), read.slice(16..).as_ptr());
    }
}
