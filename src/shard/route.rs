//! Where a message has been and how it goes on: what stations tell each other around it, unsigned.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::proto::directory::Names;
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::ReliableMessage;
use crate::proto::splice::quoted;

/// Stations that a message may have passed to be sent on; ways between stations are short, and this
/// bounds loops through stations that do not look at traces.
const HOPS_MAX: usize = 16;
/// Traces that are kept, the newest: mail goes on after its user however often.
const TRACES_MAX: usize = 32;
/// Bytes that the stations on the way may add to a message. A longer one stays where it is: sent on,
/// it could be too long for a neighbour, which would end the connection each time.
pub(super) const ROOM_BYTES: usize = 16 << 10;
/// Stations named as served by a broadcast.
const RECIPIENTS_MAX: usize = 256;
/// Bytes of a sender's terminal as a neighbour gives it.
const FROM_BYTES_MAX: usize = 256;

/// How a message travels between stations.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// The sender's terminal as the session has it.
    pub from: Box<str>,
    /// Of mail for a neighbour: whom it is for in the end, if not for that station itself.
    pub rcpt: Option<Id>,
    /// The only device of the receiver that it is for, if another station has split it already.
    pub device: Option<Arc<str>>,
    /// The neighbour that brought it.
    pub by: Option<Id>,
    /// Where it was before, as it came.
    pub traces: Vec<Value>,
    /// Stations that a broadcast goes to anyway.
    pub recipients: Vec<Id>,
    /// Of mail for the bridge: the neighbour that it is to be taken to.
    pub neighbor: Option<Id>,
}

impl Route {
    /// A message that begins its way here.
    pub(super) fn new(from: Box<str>) -> Self {
        Self { from, ..Self::default() }
    }

    /// A message that the neighbour `by` brought.
    pub(super) fn read(
        message: &ReliableMessage,
        by: &Id,
        names: &mut Names,
        parser: &mut Parser,
    ) -> Self {
        let mut said = message.routing(parser);
        let from = said.get("from").and_then(Value::as_str);
        let from = from.filter(|from| from.len() <= FROM_BYTES_MAX).unwrap_or("/").into();
        let rcpt = said.get("rcpt").and_then(Value::as_str).and_then(|id| names.read(id));
        let device = rcpt.as_ref().filter(|id| id.is_same_as(message.receiver()));
        let device = device.and_then(|id| id.terminal()).map(Arc::from);
        let recipients = match said.remove("recipients") {
            Some(Value::Array(ids)) => {
                ids.iter().take(RECIPIENTS_MAX).filter_map(|id| names.read(id.as_str()?)).collect()
            }
            _ => Vec::new(),
        };
        let traces = match said.remove("traces") {
            Some(Value::Array(mut traces)) => {
                traces.drain(..traces.len().saturating_sub(TRACES_MAX));
                traces
            }
            _ => Vec::new(),
        };
        Self { from, rcpt, device, by: Some(by.clone()), traces, recipients, neighbor: None }
    }

    /// Whether it has come so far that it goes on no more.
    pub(super) fn is_long(&self) -> bool {
        self.traces.len() >= HOPS_MAX
    }

    /// Whether a station has had the message already.
    pub(super) fn passed(&self, station: &Id) -> bool {
        self.by.as_ref().is_some_and(|by| by.is_same_as(station))
            || self.passed_ids().any(|id| station.is_named_by(id))
    }

    /// The stations that it has passed, in order, as they call themselves.
    pub(super) fn passed_ids(&self) -> impl Iterator<Item = &str> {
        self.traces.iter().filter_map(|trace| {
            trace.get("did").or_else(|| trace.get("ID")).unwrap_or(trace).as_str()
        })
    }
}

/// A message of this station's making, with the neighbour that a bridge is to take it to.
pub(super) fn for_bridge(body: &Bytes, neighbor: &Id) -> Bytes {
    let open = body.strip_suffix(b"}").unwrap_or(body);
    let member = format!(",\"neighbor\":{}}}", quoted(neighbor.as_str()));
    [open, member.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_reads_old_and_new_traces_and_the_one_device() {
        let user = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";
        let (a, b, c) = ("s@anywhere", "moky@anywhere", "gsp@everywhere");
        let text = json!({
            "sender": user, "receiver": user, "data": "AAAA", "signature": "AA==",
            "traces": [{"did": a}, b, {"ID": a}], "rcpt": format!("{user}/pad"),
            "recipients": [a, 5, b], "from": "/phone",
        });
        let (mut parser, mut names) = (Parser::default(), Names::default());
        let raw = Bytes::from(text.to_string());
        let message = ReliableMessage::parse(raw, &mut parser, &mut names).unwrap();
        let id = |text| Id::parse(text).unwrap();
        let route = Route::read(&message, &id(c), &mut names, &mut parser);
        assert!(route.passed(&id(a)) && route.passed(&id(b)) && route.passed(&id(c)));
        assert!(!route.passed(&id("x@anywhere")));
        assert_eq!(route.device.as_deref(), Some("pad"));
        assert_eq!((route.recipients.len(), &*route.from), (2, "/phone"));
    }
}
