//! TLS where the station is the client: whose certificates it believes, and what it says of one that
//! it does not.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use super::{TlsError, read_file};

/// Letters of what is wrong with a certificate: it may be for thousands of names.
const FAULT_SHOWN_MAX: usize = 300;

/// The setting that names the file.
const KEY: &str = "neighbors.ca";

/// Whom neighbours and sources of their list are checked by. Read when somebody is first dialled
/// under TLS, so that a station whose neighbours go without needs no file and no roots.
#[derive(Debug)]
pub struct Trust(Mutex<State>);

#[derive(Debug)]
struct State {
    ca: Option<PathBuf>,
    /// None until it is wanted.
    config: Option<Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts the certificates in a PEM file, or, where none is named, those that the machine trusts.
    #[must_use]
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self(Mutex::new(State { ca, config: None }))
    }

    /// Trusts others from now on, or the same file as it is by now; what stands goes on.
    pub fn set(&self, ca: Option<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { ca, config: None };
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &state.config {
            return Ok(config.clone());
        }
        // What is broken is looked at again by the next who dials.
        let roots = roots(state.ca.as_deref())?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| fault(state.ca.as_deref(), error.to_string(), ""))?;
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        state.config = Some(config.clone());
        Ok(config)
    }

    /// Greets the server at `host` over a connection that was just made, and checks that it is the
    /// one. Waits as long as `wire` does. Errors say who has to mend what.
    pub(crate) fn greet(
        &self,
        host: &str,
        wire: &mut (impl Read + Write),
    ) -> io::Result<ClientConnection> {
        let config = self.config().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other("no certificate can be for such a host"))?;
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(wire).map_err(|error| explained(&error))?;
        }
        Ok(session)
    }
}

/// The certificates in a PEM file, or those that the machine trusts; at least one.
pub(crate) fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let right = "install the package ca-certificates, or name a PEM file";
            return Err(fault(None, "this machine trusts no certificates", right));
        }
        return Ok(roots);
    };
    let text = read_file(path).map_err(|wrong| {
        fault(ca, wrong, "name a PEM file that the user who runs the station may read")
    })?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|error| fault(ca, format!("not PEM: {error}"), WANTED))?;
        roots.add(certificate).map_err(|error| {
            fault(ca, format!("certificate {} is broken: {error}", roots.len() + 1), WANTED)
        })?;
    }
    if roots.is_empty() {
        return Err(fault(ca, "no certificate in it", WANTED));
    }
    Ok(roots)
}

const WANTED: &str = "root certificates as PEM (-----BEGIN CERTIFICATE-----)";

fn fault(ca: Option<&Path>, wrong: impl Into<String>, right: &'static str) -> TlsError {
    TlsError {
        key: KEY,
        file: ca.map(Path::to_owned).unwrap_or_default(),
        wrong: wrong.into(),
        right,
    }
}

/// Why there is no TLS with a server, and whose it is to mend.
fn explained(error: &io::Error) -> io::Error {
    let said = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(fault)) => {
            let names: String = fault.to_string().chars().take(FAULT_SHOWN_MAX).collect();
            format!("{names}; {}", remedy(fault))
        }
        Some(Error::InvalidMessage(_)) => format!("it answers without TLS; {PLAIN}"),
        Some(Error::AlertReceived(alert)) => {
            format!("it refuses TLS ({alert:?}); its operator finds out why")
        }
        Some(other) => other.to_string(),
        None if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            format!("it hangs up when TLS begins; {PLAIN}")
        }
        // A station without TLS takes the greeting for the beginning of something long.
        None if error.kind() == ErrorKind::TimedOut => {
            format!("{error} when TLS begins; {PLAIN}")
        }
        None => error.to_string(),
    };
    io::Error::other(said)
}

const PLAIN: &str = "its operator sets [tls] there, or it is to be reached without TLS";

fn remedy(fault: &CertificateError) -> &'static str {
    use CertificateError as Fault;
    match fault {
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "name it by a host that its certificate is for, or its operator needs one for this host"
        }
        Fault::Expired | Fault::ExpiredContext { .. } => "its operator has to renew it",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "compare the clocks of both machines"
        }
        // The second: a root of that name is trusted, and has another key.
        Fault::UnknownIssuer | Fault::BadSignature => {
            "let neighbors.ca name a file with its root; if that is trusted already, its operator \
             has to show the whole chain"
        }
        // It has no name of its own in rustls; OpenSSL makes such certificates by default.
        Fault::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its operator needs a certificate that is no root: basicConstraints=CA:FALSE, or one \
             that is signed by the root"
        }
        _ => "its operator needs another certificate",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rcgen::{CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// A server in memory, which answers what is written as soon as it is asked to read.
    struct Server {
        session: ServerConnection,
        back: VecDeque<u8>,
    }

    impl Read for Server {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let mut records = Vec::new();
            while self.session.wants_write() {
                self.session.write_tls(&mut records)?;
            }
            self.back.extend(records);
            self.back.read(bytes)
        }
    }

    impl Write for Server {
        fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
            let count = self.session.read_tls(&mut bytes)?;
            // What it thinks of the client is not what is tested.
            let _ = self.session.process_new_packets();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is said of a server at `here` with such a certificate, trusting that one or another.
    fn said(change: impl Fn(&mut CertificateParams), trusted: bool) -> String {
        let made = |change: &dyn Fn(&mut CertificateParams)| {
            let key = KeyPair::generate().unwrap();
            let mut wanted = CertificateParams::new(["here".to_owned()]).unwrap();
            change(&mut wanted);
            (wanted.self_signed(&key).unwrap(), key)
        };
        let (shown, key) = made(&change);
        let (other, _) = made(&|_| {});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, if trusted { &shown } else { &other }.pem()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![shown.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let session = ServerConnection::new(Arc::new(server)).unwrap();
        let mut server = Server { session, back: VecDeque::new() };
        match Trust::new(Some(path)).greet("here", &mut server) {
            Ok(session) => format!("{:?}", session.protocol_version()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_certificate_that_does_not_fit_is_somebodys_to_mend() {
        let none = |_: &mut CertificateParams| {};
        assert_eq!(said(none, true), "Some(TLSv1_3)");
        let elsewhere = said(|c| *c = CertificateParams::new(["there".to_owned()]).unwrap(), true);
        assert!(elsewhere.contains("\"here\""), "{elsewhere}");
        assert!(elsewhere.contains("a host that its certificate is for"), "{elsewhere}");
        let crowd = |c: &mut CertificateParams| {
            let names = (0..500).map(|n| format!("{n}.example"));
            *c = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        };
        let crowd = said(crowd, true);
        assert!(crowd.len() < 500 && crowd.contains("a host that its"), "{crowd}");
        let stranger = said(none, false);
        assert!(stranger.contains("let neighbors.ca name"), "{stranger}");
        let old = said(|c| c.not_after = date_time_ymd(2020, 1, 1), true);
        assert!(old.ends_with("; its operator has to renew it"), "{old}");
        let early = said(|c| c.not_before = date_time_ymd(4000, 1, 1), true);
        assert!(early.contains("compare the clocks"), "{early}");
        let root = said(|c| c.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained), true);
        assert!(root.contains("CA:FALSE"), "{root}");
        let named = |c: &mut CertificateParams| {
            c.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
        };
        let unheard = said(named, false);
        assert!(unheard.contains("let neighbors.ca name"), "{unheard}");
    }

    /// Says these bytes, whatever it is told, and no more.
    struct Deaf(&'static [u8]);

    impl Read for Deaf {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Deaf {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_server_without_tls_is_told_from_a_file_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let trust = Trust::new(Some(path.clone()));
        let said = |bytes| trust.greet("here", &mut Deaf(bytes)).unwrap_err().to_string();
        assert!(said(b"").starts_with(&format!("neighbors.ca: {}: cannot be", path.display())));
        for (text, wrong) in [
            ("", "no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1 is"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "not PEM"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(said(b"").contains(wrong), "{wrong}: {}", said(b""));
        }
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        assert!(said(b"").starts_with("it hangs up when TLS begins; "), "{}", said(b""));
        assert!(said(b"HTTP/1.1 400 Bad Request\r\n\r\n").starts_with("it answers without TLS; "));
        // What was read stands until it is told to look again.
        std::fs::write(&path, "").unwrap();
        assert!(said(b"").starts_with("it hangs up"));
        trust.set(Some(path));
        assert!(said(b"").contains("no certificate in it"));
    }
}
