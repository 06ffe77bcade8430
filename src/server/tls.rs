//! TLS: the certificate, what is wrong with it, and its exchange while the station runs. What happens
//! on one connection is in `session`, whom the station believes as a client in `trust`.

mod certificate;
pub mod session;
pub mod trust;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};

pub use certificate::Validity;

use super::config::{self, Plain};

/// A chain of a dozen certificates with long keys takes some 30 KiB; a longer file is another one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no TLS, for the operator to mend.
/// Reads as `KEY: FILE: what is wrong; what would be right`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The setting, as `tls.key`.
    pub key: &'static str,
    /// The file that it names; empty when it names none.
    pub file: PathBuf,
    /// What is wrong.
    pub wrong: String,
    /// What would be right; empty when the first says it.
    pub right: &'static str,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}: ", self.file.display())?;
        }
        f.write_str(&self.wrong)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsError {}

/// The station's side of TLS, shared by all shards.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files of `settings`; none if they name none. The certificate may be expired, or
    /// not valid yet: see [`Validity::fault_at`].
    pub fn load(settings: &config::Tls) -> Result<Option<(Self, Validity)>, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
            return Ok(None);
        };
        let (config, validity) = read(certificate, key)?;
        let (certificate, key) = (certificate.clone(), key.clone());
        let tls = Self { certificate, key, current: RwLock::new(Arc::new(config)) };
        Ok(Some((tls, validity)))
    }

    /// Reads the files again. Connections made from now on are shown the new certificate, those
    /// that stand go on as they are. After an error everything is as it was.
    pub fn reload(&self) -> Result<Validity, TlsError> {
        let (config, validity) = read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(validity)
    }

    /// What a new connection is opened with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a peer on the common port may go without TLS.
pub(super) fn admits_plain(plain: Plain, peer: IpAddr) -> bool {
    match plain {
        Plain::Anyone => true,
        // An IPv4 address that came over an IPv6 socket is what it was.
        Plain::Loopback => peer.to_canonical().is_loopback(),
        Plain::Nobody => false,
    }
}

fn read(certificate: &Path, key: &Path) -> Result<(ServerConfig, Validity), TlsError> {
    let chain_fault = |wrong: String, right| TlsError {
        key: "tls.certificate",
        file: certificate.to_owned(),
        wrong,
        right,
    };
    let key_fault =
        |wrong: String, right| TlsError { key: "tls.key", file: key.to_owned(), wrong, right };

    let text = read_file(certificate)
        .map_err(|wrong| chain_fault(wrong, "name a PEM file that the station's user may read"))?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| chain_fault(format!("not PEM: {error}"), CHAIN_WANTED))?;
    let Some(own) = chain.first() else {
        return Err(chain_fault("no certificate in it".to_owned(), CHAIN_WANTED));
    };
    let validity = certificate::validity(own)
        .ok_or_else(|| chain_fault("its first certificate is broken".to_owned(), CHAIN_WANTED))?;

    let text = read_file(key)
        .map_err(|wrong| key_fault(wrong, "name a PEM file that the station's user may read"))?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => key_fault("no private key in it".to_owned(), KEY_WANTED),
        error => key_fault(format!("not PEM: {error}"), KEY_WANTED),
    })?;

    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|versions| versions.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => key_fault(
                format!("does not fit the first certificate of {}", certificate.display()),
                "the key that the certificate was made for; in the chain the station's own \
                 certificate comes first",
            ),
            rustls::Error::InvalidCertificate(error) => {
                chain_fault(format!("its first certificate is broken: {error}"), CHAIN_WANTED)
            }
            error => key_fault(format!("cannot be used: {error}"), KEY_WANTED),
        })?;
    // Who comes back brings what is needed to go on, so nothing is kept for those who do not.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()
        .map_err(|error| key_fault(format!("no random bytes: {error}"), ""))?;
    Ok((config, validity))
}

const CHAIN_WANTED: &str =
    "the certificate chain as PEM (-----BEGIN CERTIFICATE-----), the station's own first";
const KEY_WANTED: &str = "an RSA, ECDSA or Ed25519 key as PEM, without a password";

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let facts = std::fs::metadata(path).map_err(unreadable)?;
    if !facts.is_file() || facts.len() > FILE_BYTES_MAX {
        return Err("not a file of at most 1 MiB".to_owned());
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_go_without_tls() {
        let (here, mapped, there): (IpAddr, IpAddr, IpAddr) = (
            "127.0.0.1".parse().unwrap(),
            "::ffff:127.0.0.1".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        );
        assert!([here, mapped, there].map(|peer| admits_plain(Plain::Anyone, peer)) == [true; 3]);
        assert!(
            [here, mapped, there].map(|peer| admits_plain(Plain::Loopback, peer))
                == [true, true, false]
        );
        assert!([here, mapped, there].map(|peer| admits_plain(Plain::Nobody, peer)) == [false; 3]);
    }
}
