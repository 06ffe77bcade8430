//! Says to push services what the announcer wants said: a thread for each service, since one that
//! does not answer must hold up neither the others nor the bot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustls::ClientConfig;

use super::keys::{ApnsKey, FcmKey};
use super::line::{Line, Place};
use super::now_s;
use crate::bot::Announcer;
use crate::bot::announcer::Delivery;
use crate::bot::announcer::service::{Answer, Request, Service};

/// Notifications that are said to services and not answered yet.
const FLYING_MAX: usize = 512;

type Answers = Vec<(u64, Answer)>;

/// A service, and how to prove who asks.
enum Door {
    Apns { line: Line, key: ApnsKey },
    Fcm { line: Line, tokens: Box<Line>, path: String, key: Box<FcmKey> },
}

/// The threads.
pub(super) struct Pusher {
    to: BTreeMap<Service, Sender<Vec<Delivery>>>,
    sender: Sender<Answers>,
    answers: Receiver<Answers>,
    flying: usize,
}

impl Pusher {
    pub(super) fn new() -> Self {
        let (sender, answers) = channel();
        Self { to: BTreeMap::new(), sender, answers, flying: 0 }
    }

    pub(super) fn add_apns(
        &mut self,
        service: Service,
        place: Place,
        key: ApnsKey,
        tls: &Arc<ClientConfig>,
    ) -> std::io::Result<()> {
        self.add(service, Door::Apns { line: Line::new(place, tls.clone()), key })
    }

    pub(super) fn add_fcm(
        &mut self,
        place: Place,
        tokens: Place,
        key: FcmKey,
        tls: &Arc<ClientConfig>,
    ) -> std::io::Result<()> {
        let path = tokens.path.clone();
        let (line, tokens) =
            (Line::new(place, tls.clone()), Box::new(Line::new(tokens, tls.clone())));
        self.add(Service::Fcm, Door::Fcm { line, tokens, path, key: Box::new(key) })
    }

    fn add(&mut self, service: Service, mut door: Door) -> std::io::Result<()> {
        let (to, deliveries) = channel::<Vec<Delivery>>();
        let sender = self.sender.clone();
        std::thread::Builder::new().name(format!("{service:?}").to_lowercase()).spawn(
            move || {
                // Ends with the bot, which drops the other side.
                for deliveries in deliveries {
                    if sender.send(door.say(deliveries)).is_err() {
                        return;
                    }
                }
            },
        )?;
        self.to.insert(service, to);
        Ok(())
    }

    /// Takes answers, and says what is to be said.
    pub(super) fn turn(&mut self, bot: &mut Announcer) {
        let now_s = now_s();
        for (number, answer) in self.answers.try_iter().flatten() {
            self.flying = self.flying.saturating_sub(1);
            bot.answered(number, &answer, now_s);
        }
        let deliveries = bot.take_deliveries(now_s, FLYING_MAX.saturating_sub(self.flying));
        let mut by_service = BTreeMap::<Service, Vec<Delivery>>::new();
        for delivery in deliveries {
            by_service.entry(delivery.service).or_default().push(delivery);
        }
        for (service, deliveries) in by_service {
            self.flying += deliveries.len();
            let numbers: Vec<u64> = deliveries.iter().map(|delivery| delivery.number).collect();
            let sent = self.to.get(&service).is_some_and(|to| to.send(deliveries).is_ok());
            if !sent {
                self.flying -= numbers.len();
                let none = Answer::None { why: "nobody speaks to this service".to_owned() };
                numbers.into_iter().for_each(|number| bot.answered(number, &none, now_s));
            }
        }
    }
}

impl Door {
    fn say(&mut self, deliveries: Vec<Delivery>) -> Answers {
        match self {
            Self::Apns { line, key } => {
                let Some(authorization) = key.authorization(now_s()) else {
                    return none(&deliveries, "no token can be signed");
                };
                let answers = ask(line, deliveries, &authorization);
                if answers.iter().any(|(_, answer)| has_status(answer, 403)) {
                    key.forget();
                }
                answers
            }
            Self::Fcm { line, tokens, path, key } => {
                if key.authorization(now_s()).is_none() {
                    let question = key.question(path, now_s());
                    let answer = question.map(|question| ask_one(tokens, question));
                    let answer = answer.ok_or("no proof can be signed".to_owned());
                    if let Err(why) = answer.and_then(|answer| key.take(&answer, now_s())) {
                        tracing::warn!(why, "no access to Google's push service");
                        return none(&deliveries, &why);
                    }
                }
                let authorization = key.authorization(now_s()).unwrap_or_default();
                let answers = ask(line, deliveries, &authorization);
                if answers.iter().any(|(_, answer)| has_status(answer, 401)) {
                    key.forget();
                }
                answers
            }
        }
    }
}

fn ask(line: &mut Line, deliveries: Vec<Delivery>, authorization: &str) -> Answers {
    let question =
        |delivery: Delivery| (delivery.number, delivery.request, Some(authorization.to_owned()));
    line.ask(deliveries.into_iter().map(question).collect())
}

fn ask_one(line: &mut Line, question: Request) -> Answer {
    let mut answers = line.ask(vec![(0, question, None)]);
    answers.pop().map_or(Answer::None { why: "no answer".to_owned() }, |(_, answer)| answer)
}

fn none(deliveries: &[Delivery], why: &str) -> Answers {
    let answer = Answer::None { why: why.to_owned() };
    deliveries.iter().map(|delivery| (delivery.number, answer.clone())).collect()
}

const fn has_status(answer: &Answer, wanted: u16) -> bool {
    matches!(answer, Answer::Came { status, .. } if *status == wanted)
}
