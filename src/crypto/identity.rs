//! Proof that a meta made an ID and that its key signed a document. [`Proven`] is the only way
//! to bind a key to an ID, and only this module makes one.

use std::cmp::Ordering;
use std::ops::Deref;

use super::error::CryptoError;
use super::key::{SealKey, VerifyKey};
use crate::base::limits::{DOCUMENT_AHEAD_S_MAX, DOCUMENTS_MAX};
use crate::proto::address::Address;
use crate::proto::document::{Document, DocumentKind};
use crate::proto::id::Id;
use crate::proto::meta::{Meta, MetaKind};
use crate::proto::registry::Registry;

/// A `T` that was shown to belong to an ID.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven<T> {
    id: Id,
    value: T,
}

impl<T> Proven<T> {
    /// Whose it is, without terminal.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The value without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Takes a record of our own store, which was proved before it was stored. Never for
    /// anything that came over the wire.
    pub fn restore(id: &Id, value: T) -> Self {
        Self { id: id.naked(), value }
    }
}

impl<T> Deref for Proven<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The ID that `meta` makes on a network. ETH-form IDs are the same on every network. The
/// fingerprint is not checked here.
pub fn generate_id(meta: &Meta, network: u8) -> Result<Id, CryptoError> {
    generate_id_with(Registry::none(), meta, network)
}

/// The same, where the meta may be of a kind that an application has registered.
pub fn generate_id_with(registry: &Registry, meta: &Meta, network: u8) -> Result<Id, CryptoError> {
    let address = address_of(registry, meta, &meta_key(meta)?, network)?;
    Ok(Id::build(meta.seed(), &address)?)
}

/// Proves that `meta` made `id`: the key signed the seed, the seed is the name, and the address
/// follows from the fingerprint or the key. The terminal plays no role. Broadcast IDs have none.
pub fn prove_meta(id: &Id, meta: Meta) -> Result<Proven<Meta>, CryptoError> {
    prove_meta_with(Registry::none(), id, meta)
}

/// The same, where the meta may be of a kind that an application has registered: its rule makes
/// the address, everything else is checked as for all.
pub fn prove_meta_with(
    registry: &Registry,
    id: &Id,
    meta: Meta,
) -> Result<Proven<Meta>, CryptoError> {
    // Ordered by cost: the signature is by far the dearest.
    if id.name().unwrap_or_default() != meta.seed().unwrap_or_default() {
        return Err(CryptoError::Identity);
    }
    let key = meta_key(&meta)?;
    if address_of(registry, &meta, &key, id.network())?.as_str() != id.address() {
        return Err(CryptoError::Identity);
    }
    if let Some(seed) = meta.seed()
        && !key.verify(seed.as_bytes(), meta.fingerprint().unwrap_or_default())
    {
        return Err(CryptoError::Signature);
    }
    Ok(Proven { id: id.naked(), value: meta })
}

/// Proves that the owner of `meta` signed `document` about `id`, which must be its own ID. No
/// other key will do, not even that of a visa.
pub fn prove_document(
    meta: &Proven<Meta>,
    id: &Id,
    document: Document,
) -> Result<Proven<Document>, CryptoError> {
    if !meta.id.is_same_as(id) || !document.did().is_same_as(id) {
        return Err(CryptoError::Identity);
    }
    if !meta_key(meta)?.verify(document.data().as_bytes(), document.signature()) {
        return Err(CryptoError::Signature);
    }
    Ok(Proven { id: id.naked(), value: document })
}

/// What becomes of a proven document.
#[derive(Debug, Clone, PartialEq)]
pub enum Acceptance {
    /// It joins the stored ones: what is to be stored now, newest first.
    Stored(Vec<Proven<Document>>),
    /// It is one of the stored ones; nothing changes.
    Same,
    /// One of the stored ones is newer.
    Older,
    /// It is dated too far ahead of our clock.
    TooNew,
    /// The stored ones are of somebody else.
    Foreign,
}

/// Decides whether `new` joins the documents `stored` for its owner; `now_s` is our clock in
/// seconds since 1970. Time is compared with all stored documents, whatever their kind and
/// terminal: that is stricter than a comparison with its like, and what stations do.
pub fn accept_document(
    stored: &[Proven<Document>],
    new: Proven<Document>,
    now_s: f64,
) -> Acceptance {
    if stored.iter().any(|old| old.id != new.id) {
        return Acceptance::Foreign;
    }
    if let Some(old) = stored.iter().find(|old| old.is_same_as(&new))
        && (names_its_kind(old) || !names_its_kind(&new))
    {
        return Acceptance::Same;
    }
    if let Some(time) = new.time() {
        if time > now_s + DOCUMENT_AHEAD_S_MAX {
            return Acceptance::TooNew;
        }
        if stored.iter().filter_map(|old| old.time()).any(|old| old > time) {
            return Acceptance::Older;
        }
    }
    // Only visas are one a terminal; of any other kind there is one.
    let terminal = |document: &Proven<Document>| {
        let visa = document.kind() == DocumentKind::Visa;
        document.terminal().filter(|_| visa).map(str::to_owned)
    };
    let replaced = |old: &&Proven<Document>| {
        old.is_same_as(&new)
            || (old.kind_text() == new.kind_text() && terminal(old) == terminal(&new))
    };
    let mut all: Vec<Proven<Document>> =
        stored.iter().filter(|old| !replaced(old)).cloned().collect();
    all.insert(0, new.clone());
    // Stable, so that of equal times the newly arrived one stands first. No time counts as 0.
    all.sort_by(|a, b| {
        let (a, b) = (a.time().unwrap_or_default(), b.time().unwrap_or_default());
        b.partial_cmp(&a).unwrap_or(Ordering::Equal)
    });
    all.truncate(DOCUMENTS_MAX);
    match all.iter().any(|kept| kept.is_same_as(&new)) {
        true => Acceptance::Stored(all),
        // Undated, and there are enough dated ones.
        false => Acceptance::Older,
    }
}

/// Whether the unsigned kind outside is the signed one inside. Anyone can pass on a document
/// under another kind; if that kept the true one out, its owner would have no visa.
fn names_its_kind(document: &Document) -> bool {
    let signed = document.properties().get("type").and_then(serde_json::Value::as_str);
    signed.is_none_or(|kind| kind == document.kind_text())
}

/// The keys that may have signed a message of this owner: those of the visas, then the meta's.
pub fn verify_keys(meta: &Proven<Meta>, documents: &[Proven<Document>]) -> Vec<VerifyKey> {
    let visas = documents.iter().filter(|document| document.id == meta.id);
    let offered = visas.filter_map(|visa| VerifyKey::from_map(visa.visa_key()?).ok());
    let mut keys: Vec<VerifyKey> = Vec::new();
    for key in offered.chain(meta_key(meta)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The keys to seal a message for this owner with, one a terminal, each with the ID that names
/// its entry in the message. The meta's key serves when no visa offers one. Empty when nothing
/// can be sealed for the owner yet.
pub fn seal_keys(meta: &Proven<Meta>, documents: &[Proven<Document>]) -> Vec<(Id, SealKey)> {
    let mut keys: Vec<(Id, SealKey)> = Vec::new();
    let visas = documents.iter().filter(|document| document.kind() == DocumentKind::Visa);
    for visa in visas.filter(|document| document.id == meta.id) {
        let Some(key) = visa.visa_key().and_then(|map| SealKey::from_map(map).ok()) else {
            continue;
        };
        let Ok(entry) = meta.id.dressed(visa.terminal().unwrap_or_default()) else {
            continue;
        };
        if keys.iter().all(|(taken, _)| *taken != entry) {
            keys.push((entry, key));
        }
    }
    if keys.is_empty()
        && let Some(key) = meta.key().and_then(|map| SealKey::from_map(map).ok())
    {
        keys.push((meta.id.clone(), key));
    }
    keys
}

/// Whether the owner of `key` made `meta`: so a founder is known by the meta of the group.
pub fn is_made_by(meta: &Proven<Meta>, key: &VerifyKey) -> bool {
    let same = meta_key(meta).is_ok_and(|own| own == *key);
    same || match (meta.seed(), meta.fingerprint()) {
        (Some(seed), Some(fingerprint)) => key.verify(seed.as_bytes(), fingerprint),
        _ => false,
    }
}

fn meta_key(meta: &Meta) -> Result<VerifyKey, CryptoError> {
    VerifyKey::from_map(meta.key().ok_or(CryptoError::Key)?)
}

fn address_of(
    registry: &Registry,
    meta: &Meta,
    key: &VerifyKey,
    network: u8,
) -> Result<Address, CryptoError> {
    match meta.kind() {
        MetaKind::Mkm => Ok(Address::btc(network, meta.fingerprint().unwrap_or_default())),
        MetaKind::Btc => Ok(Address::btc(network, &key.key_data())),
        // Only an uncompressed point has such an address.
        MetaKind::Eth => match key {
            VerifyKey::Ecc(_) => Address::eth(&key.key_data()).ok_or(CryptoError::Identity),
            VerifyKey::Rsa(_) => Err(CryptoError::Identity),
        },
        MetaKind::Other { .. } => {
            let address = registry.meta_address(meta, &key.key_data(), network);
            address.ok_or(CryptoError::Identity)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::encode::base64_encode;
    use crate::crypto::key::SignKey;
    use crate::proto::address::AddressForm;
    use crate::proto::meta::MetaForm;

    const NOW_S: f64 = 1000.0;

    fn owner() -> (SignKey, Proven<Meta>) {
        let key = SignKey::generate_ecc().unwrap();
        let meta = Meta::build(MetaKind::Eth, key.public_map().unwrap(), None).unwrap();
        let id = generate_id(&meta, 0).unwrap();
        (key, prove_meta(&id, meta).unwrap())
    }

    fn document(who: &(SignKey, Proven<Meta>), kind: &str, data: &str) -> Proven<Document> {
        let signature = base64_encode(&who.0.sign(data.as_bytes()).unwrap());
        let document = Document::build(who.1.id(), kind, data, &signature).unwrap();
        prove_document(&who.1, who.1.id(), document).unwrap()
    }

    fn at(who: &(SignKey, Proven<Meta>), kind: &str, time: u32) -> Proven<Document> {
        document(who, kind, &format!("{{\"time\": {time}}}"))
    }

    fn stored(acceptance: Acceptance) -> Vec<Proven<Document>> {
        match acceptance {
            Acceptance::Stored(all) => all,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_speaks_for_its_own_id_only() {
        let (alice, bob) = (owner(), owner());
        let card = at(&alice, "visa", 1).into_inner();
        let about = |meta, id| prove_document(meta, id, card.clone());
        assert!(about(&alice.1, alice.1.id()).is_ok());
        assert_eq!(about(&bob.1, alice.1.id()).unwrap_err(), CryptoError::Identity);
        assert_eq!(about(&alice.1, bob.1.id()).unwrap_err(), CryptoError::Identity);
        assert_eq!(
            prove_meta(bob.1.id(), alice.1.clone().into_inner()).unwrap_err(),
            CryptoError::Identity
        );
        for broadcast in [Id::anyone(), Id::everyone()] {
            assert!(prove_meta(&broadcast, alice.1.clone().into_inner()).is_err());
        }
    }

    /// Metas of another kind, with a seed: the address is the length of the fingerprint.
    struct Short;

    impl AddressForm for Short {
        fn network(text: &str) -> Option<u8> {
            text.strip_prefix("len:")?.parse::<u16>().ok().map(|_| 0)
        }
    }

    impl MetaForm for Short {
        const CODE: u8 = 9;
        const NAME: &'static str = "SHORT";
        const HAS_SEED: bool = true;

        fn address(meta: &Meta, _: &[u8], _: u8) -> Option<Address> {
            Address::of::<Self>(&format!("len:{}", meta.fingerprint()?.len())).ok()
        }
    }

    #[test]
    fn a_registered_meta_is_proved_like_all_others() {
        let mut registry = Registry::new();
        registry.add_address::<Short>().unwrap();
        registry.add_meta::<Short>().unwrap();
        let (key, other) = (SignKey::generate_ecc().unwrap(), SignKey::generate_ecc().unwrap());
        let kind = Registry::meta_kind::<Short>();
        let build = |seed: &str, print: &[u8]| {
            let print = base64_encode(print);
            Meta::build(kind, key.public_map().unwrap(), Some((seed, &print))).unwrap()
        };
        let meta = build("moon", &key.sign(b"moon").unwrap());
        let id = generate_id_with(&registry, &meta, 0).unwrap();
        assert_eq!((id.name(), id.address().get(..4)), (Some("moon"), Some("len:")));
        let proven = prove_meta_with(&registry, &id, meta.clone()).unwrap();

        // Without its rule it proves nothing, nor for another name, address or signature.
        assert_eq!(prove_meta(&id, meta.clone()).unwrap_err(), CryptoError::Identity);
        assert_eq!(generate_id(&meta, 0).unwrap_err(), CryptoError::Identity);
        let refused = |id: &str, meta: Meta| {
            let id = registry.id(id).unwrap();
            prove_meta_with(&registry, &id, meta).unwrap_err()
        };
        assert_eq!(refused("sun@len:70", meta.clone()), CryptoError::Identity);
        assert_eq!(refused("moon@len:7", meta), CryptoError::Identity);
        let forged = build("moon", &other.sign(b"moon").unwrap());
        let its = generate_id_with(&registry, &forged, 0).unwrap();
        assert_eq!(refused(its.as_str(), forged), CryptoError::Signature);

        // Its documents are read and proved too.
        let data = "{\"time\": 5}";
        let signature = base64_encode(&key.sign(data.as_bytes()).unwrap());
        let card = Document::build(&id, "visa", data, &signature).unwrap().to_map();
        assert!(Document::from_map(&card).is_err());
        let card = Document::from_map_with(&card, &registry).unwrap();
        assert_eq!(prove_document(&proven, &id, card).unwrap().id(), &id);
    }

    #[test]
    fn a_terminal_does_not_change_the_owner() {
        let who = owner();
        let dressed = who.1.id().dressed("tv").unwrap();
        let proven = prove_meta(&dressed, who.1.clone().into_inner()).unwrap();
        assert_eq!(proven.id(), who.1.id());
    }

    #[test]
    fn documents_replace_their_like_and_stand_newest_first() {
        let who = owner();
        let all = stored(accept_document(&[], at(&who, "visa", 5), NOW_S));
        let all = stored(accept_document(&all, at(&who, "poem", 6), NOW_S));
        let all = stored(accept_document(&all, at(&who, "visa", 7), NOW_S));
        let times: Vec<_> = all.iter().map(|document| document.time()).collect();
        assert_eq!(times, [Some(7.0), Some(6.0)]);
        assert_eq!(accept_document(&all, at(&who, "visa", 7), NOW_S), Acceptance::Same);
        assert_eq!(accept_document(&all, at(&who, "song", 4), NOW_S), Acceptance::Older);
        let late = at(&who, "visa", 2801);
        assert_eq!(accept_document(&all, late, NOW_S), Acceptance::TooNew);
        let other = at(&owner(), "visa", 9);
        assert_eq!(accept_document(&all, other, NOW_S), Acceptance::Foreign);
    }

    #[test]
    fn only_visas_are_kept_one_a_terminal() {
        let who = owner();
        let at_terminal = |kind: &str, time: u32, terminal: &str| {
            let mut map = at(&who, kind, time).to_map();
            map.insert("terminal".into(), terminal.into());
            prove_document(&who.1, who.1.id(), Document::from_map(&map).unwrap()).unwrap()
        };
        for (kind, kept) in [("visa", 2), ("profile", 1), ("poem", 1)] {
            let all = stored(accept_document(&[], at_terminal(kind, 5, "tv"), NOW_S));
            let all = stored(accept_document(&all, at_terminal(kind, 6, "web"), NOW_S));
            assert_eq!(all.len(), kept, "{kind}");
        }
    }

    #[test]
    fn a_visa_passed_on_under_another_kind_does_not_keep_the_true_one_out() {
        let who = owner();
        let data = "{\"type\": \"visa\", \"time\": 5}";
        let (fake, real) = (document(&who, "poem", data), document(&who, "visa", data));
        let all = stored(accept_document(&[], fake.clone(), NOW_S));
        let all = stored(accept_document(&all, real, NOW_S));
        assert_eq!(all.iter().map(|kept| kept.kind_text()).collect::<Vec<_>>(), ["visa"]);
        assert_eq!(accept_document(&all, fake, NOW_S), Acceptance::Same);
    }

    #[test]
    fn an_undated_document_is_never_older_but_stands_last() {
        let who = owner();
        let all = stored(accept_document(&[], at(&who, "visa", 5), NOW_S));
        let all = stored(accept_document(&all, document(&who, "poem", "{}"), NOW_S));
        assert_eq!(all.last().map(|document| document.time()), Some(None));
    }

    #[test]
    fn the_number_of_documents_is_bounded() {
        let who = owner();
        let mut all = Vec::new();
        for time in 0..20 {
            all = stored(accept_document(&all, at(&who, &format!("k{time}"), time), NOW_S));
        }
        assert_eq!(all.len(), DOCUMENTS_MAX);
        assert_eq!(all.first().and_then(|document| document.time()), Some(19.0));
        let undated = document(&who, "poem", "{}");
        assert_eq!(accept_document(&all, undated, NOW_S), Acceptance::Older);
    }

    #[test]
    fn a_visa_offers_its_key_before_the_meta() {
        let who = owner();
        let rsa = SignKey::generate_rsa(1024).unwrap();
        let data = serde_json::json!({"key": rsa.public_map().unwrap()}).to_string();
        let visa = [document(&who, "visa", &data)];
        let keys = verify_keys(&who.1, &visa);
        assert!(keys == [rsa.verify_key().unwrap(), who.0.verify_key().unwrap()]);
        assert_eq!(seal_keys(&who.1, &visa).first().map(|(id, _)| id), Some(who.1.id()));
        assert!(seal_keys(&who.1, &[]).is_empty());
        assert!(verify_keys(&who.1, &[document(&who, "profile", &data)]).len() == 1);
        assert!(is_made_by(&who.1, &keys[1]) && !is_made_by(&who.1, &keys[0]));
    }
}
