//! From a message for somebody who is away to the request at the push service: the real station, the
//! real bot, and a service that speaks HTTP/2 over TLS and checks what it is told.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs and stops at the first surprise"
)]

mod kit;
mod service;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeys, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use dim::client::account::Account;
use dim::client::blocking::now_s;
use dim::client::say;
use dim::proto::command::{Device, Mute, PushService, Report};
use dim::proto::id::Id;
use kit::{Bot, Station, User, account, unstamped, with_bot_in, write_bot_settings};
use serde_json::{Value, json};
use service::{Asked, Service};
use tempfile::TempDir;

const TOKEN: &str = "ab12";
const EVERYTHING: &[&str] = &["--set", "mail.acknowledge_ms=200"];

fn pem(der: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// The operator's keys, and what services know of them.
struct Keys {
    apple: Vec<u8>,
    google: Vec<u8>,
}

struct World {
    service: Service,
    keys: Keys,
    station: Station,
    bot: Bot,
    _place: TempDir,
}

impl World {
    fn new() -> Self {
        let service = Service::start();
        let place = tempfile::tempdir().unwrap();
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let apple = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref());
        let rsa = RsaKeys::generate(KeySize::Rsa2048).unwrap();
        let rsa_der: Pkcs8V1Der = rsa.as_der().unwrap();
        let url = service.url();
        write_bot_settings(
            place.path(),
            "announcer",
            &format!(
                "ca = \"ca.pem\"\n\
                 [apns]\nkey = \"key.p8\"\nkey_id = \"KEY\"\nteam_id = \"TEAM\"\n\
                 topic = \"chat.dim.test\"\nurl = \"{url}\"\nsandbox_url = \"{url}\"\n\
                 [fcm]\ncredentials = \"google.json\"\nurl = \"{url}\"\n"
            ),
        );
        let folder = place.path().join("announcer");
        std::fs::write(folder.join("ca.pem"), service.certificate()).unwrap();
        std::fs::write(folder.join("key.p8"), pem(der.as_ref())).unwrap();
        let google = json!({"type": "service_account", "project_id": "project-1",
            "private_key_id": "RSA", "private_key": pem(rsa_der.as_ref()),
            "client_email": "bot@project-1", "token_uri": format!("{url}/token")});
        std::fs::write(folder.join("google.json"), google.to_string()).unwrap();
        let keys = Keys {
            apple: apple.unwrap().public_key().as_ref().to_vec(),
            google: rsa.public_key().as_ref().to_vec(),
        };
        let (station, bot, place) = with_bot_in(place, "announcer", EVERYTHING);
        Self { service, keys, station, bot, _place: place }
    }

    /// A user who has told its device's token, and is away.
    fn away(&self, who: &Account, device: &Report) {
        let mut user = User::login(&self.station, who.clone());
        user.client.send(&self.bot.id, unstamped(device));
        user.wait_text(&self.bot.id, "Device token received.");
    }

    fn write(&self, from: &mut User, to: &Account) {
        from.client.send(to.id(), say::text("hello"));
        let station = Id::parse(&self.station.id).unwrap();
        from.wait_text(&station, "Message cached.");
    }
}

fn device(service: PushService, token: &str) -> Report {
    Report::Device(Device {
        service,
        token: token.to_owned(),
        platform: None,
        topic: None,
        sandbox: None,
        channel: None,
        model: None,
        system: None,
    })
}

/// A signed token's header and claims; its signature is right.
fn signed(token: &str, by: &[u8], algorithm: &'static dyn VerificationAlgorithm) -> (Value, Value) {
    let decode = |text: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).unwrap();
    let (text, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(algorithm, by).verify(text.as_bytes(), &decode(signature)).unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    let read = |part| serde_json::from_slice(&decode(part)).unwrap();
    (read(header), read(claims))
}

fn alert(asked: &Asked) -> (String, u64) {
    let aps = &asked.body["aps"];
    (aps["alert"]["body"].as_str().unwrap().to_owned(), aps["badge"].as_u64().unwrap())
}

#[test]
fn a_message_for_who_is_away_wakes_the_device_and_the_badge_counts_until_the_user_is_back() {
    let world = World::new();
    let (bob, mut alice) = (account("Bob"), User::login(&world.station, account("Alice")));
    world.away(&bob, &device(PushService::Apns, TOKEN));
    world.write(&mut alice, &bob);
    let asked = world.service.next();
    assert_eq!(asked.path, "/3/device/ab12");
    let said = "Dear Bob: Alice sent you a text message.".to_owned();
    assert_eq!(alert(&asked), (said.clone(), 1));
    assert_eq!(asked.body["aps"]["alert"]["title"], "Text Message");
    for (name, value) in
        [(":method", "POST"), ("apns-topic", "chat.dim.test"), ("apns-push-type", "alert")]
    {
        assert_eq!(asked.header(name), value);
    }
    let expires: f64 = asked.header("apns-expiration").parse().unwrap();
    assert!((now_s()..now_s() + 301.0).contains(&expires));
    let token = asked.header("authorization").strip_prefix("bearer ").unwrap();
    let (header, claims) = signed(token, &world.keys.apple, &ECDSA_P256_SHA256_FIXED);
    assert_eq!(header, json!({"alg": "ES256", "kid": "KEY"}));
    assert_eq!(claims["iss"], "TEAM");
    assert!((claims["iat"].as_f64().unwrap() - now_s()).abs() < 120.0);

    world.write(&mut alice, &bob);
    assert_eq!(alert(&world.service.next()), (said.clone(), 2));
    drop(User::login(&world.station, bob.clone()));
    world.write(&mut alice, &bob);
    assert_eq!(alert(&world.service.next()), (said, 1), "Bob was here");
}

#[test]
fn nobody_is_woken_by_whom_he_mutes() {
    let world = World::new();
    let (bob, mut alice) = (account("Bob"), User::login(&world.station, account("Alice")));
    let mut carol = User::login(&world.station, account("Carol"));
    world.away(&bob, &device(PushService::Apns, TOKEN));
    let mut at_bob = User::login(&world.station, bob.clone());
    let station = Id::parse(&world.station.id).unwrap();
    let mute = Mute { list: Some(vec![alice.id.clone()]) };
    at_bob.client.send(&station, unstamped(&mute));
    at_bob.wait_text(&station, "Mute received.");
    drop(at_bob);
    world.write(&mut alice, &bob);
    world.write(&mut carol, &bob);
    let said = "Dear Bob: Carol sent you a text message.".to_owned();
    assert_eq!(alert(&world.service.next()), (said, 1), "Alice's was none");
}

#[test]
fn a_busy_service_is_asked_again_and_a_token_that_is_nobodys_is_forgotten() {
    let world = World::new();
    let (bob, mut alice) = (account("Bob"), User::login(&world.station, account("Alice")));
    world.away(&bob, &device(PushService::Apns, "cd34"));
    world.away(&bob, &device(PushService::Apns, TOKEN));
    world.service.answer(503, json!({"reason": "ServiceUnavailable"}));
    world.service.answer(429, json!({"reason": "TooManyRequests"}));
    world.service.answer(410, json!({"reason": "Unregistered"}));
    world.write(&mut alice, &bob);
    let paths: Vec<_> = (0..4).map(|_| world.service.next().path).collect();
    let path = |token: &str| format!("/3/device/{token}");
    assert_eq!(paths, [path(TOKEN), path(TOKEN), path(TOKEN), path("cd34")]);
    world.write(&mut alice, &bob);
    assert_eq!(world.service.next().path, path("cd34"), "the other is forgotten");
}

#[test]
fn google_is_asked_for_access_once_and_again_when_that_is_over() {
    let world = World::new();
    let mut bob = account("Bob");
    let mut properties = bob.document().unwrap().properties().clone();
    properties.insert("app".into(), json!({"language": "zh-Hans"}));
    bob.publish(properties, now_s()).unwrap();
    let mut alice = User::login(&world.station, account("Alice"));
    world.away(&bob, &device(PushService::C2dm, "token:1"));
    world.write(&mut alice, &bob);
    let asked = world.service.next();
    assert_eq!(asked.path, "/token");
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    let (kind, proof) = asked.text.split_once("&assertion=").unwrap();
    assert_eq!(kind, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");
    let (header, claims) = signed(proof, &world.keys.google, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "RSA"}));
    let url = world.service.url();
    assert_eq!(claims["aud"], format!("{url}/token"));
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/firebase.messaging");

    let asked = world.service.next();
    assert_eq!(asked.path, "/v1/projects/project-1/messages:send");
    assert_eq!(asked.header("authorization"), "Bearer access-1");
    let message = &asked.body["message"];
    assert_eq!(message["token"], "token:1");
    let notification = &message["android"]["notification"];
    assert_eq!(notification["body"], "Bob，Alice给你发来一条文字消息。");
    assert_eq!(notification["notification_count"], 1);

    // The same access, until it is not taken any more.
    world.service.answer(401, json!({"error": {"status": "UNAUTHENTICATED"}}));
    world.write(&mut alice, &bob);
    let paths: Vec<_> = (0..3).map(|_| world.service.next().path).collect();
    let send = "/v1/projects/project-1/messages:send";
    assert_eq!(paths, [send, "/token", send]);
}

#[test]
fn settings_that_cannot_be_are_refused_with_their_place() {
    for (text, fault) in [
        ("topics = 1", "unknown field `topics`"),
        ("stations = [\"nobody at all\"]", "stations: \"nobody at all\" is no ID"),
        ("[fcm]\ncredentials = \"missing.json\"", "missing.json: no such file"),
        (
            "ca = \"announcer.toml\"\n[fcm]\ncredentials = \"announcer.toml\"",
            "no certificate to check push services by",
        ),
        ("[fcm]\ncredentials = \"announcer.toml\"", "it is no service account's key"),
        (
            "[apns]\nkey = \"announcer.toml\"\nkey_id = \"a\"\nteam_id = \"b\"\ntopic = \"c\"",
            "apns.key: expected a private key as PEM",
        ),
        (
            "[apns]\nkey = \"announcer.toml\"\nkey_id = \"a\"\nteam_id = \"b\"\ntopic = \"c\"\n\
             url = \"http://localhost\"",
            "apns.url: \"http://localhost\" is no address",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        write_bot_settings(place.path(), "announcer", text);
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["bot", "announcer", "--data-dir"])
            .arg(place.path().join("announcer"))
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("announcer.toml: ") && said.contains(fault), "{text}\n{said}");
    }
}
