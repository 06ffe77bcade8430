//! The bytes of a connection that are not yet understood.

use bytes::{Bytes, BytesMut};

/// Smallest block for gathered bytes: a header and a short body, even if they trickle in.
const GATHER_BYTES_MIN: usize = 64;

/// Fed bytes in one piece. While nothing partial is left over they are a slice of what was fed;
/// otherwise they are gathered in a block that grows with what came, at most twofold.
///
/// Invariant: one of the two is empty.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    whole: Bytes,
    gathered: BytesMut,
}

impl Buffer {
    /// Append `bytes`. Copies only if some are still here; the copying is linear over all calls.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.whole = bytes;
            return;
        }
        self.make_room(bytes.len());
        self.gathered.extend_from_slice(&std::mem::take(&mut self.whole));
        self.gathered.extend_from_slice(&bytes);
    }

    pub(super) fn view(&self) -> &[u8] {
        if self.gathered.is_empty() { &self.whole } else { &self.gathered }
    }

    pub(super) fn len(&self) -> usize {
        self.view().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drop the first `count` bytes, or all if there are fewer.
    pub(super) fn skip(&mut self, count: usize) {
        drop(self.take(count));
    }

    /// The first `count` bytes, or all if there are fewer, without a copy.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.len());
        if self.gathered.is_empty() {
            return self.whole.split_to(count);
        }
        let taken = self.gathered.split_to(count).freeze();
        self.release_empty();
        taken
    }

    /// As `take`, for bytes that will be changed in place: copied if the block is shared.
    pub(super) fn take_mut(&mut self, count: usize) -> BytesMut {
        if self.gathered.is_empty() {
            return BytesMut::from(self.take(count).as_ref());
        }
        let taken = self.gathered.split_to(count.min(self.gathered.len()));
        self.release_empty();
        taken
    }

    /// Drop everything, and the memory too.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// An idle connection holds no block.
    fn release_empty(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
    }

    /// Our own growth, since that of `BytesMut` is only linear once parts were split off.
    fn make_room(&mut self, more: usize) {
        let held = self.len();
        let need = held + more;
        if need > self.gathered.capacity() {
            // The first block fits exactly: most partial packages end in the next read.
            let twice = if self.gathered.is_empty() { 0 } else { 2 * held };
            let mut wider = BytesMut::with_capacity(need.max(twice).max(GATHER_BYTES_MIN));
            wider.extend_from_slice(&self.gathered);
            self.gathered = wider;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_not_copied_while_nothing_is_left_over() {
        let fed = Bytes::from(vec![7; 100]);
        let mut buffer = Buffer::default();
        buffer.push(fed.clone());
        assert_eq!(buffer.take(60).as_ptr(), fed.as_ptr());
        assert_eq!(buffer.take(40).as_ptr(), fed.slice(60..).as_ptr());
        assert!(buffer.is_empty());
        buffer.push(fed.clone());
        assert_eq!(buffer.take(1000).as_ptr(), fed.as_ptr());
    }

    #[test]
    fn gathered_bytes_keep_their_order_over_splits() {
        let mut buffer = Buffer::default();
        let mut next = 0_u8;
        let mut want = 0_u8;
        for round in 1..40 {
            let fed: Vec<u8> = (0..round).map(|step| next.wrapping_add(step)).collect();
            next = next.wrapping_add(round);
            buffer.push(Bytes::from(fed));
            for byte in buffer.take(usize::from(round / 2)) {
                assert_eq!(byte, want);
                want = want.wrapping_add(1);
            }
        }
        for byte in buffer.take_mut(usize::MAX) {
            assert_eq!(byte, want);
            want = want.wrapping_add(1);
        }
        assert_eq!(want, next);
    }

    #[test]
    fn memory_grows_with_what_came() {
        let mut buffer = Buffer::default();
        for _ in 0..10_000 {
            buffer.push(Bytes::from_static(b"x"));
            assert!(buffer.gathered.capacity() <= (2 * buffer.len()).max(GATHER_BYTES_MIN));
        }
        buffer.skip(10_000);
        assert_eq!(buffer.gathered.capacity(), 0);
    }
}
