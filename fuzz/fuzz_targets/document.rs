//! Documents of strangers: read, written and read again; proven against a meta that is not theirs.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use std::sync::OnceLock;

use dim::client::account::Account;
use dim::crypto::identity::{Acceptance, accept_document, prove_document, seal_keys};
use dim::proto::document::Document;
use dim::proto::json::parse_object;
use libfuzzer_sys::fuzz_target;

fn alice() -> &'static Account {
    static ALICE: OnceLock<Account> = OnceLock::new();
    ALICE.get_or_init(|| kit::person(1))
}

fuzz_target!(|input: &[u8]| {
    let Ok(map) = parse_object(input) else { return };
    let Ok(document) = Document::from_map(&map) else { return };
    assert!(Document::from_map(&document.to_map()) == Ok(document.clone()), "{map:?}");
    assert!(document.is_same_as(&document));
    let _ = (document.kind_text(), document.terminal(), document.visa_key());
    assert!(document.time().is_none_or(f64::is_finite));
    let alice = alice();
    if let Ok(proven) = prove_document(alice.meta(), alice.id(), document) {
        let now_s = kit::EPOCH_US as f64 / 1e6;
        let accepted = accept_document(alice.documents(), proven, now_s);
        if let Acceptance::Stored(documents) = accepted {
            seal_keys(alice.meta(), &documents);
        }
    }
});
