//! Keys of strangers, in whatever objects they come: what is taken works.
#![no_main]

use dim::crypto::key::{CipherKey, OpenKey, SealKey, SignKey, VerifyKey};
use dim::proto::json::parse_object;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(map) = parse_object(input) else { return };
    if let Ok(key) = VerifyKey::from_map(&map) {
        assert!(!key.key_data().is_empty());
        assert!(!key.verify(b"anything", input));
    }
    if let Ok(key) = SealKey::from_map(&map) {
        let most = vec![7; key.plain_bytes_max()];
        assert!(key.encrypt(&most).is_ok());
        assert!(key.encrypt(&[&most[..], b"!"].concat()).is_err());
    }
    if let Ok(key) = SignKey::from_map(&map) {
        // A private key whose parts do not fit each other signs nothing, or nothing that holds.
        let check = key.verify_key();
        if let (Ok(signature), Ok(check)) = (key.sign(b"said"), check) {
            assert!(!check.verify(b"not said", &signature));
        }
        let _ = (key.to_map(), key.public_map());
    }
    if let Ok(key) = OpenKey::from_map(&map) {
        assert!(key.decrypt(input).is_err());
    }
    if let Ok(key) = CipherKey::from_map(&map) {
        let (sealed, iv) = key.encrypt(input).expect("a key that was taken seals");
        assert_eq!(key.decrypt(&sealed, iv).as_deref(), Ok(input));
        let _ = key.decrypt(input, iv);
        assert!(CipherKey::from_map(&key.to_map()).is_ok());
    }
});
