//! Users who are silent take little room: what can be made again is dropped.

use super::Shard;
use crate::proto::id::Id;

/// How long nothing has been asked of a user's papers until they are put away, in milliseconds; at
/// most twice that. In a storm of logins, the room of a thousand open ones is never given back.
const REST_MS: u64 = 250;

impl Shard {
    /// Somebody is about to use what is known of a user.
    pub(super) fn rouse(&mut self, user: &Id) {
        let Some(entry) = self.users.get_mut(user) else { return };
        if std::mem::replace(&mut entry.resting, false) {
            self.due_rest.push_back((self.now.mono_ms + REST_MS, entry.id.clone()));
        }
    }

    /// Puts away what nobody has used for a while.
    pub(super) fn rest_due(&mut self) {
        let now_ms = self.now.mono_ms;
        while let Some((due, _)) = self.due_rest.front()
            && *due <= now_ms
            && let Some((_, id)) = self.due_rest.pop_front()
        {
            let Some(user) = self.users.get_mut(&id) else { continue };
            if !user.papers.rest() {
                self.due_rest.push_back((now_ms + REST_MS, id));
                continue;
            }
            user.resting = true;
            for conn in &user.sessions {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.rest(now_ms);
                }
            }
        }
        if self.due_rest.is_empty() {
            self.due_rest.shrink_to_fit();
        }
    }
}
