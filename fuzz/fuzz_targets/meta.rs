//! Metas of strangers: read, written and read again; proven against the ID that they would make.
#![no_main]

use dim::crypto::identity::{generate_id, is_made_by, prove_meta};
use dim::crypto::key::VerifyKey;
use dim::proto::id::Id;
use dim::proto::json::parse_object;
use dim::proto::meta::Meta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(map) = parse_object(input) else { return };
    let Ok(meta) = Meta::from_map(&map) else { return };
    assert!(Meta::from_map(&meta.to_map()) == Ok(meta.clone()), "{map:?}");
    assert_eq!(meta.seed().is_some(), meta.fingerprint().is_some());
    for network in [0, 2, 255] {
        let Ok(id) = generate_id(&meta, network) else { continue };
        if let Ok(proven) = prove_meta(&id, meta.clone()) {
            let key = VerifyKey::from_map(meta.key().expect("a key")).expect("it proved something");
            assert!(is_made_by(&proven, &key));
            assert!(prove_meta(&Id::moky(), meta.clone()).is_err(), "it is one ID's only");
        }
    }
});
