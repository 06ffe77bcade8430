//! Known answers: every vector file whose subject is implemented is read and held to.
//!
//! `must: false` marks vectors that either answer satisfies. `DIM_VECTORS` names another folder.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at the first surprise"
)]

use std::path::PathBuf;

use dim::base::digest::{keccak256, md5, ripemd160, sha1, sha256};
use dim::base::encode::{
    base58_decode, base58_encode, base58check_decode, base58check_encode, base64_decode,
    base64_encode, checksum, hash160, hex_decode, hex_encode, ted_decode,
};
use dim::client::account::Account;
use dim::crypto::aes::{AesKey, message_iv};
use dim::crypto::identity::{
    Acceptance, accept_document, generate_id, prove_document, prove_meta, verify_keys,
};
use dim::crypto::key::{CipherKey, OpenKey, SealKey, SignKey, VerifyKey};
use dim::proto::address::{ANYWHERE, Address, EVERYWHERE, eip55};
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::meta::Meta;
use serde_json::{Map, Value};

fn file(name: &str) -> Value {
    let folder = std::env::var_os("DIM_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")),
        PathBuf::from,
    );
    let path = folder.join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    json::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs `check` over the vectors of a file; it answers what was wrong. All failures are shown.
fn run(name: &str, check: impl Fn(&Value) -> Result<(), String>) {
    let file = file(name);
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(Some(vectors.len() as u64), file["count"].as_u64(), "{name} is not whole");
    let failures: Vec<String> = vectors
        .iter()
        .enumerate()
        .filter_map(|(index, vector)| {
            let label = ["name", "text", "kind"].iter().find_map(|key| vector[key].as_str());
            let why = check(vector).err()?;
            Some(format!("{name} {index} ({}): {why}", label.unwrap_or_default()))
        })
        .collect();
    assert!(failures.is_empty(), "{}\n{} failed", failures.join("\n"), failures.len());
}

/// Holds an answer to `expect`, unless the vector leaves it open.
fn judge(vector: &Value, accepted: bool) -> Result<(), String> {
    let wanted = vector["expect"] == "accept";
    match wanted == accepted || vector["must"] == false {
        true => Ok(()),
        false => Err(format!("accepted: {accepted}")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result<(), String> {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: got {got:?}, wanted {wanted:?}")),
    }
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} is missing"))
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    hex_decode(text(vector, key)).unwrap()
}

fn map<'a>(vector: &'a Value, key: &str) -> &'a Map<String, Value> {
    vector[key].as_object().unwrap()
}

#[test]
fn digests() {
    run("digests.json", |vector| match text(vector, "kind") {
        "digest" => {
            let input = bytes(vector, "input_hex");
            for (name, digest) in [
                ("sha256", sha256(&input).to_vec()),
                ("sha1", sha1(&input).to_vec()),
                ("md5", md5(&input).to_vec()),
                ("ripemd160", ripemd160(&input).to_vec()),
                ("keccak256", keccak256(&input).to_vec()),
                ("hash160", hash160(&input).to_vec()),
                ("double_sha256_first4", checksum(&input).to_vec()),
            ] {
                same(name, hex_encode(&digest).as_str(), text(vector, name))?;
            }
            Ok(())
        }
        "base58" => {
            let (input, output) = (bytes(vector, "input_hex"), text(vector, "base58"));
            same("encoded", base58_encode(&input).as_str(), output)?;
            same("decoded", base58_decode(output), Ok(input))
        }
        "base58check" => {
            let network = u8::try_from(vector["network"].as_u64().unwrap()).unwrap();
            let digest: [u8; 20] = bytes(vector, "hash160").try_into().unwrap();
            let address = text(vector, "address");
            same("encoded", base58check_encode(network, &digest).as_str(), address)?;
            same("decoded", base58check_decode(address), Ok((network, digest)))?;
            same("network", Address::parse(address).map(|read| read.network()), Ok(network))
        }
        "eip55" => {
            let digest: [u8; 20] = bytes(vector, "hex").try_into().unwrap();
            same("address", eip55(&digest).as_str(), text(vector, "address"))
        }
        "hex_decode" => decoded(vector, hex_decode(text(vector, "text")).ok()),
        "base64_decode" => {
            let output = base64_decode(text(vector, "text")).ok();
            if let Some(output) = &output {
                same("round trip", base64_decode(&base64_encode(output)).as_ref(), Ok(output))?;
            }
            decoded(vector, output)
        }
        other => Err(format!("unknown kind {other}")),
    });
}

/// Holds decoded bytes to `output_hex`.
fn decoded(vector: &Value, output: Option<Vec<u8>>) -> Result<(), String> {
    judge(vector, output.is_some())?;
    match output {
        Some(output) if vector["expect"] == "accept" => {
            same("output", hex_encode(&output).as_str(), text(vector, "output_hex"))
        }
        _ => Ok(()),
    }
}

#[test]
fn transportable_data() {
    run("ted.json", |vector| decoded(vector, ted_decode(&vector["input"]).ok()));
}

/// Compares an ID with its description. A network byte of 0x80 and above that is not a known old
/// one makes a broadcast in the reference; here it does not, so its flags are left out.
fn same_id(id: &Id, wanted: &Value, with_flags: bool) -> Result<(), String> {
    same("id", id.as_str(), text(wanted, "id"))?;
    same("name", id.name(), wanted["name"].as_str())?;
    same("address", id.address(), text(wanted, "address"))?;
    same("terminal", id.terminal(), wanted["terminal"].as_str())?;
    same("network", Some(u64::from(id.network())), wanted["address_network"].as_u64())?;
    let pretended =
        wanted["is_broadcast"] == true && ![ANYWHERE, EVERYWHERE].contains(&id.address());
    if !with_flags || pretended {
        return Ok(());
    }
    same("type", Some(u64::from(id.kind().code())), wanted["type"].as_u64())?;
    same("user", Some(id.is_user()), wanted["is_user"].as_bool())?;
    same("group", Some(id.is_group()), wanted["is_group"].as_bool())?;
    same("broadcast", Some(id.is_broadcast()), wanted["is_broadcast"].as_bool())
}

#[test]
fn ids_are_parsed() {
    run("id_parse.json", |vector| {
        let id = Id::parse(text(vector, "text"));
        judge(vector, id.is_ok())?;
        match id {
            Ok(id) if vector["must"] != false => same_id(&id, &vector["parsed"], true),
            _ => Ok(()),
        }
    });
}

#[test]
fn ids_are_generated() {
    run("id_generate.json", |vector| {
        let meta = Meta::from_map(map(vector, "meta")).map_err(|error| error.to_string())?;
        let network = u8::try_from(vector["network"].as_u64().unwrap()).unwrap();
        let id = generate_id(&meta, network).map_err(|error| error.to_string())?;
        same_id(&id, &vector["expect"], vector["must_flags"] != false)?;
        prove_meta(&id, meta).map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn metas_are_proved() {
    run("metas.json", |vector| {
        let proven = Id::parse(text(vector, "id")).ok().and_then(|id| {
            let meta = Meta::from_map(vector["meta"].as_object()?).ok()?;
            // What is sent on must still be the same proof.
            let again = Meta::from_map(&meta.to_map()).ok()?;
            prove_meta(&id, again).ok()?;
            prove_meta(&id, meta).ok()
        });
        judge(vector, proven.is_some())
    });
}

/// The stored documents after `document` arrived, if it was accepted.
fn accept(vector: &Value, document: &Value) -> Option<Acceptance> {
    let id = Id::parse(text(vector, "id")).ok()?;
    let meta = prove_meta(&id, Meta::from_map(map(vector, "meta")).ok()?).ok()?;
    let prove = |document: &Value| {
        let document = Document::from_map(document.as_object()?).ok()?;
        prove_document(&meta, &id, document).ok()
    };
    let stored: Vec<_> = vector["stored"]
        .as_array()?
        .iter()
        .map(|document| prove(document).expect("stored documents are good"))
        .collect();
    Some(accept_document(&stored, prove(document)?, vector["now"].as_f64()?))
}

#[test]
fn documents_are_accepted() {
    run("documents.json", |vector| {
        let accepted = accept(vector, &vector["document"]);
        judge(vector, matches!(accepted, Some(Acceptance::Stored(_) | Acceptance::Same)))?;
        let Some(Acceptance::Stored(all)) = accepted else {
            return Ok(());
        };
        let sent = all.iter().any(|kept| kept.data() == vector["document"]["data"]);
        same("kept", sent, true)
    });
}

#[test]
fn rsa() {
    run("rsa.json", |vector| match text(vector, "kind") {
        "verify" => judge(vector, verifies(vector)),
        "sign" => {
            let key = SignKey::from_map(map(vector, "private_key")).unwrap();
            let signature = key.sign(&bytes(vector, "data_hex")).unwrap();
            same("signature", base64_encode(&signature).as_str(), text(vector, "signature"))
        }
        "decrypt" => {
            let key = OpenKey::from_map(map(vector, "private_key")).unwrap();
            let block = base64_decode(text(vector, "ciphertext")).unwrap();
            opened(vector, key.decrypt(&block).ok())
        }
        "encrypt_limit" => {
            let key = SealKey::from_map(map(vector, "key")).unwrap();
            let length = usize::try_from(vector["length"].as_u64().unwrap()).unwrap();
            judge(vector, key.encrypt(&vec![b'x'; length]).is_ok())
        }
        other => Err(format!("unknown kind {other}")),
    });
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
fn opened(vector: &Value, plain: Option<Vec<u8>>) -> Result<(), String> {
    judge(vector, plain.is_some())?;
    match plain {
        Some(plain) if vector["expect"] == "accept" => {
            same("plaintext", hex_encode(&plain).as_str(), text(vector, "plaintext_hex"))
        }
        _ => Ok(()),
    }
}

#[test]
fn ecc() {
    run("ecc.json", |vector| match text(vector, "kind") {
        "verify" => judge(vector, verifies(vector)),
        "private_key" => {
            let key = SignKey::from_map(map(vector, "private_key")).unwrap();
            let public = key.verify_key().unwrap();
            let point = hex_encode(&public.key_data());
            same("point", point.as_str(), text(vector, "public_point_hex"))?;
            let written = &key.public_map().unwrap()["data"];
            same("armor", written, &vector["public_key"]["data"])?;
            if text(vector, "name") == "pkcs8 pem" {
                same("armor", &key.to_map().unwrap()["data"], &vector["private_key"]["data"])?;
            }
            let data = bytes(vector, "data_hex");
            let signature = base64_decode(text(vector, "signature")).unwrap();
            same("signature", public.verify(&data, &signature), true)?;
            same("own signature", public.verify(&data, &key.sign(&data).unwrap()), true)
        }
        other => Err(format!("unknown kind {other}")),
    });
}

#[test]
fn aes() {
    run("aes.json", |vector| match text(vector, "kind") {
        "encrypt+decrypt" => {
            let CipherKey::Aes(key) = CipherKey::from_map(map(vector, "key")).unwrap() else {
                return Err("not an AES key".into());
            };
            let plain = bytes(vector, "plaintext_hex");
            let iv = message_iv(map(vector, "params")).unwrap();
            let sealed = match iv {
                Some(iv) => key.encrypt_with(&plain, iv).unwrap(),
                None => key.encrypt(&plain).unwrap().0,
            };
            same("ciphertext", base64_encode(&sealed).as_str(), text(vector, "ciphertext"))?;
            same("plaintext", key.decrypt(&sealed, iv), Ok(plain))
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
            same("ciphertext", sealed.as_str(), text(vector, "ciphertext"))
        }
        "passphrase" => {
            let key = AesKey::from_passphrase(text(vector, "passphrase"));
            same("key", &Value::Object(key.to_map()), &vector["key"])?;
            same("digest", key.digest().as_str(), text(vector, "digest"))
        }
        other => Err(format!("unknown kind {other}")),
    });
}

#[test]
fn accounts_are_restored() {
    let file = file("accounts.json");
    for (name, account) in file["accounts"].as_object().unwrap() {
        let maps = |field: &str| {
            let list = account[field].as_array().cloned().unwrap_or_default();
            list.into_iter().map(|value| value.as_object().unwrap().clone()).collect::<Vec<_>>()
        };
        let id = Id::parse(text(account, "id")).unwrap();
        let meta = Meta::from_map(map(account, "meta")).unwrap();
        let documents = maps("documents");
        let documents = documents.iter().map(|map| Document::from_map(map).unwrap());
        let Some(sign) = account["id_key"].as_object() else {
            continue;
        };
        let opens =
            maps("message_keys").iter().map(|map| OpenKey::from_map(map).unwrap()).collect();
        let sign = SignKey::from_map(sign).unwrap();
        let restored = Account::restore(&id, meta, documents.collect(), sign, opens);
        let restored = restored.unwrap_or_else(|error| panic!("{name}: {error}"));
        let keys = verify_keys(restored.meta(), restored.documents());
        let signature = restored.sign_key().sign(b"data").unwrap();
        assert!(keys.iter().any(|key| key.verify(b"data", &signature)), "{name}");
    }
}
