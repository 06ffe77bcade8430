//! Things that wait for something, bounded in number and bytes; the first makes room.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl<T> Shelf<T> {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    /// Puts something of so many bytes on the shelf; whether something else had to go.
    pub(super) fn push(&mut self, bytes: usize, item: T) -> bool {
        self.bytes += bytes;
        self.items.push_back((bytes, item));
        let before = self.items.len();
        while (self.items.len() > self.count_max || self.bytes > self.bytes_max)
            && self.items.len() > 1
        {
            self.bytes -= self.items.pop_front().map_or(0, |(bytes, _)| bytes);
        }
        self.items.len() < before
    }

    /// Takes off what fits.
    pub(super) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for (bytes, item) in std::mem::take(&mut self.items) {
            match fits(&item) {
                true => {
                    self.bytes -= bytes;
                    taken.push(item);
                }
                false => self.items.push_back((bytes, item)),
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_makes_room_and_what_is_taken_frees_its_bytes() {
        let mut shelf = Shelf::new(3, 10);
        assert!(![1, 2, 3].into_iter().any(|n| shelf.push(n, n)));
        assert!(shelf.push(4, 4));
        assert_eq!(shelf.take(|n| n % 2 == 0), [2, 4]);
        assert!(!shelf.push(7, 7));
        assert!(shelf.push(8, 8), "3, 7 and 8 are more than 10");
        assert_eq!(shelf.take(|_| true), [8]);
        assert!(!shelf.push(99, 99), "alone it may be longer");
    }
}
