//! TLS on one connection, as bytes to bytes: rustls does it, and this keeps what it holds within
//! bounds and counts what the peer has.

use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

/// The first byte of a TLS connection: a record with a handshake in it. No framing begins so.
pub(crate) const FIRST_BYTE: u8 = 0x16;

/// Frames put into one call; they share records as far as there is room.
const SLICES_MAX: usize = 256;

/// Bytes encrypted at a time, once the kernel has taken the ones before: four full records. What
/// waits beyond that waits as it is, shared with other receivers.
const SEAL_BYTES_MAX: usize = 64 << 10;

/// The longest plaintext of a record: its first byte can be read only when its last one is there.
const RECORD_BYTES_MAX: u64 = 16 << 10;

/// One connection's TLS. Goes with it from shard to shard.
pub struct Session {
    connection: Connection,
    /// What is to be encrypted.
    plain: VecDeque<Bytes>,
    /// Bytes of plaintext encrypted since the connection was opened.
    sealed: u64,
    /// How many of them were known to have arrived.
    arrived: u64,
    /// The peer has said that it says no more.
    ended: bool,
    /// We have.
    farewell: bool,
}

/// What was encrypted in one step, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Of what was pushed.
    pub plain: usize,
    /// Of what goes to the socket.
    pub records: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection just accepted. Errors: a configuration without a version or a key.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::over(ServerConnection::new(config)?.into()))
    }

    /// A connection that was dialled, at any stage.
    pub fn dialed(connection: ClientConnection) -> Self {
        Self::over(connection.into())
    }

    fn over(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(SEAL_BYTES_MAX));
        Self {
            connection,
            plain: VecDeque::new(),
            sealed: 0,
            arrived: 0,
            ended: false,
            farewell: false,
        }
    }

    /// Takes what was read from the socket; what the peer says with it, often nothing. After an
    /// error there is still an alert to be sent.
    pub fn open(&mut self, mut read: &[u8]) -> std::io::Result<Bytes> {
        let mut opened = Vec::new();
        // First what a handshake elsewhere may have read beyond its end.
        while !self.ended {
            let state = self.connection.process_new_packets().map_err(std::io::Error::other)?;
            let (from, count) = (opened.len(), state.plaintext_bytes_to_read());
            opened.reserve_exact(count);
            opened.resize(from + count, 0);
            self.connection.reader().read_exact(opened.get_mut(from..).unwrap_or_default())?;
            self.ended = state.peer_has_closed();
            if read.is_empty() {
                break;
            }
            self.connection.read_tls(&mut read)?;
        }
        Ok(opened.into())
    }

    /// Whether the peer has said that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Plaintext for the peer.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.plain.push_back(bytes);
        }
    }

    /// Whether [`seal`](Self::seal) has something to write.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write() || !self.connection.is_handshaking() && !self.plain.is_empty()
    }

    /// Puts records into `queue`, a bounded number of bytes; none when all is done. When there is
    /// nothing more and the connection is `closing`, the last record says so.
    pub fn seal(&mut self, closing: bool, queue: &mut VecDeque<Bytes>) -> Sealed {
        let mut plain = 0;
        // Before the handshake is over rustls would only keep a copy of it.
        while !self.connection.is_handshaking() && !self.plain.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.plain.iter().take(SLICES_MAX).map(|bytes| IoSlice::new(bytes)).collect();
            // Writing into memory does not fail; no room is what ends it.
            let count = self.connection.writer().write_vectored(&slices).unwrap_or(0);
            if count == 0 {
                break;
            }
            plain += count;
            advance(&mut self.plain, count);
        }
        if closing && (self.plain.is_empty() || self.connection.is_handshaking()) && !self.farewell
        {
            self.farewell = true;
            self.connection.send_close_notify();
        }
        let mut records = Vec::new();
        while self.connection.wants_write()
            && self.connection.write_tls(&mut records).is_ok_and(|count| count > 0)
        {}
        // An idle connection keeps no buffer.
        if self.plain.is_empty() && self.plain.capacity() > 64 {
            self.plain = VecDeque::new();
        }
        self.sealed += plain as u64;
        let sealed = Sealed { plain, records: records.len() };
        if !records.is_empty() {
            queue.push_back(records.into());
        }
        sealed
    }

    /// Bytes of plaintext that the peer can read when all but `outstanding` bytes of records have
    /// arrived. Never more than there are: a record is longer than what is in it, and one of which
    /// the end is missing may have come for nothing.
    pub fn arrived(&mut self, outstanding: u64) -> u64 {
        let lacking = if outstanding == 0 { 0 } else { outstanding + RECORD_BYTES_MAX };
        self.arrived = self.arrived.max(self.sealed.saturating_sub(lacking));
        self.arrived
    }

    /// Whether everything is encrypted and `arrived` is all of it.
    pub fn is_settled(&self, arrived: u64) -> bool {
        arrived == self.sealed && self.plain.is_empty()
    }

    /// Bytes that wait to be encrypted.
    pub fn waiting(&self) -> usize {
        self.plain.iter().map(Bytes::len).sum()
    }

    /// Drops what was not encrypted yet: the peer is gone.
    pub fn clear(&mut self) {
        self.plain.clear();
    }
}

/// Takes `count` bytes off the front of a queue.
pub(crate) fn advance(queue: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = queue.front_mut() {
        if count < first.len() {
            first.advance(count);
            return;
        }
        count -= first.len();
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// A client and a session that have not said anything yet.
    fn strangers(
        version: &'static rustls::SupportedProtocolVersion,
    ) -> (ClientConnection, Session) {
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let name = ServerName::try_from("here").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        (client, Session::new(Arc::new(server)).unwrap())
    }

    /// A client and a session that have greeted each other.
    fn pair() -> (ClientConnection, Session) {
        let (mut client, mut session) = strangers(&rustls::version::TLS13);
        while client.wants_write() || session.wants_write() {
            let (mut there, mut back) = (Vec::new(), VecDeque::new());
            client.write_tls(&mut there).unwrap();
            assert!(session.open(&there).unwrap().is_empty());
            session.seal(false, &mut back);
            let said: usize = back.iter().map(|records| heard(&mut client, records)).sum();
            assert_eq!(said, 0);
        }
        (client, session)
    }

    fn heard(client: &mut ClientConnection, mut records: &[u8]) -> usize {
        let mut count = 0;
        while !records.is_empty() {
            client.read_tls(&mut records).unwrap();
            let state = client.process_new_packets().unwrap();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut plain).unwrap();
            count += plain.len();
        }
        count
    }

    #[test]
    fn no_more_counts_as_arrived_than_the_peer_can_read() {
        let (mut client, mut session) = pair();
        for len in [1, 100, 40_000, 40_000] {
            session.push(Bytes::from(vec![7; len]));
        }
        let mut queue = VecDeque::new();
        let mut sealed = 0;
        while session.wants_write() {
            let step = session.seal(false, &mut queue);
            assert!(step.records <= SEAL_BYTES_MAX + 1000, "{step:?}");
            sealed += step.plain;
        }
        assert_eq!(sealed, 80_101);
        let records: Vec<u8> = queue.iter().flatten().copied().collect();
        let (mut at, mut read) = (0, 0);
        for missing in (0..=records.len()).rev() {
            let upto = records.len() - missing;
            read += heard(&mut client, &records[at..upto]);
            at = upto;
            let arrived = session.arrived(missing as u64);
            assert!(arrived <= read as u64, "{missing} missing: {arrived}, {read}");
            assert_eq!(session.is_settled(arrived), missing == 0);
        }
        assert_eq!(read, 80_101);
    }

    #[test]
    fn what_a_dialler_read_beyond_the_greeting_is_heard() {
        // There the server's word is the last one, and more may come with it.
        let (mut client, mut server) = strangers(&rustls::version::TLS12);
        server.push(Bytes::from_static(b"hello"));
        while client.is_handshaking() {
            let (mut there, mut back) = (Vec::new(), VecDeque::new());
            client.write_tls(&mut there).unwrap();
            server.open(&there).unwrap();
            while server.seal(false, &mut back).records > 0 {}
            let back: Vec<u8> = back.into_iter().flatten().collect();
            let mut back = back.as_slice();
            while !back.is_empty() {
                client.read_tls(&mut back).unwrap();
            }
            client.process_new_packets().unwrap();
        }
        let mut dialer = Session::dialed(client);
        assert_eq!(dialer.open(&[]).unwrap(), "hello");
        // And both ways from there.
        dialer.push(Bytes::from_static(b"you too"));
        let mut there = VecDeque::new();
        dialer.seal(true, &mut there);
        let there: Vec<u8> = there.into_iter().flatten().collect();
        assert_eq!(server.open(&there).unwrap(), "you too");
        assert!(server.has_ended());
    }

    #[test]
    fn the_last_word_comes_after_everything_else_and_once() {
        let (mut client, mut session) = pair();
        session.push(Bytes::from(vec![7; 200_000]));
        let mut queue = VecDeque::new();
        while session.seal(true, &mut queue).records > 0 {}
        let mut count = 0;
        for records in &queue {
            assert!(!client.process_new_packets().unwrap().peer_has_closed());
            count += heard(&mut client, records);
        }
        assert_eq!(count, 200_000);
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}
