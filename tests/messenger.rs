//! Messages between people who know each other, without any connection: devices, groups, refusals.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::Bytes;
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::messenger::{Carrier, Incoming, Messenger, Opened, Packed, Refusal};
use dim::client::say;
use dim::client::source::{Groups, People};
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::content::Body;
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::meta::MetaKind;
use serde_json::{Map, Value, json};

const NOW_S: f64 = 1_700_000_000.0;

type Person = Messenger<Directory>;

fn person(network: u8) -> Person {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let (kind, seed) =
        if network == 0 { (MetaKind::Eth, None) } else { (MetaKind::Mkm, Some("bot")) };
    let account = Account::create(kind, network, seed, sign, message, NOW_S, Map::new()).unwrap();
    Messenger::new(account, Directory::default(), KeyStore::default(), 1)
}

fn meet(one: &mut Person, other: &Account) {
    one.source_mut().save_meta(other.meta().clone());
    one.source_mut().save_document(other.document().unwrap().clone(), NOW_S);
}

fn opened(reader: &mut Person, bytes: &Bytes) -> Opened {
    match reader.verify_decrypt(bytes.clone(), NOW_S).unwrap() {
        Incoming::Opened(opened) => *opened,
        Incoming::Sealed(_) => panic!("it is sealed for others"),
        Incoming::Missing(id, _) => panic!("{id} is not known"),
    }
}

fn said(opened: &Opened) -> &str {
    opened.content.map["text"].as_str().unwrap()
}

fn id(person: &Person) -> Id {
    person.account().id().clone()
}

#[test]
fn every_device_of_the_receiver_has_its_own_entry() {
    let (mut alice, bob) = (person(0), person(0));
    meet(&mut alice, bob.account());
    let phone_key = OpenKey::generate(1024).unwrap();
    let data = json!({"type": "visa", "time": NOW_S, "key": phone_key.public_map().unwrap()});
    let data = data.to_string();
    let signature = bob.account().sign_key().sign(data.as_bytes()).unwrap();
    let signature = dim::base::encode::base64_encode(&signature);
    let mut visa = Document::build(bob.account().id(), "visa", &data, &signature).unwrap().to_map();
    visa.insert("terminal".into(), "phone".into());
    alice.learn_document(bob.account().id(), &visa.into(), NOW_S).unwrap();

    let packed = alice.encrypt_sign(&say::text("hello"), bob.account().id(), NOW_S).unwrap();
    let map = json::parse_object(&packed.ready[0].bytes).unwrap();
    let names: Vec<_> = map["keys"].as_object().unwrap().keys().cloned().collect();
    let (naked, phone) = (id(&bob).to_string(), format!("{}/phone", id(&bob)));
    assert!(names.contains(&naked) && names.contains(&phone) && names.len() == 3, "{names:?}");
    // Each device opens it with its own key alone.
    for keys in [bob.account().message_keys().to_vec(), vec![phone_key]] {
        let account = bob.account();
        let meta = account.meta().clone().into_inner();
        let documents = account.documents().iter().map(|d| d.clone().into_inner()).collect();
        let sign = account.sign_key().clone();
        let device = Account::restore(account.id(), meta, documents, sign, keys).unwrap();
        let mut device = Messenger::new(device, Directory::default(), KeyStore::default(), 1);
        assert_eq!(said(&opened(&mut device, &packed.ready[0].bytes)), "hello");
    }
}

#[test]
fn only_the_first_message_introduces_its_sender() {
    let (mut alice, mut bob) = (person(0), person(0));
    meet(&mut alice, bob.account());
    let to = id(&bob);
    let mut send = || alice.encrypt_sign(&say::text("x"), &to, NOW_S).unwrap().ready.remove(0);
    let (first, second) = (send(), send());
    let has_visa = |bytes: &Bytes| json::parse_object(bytes).unwrap().contains_key("visa");
    assert!(has_visa(&first.bytes) && !has_visa(&second.bytes));
    let unknown = bob.verify_decrypt(second.bytes.clone(), NOW_S);
    assert!(matches!(unknown, Ok(Incoming::Missing(..))));
    opened(&mut bob, &first.bytes);
    opened(&mut bob, &second.bytes);
    // A new visa is news again.
    alice.renew_visa(NOW_S + 1.0).unwrap();
    let third = alice.encrypt_sign(&say::text("x"), &to, NOW_S).unwrap();
    assert!(has_visa(&third.ready[0].bytes));
}

fn group(founder: &mut Person, members: &[&Person], assistant: Option<&Id>) -> Account {
    let mut group = founder.account().found("people", NOW_S).unwrap();
    if let Some(assistant) = assistant {
        let mut properties = group.document().unwrap().properties().clone();
        properties.insert("assistants".into(), json!([assistant.as_str()]));
        group.publish(properties, NOW_S + 1.0).unwrap();
    }
    let ids = members.iter().map(|member| id(member)).chain([id(founder)]).collect();
    founder.source_mut().save_members(group.id(), ids);
    founder.source_mut().save_meta(group.meta().clone());
    founder.source_mut().save_document(group.document().unwrap().clone(), NOW_S + 1.0);
    group
}

#[test]
fn a_group_message_is_split_under_one_signature() {
    let (mut alice, mut bob, mut carol, dave) = (person(0), person(0), person(0), person(0));
    let group = group(&mut alice, &[&bob, &carol, &dave], None);
    [&bob, &carol].iter().for_each(|member| meet(&mut alice, member.account()));
    let packed = alice.encrypt_sign(&say::text("hello"), group.id(), NOW_S).unwrap();
    assert_eq!(packed.missing, [id(&dave)]);
    assert_eq!(packed.ready[0].signature, packed.ready[1].signature);
    for (reader, letter) in [&mut bob, &mut carol].into_iter().zip(&packed.ready) {
        let came = opened(reader, &letter.bytes);
        assert_eq!((said(&came), came.message.group()), ("hello", Some(group.id())));
        assert_eq!(came.content.group.as_deref(), Some(group.id().as_str()));
        assert_eq!(letter.receiver, id(reader));
        let keys = json::parse_object(&letter.bytes).unwrap()["keys"].as_object().unwrap().len();
        assert_eq!(keys, 2, "one entry and the digest");
    }
    let empty = dave.account().found("nobody", NOW_S).unwrap();
    let packed = alice.encrypt_sign(&say::text("x"), empty.id(), NOW_S).unwrap();
    assert_eq!(packed, Packed { ready: Vec::new(), missing: vec![empty.id().clone()] });
}

#[test]
fn an_assistant_passes_on_what_it_cannot_read() {
    let (mut alice, mut bob, mut bot) = (person(0), person(0), person(200));
    let group = group(&mut alice, &[&bob], Some(&id(&bot)));
    meet(&mut alice, bob.account());
    meet(&mut alice, bot.account());
    let packed = alice.encrypt_sign(&say::text("hello"), group.id(), NOW_S).unwrap();
    assert_eq!(packed.ready[0].receiver, id(&bot));
    let Body::Forward(secrets) = opened(&mut bot, &packed.ready[0].bytes).content.body else {
        panic!("no forward");
    };
    let inner = Bytes::from(secrets[0].to_string());
    assert!(matches!(bot.verify_decrypt(inner.clone(), NOW_S), Ok(Incoming::Sealed(_))));
    meet(&mut bob, alice.account());
    let came = opened(&mut bob, &inner);
    assert_eq!((said(&came), came.message.receiver()), ("hello", group.id()));
}

#[test]
fn what_is_not_for_us_or_not_proved_is_refused() {
    let (mut alice, mut bob, mut eve) = (person(0), person(0), person(0));
    meet(&mut alice, bob.account());
    let packed = alice.encrypt_sign(&say::text("hello"), &id(&bob), NOW_S).unwrap();
    let bytes = &packed.ready[0].bytes;
    assert_eq!(eve.verify_decrypt(bytes.clone(), NOW_S).unwrap_err(), Refusal::NotForUs);
    let altered = |field: &str, value: Value| {
        let mut map = json::parse_object(bytes).unwrap();
        map.insert(field.into(), value);
        Bytes::from(Value::Object(map).to_string())
    };
    let mut refused = |bytes: Bytes| bob.verify_decrypt(bytes, NOW_S).unwrap_err();
    assert_eq!(refused(altered("signature", json!("AAAA"))), Refusal::Signature);
    let meta = Value::Object(eve.account().meta().to_map());
    assert_eq!(refused(altered("sender", json!(id(&eve).as_str()))), Refusal::Meta);
    assert_eq!(refused(altered("sender", json!("everyone@everywhere"))), Refusal::Sender);
    assert_eq!(refused(altered("receiver", json!("anyone@anywhere"))), Refusal::Signature);
    assert!(matches!(refused(altered("keys", json!({}))), Refusal::Sealed(_)));
    assert!(matches!(refused(Bytes::from_static(b"{}x{}")), Refusal::Message(_)));
    // The true meta is known by now, so that a false one beside it changes nothing.
    assert_eq!(said(&opened(&mut bob, &altered("meta", meta))), "hello");
    // Nor does it help to have been believed before.
    let again = bob.verify_decrypt(altered("signature", json!("AAAA")), NOW_S);
    assert_eq!(again.unwrap_err(), Refusal::Signature);
}

/// Keeps what it was to carry.
struct Bag(Vec<Bytes>);

impl Carrier for Bag {
    type Error = &'static str;

    fn send_package(&mut self, message: Bytes) -> Result<(), Self::Error> {
        self.0.push(message);
        Ok(())
    }
}

#[test]
fn a_carrier_is_handed_what_can_be_sent() {
    let (mut alice, mut bob, mut bag) = (person(0), person(0), Bag(Vec::new()));
    let missing = alice.post(&mut bag, &say::text("hello"), &id(&bob), NOW_S).unwrap();
    assert_eq!((missing, bag.0.len()), (vec![id(&bob)], 0));
    meet(&mut alice, bob.account());
    assert!(alice.post(&mut bag, &say::text("hello"), &id(&bob), NOW_S).unwrap().is_empty());
    assert_eq!(said(&opened(&mut bob, &bag.0[0])), "hello");
    let everyone = Id::everyone();
    alice.post(&mut bag, &say::text("to all"), &everyone, NOW_S).unwrap();
    assert_eq!(said(&opened(&mut bob, &bag.0[1])), "to all");
}
