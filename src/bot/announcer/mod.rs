//! The announcer: keeps the tokens by which push services know users' devices, and wakes these when
//! a station asks it to. It decides what is said to Apple and Google; whoever runs it says it.

mod device;
pub mod service;

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::turn::Turn;
use super::{Bot, Heard, NoteError, Post};
use crate::client::source::Source;
use crate::proto::command::{Push, PushItem, Report};
use crate::proto::content::Content;
use crate::proto::id::Id;
use crate::proto::processors::{Answers, Processors};
use crate::proto::registry::{Registry, RegistryError};
use device::Device;
use service::{Answer, Request, Service, Services, Verdict};

/// Devices of one user that are remembered, the newest.
pub const DEVICES_MAX: usize = 3;
/// Users whose devices are remembered; tokens of a further one are refused.
pub const USERS_MAX: usize = 262_144;
/// Notifications that wait; further ones are dropped.
pub const WAITING_MAX: usize = 4096;
/// Users in one command; the rest of it is left out.
pub const ITEMS_MAX: usize = 256;
/// Users whose notifications are counted here, since their station does not say how many there are.
pub const BADGES_MAX: usize = 65_536;
/// Seconds after which a station's command is no news any more.
pub const COMMAND_AGE_S_MAX: f64 = 256.0;
/// Seconds that a notification is tried for, from the command on.
pub const TRIED_S_MAX: f64 = 300.0;
/// Seconds until the first repetition; the pause doubles with each.
pub const PAUSE_S_MIN: f64 = 2.0;

/// What is written down: a user's devices, the newest first.
#[derive(Debug, Serialize, Deserialize)]
struct Note(String, Vec<Device>);

/// Something to be said to a push service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Names it in [`Announcer::answered`].
    pub number: u64,
    /// To whom.
    pub service: Service,
    /// What.
    pub request: Request,
}

/// A notification on its way to one of a user's devices.
#[derive(Debug)]
struct Notice {
    item: PushItem,
    badge: Option<u64>,
    /// Where it was not tried yet; the first one is being tried.
    devices: VecDeque<Device>,
    /// When it is no news any more, and when it is tried next, in seconds since 1970.
    until_s: f64,
    due_s: f64,
    repetitions: i32,
    under_way: bool,
}

/// Wakes devices.
#[derive(Debug)]
pub struct Announcer {
    table: Processors<Desk>,
    desk: Desk,
}

#[derive(Debug)]
struct Desk {
    services: Services,
    /// Stations that may ask, besides the one it is logged in at.
    stations: Vec<Id>,
    station: Option<Id>,
    devices: HashMap<Id, Vec<Device>>,
    badges: HashMap<Id, u64>,
    notices: BTreeMap<u64, Notice>,
    last_number: u64,
    notes: Vec<String>,
    turn: Option<Turn>,
}

impl Announcer {
    /// An announcer that knows no device; `stations` may ask it for pushes besides the one that it is
    /// logged in at.
    pub fn new(services: Services, stations: Vec<Id>) -> Result<Self, RegistryError> {
        let mut table = Processors::new();
        table.on(Desk::report)?;
        table.on(Desk::push)?;
        let desk = Desk {
            services,
            stations,
            station: None,
            devices: HashMap::new(),
            badges: HashMap::new(),
            notices: BTreeMap::new(),
            last_number: 0,
            notes: Vec::new(),
            turn: None,
        };
        Ok(Self { table, desk })
    }

    /// What is to be said now, `count_max` at most; [`answered`](Self::answered) waits for each.
    pub fn take_deliveries(&mut self, now_s: f64, count_max: usize) -> Vec<Delivery> {
        self.desk.deliveries(now_s, count_max)
    }

    /// What came of a delivery.
    pub fn answered(&mut self, number: u64, answer: &Answer, now_s: f64) {
        self.desk.answered(number, answer, now_s);
    }

    /// Notifications that wait or are on their way.
    pub fn waiting(&self) -> usize {
        self.desk.notices.len()
    }
}

impl Bot for Announcer {
    fn hear(&mut self, heard: Heard<'_>, _: &dyn Source) -> Vec<Post> {
        let turn = Turn::about(&heard);
        self.desk.turn = Some(turn.clone());
        match self.table.process(&mut self.desk, heard.content, Registry::none()) {
            Ok(answers) => turn.posts(answers.unwrap_or_default()),
            Err(error) => turn.content_error(&error),
        }
    }

    fn learned(&mut self, _: &Id, _: &dyn Source, _: f64) -> Vec<Post> {
        Vec::new()
    }

    fn logged_in(&mut self, station: &Id) {
        self.desk.station = Some(station.naked());
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.desk.notes)
    }

    fn recall(&mut self, note: &[u8]) -> Result<(), NoteError> {
        let Note(id, mut devices) = serde_json::from_slice(note)?;
        let id = Id::parse(&id).map_err(|_| NoteError(format!("no ID: {id}")))?;
        devices.retain(Device::is_sound);
        devices.truncate(DEVICES_MAX);
        self.desk.keep(id, devices);
        Ok(())
    }

    fn size(&self) -> usize {
        self.desk.devices.len()
    }

    fn tell_all(&self, write: &mut dyn FnMut(String)) {
        let devices = self.desk.devices.iter();
        devices.filter_map(|(id, devices)| note_of(id, devices)).for_each(write);
    }
}

fn note_of(id: &Id, devices: &[Device]) -> Option<String> {
    serde_json::to_string(&Note(id.as_str().to_owned(), devices.to_vec())).ok()
}

impl Desk {
    fn report(&mut self, _: &Content, report: Report) -> Answers {
        let Some(turn) = self.turn.clone() else { return Vec::new() };
        let said = match report {
            Report::Offline => return Vec::new(),
            // The user looks at the messages; so does a user whose device tells its token.
            Report::Online => {
                self.badges.remove(&turn.sender);
                return Vec::new();
            }
            Report::Device(said) => said,
        };
        self.badges.remove(&turn.sender);
        let user = turn.sender.clone();
        let who = [("ID", user.as_str().to_owned())];
        let Some(device) = Device::read(said, turn.now_s) else {
            let template = Some("Device token not accepted: ${ID}.");
            return vec![turn.receipt("Device token not accepted.", template, &who)];
        };
        let mut devices = self.devices.get(&user).cloned().unwrap_or_default();
        if devices.is_empty() && self.devices.len() >= USERS_MAX {
            tracing::warn!(%user, "no room for further users' devices");
            let template = Some("Device token not accepted: ${ID}.");
            return vec![turn.receipt("Device token not accepted.", template, &who)];
        }
        devices.retain(|known| known.token != device.token);
        devices.insert(0, device);
        devices.truncate(DEVICES_MAX);
        self.note(&user, &devices);
        self.keep(user, devices);
        vec![turn.receipt("Device token received.", Some("Device token received: ${ID}."), &who)]
    }

    fn push(&mut self, _: &Content, push: Push) -> Answers {
        let Some(turn) = self.turn.clone() else { return Vec::new() };
        let may = self.station.iter().chain(&self.stations).any(|id| id.is_same_as(&turn.sender));
        if !may {
            tracing::warn!(sender = %turn.sender, "a push of somebody who is none of the stations");
            return vec![turn.receipt("Permission denied.", None, &[])];
        }
        // By the message's own time, as the sender has signed it or not: an old one may have waited.
        let time = turn.origin.get("time").and_then(crate::proto::content::seconds);
        let time_s = time.filter(|time| *time > 0.0).unwrap_or(turn.now_s).min(turn.now_s);
        if time_s < turn.now_s - COMMAND_AGE_S_MAX {
            tracing::info!(items = push.items.len(), "pushes that are too old are dropped");
            return Vec::new();
        }
        for item in push.items.into_iter().take(ITEMS_MAX) {
            self.announce(item, time_s, turn.now_s);
        }
        Vec::new()
    }

    fn announce(&mut self, item: PushItem, time_s: f64, now_s: f64) {
        let user = item.receiver.naked();
        let badge = item.badge.or_else(|| self.count(&user));
        let devices = self.devices.get(&user).map(Vec::as_slice).unwrap_or_default();
        let served = |device: &&Device| self.services.of(device).is_some();
        let devices: VecDeque<Device> = devices.iter().filter(served).cloned().collect();
        if devices.is_empty() {
            tracing::debug!(%user, "no device to be woken");
            return;
        }
        if self.notices.len() >= WAITING_MAX {
            tracing::warn!(%user, "too many notifications wait: one is dropped");
            return;
        }
        let until_s = time_s + TRIED_S_MAX;
        self.last_number += 1;
        let notice = Notice {
            item,
            badge,
            devices,
            until_s,
            due_s: now_s,
            repetitions: 0,
            under_way: false,
        };
        self.notices.insert(self.last_number, notice);
    }

    /// The user's next number, for stations that do not count.
    fn count(&mut self, user: &Id) -> Option<u64> {
        if self.badges.len() >= BADGES_MAX && !self.badges.contains_key(user) {
            return None;
        }
        let count = self.badges.entry(user.clone()).or_default();
        *count += 1;
        Some(*count)
    }

    fn deliveries(&mut self, now_s: f64, count_max: usize) -> Vec<Delivery> {
        self.notices.retain(|_, notice| {
            let late = !notice.under_way && notice.until_s <= now_s;
            if late {
                tracing::info!(user = %notice.item.receiver, "not woken in time");
            }
            !late
        });
        let mut deliveries = Vec::new();
        for (number, notice) in &mut self.notices {
            if deliveries.len() >= count_max {
                break;
            }
            if notice.under_way || notice.due_s > now_s {
                continue;
            }
            let Some(device) = notice.devices.front() else { continue };
            let Some(service) = self.services.of(device) else { continue };
            let request =
                self.services.request(device, &notice.item, notice.badge, notice.until_s, now_s);
            notice.under_way = true;
            deliveries.push(Delivery { number: *number, service, request });
        }
        deliveries
    }

    fn answered(&mut self, number: u64, answer: &Answer, now_s: f64) {
        let Some(mut notice) = self.notices.remove(&number) else { return };
        let Some(device) = notice.devices.front().cloned() else { return };
        let user = notice.item.receiver.naked();
        notice.under_way = false;
        match device.verdict(answer) {
            Verdict::Taken => {
                tracing::debug!(%user, "woken");
                return;
            }
            Verdict::Forget => {
                tracing::info!(%user, "a device is not to be woken any more: its token is forgotten");
                self.forget(&user, &device);
                notice.devices.pop_front();
            }
            Verdict::Refused(why) => {
                tracing::warn!(%user, why, "a push service does not take a notification");
                notice.devices.pop_front();
            }
            Verdict::Later { pause_s, why } => {
                let pause_s = pause_s.unwrap_or(PAUSE_S_MIN * 2f64.powi(notice.repetitions));
                tracing::info!(%user, why, pause_s, "a push service is to be asked again");
                notice.repetitions += 1;
                notice.due_s = now_s + pause_s;
            }
        }
        if !notice.devices.is_empty() && notice.due_s < notice.until_s {
            self.notices.insert(number, notice);
        }
    }

    fn forget(&mut self, user: &Id, device: &Device) {
        let Some(devices) = self.devices.get(user) else { return };
        let mut devices = devices.clone();
        // It may have been reported anew meanwhile.
        devices.retain(|known| known != device);
        self.note(user, &devices);
        self.keep(user.clone(), devices);
    }

    fn keep(&mut self, user: Id, devices: Vec<Device>) {
        if devices.is_empty() {
            self.devices.remove(&user);
        } else {
            self.devices.insert(user, devices);
        }
    }

    fn note(&mut self, user: &Id, devices: &[Device]) {
        self.notes.extend(note_of(user, devices));
    }
}
