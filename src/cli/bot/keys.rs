//! How the announcer proves to push services who it is: tokens signed with the operator's keys.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::line::Place;
use crate::bot::announcer::service::{Answer, Request};
use crate::proto::json as text;

/// How long a token for Apple is used, in seconds: it wants one between 20 and 60 minutes old.
const APNS_TOKEN_S: f64 = 2400.0;
/// How long the proof for Google is good, in seconds.
const FCM_PROOF_S: u64 = 3600;
/// How long before its end a token of Google's is exchanged, in seconds.
const FCM_EARLY_S: f64 = 300.0;
const FCM_SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const FCM_GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

fn base64url(bytes: &[u8]) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value| base64url(text::write(value).as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn pkcs8(pem: &[u8]) -> Result<Vec<u8>, String> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(PrivateKeyDer::Pkcs8(key)) => Ok(key.secret_pkcs8_der().to_vec()),
        _ => Err("expected a private key as PEM, \"BEGIN PRIVATE KEY\"".to_owned()),
    }
}

/// Apple's key of a team, and the token that was last made with it.
pub(super) struct ApnsKey {
    key: EcdsaKeyPair,
    key_id: String,
    team_id: String,
    made: Option<(f64, String)>,
}

impl ApnsKey {
    /// From the text of a `.p8` file.
    pub(super) fn read(pem: &[u8], key_id: &str, team_id: &str) -> Result<Self, String> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8(pem)?);
        let key = key.map_err(|_| "it is no key on the curve P-256".to_owned())?;
        let (key_id, team_id) = (key_id.to_owned(), team_id.to_owned());
        Ok(Self { key, key_id, team_id, made: None })
    }

    /// What stands in `authorization`; none if it cannot be signed.
    pub(super) fn authorization(&mut self, now_s: f64) -> Option<String> {
        let fresh =
            |(made_s, _): &&(f64, String)| (*made_s..*made_s + APNS_TOKEN_S).contains(&now_s);
        if let Some((_, token)) = self.made.as_ref().filter(fresh) {
            return Some(token.clone());
        }
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let text = unsigned(&header, &json!({"iss": self.team_id, "iat": now_s as u64}));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        let token = format!("bearer {text}.{}", base64url(signature.as_ref()));
        self.made = Some((now_s, token.clone()));
        Some(token)
    }

    /// The service has called the token too old.
    pub(super) fn forget(&mut self) {
        self.made = None;
    }
}

/// A service account at Google, as its file has it.
#[derive(Deserialize)]
struct AccountFile {
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
    token_uri: String,
}

/// Google's key of a service account, and the access token that was last given for it.
pub(super) struct FcmKey {
    key: RsaKeyPair,
    file: AccountFile,
    /// Until when it is used, in seconds since 1970.
    given: Option<(f64, String)>,
}

impl FcmKey {
    /// From the text of a service account's JSON file.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let file: AccountFile = serde_json::from_slice(json)
            .map_err(|error| format!("it is no service account's key: {error}"))?;
        let key = RsaKeyPair::from_pkcs8(&pkcs8(file.private_key.as_bytes())?);
        let key = key.map_err(|_| "its private key is no RSA key".to_owned())?;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.".contains(&byte);
        if file.project_id.is_empty() || !file.project_id.bytes().all(sound) {
            return Err("its project_id cannot be one".to_owned());
        }
        Ok(Self { key, file, given: None })
    }

    pub(super) fn project(&self) -> &str {
        &self.file.project_id
    }

    /// Where access tokens come from.
    pub(super) fn token_place(&self) -> Result<Place, String> {
        Place::read(&self.file.token_uri)
    }

    /// What stands in `authorization`, while there is an access token.
    pub(super) fn authorization(&self, now_s: f64) -> Option<String> {
        let (until_s, token) = self.given.as_ref()?;
        (now_s < *until_s).then(|| token.clone())
    }

    /// Asks for an access token.
    pub(super) fn question(&self, path: &str, now_s: f64) -> Option<Request> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.file.private_key_id});
        let now_s = now_s as u64;
        let claims = json!({
            "iss": self.file.client_email, "scope": FCM_SCOPE, "aud": self.file.token_uri,
            "iat": now_s, "exp": now_s + FCM_PROOF_S,
        });
        let text = unsigned(&header, &claims);
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).ok()?;
        let body = format!("grant_type={FCM_GRANT}&assertion={text}.{}", base64url(&signature));
        let form = "application/x-www-form-urlencoded".to_owned();
        Some(Request {
            path: path.to_owned(),
            headers: vec![("content-type", form)],
            body: body.into_bytes(),
        })
    }

    /// Takes the answer to that question; what is wrong with it otherwise.
    pub(super) fn take(&mut self, answer: &Answer, now_s: f64) -> Result<(), String> {
        let (status, body) = match answer {
            Answer::Came { status, body, .. } => (status, body),
            Answer::None { why } => return Err(why.clone()),
        };
        let map = text::parse_object(body).unwrap_or_default();
        let token = map.get("access_token").and_then(Value::as_str);
        let sound = |token: &&str| token.bytes().all(|byte| byte.is_ascii_graphic());
        let Some(token) = token.filter(sound).filter(|_| *status == 200) else {
            let word = map.get("error").and_then(Value::as_str).unwrap_or("no reason");
            return Err(format!("no access token is given: {status} {word}"));
        };
        let lasts_s = map.get("expires_in").and_then(Value::as_f64).unwrap_or_default();
        let until_s = now_s + (lasts_s - FCM_EARLY_S).max(lasts_s / 2.0);
        self.given = Some((until_s, format!("Bearer {token}")));
        Ok(())
    }

    /// The service does not take the access token any more.
    pub(super) fn forget(&mut self) {
        self.given = None;
    }
}
