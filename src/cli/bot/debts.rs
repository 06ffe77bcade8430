//! Answers that the station does not have yet, and the packages that asked for them: a package is
//! settled, and may be forgotten by the station, when all its answers are there.

use std::collections::{HashMap, VecDeque};

use crate::bot::Post;
use crate::client::terminal::Failure;

/// What is settled by the answers to one package.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Debt {
    /// The package, if one asked for them.
    pub(super) package: Option<u64>,
    /// What waited at the bot.
    pub(super) things: Vec<u64>,
    answers: usize,
}

/// What is owed.
#[derive(Debug, Default)]
pub(super) struct Debts {
    /// To be sent, each with the number of its debt.
    posts: VecDeque<(u64, Post)>,
    /// Sent, by token: the debt.
    sent: HashMap<u64, u64>,
    open: HashMap<u64, Debt>,
    last: u64,
    settled: Vec<Debt>,
    /// Answers to a package whose number comes at its end, and what they settle.
    fresh: (Vec<Post>, Vec<u64>),
    /// Something in that package was not looked at.
    left: bool,
}

impl Debts {
    /// How many answers are to be sent.
    pub(super) fn posts(&self) -> usize {
        self.posts.len() + self.fresh.0.len()
    }

    /// More answers to what is coming in, and what they settle.
    pub(super) fn add(&mut self, posts: Vec<Post>, things: Vec<u64>) {
        self.fresh.0.extend(posts);
        self.fresh.1.extend(things);
    }

    /// Something was not looked at: its package is not settled.
    pub(super) fn leave(&mut self) {
        self.left = true;
    }

    /// What came until now was this package; none for what no package asked for.
    pub(super) fn close(&mut self, package: Option<u64>) {
        let (posts, things) = std::mem::take(&mut self.fresh);
        let package = package.filter(|_| !std::mem::take(&mut self.left));
        let debt = Debt { package, things, answers: posts.len() };
        if posts.is_empty() {
            return self.settled.push(debt);
        }
        self.last += 1;
        self.open.insert(self.last, debt);
        self.posts.extend(posts.into_iter().map(|post| (self.last, post)));
    }

    /// The next answer to send.
    pub(super) fn next_post(&mut self) -> Option<(u64, Post)> {
        self.posts.pop_front()
    }

    /// An answer is on its way.
    pub(super) fn sent(&mut self, debt: u64, token: u64) {
        self.sent.insert(token, debt);
    }

    /// The station has an answer.
    pub(super) fn paid(&mut self, token: u64) {
        let Some(number) = self.sent.remove(&token) else { return };
        let Some(debt) = self.open.get_mut(&number) else { return };
        debt.answers -= 1;
        if debt.answers == 0 {
            self.settled.extend(self.open.remove(&number));
        }
    }

    /// An answer is not sent. Where that may be different later, its debt stays open: the package
    /// comes again after a new login, and what waited is taken up after a restart.
    pub(super) fn failed(&mut self, token: u64, why: &Failure) {
        match why {
            Failure::Full | Failure::Silent => {
                if let Some(number) = self.sent.remove(&token) {
                    self.open.remove(&number);
                }
            }
            Failure::Unknown | Failure::Partly(_) | Failure::Crypto(_) => self.paid(token),
        }
    }

    /// What has been settled since the last question.
    pub(super) fn take_settled(&mut self) -> Vec<Debt> {
        std::mem::take(&mut self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::id::Id;

    fn posts(count: usize) -> Vec<Post> {
        vec![Post { to: Id::anyone(), content: serde_json::Map::new() }; count]
    }

    /// Sends all; yields how many.
    fn send(debts: &mut Debts, first: u64) -> u64 {
        let mut token = first;
        while let Some((package, _)) = debts.next_post() {
            debts.sent(package, token);
            token += 1;
        }
        token - first
    }

    fn settled(debts: &mut Debts) -> Vec<(Option<u64>, Vec<u64>)> {
        debts.take_settled().into_iter().map(|debt| (debt.package, debt.things)).collect()
    }

    #[test]
    fn a_package_is_settled_when_the_station_has_all_its_answers() {
        let mut debts = Debts::default();
        debts.close(Some(1));
        debts.add(posts(1), vec![]);
        debts.add(posts(1), vec![7]);
        debts.close(Some(2));
        debts.add(posts(1), vec![8]);
        debts.close(None);
        assert_eq!(settled(&mut debts), [(Some(1), vec![])]);
        assert_eq!((debts.posts(), send(&mut debts, 10)), (3, 3));
        [11, 12].into_iter().for_each(|token| debts.paid(token));
        assert_eq!(settled(&mut debts), [(None, vec![8])]);
        debts.paid(10);
        debts.paid(10);
        assert_eq!(settled(&mut debts), [(Some(2), vec![7])]);
        assert!(debts.open.is_empty() && debts.sent.is_empty());
    }

    #[test]
    fn what_may_succeed_later_is_not_settled_and_what_never_will_is() {
        let mut debts = Debts::default();
        debts.add(posts(2), vec![7]);
        debts.close(Some(1));
        debts.add(posts(1), vec![]);
        debts.close(Some(2));
        debts.leave();
        debts.close(Some(3));
        assert_eq!(send(&mut debts, 10), 3);
        debts.failed(10, &Failure::Silent);
        debts.paid(11);
        debts.failed(12, &Failure::Unknown);
        assert_eq!(settled(&mut debts), [(None, vec![]), (Some(2), vec![])]);
        assert!(debts.open.is_empty() && debts.sent.is_empty());
    }
}
