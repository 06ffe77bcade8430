//! Things that wait for something, numbered, bounded in number and bytes; the first makes room.

use std::collections::VecDeque;

#[derive(Debug)]
struct Item<T> {
    number: u64,
    bytes: usize,
    thing: T,
    taken: bool,
}

#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: VecDeque<Item<T>>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl<T: Clone> Shelf<T> {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    /// Puts something of so many bytes on the shelf; yields the numbers of what had to go.
    pub(super) fn push(&mut self, number: u64, bytes: usize, thing: T) -> Vec<u64> {
        self.bytes += bytes;
        self.items.push_back(Item { number, bytes, thing, taken: false });
        let mut gone = Vec::new();
        while (self.items.len() > self.count_max || self.bytes > self.bytes_max)
            && self.items.len() > 1
            && let Some(Item { number, bytes, .. }) = self.items.pop_front()
        {
            self.bytes -= bytes;
            gone.push(number);
        }
        gone
    }

    /// What fits, each thing once, with its number; it stays until it is [removed](Self::remove).
    pub(super) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Vec<(u64, T)> {
        let fresh = self.items.iter_mut().filter(|item| !item.taken && fits(&item.thing));
        fresh
            .map(|item| {
                item.taken = true;
                (item.number, item.thing.clone())
            })
            .collect()
    }

    /// Takes the thing of this number off.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(at) = self.items.iter().position(|item| item.number == number)
            && let Some(item) = self.items.remove(at)
        {
            self.bytes -= item.bytes;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.items.iter().map(|item| (item.number, &item.thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_makes_room_and_what_is_taken_frees_its_bytes() {
        let mut shelf = Shelf::new(3, 10);
        assert!([1, 2, 3].into_iter().all(|n| shelf.push(n as u64, n, n).is_empty()));
        assert_eq!(shelf.push(4, 4, 4), [1]);
        assert_eq!(shelf.take(|n| n % 2 == 0), [(2, 2), (4, 4)]);
        assert_eq!(shelf.take(|n| n % 2 == 0), []);
        assert_eq!(shelf.len(), 3);
        [2, 4].into_iter().for_each(|number| shelf.remove(number));
        assert_eq!(shelf.push(7, 7, 7), [0; 0]);
        assert_eq!(shelf.push(8, 8, 8), [3, 7], "3, 7 and 8 are more than 10");
        shelf.remove(8);
        assert_eq!((shelf.len(), shelf.bytes), (0, 0));
        assert_eq!(shelf.push(9, 99, 99), [0; 0], "alone it may be longer");
    }
}
