//! The users that a load is made of: everything follows from one seed, so that a folder with that
//! seed and a few RSA keys stands for any number of accounts.

use std::path::Path;

use aws_lc_rs::rand;
use dim::base::digest::sha256;
use dim::base::encode::{hex_decode, hex_encode};
use dim::client::account::Account;
use dim::crypto::error::CryptoError;
use dim::crypto::identity::seal_keys;
use dim::crypto::key::{CipherKey, OpenKey, SealKey, SignKey};
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::meta::MetaKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::files;

/// RSA keys that all visas share, round robin: making one takes as long as a thousand accounts.
const MESSAGE_KEYS: usize = 16;
/// What published clients make.
const MESSAGE_KEY_BITS: usize = 1024;
/// How old the visas are: a clock that is set back a little between runs does no harm.
const VISA_AGE_S: f64 = 3600.0;

/// One user, as little of it as a connection needs.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: Id,
    pub(crate) sign: SignKey,
    /// Opens what the station says.
    pub(crate) open: OpenKey,
    /// `"meta":…,"visa":…` for the first handshake.
    pub(crate) introduction: String,
}

/// What lies in the cache folder.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    seed: String,
    time_s: f64,
    keys: Vec<Map<String, Value>>,
}

/// Everybody, made on demand.
#[derive(Debug)]
pub(crate) struct People {
    seed: Vec<u8>,
    time_s: f64,
    open: Vec<OpenKey>,
    seal: Vec<SealKey>,
}

impl People {
    /// Reads `people.json` of the cache folder, or makes it.
    pub(crate) fn load(cache: &Path, now_s: f64) -> Result<Self, Failure> {
        let path = cache.join("people.json");
        if let Some(text) = files::read_if_there(&path)? {
            let bad = || Failure::file(&path, "is not a list of people; remove it");
            let saved: Saved = serde_json::from_slice(&text).map_err(|_| bad())?;
            return Self::restore(&saved).map_err(|_| bad());
        }
        let mut seed = [0; 32];
        rand::fill(&mut seed).map_err(|_| CryptoError::Internal)?;
        let keys = (0..MESSAGE_KEYS)
            .map(|_| OpenKey::generate(MESSAGE_KEY_BITS)?.to_map())
            .collect::<Result<_, CryptoError>>()?;
        let saved = Saved { seed: hex_encode(&seed), time_s: now_s - VISA_AGE_S, keys };
        files::write_whole(&path, &serde_json::to_vec(&saved).unwrap_or_default())?;
        Ok(Self::restore(&saved)?)
    }

    fn restore(saved: &Saved) -> Result<Self, CryptoError> {
        let open = saved.keys.iter().map(OpenKey::from_map).collect::<Result<Vec<_>, _>>()?;
        let seal = open.iter().map(OpenKey::seal_key).collect::<Result<Vec<_>, _>>()?;
        let seed = hex_decode(&saved.seed).map_err(|_| CryptoError::Key)?;
        if open.is_empty() {
            return Err(CryptoError::Key);
        }
        Ok(Self { seed, time_s: saved.time_s, open, seal })
    }

    /// 32 bytes that follow from the seed and these words.
    fn derive(&self, what: &str, numbers: [usize; 2]) -> [u8; 32] {
        let [a, b] = numbers.map(|number| (number as u64).to_be_bytes());
        sha256(&[&self.seed[..], what.as_bytes(), &a, &b].concat())
    }

    /// The names of corpora begin with this: another seed has other ones.
    pub(crate) fn tag(&self) -> String {
        hex_encode(self.derive("tag", [0, 0]).first_chunk::<4>().unwrap_or(&[0; 4]))
    }

    fn open_key(&self, user: usize) -> Result<&OpenKey, CryptoError> {
        self.open.get(user % self.open.len()).ok_or(CryptoError::Key)
    }

    fn account(&self, user: usize) -> Result<Account, CryptoError> {
        let message = self.open_key(user)?.clone();
        let properties = Map::from_iter([("name".to_owned(), format!("load {user}").into())]);
        let sign = self.sign_key(user)?;
        Account::create(MetaKind::Eth, 0, None, sign, message, self.time_s, properties)
    }

    /// The key that user number `user` signs with.
    pub(crate) fn sign_key(&self, user: usize) -> Result<SignKey, CryptoError> {
        let mut map = Map::new();
        map.insert("algorithm".into(), "ECC".into());
        map.insert("data".into(), hex_encode(&self.derive("user", [user, 0])).into());
        SignKey::from_map(&map)
    }

    /// User number `user`. Takes a few signatures' time.
    pub(crate) fn person(&self, user: usize) -> Result<Person, CryptoError> {
        let account = self.account(user)?;
        let mut introduction = format!("\"meta\":{}", json::write_object(&account.meta().to_map()));
        if let Some(visa) = account.document() {
            introduction.push_str(",\"visa\":");
            introduction.push_str(&json::write_object(&visa.to_map()));
        }
        debug_assert!(!seal_keys(account.meta(), account.documents()).is_empty());
        let open = self.open_key(user)?.clone();
        Ok(Person { id: account.id().clone(), sign: self.sign_key(user)?, open, introduction })
    }

    /// The key that `user` reads with, for whoever writes.
    pub(crate) fn seal_key(&self, user: usize) -> Result<&SealKey, CryptoError> {
        self.seal.get(user % self.seal.len()).ok_or(CryptoError::Key)
    }

    /// The content key that one user uses with another, and keeps, as clients do.
    pub(crate) fn pair_key(&self, from: usize, to: usize) -> Result<CipherKey, CryptoError> {
        let mut map = Map::new();
        map.insert("algorithm".into(), "AES".into());
        let key = self.derive("pair", [from, to]);
        map.insert("data".into(), dim::base::encode::base64_encode(&key).into());
        CipherKey::from_map(&map)
    }

    /// A group founded by `user`.
    pub(crate) fn group(&self, user: usize) -> Result<Id, CryptoError> {
        Ok(self.account(user)?.found("load", self.time_s)?.id().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_stands_for_the_same_people() {
        let folder = tempfile::tempdir().unwrap();
        let made = People::load(folder.path(), 10_000.0).unwrap();
        let read = People::load(folder.path(), 20_000.0).unwrap();
        let (one, same) = (made.person(7).unwrap(), read.person(7).unwrap());
        assert_eq!((&one.id, &one.introduction), (&same.id, &same.introduction));
        assert_ne!(one.id, read.person(8).unwrap().id);
        assert_eq!(made.group(7).unwrap(), read.group(7).unwrap());
        assert!(made.pair_key(1, 2).unwrap() == read.pair_key(1, 2).unwrap());
        assert!(made.pair_key(1, 2).unwrap() != read.pair_key(2, 1).unwrap());
        files::write_whole(&folder.path().join("people.json"), b"{}").unwrap();
        assert!(People::load(folder.path(), 0.0).unwrap_err().to_string().contains("people.json"));
    }
}
