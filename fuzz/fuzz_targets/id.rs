//! Texts that claim to be IDs and addresses: what is taken is taken again, as the same.
#![no_main]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use dim::proto::address::Address;
use dim::proto::id::Id;
use libfuzzer_sys::fuzz_target;

fn hash(id: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fuzz_target!(|text: &str| {
    if let Ok(address) = Address::parse(text) {
        let again = Address::parse(address.as_str()).expect("it is one");
        assert_eq!(again.as_str(), address.as_str());
        assert_eq!(again.network(), address.network());
        let id = Id::build(None, &address).expect("an address is an ID");
        assert_eq!(id.network(), address.network());
    }
    let Ok(id) = Id::parse(text) else { return };
    let again = Id::parse(id.as_str()).expect("it is one");
    assert_eq!((&again, hash(&again)), (&id, hash(&id)));
    assert_eq!(again.network(), id.network());
    assert_eq!((again.name(), again.terminal()), (id.name(), id.terminal()));
    assert!(id.is_same_as(&again) && id.is_named_by(id.as_str()));
    let naked = id.naked();
    // An empty name is none: `@anywhere` is `anywhere`.
    assert_eq!((naked.terminal(), naked.address()), (None, id.address()));
    assert_eq!(naked.name().unwrap_or_default(), id.name().unwrap_or_default());
    assert!(naked.is_same_as(&id));
    // Built-in names are read in any case, but with a terminal they stay as they are written.
    if !id.is_broadcast() {
        assert_eq!(Id::parse(naked.as_str()).as_ref(), Ok(&naked));
    }
    assert!(!(id.is_group() && id.is_user()));
    if let Some(terminal) = id.terminal() {
        let dressed = naked.dressed(terminal).expect("it was so dressed");
        assert!(dressed.is_same_as(&id));
        assert_eq!(dressed.terminal().unwrap_or_default(), terminal);
    }
    if let Ok(dressed) = naked.dressed(text)
        && !id.is_broadcast()
    {
        assert_eq!(Id::parse(dressed.as_str()).as_ref(), Ok(&dressed));
    }
});
