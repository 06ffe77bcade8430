//! The files of an account as somebody else wrote them, as they are imported; an account that is
//! whole is written down and read again as the same.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use dim::client::folder::Folder;
use dim::proto::command::List;
use dim::proto::id::Id;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// An account of tests/vectors, whose own files are among the seeds.
const ID: &str = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";
/// In this order they stand in an input, with a NUL after each; an empty one is not there.
const NAMES: [&str; 9] = [
    "secret.js",
    "secret_keys.js",
    "meta.js",
    "documents.js",
    "document.js",
    "profile.js",
    "private_key.js",
    "login_commands.js",
    "block_stored.js",
];

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(TempDir::new().expect("a folder"));
}

fn folder(root: &Path) -> Folder {
    Folder::new(root.join("public"), root.join("private"), root.join("private")).without_sync()
}

fuzz_target!(|input: &[u8]| {
    PLACE.with_borrow(|place| {
        let id = Id::parse(ID).expect("an ID");
        let root = place.path();
        let public = root.join("public").join(id.address());
        let private = root.join("private").join(id.address());
        let mut files = input.split(|byte| *byte == 0);
        for name in NAMES {
            let is_secret = ["secret", "private", "block"].iter().any(|s| name.starts_with(s));
            let folder = if is_secret { &private } else { &public };
            fs::create_dir_all(folder).expect("a folder");
            let path = folder.join(name);
            match files.next().unwrap_or_default() {
                [] => drop(fs::remove_file(path)),
                bytes => fs::write(path, bytes).expect("a file"),
            }
        }
        let there = folder(root);
        assert_eq!(there.addresses().expect("a folder").count(), 1);
        if let Ok(Some(meta)) = there.meta(&id) {
            assert_eq!(meta.id(), &id, "a meta is its ID's");
            let _ = there.documents(&meta);
        }
        let _ = (there.logins(&id), there.sign_key(&id), there.message_keys(&id));
        let _ = there.list(&id, List::Block);
        let account = match there.account(&id, None) {
            Ok(account) => account,
            // What is wrong is said, and where.
            Err(error) => return assert!(error.to_string().contains(".js")),
        };
        assert_eq!(account.id(), &id);
        let copy = root.join("copy");
        drop(fs::remove_dir_all(&copy));
        let copy = folder(&copy);
        copy.save(&account).expect("it can be written");
        let again = copy.account(&id, None).expect("what was written is an account");
        assert_eq!(again.meta().to_map(), account.meta().to_map());
        assert_eq!(again.documents().len(), account.documents().len());
        for (again, first) in again.documents().iter().zip(account.documents()) {
            assert_eq!(again.to_map(), first.to_map());
        }
        assert_eq!(again.message_keys().len(), account.message_keys().len());
        assert_eq!(again.sign_key().public_map(), account.sign_key().public_map());
    });
});
