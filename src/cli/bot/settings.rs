//! A bot's own settings: `NAME.toml` in its folder, or the file that `--config` names. Paths in it are
//! relative to its folder; keys that are not known are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Refusal;
use super::keys::{ApnsKey, FcmKey};
use super::line::Place;
use super::push::Pusher;
use crate::bot::Announcer;
use crate::bot::announcer::service::{Apns, Service, Services};
use crate::bot::monitor::{Rules, Subject};
use crate::client::folder::read_bytes;
use crate::proto::id::Id;

/// Of the announcer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AnnouncerFile {
    /// Stations that may ask for pushes, besides the one it is logged in at.
    stations: Vec<String>,
    /// Certificates that services' are checked by, as PEM. Default: the machine's.
    ca: Option<PathBuf>,
    apns: Option<ApnsSection>,
    fcm: Option<FcmSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApnsSection {
    /// A key for token authentication, `.p8`.
    key: PathBuf,
    key_id: String,
    team_id: String,
    /// The application, where a device does not say.
    topic: String,
    /// Whether devices that do not say belong to the test system.
    #[serde(default)]
    sandbox: bool,
    #[serde(default = "apns_url")]
    url: String,
    #[serde(default = "apns_sandbox_url")]
    sandbox_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FcmSection {
    /// The JSON file of a service account's key.
    credentials: PathBuf,
    #[serde(default = "fcm_url")]
    url: String,
}

fn apns_url() -> String {
    "https://api.push.apple.com".to_owned()
}

fn apns_sandbox_url() -> String {
    "https://api.sandbox.push.apple.com".to_owned()
}

fn fcm_url() -> String {
    "https://fcm.googleapis.com".to_owned()
}

/// Of the monitor.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MonitorFile {
    stations: Vec<String>,
    users_listeners: Vec<String>,
    stats_listeners: Vec<String>,
    speeds_listeners: Vec<String>,
    addresses: bool,
    metrics: Option<SocketAddr>,
}

/// Where a bot's settings are, for messages and relative paths.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    /// Whether the file has to be there.
    pub(super) named: bool,
}

impl Source<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Refusal {
        Refusal::here(format!("{}: {why}", self.path.display()))
    }

    fn read<T: DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        let Some(bytes) = read_bytes(self.path)? else {
            return match self.named {
                true => Err(self.refuse("no such file")),
                false => Ok(T::default()),
            };
        };
        let text = String::from_utf8(bytes).map_err(|_| self.refuse("it is no text"))?;
        toml::from_str(&text).map_err(|error| self.refuse(error.to_string().trim_end()))
    }

    fn ids(&self, key: &str, ids: &[String]) -> Result<Vec<Id>, Refusal> {
        let read = |text: &String| {
            Id::parse(text).map_err(|_| self.refuse(format!("{key}: \"{text}\" is no ID")))
        };
        ids.iter().map(read).collect()
    }

    fn place(&self, key: &str, url: &str) -> Result<Place, Refusal> {
        Place::read(url).map_err(|fault| self.refuse(format!("{key}: {fault}")))
    }

    /// A file that a setting names, and how to refuse it.
    fn file(&self, key: &str, path: &Path) -> Result<Vec<u8>, Refusal> {
        let path = self.path.parent().unwrap_or(Path::new("")).join(path);
        match read_bytes(&path)? {
            Some(bytes) => Ok(bytes),
            None => Err(self.refuse(format!("{key}: {}: no such file", path.display()))),
        }
    }

    fn tls(&self, ca: Option<&Path>) -> Result<Arc<ClientConfig>, Refusal> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            let pem = self.file("ca", path)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate =
                    certificate.map_err(|error| self.refuse(format!("ca: {error}")))?;
                roots.add(certificate).map_err(|error| self.refuse(format!("ca: {error}")))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            let why = "no certificate to check push services by: install the package \
                       ca-certificates, or name a file by `ca`";
            return Err(self.refuse(why));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(Refusal::here)?;
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(tls))
    }
}

/// The announcer and its lines, as the settings have them.
pub(super) fn announcer(source: &Source<'_>) -> Result<(Announcer, Pusher), Refusal> {
    let file: AnnouncerFile = source.read()?;
    let stations = source.ids("stations", &file.stations)?;
    let mut services = Services::default();
    let mut pusher = Pusher::new();
    if file.apns.is_none() && file.fcm.is_none() {
        tracing::warn!("no push service is configured: tokens are kept, and nobody is woken");
        let bot = Announcer::new(services, stations).map_err(Refusal::here)?;
        return Ok((bot, pusher));
    }
    let tls = source.tls(file.ca.as_deref())?;
    if let Some(apns) = &file.apns {
        let pem = source.file("apns.key", &apns.key)?;
        let urls = [("apns.url", &apns.url, Service::Apns)];
        let sandbox = [("apns.sandbox_url", &apns.sandbox_url, Service::ApnsSandbox)];
        for (key, url, service) in urls.into_iter().chain(sandbox) {
            let place = source.place(key, url)?;
            let signer = ApnsKey::read(&pem, &apns.key_id, &apns.team_id)
                .map_err(|fault| source.refuse(format!("apns.key: {fault}")))?;
            pusher.add_apns(service, place, signer, &tls).map_err(Refusal::here)?;
        }
        services.apns = Some(Apns { topic: apns.topic.clone(), sandbox: apns.sandbox });
    }
    if let Some(fcm) = &file.fcm {
        let refused = |fault| source.refuse(format!("fcm.credentials: {fault}"));
        let key = source.file("fcm.credentials", &fcm.credentials)?;
        let key = FcmKey::read(&key).map_err(refused)?;
        let tokens = key.token_place().map_err(refused)?;
        services.fcm_project = Some(key.project().to_owned());
        let place = source.place("fcm.url", &fcm.url)?;
        pusher.add_fcm(place, tokens, key, &tls).map_err(Refusal::here)?;
    }
    let bot = Announcer::new(services, stations).map_err(Refusal::here)?;
    Ok((bot, pusher))
}

/// What the monitor does, and where its sums are shown.
pub(super) fn monitor(source: &Source<'_>) -> Result<(Rules, Option<SocketAddr>), Refusal> {
    let file: MonitorFile = source.read()?;
    if let Some(address) = file.metrics.filter(|address| !address.ip().is_loopback()) {
        let why = format!("metrics: {address} is seen from outside: expected 127.0.0.1:PORT");
        return Err(source.refuse(why));
    }
    let listeners = [
        (Subject::Users, "users_listeners", &file.users_listeners),
        (Subject::Stats, "stats_listeners", &file.stats_listeners),
        (Subject::Speeds, "speeds_listeners", &file.speeds_listeners),
    ];
    let mut read = BTreeMap::new();
    for (subject, key, ids) in listeners {
        read.insert(subject, source.ids(key, ids)?);
    }
    let rules = Rules {
        stations: source.ids("stations", &file.stations)?,
        listeners: read,
        addresses: file.addresses,
    };
    Ok((rules, file.metrics))
}
