//! Short pieces of memory, cut from longer ones.

use bytes::{Bytes, BytesMut};

/// Bytes of one piece to cut from: some forty heads of packages. It stays as long as any of what was
/// cut from it does, so it is not much longer than the message that one head goes before.
const CHUNK_BYTES: usize = 1024;

/// Makes [`Bytes`] of what is short and soon gone, without a piece of memory for each.
#[derive(Debug, Default)]
pub struct Chunk {
    free: BytesMut,
}

impl Chunk {
    /// A copy; empty for nothing.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.free.capacity() < bytes.len() {
            self.free = BytesMut::with_capacity(CHUNK_BYTES.max(bytes.len()));
        }
        self.free.extend_from_slice(bytes);
        self.free.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_stays_as_it_was() {
        let mut chunk = Chunk::default();
        let pieces: Vec<(Vec<u8>, Bytes)> = (0..200_u8)
            .map(|n| vec![n; usize::from(n) * 7])
            .map(|bytes| (bytes.clone(), chunk.copy(&bytes)))
            .collect();
        for (bytes, copy) in pieces {
            assert_eq!(bytes, copy);
        }
    }
}
