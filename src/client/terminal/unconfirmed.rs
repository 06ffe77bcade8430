//! Packages that the application has not confirmed yet, and the frames that will acknowledge them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::UNCONFIRMED_MAX;
use crate::proto::id::Id;

#[derive(Debug)]
struct Package {
    number: u64,
    /// Whose messages in it wait for their accounts.
    strangers: Vec<Id>,
    /// Acknowledges it, on this connection only.
    frame: Option<Bytes>,
}

/// What came and is not safe with the application. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    packages: VecDeque<Package>,
    last: u64,
    /// Strangers in the package that is being read.
    strangers: Vec<Id>,
}

impl Unconfirmed {
    /// A message of the package that is being read waits for this account.
    pub(super) fn waits_for(&mut self, stranger: Id) {
        self.strangers.push(stranger);
    }

    /// A package has been read, which `frame` acknowledges; yields its number if nothing in it
    /// waits.
    pub(super) fn add(&mut self, frame: Option<Bytes>) -> Option<u64> {
        if self.packages.len() >= UNCONFIRMED_MAX {
            self.packages.pop_front();
        }
        self.last += 1;
        let (number, strangers) = (self.last, std::mem::take(&mut self.strangers));
        let whole = strangers.is_empty();
        self.packages.push_back(Package { number, strangers, frame });
        whole.then_some(number)
    }

    /// What waited for this account was read again; yields packages in which nothing waits now.
    pub(super) fn met(&mut self, stranger: &Id) -> Vec<u64> {
        let still = std::mem::take(&mut self.strangers);
        if still.iter().any(|id| id.is_same_as(stranger)) {
            return Vec::new();
        }
        let mut whole = Vec::new();
        for package in self.packages.iter_mut().filter(|package| !package.strangers.is_empty()) {
            package.strangers.retain(|id| !id.is_same_as(stranger));
            if package.strangers.is_empty() {
                whole.push(package.number);
            }
        }
        whole
    }

    /// The application has made sure of a package; yields what acknowledges it.
    pub(super) fn confirm(&mut self, number: u64) -> Option<Bytes> {
        let at = self.packages.iter().position(|package| package.number == number)?;
        let frame = self.packages.remove(at).and_then(|package| package.frame);
        if self.packages.is_empty() {
            self.packages = VecDeque::new();
        }
        frame
    }

    /// The connection is over: all of it comes again on the next one.
    pub(super) fn clear(&mut self) {
        (self.packages, self.strangers) = (VecDeque::new(), Vec::new());
    }
}
