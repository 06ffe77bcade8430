//! Accounts by the words in their names and IDs: one text of all of them, read from the beginning to
//! the end. Reading is what machines do fastest, and there is nothing to keep in balance.

use std::collections::HashMap;

use memchr::{memchr, memmem, memrchr};

use crate::base::digest::sha256;

/// Longest name that is kept, in bytes; the rest of it is not found.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes of all names and IDs together; places in them are `u32`.
pub const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// Words of one question that are looked for; further ones are ignored.
pub const WORDS_MAX: usize = 16;

/// How much of the text tells which of several words is the rarest, in bytes.
const SAMPLE_BYTES: usize = 64 * 1024;

/// Dead entries that are not worth the copying yet.
const DEAD_MIN: usize = 1024;

/// Stands where an entry was taken out. In no UTF-8 text, so no word is found there.
const ERASED: u8 = 0xff;

/// What became of an account that was put into the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is found by this name from now on.
    Changed,
    /// It was there, by the same name.
    Same,
    /// There is no room.
    Full,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// Where its line begins in `text`.
    line: u32,
    /// Where its ID begins in `ids`; the name follows.
    id: u32,
    id_bytes: u16,
    name_bytes: u16,
}

/// An index. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Index {
    /// For each row `name, ID` in small letters, ended by a line feed.
    text: Vec<u8>,
    /// IDs and names as they are written.
    ids: Vec<u8>,
    /// In the order of their lines.
    rows: Vec<Row>,
    /// Row by digest of the ID.
    places: HashMap<[u8; 16], u32>,
}

impl Index {
    /// How many accounts are found.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lets `id` be found by `name`, and no longer by an earlier one. No line feed may stand in
    /// either: [`clean`] sees to that.
    pub fn put(&mut self, id: &str, name: &str) -> Put {
        let key = key_of(id);
        if let Some(place) = self.places.get(&key).and_then(|at| usize::try_from(*at).ok()) {
            if self.rows.get(place).is_some_and(|row| self.name(row) == name.as_bytes()) {
                return Put::Same;
            }
            self.erase(place);
        }
        let lower = match name.is_empty() {
            true => id.to_lowercase(),
            false => format!("{name}, {id}").to_lowercase(),
        };
        let (line, at) = (self.text.len(), self.ids.len());
        let room =
            TEXT_BYTES_MAX - 1 > line + lower.len() && TEXT_BYTES_MAX > at + id.len() + name.len();
        let sizes = (u16::try_from(id.len()), u16::try_from(name.len()));
        let (true, (Ok(id_bytes), Ok(name_bytes))) = (room, sizes) else {
            self.places.remove(&key);
            return Put::Full;
        };
        let (Ok(line), Ok(at), Ok(place)) =
            (u32::try_from(line), u32::try_from(at), u32::try_from(self.rows.len()))
        else {
            self.places.remove(&key);
            return Put::Full;
        };
        self.text.extend_from_slice(lower.as_bytes());
        self.text.push(b'\n');
        self.ids.extend_from_slice(id.as_bytes());
        self.ids.extend_from_slice(name.as_bytes());
        self.rows.push(Row { line, id: at, id_bytes, name_bytes });
        self.places.insert(key, place);
        if self.rows.len() > 2 * self.places.len() + DEAD_MIN {
            self.compact();
        }
        Put::Changed
    }

    /// IDs whose line has all `words`, which are in small letters: `count` of them after the first
    /// `start`, in the order in which they were put in.
    pub fn find(&self, words: &[String], start: usize, count: usize) -> Vec<&str> {
        let words = words.get(..WORDS_MAX).unwrap_or(words);
        let finders: Vec<_> =
            words.iter().map(|word| memmem::Finder::new(word.as_bytes())).collect();
        let Some(rarest) = self.rarest(&finders) else {
            let all = self.rows.iter().filter(|row| self.is_alive(row));
            return all.skip(start).take(count).filter_map(|row| self.id(row)).collect();
        };
        let mut found = Vec::new();
        let (mut from, mut skipped) = (0, 0);
        while found.len() < count {
            let Some(rest) = self.text.get(from..) else { break };
            let Some(at) = rarest.find(rest).map(|at| from + at) else { break };
            let (before, after) = self.text.split_at(at);
            let begin = memrchr(b'\n', before).map_or(0, |feed| feed + 1);
            let end = at + memchr(b'\n', after).unwrap_or(after.len());
            from = end + 1;
            let line = self.text.get(begin..end).unwrap_or_default();
            if !finders.iter().all(|finder| finder.find(line).is_some()) {
                continue;
            }
            if skipped < start {
                skipped += 1;
                continue;
            }
            let after = self.rows.partition_point(|row| row.line as usize <= at);
            found.extend(after.checked_sub(1).and_then(|row| self.id(self.rows.get(row)?)));
        }
        found
    }

    /// Every ID with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let alive = self.rows.iter().filter(|row| self.is_alive(row));
        alive.filter_map(|row| Some((self.id(row)?, std::str::from_utf8(self.name(row)).ok()?)))
    }

    /// The finder to look for first: whoever has the others too has this one.
    fn rarest<'a, 'w>(&self, finders: &'a [memmem::Finder<'w>]) -> Option<&'a memmem::Finder<'w>> {
        if let [only] = finders {
            return Some(only);
        }
        let sample = self.text.get(..SAMPLE_BYTES).unwrap_or(&self.text);
        let order = |finder: &&memmem::Finder<'_>| {
            (finder.find_iter(sample).count(), usize::MAX - finder.needle().len())
        };
        finders.iter().min_by_key(order)
    }

    fn id(&self, row: &Row) -> Option<&str> {
        let at = row.id as usize;
        std::str::from_utf8(self.ids.get(at..at + usize::from(row.id_bytes))?).ok()
    }

    fn name(&self, row: &Row) -> &[u8] {
        let at = row.id as usize + usize::from(row.id_bytes);
        self.ids.get(at..at + usize::from(row.name_bytes)).unwrap_or_default()
    }

    fn is_alive(&self, row: &Row) -> bool {
        self.text.get(row.line as usize).is_some_and(|byte| *byte != ERASED)
    }

    fn erase(&mut self, place: usize) {
        let begin = self.rows.get(place).map_or(0, |row| row.line as usize);
        let end = self.rows.get(place + 1).map_or(self.text.len(), |row| row.line as usize);
        // The line feed stays: a word must not be found across it.
        if let Some(line) = self.text.get_mut(begin..end.saturating_sub(1)) {
            line.fill(ERASED);
        }
    }

    /// Everything anew, without what was taken out.
    fn compact(&mut self) {
        let mut fresh = Self::default();
        for (id, name) in self.iter() {
            fresh.put(id, name);
        }
        *self = fresh;
    }
}

fn key_of(id: &str) -> [u8; 16] {
    sha256(id.as_bytes()).first_chunk().copied().unwrap_or_default()
}

/// A name as it is kept: on one line, and not too long.
pub fn clean(name: &str) -> String {
    let mut kept = String::new();
    for letter in name.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if kept.len() + letter.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        kept.push(letter);
    }
    kept
}

/// The words of a question, in small letters.
pub fn words(keywords: &str) -> Vec<String> {
    keywords.split_whitespace().take(WORDS_MAX).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(index: &Index, keywords: &str) -> Vec<String> {
        index.find(&words(keywords), 0, 100).into_iter().map(str::to_owned).collect()
    }

    fn index() -> Index {
        let mut index = Index::default();
        for (id, name) in [("a@XyZ1", "Alice Liddell"), ("b@XyZ2", "Bob"), ("c@XyZ3", "")] {
            assert_eq!(index.put(id, name), Put::Changed);
        }
        index
    }

    #[test]
    fn all_words_have_to_occur_in_name_or_id_in_any_case_and_order() {
        let index = index();
        assert_eq!(find(&index, "ALICE"), ["a@XyZ1"]);
        assert_eq!(find(&index, "xyz1 lidd"), ["a@XyZ1"]);
        assert_eq!(find(&index, "xyz"), ["a@XyZ1", "b@XyZ2", "c@XyZ3"]);
        assert_eq!(find(&index, "alice bob"), [""; 0]);
        assert_eq!(find(&index, "  b@  "), ["b@XyZ2"]);
        assert_eq!(find(&index, ""), ["a@XyZ1", "b@XyZ2", "c@XyZ3"]);
        // Neither from one line into the next, nor what stands between name and ID of none.
        assert_eq!(find(&index, "xyz1\nbob"), [""; 0]);
        assert_eq!(find(&index, ", c@"), [""; 0]);
    }

    #[test]
    fn a_part_of_the_hits_is_given() {
        let index = index();
        let some = |start, count| index.find(&words("xyz"), start, count);
        assert_eq!(some(1, 1), ["b@XyZ2"]);
        assert_eq!(some(2, 9), ["c@XyZ3"]);
        assert_eq!(some(3, 9), [""; 0]);
        assert_eq!(some(0, 0), [""; 0]);
        assert_eq!(index.find(&[], 1, 1), ["b@XyZ2"]);
    }

    #[test]
    fn a_new_name_takes_the_place_of_the_old_one() {
        let mut index = index();
        assert_eq!(index.put("b@XyZ2", "Bob"), Put::Same);
        assert_eq!(index.put("b@XyZ2", "Robert"), Put::Changed);
        assert_eq!(find(&index, "bob"), [""; 0]);
        assert_eq!(find(&index, "robert"), ["b@XyZ2"]);
        assert_eq!(find(&index, "xyz"), ["a@XyZ1", "c@XyZ3", "b@XyZ2"]);
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn what_was_taken_out_does_not_pile_up() {
        let mut index = index();
        for n in 0..10_000 {
            index.put("b@XyZ2", &format!("name {n}"));
        }
        assert!(index.rows.len() <= 2 * index.len() + DEAD_MIN, "{}", index.rows.len());
        assert_eq!(find(&index, "name 9999"), ["b@XyZ2"]);
        assert_eq!(find(&index, "name"), ["b@XyZ2"]);
        assert_eq!(index.iter().collect::<Vec<_>>().len(), 3);
    }

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        assert_eq!(clean(" a\nb\u{7}c "), "a b c");
        let long = clean(&"ü".repeat(NAME_BYTES_MAX));
        assert_eq!(long.len(), NAME_BYTES_MAX);
    }
}
