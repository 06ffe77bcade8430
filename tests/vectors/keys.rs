//! RSA, ECC and AES.

use dim::base::encode::{base64_decode, base64_encode, hex_encode};
use dim::crypto::aes::{AesKey, message_iv};
use dim::crypto::key::{CipherKey, OpenKey, SealKey, SignKey, VerifyKey};
use serde_json::Value;

use crate::set::{Outcome, bytes, exact, judge, map, number, same, text, wrong};

pub(crate) fn rsa(vector: &Value) -> Outcome {
    match text(vector, "kind") {
        "verify" => judge(vector, verifies(vector)),
        "sign" => {
            let key = SignKey::from_map(map(vector, "private_key")).unwrap();
            let signature = key.sign(&bytes(vector, "data_hex")).unwrap();
            same("signature", base64_encode(&signature).as_str(), text(vector, "signature"))?;
            exact()
        }
        "decrypt" => {
            let key = OpenKey::from_map(map(vector, "private_key")).unwrap();
            let block = base64_decode(text(vector, "ciphertext")).unwrap();
            opened(vector, key.decrypt(&block).ok())
        }
        "encrypt_limit" => {
            let key = SealKey::from_map(map(vector, "key")).unwrap();
            let plain = vec![b'x'; number(vector, "length") as usize];
            judge(vector, key.encrypt(&plain).is_ok())
        }
        other => Err(wrong("a known kind", other)),
    }
}

fn verifies(vector: &Value) -> bool {
    let Ok(key) = VerifyKey::from_map(map(vector, "key")) else {
        return false;
    };
    let Ok(signature) = base64_decode(text(vector, "signature")) else {
        return false;
    };
    key.verify(&bytes(vector, "data_hex"), &signature)
}

/// Holds an opened text to `plaintext_hex`.
fn opened(vector: &Value, plain: Option<Vec<u8>>) -> Outcome {
    let answer = judge(vector, plain.is_some())?;
    if let (Some(plain), "accept") = (plain, text(vector, "expect")) {
        same("plaintext", hex_encode(&plain).as_str(), text(vector, "plaintext_hex"))?;
    }
    Ok(answer)
}

pub(crate) fn ecc(vector: &Value) -> Outcome {
    match text(vector, "kind") {
        "verify" => judge(vector, verifies(vector)),
        "private_key" => {
            let key = SignKey::from_map(map(vector, "private_key")).unwrap();
            let public = key.verify_key().unwrap();
            let point = hex_encode(&public.key_data());
            same("point", point.as_str(), text(vector, "public_point_hex"))?;
            let written = &key.public_map().unwrap()["data"];
            same("armor", written, &vector["public_key"]["data"])?;
            let stated = VerifyKey::from_map(map(vector, "public_key")).ok();
            same("public key", stated.as_ref(), Some(&public))?;
            let given = text(&vector["private_key"], "data");
            if given.starts_with("-----BEGIN PRIVATE KEY-----") {
                same("armor", key.to_map().unwrap()["data"].as_str(), Some(given))?;
            }
            let data = bytes(vector, "data_hex");
            let signature = base64_decode(text(vector, "signature")).unwrap();
            same("signature fits", public.verify(&data, &signature), true)?;
            same("own signature fits", public.verify(&data, &key.sign(&data).unwrap()), true)?;
            exact()
        }
        other => Err(wrong("a known kind", other)),
    }
}

pub(crate) fn aes(vector: &Value) -> Outcome {
    match text(vector, "kind") {
        "encrypt+decrypt" => {
            let CipherKey::Aes(key) = CipherKey::from_map(map(vector, "key")).unwrap() else {
                return Err(wrong("an AES key", "another one"));
            };
            let plain = bytes(vector, "plaintext_hex");
            let iv = message_iv(map(vector, "params")).unwrap();
            let sealed = match iv {
                Some(iv) => key.encrypt_with(&plain, iv).unwrap(),
                None => key.encrypt(&plain).unwrap().0,
            };
            same("ciphertext", base64_encode(&sealed).as_str(), text(vector, "ciphertext"))?;
            same("plaintext", key.decrypt(&sealed, iv), Ok(plain))?;
            exact()
        }
        "decrypt" => {
            let plain = message_iv(map(vector, "params")).ok().and_then(|iv| {
                let key = CipherKey::from_map(map(vector, "key")).ok()?;
                key.decrypt(&base64_decode(text(vector, "ciphertext")).ok()?, iv).ok()
            });
            opened(vector, plain)
        }
        "plain" => {
            let key = CipherKey::from_map(map(vector, "key")).unwrap();
            let plain = bytes(vector, "plaintext_hex");
            let sealed = base64_encode(&key.encrypt(&plain).unwrap().0);
            same("ciphertext", sealed.as_str(), text(vector, "ciphertext"))?;
            exact()
        }
        "passphrase" => {
            let key = AesKey::from_passphrase(text(vector, "passphrase"));
            same("key", &Value::Object(key.to_map()), &vector["key"])?;
            same("digest", key.digest().as_str(), text(vector, "digest"))?;
            exact()
        }
        other => Err(wrong("a known kind", other)),
    }
}
