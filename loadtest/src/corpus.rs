//! Messages, sealed and signed before anything is measured, and kept between runs.
//!
//! A corpus is a file of records of one length: vector, ciphertext, signature. Message `n` of a corpus is
//! the same in every run; what is not signed (receiver, time) is written when it is sent. A station
//! takes each message once only, so `used.json` remembers how many each station has had.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use dim::base::encode::base64_encode;
use dim::crypto::error::CryptoError;
use dim::crypto::key::{CipherKey, SignKey};
use dim::crypto::seal::wrap_key;
use dim::proto::id::Id;
use dim::proto::json;
use serde_json::json;

use crate::error::Failure;
use crate::files;
use crate::people::People;
use crate::schedule::{Pattern, Plan};

const IV_BYTES: usize = 16;
/// Longest signature of ECDSA in DER, after a byte that tells its length.
const SIGNATURE_BYTES: usize = 72;
/// Messages made between two words about it.
const MADE_AT_ONCE: usize = 20_000;
/// Block of the cipher.
const BLOCK_BYTES: usize = 16;

/// What tells one corpus from another.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) plan: Plan,
    /// Number of the first sender among all users, and of the first receiver.
    pub(crate) first_sender: usize,
    pub(crate) first_receiver: usize,
    /// Ciphertext of one message, in bytes: a multiple of 16.
    pub(crate) data_bytes: usize,
}

impl Recipe {
    fn name(&self, tag: &str) -> String {
        let Plan { pattern, senders, receivers } = self.plan;
        let pattern = format!("{pattern:?}").to_lowercase();
        let (from, to, bytes) = (self.first_sender, self.first_receiver, self.data_bytes);
        format!("{tag}-{pattern}-{from}+{senders}-{to}+{receivers}-{bytes}")
    }

    const fn record_bytes(&self) -> usize {
        IV_BYTES + self.data_bytes + 1 + SIGNATURE_BYTES
    }

    /// The content key of message `number`: a pair's, or, to everybody, a sender's own.
    fn key(&self, people: &People, number: usize) -> Result<CipherKey, CryptoError> {
        let (sender, receiver) = self.plan.pair(number);
        match self.plan.pattern {
            Pattern::Everybody => people.pair_key(self.first_sender + sender, usize::MAX),
            _ => people.pair_key(self.first_sender + sender, self.first_receiver + receiver),
        }
    }
}

/// The part of a corpus that a run may use.
#[derive(Debug)]
pub(crate) struct Corpus {
    recipe: Recipe,
    records: Vec<u8>,
    /// Number of the first of these in the file; elsewhere they count from 0.
    skipped: usize,
    /// Content keys under seal, as JSON, by sender and receiver.
    keys: HashMap<(usize, usize), String>,
    by_signature: HashMap<u64, u32>,
    group: Option<Id>,
}

/// Where corpora lie.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    tag: String,
}

type Used = BTreeMap<String, BTreeMap<String, usize>>;

impl Shelf {
    pub(crate) fn new(cache: &Path, people: &People) -> Self {
        Self { folder: cache.to_owned(), tag: people.tag() }
    }

    /// `count` messages that `station` has not had, made as far as they are not there. They count
    /// as used from now on.
    pub(crate) fn take(
        &self,
        recipe: &Recipe,
        people: &People,
        station: &str,
        count: usize,
        say: &mut dyn FnMut(&str),
    ) -> Result<Corpus, Failure> {
        let (name, used_path) = (recipe.name(&self.tag), self.folder.join("used.json"));
        let mut used: Used = match files::read_if_there(&used_path)? {
            Some(text) => serde_json::from_slice(&text)
                .map_err(|error| Failure::file(&used_path, format!("{error}; remove it")))?,
            None => Used::new(),
        };
        let next = used.entry(station.to_owned()).or_default().entry(name.clone()).or_default();
        let skipped = *next;
        // Whole turns, so that message 0 of the next run is the first sender's again.
        let whole = count.next_multiple_of(recipe.plan.senders);
        *next = skipped + whole;
        self.fill(recipe, people, &name, skipped + whole, say)?;
        files::write_whole(&used_path, &serde_json::to_vec(&used).unwrap_or_default())?;
        let record = recipe.record_bytes();
        let at = skipped as u64 * record as u64;
        let records = files::read_at(&self.path(&name), at, count * record)?;
        Corpus::new(recipe.clone(), records, skipped, people)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.messages"))
    }

    /// Makes messages until there are `wanted`.
    fn fill(
        &self,
        recipe: &Recipe,
        people: &People,
        name: &str,
        wanted: usize,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let (path, record) = (self.path(name), recipe.record_bytes());
        // What an interrupted run left unfinished is written over.
        let mut made = usize::try_from(files::length(&path)).unwrap_or(0) / record;
        while made < wanted {
            say(&format!("signing messages: {made} of {wanted}"));
            let until = wanted.min(made + MADE_AT_ONCE);
            let bytes = make(recipe, people, made, until)?;
            files::write_at(&path, made as u64 * record as u64, &bytes)?;
            made = until;
        }
        Ok(())
    }
}

/// Records of the messages from `from` on, before `until`, by all cores.
fn make(recipe: &Recipe, people: &People, from: usize, until: usize) -> Result<Vec<u8>, Failure> {
    let signers = (0..recipe.plan.senders)
        .map(|sender| people.sign_key(recipe.first_sender + sender))
        .collect::<Result<Vec<_>, _>>()?;
    #[expect(clippy::disallowed_methods, reason = "signing takes all cores there are")]
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = (until - from).div_ceil(cores).max(1);
    let work = |first: usize| {
        let mut records = Vec::with_capacity(share * recipe.record_bytes());
        for number in first..until.min(first + share) {
            let signer = signers.get(number % recipe.plan.senders).ok_or(CryptoError::Internal)?;
            record(recipe, people, signer, number, &mut records)?;
        }
        Ok::<_, CryptoError>(records)
    };
    std::thread::scope(|scope| {
        let starts = (from..until).step_by(share);
        let threads: Vec<_> = starts.map(|first| scope.spawn(move || work(first))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| Failure::new("a signing thread ended"))??);
        }
        Ok(all)
    })
}

fn record(
    recipe: &Recipe,
    people: &People,
    signer: &SignKey,
    number: usize,
    to: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let content = json!({"type": "1", "sn": number % 0x7fff_fffe + 1, "time": 0, "text": ""});
    // The padding of the last block takes at least one byte.
    let plain_bytes = recipe.data_bytes - BLOCK_BYTES / 2;
    let mut plain = content.to_string();
    let filler = plain_bytes.saturating_sub(plain.len());
    plain.truncate(plain.len() - 2);
    plain.extend((0..filler).map(|at| char::from(b'a' + ((at * 7 + number) % 26) as u8)));
    plain.push_str("\"}");
    let (sealed, iv) = recipe.key(people, number)?.encrypt(plain.as_bytes())?;
    let signature = signer.sign(&sealed)?;
    let iv = iv.ok_or(CryptoError::Internal)?;
    if sealed.len() != recipe.data_bytes || signature.len() > SIGNATURE_BYTES {
        return Err(CryptoError::Internal);
    }
    to.extend_from_slice(&iv);
    to.extend_from_slice(&sealed);
    to.push(signature.len() as u8);
    to.extend_from_slice(&signature);
    to.resize(to.len() + SIGNATURE_BYTES - signature.len(), 0);
    Ok(())
}

/// One message as it lies in the file.
struct Record<'a> {
    iv: &'a [u8],
    data: &'a [u8],
    signature: &'a [u8],
}

impl Corpus {
    fn new(
        recipe: Recipe,
        records: Vec<u8>,
        skipped: usize,
        people: &People,
    ) -> Result<Self, Failure> {
        let group = match recipe.plan.pattern {
            Pattern::Everybody => Some(people.group(recipe.first_sender)?),
            _ => None,
        };
        let keys = HashMap::new();
        let mut corpus =
            Self { recipe, records, skipped, keys, by_signature: HashMap::new(), group };
        for number in 0..corpus.len() {
            let record = corpus.record(number).ok_or_else(|| Failure::new("corpus is cut off"))?;
            let key = signature_key(base64_encode(record.signature).as_bytes());
            corpus.by_signature.insert(key, u32::try_from(number).unwrap_or(u32::MAX));
            let (sender, receiver) = corpus.pair(number);
            if corpus.group.is_none() && !corpus.keys.contains_key(&(sender, receiver)) {
                corpus.wrap(people, number, sender, receiver)?;
            }
        }
        if corpus.group.is_some() {
            for receiver in 0..corpus.recipe.plan.receivers {
                corpus.wrap(people, 0, 0, receiver)?;
            }
        }
        Ok(corpus)
    }

    fn wrap(
        &mut self,
        people: &People,
        number: usize,
        sender: usize,
        receiver: usize,
    ) -> Result<(), Failure> {
        let user = self.recipe.first_receiver + receiver;
        let key = self.recipe.key(people, self.skipped + number)?;
        // Named by any ID here: the receiver's own is known when it is sent.
        let map = wrap_key(&key, &[(Id::anyone(), people.seal_key(user)?.clone())]);
        let sealed = map.values().next().and_then(|value| value.as_str());
        let sealed = sealed.ok_or_else(|| Failure::new("a content key could not be sealed"))?;
        self.keys.insert((sender, receiver), sealed.to_owned());
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len() / self.recipe.record_bytes()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.recipe.plan
    }

    /// Sender and receiver of a message, each counted from 0.
    pub(crate) fn pair(&self, number: usize) -> (usize, usize) {
        self.recipe.plan.pair(self.skipped + number)
    }

    fn record(&self, number: usize) -> Option<Record<'_>> {
        let len = self.recipe.record_bytes();
        let record = self.records.get(number * len..(number + 1) * len)?;
        let (iv, rest) = record.split_at_checked(IV_BYTES)?;
        let (data, rest) = rest.split_at_checked(self.recipe.data_bytes)?;
        let (len, rest) = rest.split_first()?;
        Some(Record { iv, data, signature: rest.get(..usize::from(*len))? })
    }

    /// The message as it travels, from `sender` to the receiver with number `copy` and ID `to`.
    pub(crate) fn write(
        &self,
        number: usize,
        copy: usize,
        ids: (&Id, &Id),
        now_s: f64,
        text: &mut String,
    ) -> Option<()> {
        let record = self.record(number)?;
        let sealed = self.keys.get(&(self.pair(number).0, copy))?;
        let (from, to) = ids;
        text.clear();
        let _ = write!(text, "{{\"sender\":\"{from}\",\"receiver\":\"{to}\",");
        if let Some(group) = &self.group {
            let _ = write!(text, "\"group\":\"{group}\",");
        }
        let _ = write!(
            text,
            "\"time\":{now_s:.6},\"type\":\"1\",\"IV\":\"{}\",\"data\":\"{}\",\
            \"keys\":{{\"{to}\":\"{sealed}\"}},\"signature\":\"{}\"}}",
            base64_encode(record.iv),
            base64_encode(record.data),
            base64_encode(record.signature)
        );
        Some(())
    }

    /// The number of the message with that signature, if it is one of these.
    pub(crate) fn find(&self, signature: &[u8]) -> Option<usize> {
        let number = *self.by_signature.get(&signature_key(signature))? as usize;
        let record = self.record(number)?;
        (base64_encode(record.signature).as_bytes() == signature).then_some(number)
    }

    /// Whether what came carries the message's ciphertext as it was sent.
    pub(crate) fn is_unchanged(&self, number: usize, body: &[u8]) -> bool {
        self.record(number).is_some_and(|record| {
            memchr::memmem::find(body, base64_encode(record.data).as_bytes()).is_some()
        })
    }
}

/// By which a signature is looked up: characters from its first number, which is as good as
/// random.
fn signature_key(text: &[u8]) -> u64 {
    text.get(12..20).and_then(<[u8]>::first_chunk).map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// The signature's text in a message that came, without parsing it.
pub(crate) fn signature_of(body: &[u8]) -> Option<&[u8]> {
    let name = b"\"signature\"";
    // Behind the data: there are no quotes in base64.
    let after = body.get(memchr::memmem::rfind(body, name)? + name.len()..)?;
    let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"")?;
    value.get(..memchr::memchr(b'"', value)?)
}

/// A text as JSON, with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    json::write(&text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dim::crypto::seal::open;
    use dim::crypto::sign::verify;
    use dim::proto::directory::Names;
    use dim::proto::json::Parser;
    use dim::proto::message::ReliableMessage;

    fn recipe(pattern: Pattern, senders: usize) -> Recipe {
        let plan = Plan { pattern, senders, receivers: 3 };
        Recipe { plan, first_sender: 0, first_receiver: 10, data_bytes: 496 }
    }

    #[test]
    fn messages_are_really_sealed_and_signed() {
        let folder = tempfile::tempdir().unwrap();
        let people = People::load(folder.path(), 10_000.0).unwrap();
        let shelf = Shelf::new(folder.path(), &people);
        for pattern in [Pattern::Mesh, Pattern::Everybody] {
            let senders = if pattern == Pattern::Mesh { 2 } else { 1 };
            let recipe = recipe(pattern, senders);
            let corpus = shelf.take(&recipe, &people, "s", 8, &mut |_| {}).unwrap();
            for (number, copy) in [(0, corpus.pair(0).1), (7, corpus.pair(7).1)] {
                let (from, to) = (
                    people.person(corpus.pair(number).0).unwrap(),
                    people.person(10 + copy).unwrap(),
                );
                let mut text = String::new();
                corpus.write(number, copy, (&from.id, &to.id), 5.0, &mut text).unwrap();
                assert!((1150..1300).contains(&text.len()), "{}", text.len());
                assert_eq!(corpus.find(signature_of(text.as_bytes()).unwrap()), Some(number));
                assert!(corpus.is_unchanged(number, text.as_bytes()));
                assert!(!corpus.is_unchanged(1, text.as_bytes()));
                let raw = Bytes::from(text.into_bytes());
                let mut parser = Parser::new();
                let message =
                    ReliableMessage::parse(raw, &mut parser, &mut Names::default()).unwrap();
                let message = verify(message, &[from.sign.verify_key().unwrap()]).unwrap();
                let content = open(&message, &to.id, &[to.open], &mut None, &mut parser).unwrap();
                assert!(content.starts_with(b"{\"type\":\"1\""));
            }
        }
    }

    #[test]
    fn a_station_gets_no_message_twice_and_another_gets_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let people = People::load(folder.path(), 10_000.0).unwrap();
        let shelf = Shelf::new(folder.path(), &people);
        let mut made = 0;
        let mut take = |station: &str| {
            let recipe = recipe(Pattern::Mesh, 2);
            let corpus = shelf.take(&recipe, &people, station, 3, &mut |_| made += 1).unwrap();
            assert_eq!(corpus.len(), 3);
            corpus.record(0).unwrap().signature.to_vec()
        };
        let (first, second, other) = (take("one"), take("one"), take("other"));
        assert!(first != second && first == other);
        assert_eq!(made, 2, "the other station's were there");
    }

    #[test]
    fn a_signature_is_found_however_it_is_spaced() {
        for text in [r#"{"signature":"AbC=","x":1}"#, r#"{"x": 1, "signature" : "AbC="}"#] {
            assert_eq!(signature_of(text.as_bytes()), Some(&b"AbC="[..]));
        }
        for text in ["", r#"{"signature"}"#, r#"{"signature":5}"#, r#"{"signature":"open"#] {
            assert_eq!(signature_of(text.as_bytes()), None);
        }
    }
}
