//! What the archivist is told: who has a new document, and who has logged in. It is a bot of the
//! configured name, and sees what users say to everybody.

use super::Shard;
use super::effect::Outbox;
use super::input::ReplyTo;
use super::route::Route;
use crate::crypto::sign::Verified;
use crate::proto::command::Command;
use crate::proto::content::Body;

/// Its name in the configuration.
const ARCHIVIST: &str = "archivist";

impl Shard {
    /// Passes on what a user says to everybody about himself.
    pub(super) fn tell_archivist(&mut self, message: &Verified, said: &Body, out: &mut Outbox) {
        let news = matches!(
            said,
            Body::Command(Command::Documents { documents: Some(_), .. } | Command::Login { .. })
        );
        let to = self.names.ans().resolve(ARCHIVIST).map(|id| id.naked());
        let Some(to) = to.filter(|to| {
            news && message.receiver().as_str() == "everyone@everywhere"
                && *to != self.station.id
                && !message.sender().is_same_as(to)
        }) else {
            return;
        };
        // Nobody waits for what becomes of it.
        let reply = ReplyTo { shard: self.index, ticket: self.ticket(), slot: 0 };
        self.send_mail(to, message.clone(), Route::new("/".into()), reply, out);
    }
}
