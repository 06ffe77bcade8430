//! The files of an account as somebody else wrote them, as they are imported.
#![no_main]

use std::cell::RefCell;
use std::fs;

use arbitrary::Arbitrary;
use dim::client::folder::Folder;
use dim::proto::id::Id;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// An account of tests/vectors, whose own files are among the seeds.
const ID: &str = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";
const NAMES: [&str; 6] =
    ["meta.js", "documents.js", "profile.js", "login_commands.js", "secret.js", "secret_keys.js"];

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    files: [Option<&'a [u8]>; NAMES.len()],
}

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(TempDir::new().expect("a folder"));
}

fuzz_target!(|input: Input<'_>| {
    PLACE.with_borrow(|place| {
        let id = Id::parse(ID).expect("an ID");
        let root = place.path();
        let public = root.join("public").join(id.address());
        let private = root.join("private").join(id.address());
        for (name, bytes) in NAMES.iter().zip(input.files) {
            let folder = if name.starts_with("secret") { &private } else { &public };
            fs::create_dir_all(folder).expect("a folder");
            let path = folder.join(name);
            match bytes {
                Some(bytes) => fs::write(path, bytes).expect("a file"),
                None => drop(fs::remove_file(path)),
            }
        }
        let folder = Folder::new(root.join("public"), root.join("private"), root.join("private"))
            .without_sync();
        assert_eq!(folder.addresses().expect("a folder").count(), 1);
        if let Ok(Some(meta)) = folder.meta(&id) {
            assert_eq!(meta.id(), &id, "a meta is its ID's");
            let _ = folder.documents(&meta);
        }
        let _ = (folder.logins(&id), folder.sign_key(&id), folder.message_keys(&id));
        match folder.account(&id, None) {
            Ok(account) => assert_eq!(account.id(), &id),
            // What is wrong is said, and where.
            Err(error) => assert!(error.to_string().contains(".js")),
        }
    });
});
