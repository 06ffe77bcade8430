//! Joining MTP messages that came in pages.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::error::WireError;
use super::limits::{DeframeLimits, FRAGMENT_FINISHED_MAX};
use super::mtp::Head;

/// The unfinished messages of one connection. Holds what came, never what was announced.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// The one touched last is last.
    open: Vec<Unfinished>,
    /// Ids of joined messages, newest last: their late pieces are only acknowledged.
    finished: VecDeque<[u8; 8]>,
    pieces: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    id: [u8; 8],
    pages: u32,
    /// Copies of their own: a slice would keep the whole read alive.
    pieces: BTreeMap<u32, Box<[u8]>>,
    bytes: usize,
}

impl Fragments {
    /// Keep `piece`, the page of `head`; the whole message if it was the last one missing. A
    /// repeated piece, a late one, and one that disagrees about the page count change nothing.
    pub(super) fn add(
        &mut self,
        head: &Head,
        piece: &[u8],
        limits: &DeframeLimits,
    ) -> Result<Option<Bytes>, WireError> {
        if self.finished.contains(&head.id) {
            return Ok(None);
        }
        let mut set = self.touch(head, limits);
        if set.pages == head.pages && !set.pieces.contains_key(&head.index) {
            self.pieces += 1;
            self.bytes += piece.len();
            if self.pieces > limits.fragment_pieces_max {
                return Err(WireError::TooManyFragments);
            }
            if self.bytes > limits.fragment_bytes_max {
                return Err(WireError::FragmentsTooLong);
            }
            set.bytes += piece.len();
            set.pieces.insert(head.index, piece.into());
            if set.bytes > limits.message_bytes_max {
                return Err(WireError::FrameTooLong { bytes: set.bytes as u64 });
            }
        }
        if set.pieces.len() < set.pages as usize {
            self.open.push(set);
            return Ok(None);
        }
        self.release(&set);
        if self.finished.len() >= FRAGMENT_FINISHED_MAX {
            self.finished.pop_front();
        }
        self.finished.push_back(set.id);
        Ok(Some(set.join()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Take the unfinished message of `head` out of the list, or begin it.
    fn touch(&mut self, head: &Head, limits: &DeframeLimits) -> Unfinished {
        if let Some(at) = self.open.iter().position(|set| set.id == head.id) {
            return self.open.remove(at);
        }
        if self.open.len() >= limits.fragment_sets_max.max(1) {
            // A message that so many others overtook on an ordered stream will not be finished.
            let oldest = self.open.remove(0);
            self.release(&oldest);
        }
        Unfinished { id: head.id, pages: head.pages, pieces: BTreeMap::new(), bytes: 0 }
    }

    fn release(&mut self, set: &Unfinished) {
        self.pieces -= set.pieces.len();
        self.bytes -= set.bytes;
    }
}

impl Unfinished {
    fn join(self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.bytes);
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mtp::Kind;

    fn head(id: u8, pages: u32, index: u32) -> Head {
        Head { kind: Kind::Fragment, id: [id; 8], pages, index, body_len: 0, head_len: 24 }
    }

    #[test]
    fn pieces_join_in_any_order_and_only_once() {
        let limits = DeframeLimits::default();
        let mut fragments = Fragments::default();
        let mut add = |index, piece: &[u8]| fragments.add(&head(1, 3, index), piece, &limits);
        assert_eq!(add(2, b"c"), Ok(None));
        assert_eq!(add(0, b"a"), Ok(None));
        assert_eq!(add(0, b"x"), Ok(None));
        assert_eq!(add(1, b"b"), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(add(1, b"b"), Ok(None));
        assert!(fragments.is_empty());
        assert_eq!((fragments.pieces, fragments.bytes), (0, 0));
        assert_eq!(fragments.add(&head(2, 3, 0), b"a", &limits), Ok(None));
        assert_eq!(fragments.add(&head(2, 2, 1), b"b", &limits), Ok(None));
        assert_eq!(fragments.pieces, 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let limits = DeframeLimits {
            fragment_sets_max: 2,
            fragment_pieces_max: 4,
            fragment_bytes_max: 20,
            message_bytes_max: 10,
            ..DeframeLimits::default()
        };
        let mut fragments = Fragments::default();
        for id in 0..100 {
            assert_eq!(fragments.add(&head(id, 2, 0), b"piece", &limits), Ok(None));
            assert!(fragments.open.len() <= 2 && fragments.pieces <= 2);
        }
        // The newest two are still there, the ones before made room.
        assert!(fragments.add(&head(98, 2, 1), b"", &limits).unwrap().is_some());
        assert!(fragments.add(&head(1, 2, 1), b"", &limits).unwrap().is_none());

        let mut fragments = Fragments::default();
        let results: Vec<_> =
            (0..5).map(|at| fragments.add(&head(1, 9, at), b"", &limits)).collect();
        assert_eq!(results.last(), Some(&Err(WireError::TooManyFragments)));
        let mut fragments = Fragments::default();
        let long = fragments.add(&head(1, 9, 0), b"eleven byte", &limits);
        assert_eq!(long, Err(WireError::FrameTooLong { bytes: 11 }));
    }

    #[test]
    fn memory_of_finished_ids_is_bounded() {
        let limits = DeframeLimits::default();
        let mut fragments = Fragments::default();
        for id in 0..1000_u64 {
            for index in 0..2 {
                let head = Head { id: id.to_be_bytes(), ..head(0, 2, index) };
                fragments.add(&head, b"", &limits).unwrap();
            }
        }
        assert_eq!(fragments.finished.len(), FRAGMENT_FINISHED_MAX);
    }
}
