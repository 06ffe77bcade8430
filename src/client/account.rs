//! An account of our own: an ID, its meta, its documents, and the private keys behind them.

use std::fmt;

use serde_json::{Map, Value};

use crate::base::encode::base64_encode;
use crate::crypto::error::CryptoError;
use crate::crypto::identity::{
    Acceptance, Proven, accept_document, generate_id, prove_document, prove_meta,
};
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::document::Document;
use crate::proto::error::ProtoError;
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::meta::{Meta, MetaKind};

/// An ID with everything that is needed to speak for it.
#[derive(Clone)]
pub struct Account {
    id: Id,
    /// The device, where the user has several.
    terminal: Option<String>,
    meta: Proven<Meta>,
    documents: Vec<Proven<Document>>,
    sign: SignKey,
    message_keys: Vec<OpenKey>,
}

/// Bits of the key that others write to. Half as many are what published clients make; all of
/// them can write to this one.
const MESSAGE_KEY_BITS: usize = 2048;

/// Network byte of a group of users.
const GROUP_NETWORK: u8 = 1;

impl Account {
    /// A new user in one call: keys, meta, ID, and a visa with `name`. `now_s` is in seconds since
    /// 1970. Making the keys takes some hundred milliseconds.
    pub fn register(name: &str, now_s: f64) -> Result<Self, CryptoError> {
        let properties = Map::from_iter([("name".to_owned(), name.into())]);
        let (sign, message) = (SignKey::generate_ecc()?, OpenKey::generate(MESSAGE_KEY_BITS)?);
        Self::create(MetaKind::Eth, 0, None, sign, message, now_s, properties)
    }

    /// The same user on a device of that name, with a message key and a visa of its own. What is
    /// written to the user goes to every device.
    pub fn on(&self, terminal: &str, now_s: f64) -> Result<Self, CryptoError> {
        self.id.dressed(terminal)?;
        let message_keys = vec![OpenKey::generate(MESSAGE_KEY_BITS)?];
        let properties = self.document().map(|visa| visa.properties().clone());
        let terminal = Some(terminal.to_owned());
        let mut device = Self { terminal, message_keys, documents: Vec::new(), ..self.clone() };
        device.publish(properties.unwrap_or_default(), now_s)?;
        Ok(device)
    }

    /// A new group with this user as its founder: an ID made of `seed` by the user's key, and a
    /// bulletin with `seed` as its name. The same seed gives the same ID again.
    pub fn found(&self, seed: &str, now_s: f64) -> Result<Self, CryptoError> {
        let properties = Map::from_iter([("name".to_owned(), seed.into())]);
        let sign = self.sign.clone();
        Self::create_group(GROUP_NETWORK, seed, &self.id, sign, now_s, properties)
    }

    /// A new account with a visa (or, if `network` says group, a bulletin) of `properties`.
    /// `seed` is the name and goes with [`MetaKind::Mkm`] only. `message` is the key that others
    /// write to; the visa carries its public half. `now_s` is in seconds since 1970.
    pub fn create(
        kind: MetaKind,
        network: u8,
        seed: Option<&str>,
        sign: SignKey,
        message: OpenKey,
        now_s: f64,
        properties: Map<String, Value>,
    ) -> Result<Self, CryptoError> {
        Self::make(kind, network, seed, sign, vec![message], now_s, properties)
    }

    /// A new group with a bulletin of `properties`, founded by the owner of `sign`, which signs
    /// for the group too. `seed` is its name.
    pub fn create_group(
        network: u8,
        seed: &str,
        founder: &Id,
        sign: SignKey,
        now_s: f64,
        mut properties: Map<String, Value>,
    ) -> Result<Self, CryptoError> {
        properties.insert("founder".into(), founder.naked().as_str().into());
        Self::make(MetaKind::Mkm, network, Some(seed), sign, Vec::new(), now_s, properties)
    }

    fn make(
        kind: MetaKind,
        network: u8,
        seed: Option<&str>,
        sign: SignKey,
        message_keys: Vec<OpenKey>,
        now_s: f64,
        properties: Map<String, Value>,
    ) -> Result<Self, CryptoError> {
        let fingerprint = match seed {
            Some(seed) => Some((seed, base64_encode(&sign.sign(seed.as_bytes())?))),
            None => None,
        };
        let seed = fingerprint.as_ref().map(|(seed, print)| (*seed, print.as_str()));
        let meta = Meta::build(kind, sign.public_map()?, seed)?;
        let id = generate_id(&meta, network)?;
        let meta = prove_meta(&id, meta)?;
        let mut account =
            Self { id, terminal: None, meta, documents: Vec::new(), sign, message_keys };
        account.publish(properties, now_s)?;
        Ok(account)
    }

    /// An account from its stored parts. Everything is proved again, since files get mixed up.
    /// `message_keys` are the keys of its visas, newest first.
    pub fn restore(
        id: &Id,
        meta: Meta,
        documents: Vec<Document>,
        sign: SignKey,
        message_keys: Vec<OpenKey>,
    ) -> Result<Self, CryptoError> {
        let meta = prove_meta(id, meta)?;
        let key = meta.key().ok_or(CryptoError::Key)?;
        if crate::crypto::key::VerifyKey::from_map(key)? != sign.verify_key()? {
            return Err(CryptoError::Identity);
        }
        let documents = documents
            .into_iter()
            .map(|document| prove_document(&meta, id, document))
            .collect::<Result<Vec<Proven<Document>>, _>>()?;
        let terminal = documents.first().and_then(|document| document.terminal());
        let terminal = terminal.map(str::to_owned);
        Ok(Self { id: id.naked(), terminal, meta, documents, sign, message_keys })
    }

    /// Signs a new visa (or, for a group, a bulletin) of `properties` in place of the present
    /// one and yields it. `type`, `created_time`, `time` and, in a visa, `key` are filled in.
    /// The clock may not stand before the time of the present one.
    pub fn publish(
        &mut self,
        properties: Map<String, Value>,
        now_s: f64,
    ) -> Result<Proven<Document>, CryptoError> {
        const DATED: ProtoError = ProtoError::new("now", "seconds after the present document");
        let time = serde_json::Number::from_f64(now_s).ok_or(DATED)?;
        let kind = if self.id.is_group() { "bulletin" } else { "visa" };
        let created = self.documents.iter().find(|document| document.kind_text() == kind);
        let created = created.and_then(|document| document.properties().get("created_time"));
        let mut data = Map::new();
        data.insert("type".into(), kind.into());
        data.insert("created_time".into(), created.cloned().unwrap_or(time.clone().into()));
        data.extend(properties);
        if let (false, Some(key)) = (self.id.is_group(), self.message_keys.first()) {
            data.insert("key".into(), key.public_map()?.into());
        }
        data.insert("time".into(), time.into());
        let data = json::write_object(&data);
        let signature = base64_encode(&self.sign.sign(data.as_bytes())?);
        let mut document = Document::build(&self.id, kind, &data, &signature)?;
        if let Some(terminal) = &self.terminal {
            let mut map = document.to_map();
            map.insert("terminal".into(), terminal.as_str().into());
            document = Document::from_map(&map)?;
        }
        let document = prove_document(&self.meta, &self.id, document)?;
        match accept_document(&self.documents, document.clone(), now_s) {
            Acceptance::Stored(all) => self.documents = all,
            Acceptance::Same => {}
            _ => return Err(DATED.into()),
        }
        Ok(document)
    }

    /// Takes a new key for others to write to; the next visa offers it. The older ones stay, for
    /// what was written to them.
    pub fn add_message_key(&mut self, key: OpenKey) {
        self.message_keys.insert(0, key);
    }

    /// Who this is, without terminal.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The device, where the user has several.
    pub fn terminal(&self) -> Option<&str> {
        self.terminal.as_deref()
    }

    /// Its meta.
    pub fn meta(&self) -> &Proven<Meta> {
        &self.meta
    }

    /// Its documents, newest first.
    pub fn documents(&self) -> &[Proven<Document>] {
        &self.documents
    }

    /// Its visa or bulletin, the newest.
    pub fn document(&self) -> Option<&Proven<Document>> {
        self.documents.first()
    }

    /// The private key of the ID, which signs.
    pub fn sign_key(&self) -> &SignKey {
        &self.sign
    }

    /// The private keys of the visas, which open, newest first.
    pub fn message_keys(&self) -> &[OpenKey] {
        &self.message_keys
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::crypto::identity::{seal_keys, verify_keys};
    use crate::proto::address::EntityKind;
    use crate::proto::document::DocumentKind;
    use serde_json::json;

    /// Somebody with a key that is weak, but quickly made.
    pub(crate) fn person(name: &str) -> Account {
        let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
        let properties = Map::from_iter([("name".to_owned(), name.into())]);
        Account::create(MetaKind::Eth, 0, None, sign, message, 1000.0, properties).unwrap()
    }

    #[test]
    fn a_group_follows_from_its_founder_and_seed() {
        let founder = person("founder");
        let group = founder.found("people", 2000.0).unwrap();
        assert!(group.id().is_group());
        assert_eq!(group.id().name(), Some("people"));
        let bulletin = group.document().unwrap();
        assert_eq!(bulletin.properties().get("founder"), Some(&json!(founder.id().as_str())));
        assert_ne!(person("other").found("people", 2000.0).unwrap().id(), group.id());
        assert!(founder.found("", 2000.0).is_err());
    }

    fn create(kind: MetaKind, network: u8, seed: Option<&str>) -> Account {
        let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(2048).unwrap());
        let properties = json!({"name": "gsp", "app_id": "x"}).as_object().unwrap().clone();
        Account::create(kind, network, seed, sign, message, 1000.5, properties).unwrap()
    }

    #[test]
    fn a_station_makes_its_own_account_and_reads_it_back() {
        let station = create(MetaKind::Mkm, 2, Some("gsp-s001"));
        assert_eq!(
            (station.id().name(), station.id().kind()),
            (Some("gsp-s001"), EntityKind::Station)
        );
        let visa = station.document().unwrap();
        assert_eq!((visa.kind(), visa.time()), (DocumentKind::Visa, Some(1000.5)));
        assert_eq!(visa.properties().get("created_time"), Some(&json!(1000.5)));
        assert_eq!(verify_keys(station.meta(), station.documents()).len(), 2);
        let sealed = seal_keys(station.meta(), station.documents())[0].1.encrypt(b"x").unwrap();
        let read = Account::restore(
            station.id(),
            Meta::from_map(&station.meta().to_map()).unwrap(),
            vec![Document::from_map(&visa.to_map()).unwrap()],
            SignKey::from_map(&station.sign_key().to_map().unwrap()).unwrap(),
            vec![OpenKey::from_map(&station.message_keys()[0].to_map().unwrap()).unwrap()],
        )
        .unwrap();
        assert_eq!(read.message_keys()[0].decrypt(&sealed).unwrap(), b"x");
        assert_eq!(format!("{read:?}"), format!("Account {{ id: {}, .. }}", station.id()));
    }

    #[test]
    fn a_new_visa_keeps_its_birthday_and_replaces_the_old_one() {
        let mut user = create(MetaKind::Eth, 0, None);
        let visa = user.publish(Map::new(), 2000.0).unwrap();
        assert_eq!(visa.properties().get("created_time"), Some(&json!(1000.5)));
        assert_eq!(user.documents(), [visa]);
        assert!(user.publish(Map::new(), 1999.0).is_err());
        assert!(user.publish(Map::new(), f64::NAN).is_err());
    }

    #[test]
    fn a_group_publishes_a_bulletin_without_a_key() {
        let user = create(MetaKind::Eth, 0, None);
        let sign = user.sign_key().clone();
        let group =
            Account::create_group(1, "Group-1", user.id(), sign, 1000.5, Map::new()).unwrap();
        let bulletin = group.document().unwrap();
        assert_eq!(bulletin.kind(), DocumentKind::Bulletin);
        assert_eq!(bulletin.properties().get("founder"), Some(&json!(user.id().as_str())));
        assert!(!bulletin.properties().contains_key("key") && group.message_keys().is_empty());
    }

    #[test]
    fn the_next_visa_offers_a_new_key_and_the_old_one_stays() {
        let mut user = create(MetaKind::Eth, 0, None);
        let key = OpenKey::generate(1024).unwrap();
        user.add_message_key(key.clone());
        let visa = user.publish(Map::new(), 2000.0).unwrap();
        assert_eq!(visa.visa_key(), Some(&key.public_map().unwrap()));
        assert_eq!(user.message_keys().len(), 2);
    }

    #[test]
    fn keys_of_another_account_are_refused() {
        let (one, two) = (create(MetaKind::Btc, 4, None), create(MetaKind::Btc, 4, None));
        let meta = one.meta().clone().into_inner();
        let mixed = Account::restore(one.id(), meta, vec![], two.sign_key().clone(), vec![]);
        assert_eq!(mixed.unwrap_err(), CryptoError::Identity);
    }
}
