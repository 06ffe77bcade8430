//! The messages of one phase: who may send the next, what each arrival means.

use std::collections::{BTreeMap, VecDeque};

use crate::checker::{Check, Checker};
use crate::corpus::{Corpus, signature_of};
use crate::light::Receipt;
use crate::meter::Meter;

/// The station's word for what it does not keep.
const NOT_ACCEPTED: &str = "Message not accepted.";

/// What makes room in a sender's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    /// Nothing: messages have their time.
    Open,
    /// An arrival, of all copies.
    OnArrival { window: usize },
    /// So many receipts of the station.
    OnReceipts { window: usize, receipts: usize },
}

impl Loop {
    const fn window(self) -> usize {
        match self {
            Self::Open => 0,
            Self::OnArrival { window } | Self::OnReceipts { window, .. } => window,
        }
    }
}

/// One sender of a closed loop.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    turn: usize,
    in_flight: usize,
}

/// What came over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// A message of the corpus.
    Letter,
    /// Something else, of the station or of an earlier run.
    Other,
}

/// The state of a phase.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) corpus: Corpus,
    checker: Checker,
    pub(crate) meter: Meter,
    control: Loop,
    flows: Vec<Flow>,
    /// Senders that may have room.
    wanting: VecDeque<usize>,
    /// Whether more may be sent.
    sending: bool,
    /// Messages not yet sent when there were none left.
    pub(crate) is_used_up: bool,
    /// Receipts that each message still waits for.
    owed: Vec<u8>,
    /// Receipts of the messages that had all of theirs.
    pub(crate) acknowledged: u64,
    pub(crate) first_sender: usize,
    pub(crate) first_receiver: usize,
    /// Arrivals whose sender wrote while the receiver was away.
    pub(crate) fetched: u64,
    /// Texts of the receipts that were opened.
    pub(crate) receipts: BTreeMap<String, u64>,
    /// Receipts still to be opened: all cost too much to open where nothing depends on them.
    open_left: usize,
}

/// Receipts that are opened where only their texts are wanted.
const RECEIPTS_OPENED: usize = 64;

impl Traffic {
    /// For senders and receivers with these first numbers among all users.
    pub(crate) fn new(
        corpus: Corpus,
        meter: Meter,
        control: Loop,
        first_sender: usize,
        first_receiver: usize,
    ) -> Self {
        let (owed, open_left) = match control {
            Loop::OnReceipts { receipts, .. } => (receipts, usize::MAX),
            _ => (0, RECEIPTS_OPENED),
        };
        let senders = corpus.plan().senders;
        Self {
            checker: Checker::new(corpus.len(), corpus.plan().copies()),
            meter,
            control,
            flows: vec![Flow::default(); senders],
            wanting: (0..senders).collect(),
            sending: true,
            is_used_up: false,
            owed: vec![u8::try_from(owed).unwrap_or(u8::MAX); corpus.len()],
            acknowledged: 0,
            corpus,
            first_sender,
            first_receiver,
            fetched: 0,
            receipts: BTreeMap::new(),
            open_left,
        }
    }

    /// The next message that a closed loop may send now.
    pub(crate) fn next(&mut self) -> Option<usize> {
        while let (true, Some(sender)) = (self.sending, self.wanting.front().copied()) {
            let flow = self.flows.get_mut(sender)?;
            let number = self.corpus.plan().number(sender, flow.turn);
            // What is to be stored has its number, not its time.
            self.is_used_up |=
                number >= self.corpus.len() && !matches!(self.control, Loop::OnReceipts { .. });
            if flow.in_flight < self.control.window() && number < self.corpus.len() {
                flow.turn += 1;
                flow.in_flight += 1;
                return Some(number);
            }
            self.wanting.pop_front();
        }
        None
    }

    /// No more is sent.
    pub(crate) fn stop(&mut self) {
        self.sending = false;
    }

    /// A copy leaves, as it should have at `scheduled_ns`.
    pub(crate) fn sent(&mut self, number: usize, copy: usize, scheduled_ns: u64) {
        self.checker.sent(number, copy, scheduled_ns);
    }

    /// A message came to `user`, who has been there since `here_ns`. `is_prompt` says that its
    /// latency is worth knowing.
    pub(crate) fn came(
        &mut self,
        body: &[u8],
        user: usize,
        (here_ns, now_ns): (u64, u64),
        is_prompt: bool,
    ) -> Came {
        let Some(number) = signature_of(body).and_then(|text| self.corpus.find(text)) else {
            return Came::Other;
        };
        let (sender, receiver) = self.corpus.pair(number);
        let to_all = self.corpus.plan().copies() > 1;
        let mine = user.checked_sub(self.first_receiver);
        let mine = mine.filter(|mine| *mine < self.corpus.plan().receivers);
        let Some(mine) = mine.filter(|mine| to_all || *mine == receiver) else {
            self.checker.check.misdirected += 1;
            return Came::Letter;
        };
        if !self.corpus.is_unchanged(number, body) {
            self.checker.check.changed += 1;
        }
        let copy = if to_all { mine } else { 0 };
        let Some(arrival) = self.checker.came(number, copy, sender, mine) else {
            return Came::Letter;
        };
        if matches!(self.control, Loop::OnReceipts { .. }) {
            // The store is measured by receipts, the way back by arrivals.
            if !self.sending {
                self.meter.count();
            }
        } else if here_ns > arrival.scheduled_ns {
            self.fetched += 1;
            self.meter.count();
        } else {
            self.meter.count();
            let latency_ns = now_ns.saturating_sub(arrival.scheduled_ns);
            if is_prompt {
                self.meter.took(latency_ns);
            }
            if arrival.complete && to_all && self.meter.is_running() {
                self.meter.completion.add(latency_ns);
            }
        }
        if arrival.complete && matches!(self.control, Loop::OnArrival { .. }) {
            self.release(sender);
        }
        Came::Letter
    }

    /// Whether a message of the station should be opened.
    pub(crate) fn wants_receipt(&mut self) -> bool {
        let wants = self.open_left > 0;
        self.open_left = self.open_left.saturating_sub(1);
        wants
    }

    /// The station said something about a message.
    pub(crate) fn receipt(&mut self, receipt: Receipt, now_ns: u64) {
        let number = receipt.signature.and_then(|text| self.corpus.find(text.as_bytes()));
        self.checker.check.refused += u64::from(receipt.text == NOT_ACCEPTED);
        *self.receipts.entry(receipt.text).or_default() += 1;
        let owed = number.and_then(|number| Some((number, self.owed.get_mut(number)?)));
        if let Some((number, owed)) = owed.filter(|(_, owed)| **owed > 0) {
            *owed -= 1;
            if *owed == 0 {
                self.acknowledged += 1;
                self.meter.count();
                if let Some(scheduled_ns) = self.checker.scheduled_ns(number) {
                    self.meter.took(now_ns.saturating_sub(scheduled_ns));
                }
                self.release(self.corpus.pair(number).0);
            }
        }
    }

    fn release(&mut self, sender: usize) {
        if let Some(flow) = self.flows.get_mut(sender) {
            flow.in_flight = flow.in_flight.saturating_sub(1);
            self.wanting.push_back(sender);
        }
    }

    /// Copies on their way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.checker.in_flight()
    }

    /// A number that moves as long as anything does.
    pub(crate) fn progress(&self) -> u64 {
        self.checker.check.sent + self.checker.check.delivered + self.acknowledged
    }

    /// Somebody was cut off, or could not log in.
    pub(crate) fn broke(&mut self, count: u64) {
        self.checker.check.broken += count;
    }

    /// The account so far, closed.
    pub(crate) fn check(&self) -> Check {
        self.checker.finish()
    }
}
