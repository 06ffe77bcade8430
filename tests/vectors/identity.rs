//! IDs, metas, documents and whole accounts.

use dim::base::encode::ted_decode;
use dim::client::account::Account;
use dim::crypto::identity::{
    Acceptance, Proven, accept_document, generate_id, is_made_by, prove_document, prove_meta,
    verify_keys,
};
use dim::crypto::key::{OpenKey, SignKey, VerifyKey};
use dim::proto::address::{ANYWHERE, EVERYWHERE};
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::meta::Meta;
use serde_json::Value;

use crate::set::{Outcome, Wrong, differs, exact, judge, list, map, number, same, text, wrong};

/// Compares an ID with its description. Whether the reference takes it for a broadcast by its
/// network byte alone is the one thing that may differ: we know two broadcast addresses.
fn same_id(id: &Id, wanted: &Value) -> Result<bool, Wrong> {
    same("id", id.as_str(), text(wanted, "id"))?;
    same("name", id.name(), wanted["name"].as_str())?;
    same("address", id.address(), text(wanted, "address"))?;
    same("terminal", id.terminal(), wanted["terminal"].as_str())?;
    same("network", u32::from(id.network()), number(wanted, "address_network"))?;
    same("type", u32::from(id.kind().code()), number(wanted, "type"))?;
    same("user", Some(id.is_user()), wanted["is_user"].as_bool())?;
    same("group", Some(id.is_group()), wanted["is_group"].as_bool())?;
    let pretended =
        wanted["is_broadcast"] == true && ![ANYWHERE, EVERYWHERE].contains(&id.address());
    let broadcast = wanted["is_broadcast"] == true && !pretended;
    same("broadcast", id.is_broadcast(), broadcast)?;
    Ok(pretended)
}

pub(crate) fn parsed(vector: &Value) -> Outcome {
    let id = Id::parse(text(vector, "text"));
    let answer = judge(vector, id.is_ok())?;
    match id {
        Ok(id) if vector["parsed"].is_object() => match same_id(&id, &vector["parsed"])? {
            true => differs("accept, not as a broadcast"),
            false => Ok(answer),
        },
        _ => Ok(answer),
    }
}

pub(crate) fn generated(vector: &Value) -> Outcome {
    let meta = Meta::from_map(map(vector, "meta")).map_err(|error| failed(&error))?;
    let network = u8::try_from(number(vector, "network")).unwrap();
    let id = generate_id(&meta, network).map_err(|error| failed(&error))?;
    let pretended = same_id(&id, &vector["expect"])?;
    prove_meta(&id, meta).map_err(|error| failed(&error))?;
    if pretended { differs("exact, not as a broadcast") } else { exact() }
}

fn failed(error: &dyn std::error::Error) -> Wrong {
    wrong("success", error.to_string())
}

pub(crate) fn meta(vector: &Value) -> Outcome {
    let proven = Id::parse(text(vector, "id")).ok().and_then(|id| {
        let meta = Meta::from_map(vector["meta"].as_object()?).ok()?;
        // What is sent on must still be the same proof.
        let again = Meta::from_map(&meta.to_map()).ok()?;
        prove_meta(&id, again).ok()?;
        prove_meta(&id, meta).ok()
    });
    judge(vector, proven.is_some())
}

/// What becomes of the vector's document.
fn accept(vector: &Value) -> Option<Acceptance> {
    let id = Id::parse(text(vector, "id")).ok()?;
    let meta = prove_meta(&id, Meta::from_map(map(vector, "meta")).ok()?).ok()?;
    let prove = |document: &Value| {
        let document = Document::from_map(document.as_object()?).ok()?;
        prove_document(&meta, &id, document).ok()
    };
    let stored = list(vector, "stored").iter();
    let stored: Vec<_> = stored.map(|one| prove(one).expect("a good stored document")).collect();
    Some(accept_document(&stored, prove(&vector["document"])?, vector["now"].as_f64()?))
}

/// The signature alone, whatever the rest of the document is worth.
fn signature_fits(vector: &Value) -> bool {
    let document = &vector["document"];
    let key = VerifyKey::from_map(map(&vector["meta"], "key")).expect("a good meta");
    match (document["data"].as_str(), ted_decode(&document["signature"])) {
        (Some(data), Ok(signature)) => key.verify(data.as_bytes(), &signature),
        _ => false,
    }
}

pub(crate) fn document(vector: &Value) -> Outcome {
    if let Some(verified) = vector["detail"]["verify"].as_bool()
        && vector["detail"]["parse"] == true
    {
        same("signature fits", signature_fits(vector), verified)?;
    }
    let accepted = accept(vector);
    let stored = matches!(accepted, Some(Acceptance::Stored(_) | Acceptance::Same));
    let answer = judge(vector, stored)?;
    if let Some(Acceptance::Stored(all)) = accepted {
        let sent = all.iter().any(|kept| kept.data() == vector["document"]["data"]);
        same("kept", sent, true)?;
    }
    Ok(answer)
}

/// A proven meta and its proven documents; the vector's word for whose they are is not taken.
pub(crate) fn restore(account: &Value) -> (Proven<Meta>, Vec<Proven<Document>>) {
    let id = Id::parse(text(account, "id")).unwrap();
    let meta = prove_meta(&id, Meta::from_map(map(account, "meta")).unwrap()).unwrap();
    let documents = list(account, "documents").iter().map(|document| {
        let document = Document::from_map(document.as_object().unwrap()).unwrap();
        prove_document(&meta, &id, document).unwrap()
    });
    let documents = documents.collect();
    (meta, documents)
}

pub(crate) fn account(account: &Value) -> Outcome {
    let (meta, documents) = restore(account);
    let network = u8::try_from(number(account, "network")).unwrap();
    same("id", generate_id(&meta, network).as_ref().map(Id::as_str), Ok(text(account, "id")))?;
    let sign = SignKey::from_map(map(account, "id_key")).map_err(|error| failed(&error))?;
    if account.get("members").is_some() {
        let members = list(account, "members").iter();
        let users = members.filter(|id| Id::parse(id.as_str().unwrap()).unwrap().is_user());
        same("members who are users", users.count(), list(account, "members").len())?;
    }
    same("made by its key", is_made_by(&meta, &sign.verify_key().unwrap()), true)?;
    let keys = list(account, "message_keys").iter();
    let opens = keys.map(|key| OpenKey::from_map(key.as_object().unwrap()).unwrap()).collect();
    let documents = documents.into_iter().map(Proven::into_inner).collect();
    let id = meta.id().clone();
    let restored = Account::restore(&id, meta.into_inner(), documents, sign, opens)
        .map_err(|error| failed(&error))?;
    let keys = verify_keys(restored.meta(), restored.documents());
    let signature = restored.sign_key().sign(b"data").unwrap();
    same("verified", keys.iter().any(|key| key.verify(b"data", &signature)), true)?;
    exact()
}
