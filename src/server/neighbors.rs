//! Which neighbour stations there are, and connections to them: what waits for files, names and
//! other machines, on threads of its own.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::config::{Listed, Neighbors};
use super::mesh::{Letter, Mailbox};
use crate::client::folder::write_bytes;
use crate::proto::id::Id;
use crate::shard::neighbor::{LinkId, Neighbor};

/// Stations that are taken from all lists together: each costs a connection and a copy of every
/// broadcast.
const NEIGHBORS_MAX: usize = 256;
/// How often a source is read anew; the reference's rhythm.
const REFRESH: Duration = Duration::from_secs(600);
/// How long a station or a source may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a list, and of what stands before it in an answer.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// Who this station is, to be left out of lists.
pub(crate) struct Own {
    pub(crate) id: Id,
    /// Host and port, by all names that are known.
    pub(crate) places: Vec<(String, u16)>,
}

/// The thread that reads the lists.
pub(crate) struct Roster {
    wake: mpsc::Sender<Neighbors>,
}

impl Roster {
    /// Reads the lists now, whenever told to, and every ten minutes if there is a source. Ends when
    /// this is dropped.
    pub(crate) fn start(
        own: Own,
        mut settings: Neighbors,
        hear: impl Fn(Arc<[Neighbor]>) + Send + 'static,
    ) -> io::Result<Self> {
        let (wake, woken) = mpsc::channel::<Neighbors>();
        std::thread::Builder::new().name("dim-neighbors".into()).spawn(move || {
            let mut told: Arc<[Neighbor]> = Arc::default();
            let mut fetched: Option<Vec<Listed>> = None;
            loop {
                // What is here first: a source may take long.
                tell(&gather(&own, &settings, fetched.as_deref()), &mut told, &hear);
                if let Some(source) = &settings.source {
                    match refresh(source, settings.output.as_deref()) {
                        Ok(list) => fetched = Some(list),
                        Err(error) => tracing::warn!(%source, %error, "neighbours as before"),
                    }
                    tell(&gather(&own, &settings, fetched.as_deref()), &mut told, &hear);
                }
                match woken.recv_timeout(REFRESH) {
                    Ok(fresh) => {
                        fetched = fetched.filter(|_| fresh.source == settings.source);
                        settings = fresh;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { wake })
    }

    /// Settings have changed, or files behind them.
    pub(crate) fn read_again(&self, settings: Neighbors) {
        let _ = self.wake.send(settings);
    }
}

fn tell(list: &Arc<[Neighbor]>, told: &mut Arc<[Neighbor]>, hear: &impl Fn(Arc<[Neighbor]>)) {
    if list == told {
        return;
    }
    tracing::info!(neighbors = list.len(), "other stations");
    hear(list.clone());
    *told = list.clone();
}

/// The settings' own list, and what was fetched or is kept in a file.
fn gather(own: &Own, settings: &Neighbors, fetched: Option<&[Listed]>) -> Arc<[Neighbor]> {
    let mut all = settings.list.clone();
    if let Some(fetched) = fetched {
        all.extend_from_slice(fetched);
    } else if let Some(path) = &settings.output {
        match read_file(path) {
            Ok(listed) => all.extend(listed),
            Err(error) if error.kind() == io::ErrorKind::NotFound && settings.source.is_some() => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "no list of neighbours"),
        }
    }
    neighbors(own, &all)
}

fn read_file(path: &Path) -> io::Result<Vec<Listed>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LIST_BYTES_MAX).read_to_end(&mut bytes)?;
    stations(&bytes).ok_or_else(|| io::Error::other("not a list of stations"))
}

/// Stations of a list in JSON: an array, or an object with `stations`. Entries without host and port
/// are left out; none if it is no list.
pub fn stations(bytes: &[u8]) -> Option<Vec<Listed>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let list = value.as_array().or_else(|| value.get("stations")?.as_array())?;
    let read = |station: &Value| {
        let id = ["did", "ID", "id"].iter().find_map(|name| station.get(name)?.as_str());
        Some(Listed {
            id: id.unwrap_or_default().to_owned(),
            host: station.get("host")?.as_str()?.to_owned(),
            port: u16::try_from(station.get("port")?.as_u64()?).ok()?,
        })
    };
    Some(list.iter().filter_map(read).collect())
}

/// All listed stations but this one, each once.
fn neighbors(own: &Own, listed: &[Listed]) -> Arc<[Neighbor]> {
    let mut all: Vec<Neighbor> = Vec::new();
    for Listed { id: text, host, port } in listed {
        let id = Id::parse(text).ok().map(|id| id.naked());
        if id.is_none() && !text.is_empty() {
            tracing::warn!(id = text, host, "a listed neighbour's ID is none; left out");
            continue;
        }
        let here = own.places.iter().any(|(name, at)| name == host && at == port);
        let known = all.iter().any(|other| {
            (&other.host, other.port) == (host, *port) || (id.is_some() && other.id == id)
        });
        if here || known || id.as_ref().is_some_and(|id| id.is_same_as(&own.id)) {
            continue;
        }
        all.push(Neighbor { id, host: host.clone(), port: *port });
    }
    if all.len() > NEIGHBORS_MAX {
        tracing::warn!(listed = all.len(), taken = NEIGHBORS_MAX, "too many neighbours");
        all.truncate(NEIGHBORS_MAX);
    }
    all.into()
}

/// Fetches a list, and keeps it in a file if one is named.
fn refresh(source: &str, output: Option<&Path>) -> io::Result<Vec<Listed>> {
    let body = fetch(source)?;
    let listed = stations(&body).ok_or_else(|| io::Error::other("not a list of stations"))?;
    if let Some(path) = output {
        // The list is good without the file too.
        if let Err(error) = write_bytes(path, &body, false) {
            tracing::warn!(%error, "the list of neighbours is not kept");
        }
    }
    Ok(listed)
}

/// What an URL of the form `http://host[:port][/path]` shows. Asked in HTTP/1.0, so that the answer
/// is not cut into pieces and ends with the connection.
fn fetch(source: &str) -> io::Result<Vec<u8>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let rest = source.strip_prefix("http://").ok_or_else(|| invalid("not an http: URL"))?;
    let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if source.bytes().any(|byte| byte <= b' ') {
        return Err(invalid("blanks in the URL"));
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| invalid("no port in the URL"))?)
        }
        _ => (place, 80),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (mut stream, _) = connect(host, port)?;
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {place}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
        if answer.len() as u64 > LIST_BYTES_MAX {
            return Err(io::Error::other("a longer answer than any list"));
        }
    }
    body_of(answer)
}

/// What a whole answer in HTTP brings. Errors: one that does not say 200, or no answer.
pub fn body_of(mut answer: Vec<u8>) -> io::Result<Vec<u8>> {
    let end = memchr::memmem::find(&answer, b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("no answer in HTTP"))?;
    let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status != b"200" {
        let status = String::from_utf8_lossy(status.get(..3).unwrap_or_default()).into_owned();
        return Err(io::Error::other(format!("the server says {status}")));
    }
    Ok(answer.split_off(end + 4))
}

/// Connects to a neighbour and tells the shard, from a thread of its own.
pub(super) fn dial(mailbox: Arc<Mailbox<Letter>>, link: LinkId, host: String, port: u16) {
    let answer = mailbox.clone();
    let dialing = std::thread::Builder::new().name("dim-dial".into()).spawn(move || {
        let socket = match connect(&host, port).and_then(|(stream, peer)| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok((OwnedFd::from(stream), peer))
        }) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(host, port, %error, "neighbour not reached");
                None
            }
        };
        mailbox.deliver(Letter::Dialed { link, socket });
    });
    if let Err(error) = dialing {
        tracing::warn!(%error, "no thread to dial a neighbour");
        // There is room for it, or the shard is so busy that the link can wait for the next start.
        let _ = answer.send(vec![Letter::Dialed { link, socket: None }]);
    }
}

/// The first address of a host that takes a connection.
pub(crate) fn connect(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of that name");
    for address in (host, port).to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_both_shapes_and_leave_this_station_out() {
        let own = Own { id: Id::gsp(), places: vec![("here".to_owned(), 9394)] };
        let moky = Id::moky();
        let rows = format!(
            r#"[{{"ID":"{moky}","host":"a","port":1}},{{"host":"here","port":9394}},
                {{"did":"gsp@everywhere","host":"b","port":2}},{{"host":"c","port":3}},
                {{"host":"a","port":1}},{{"id":"{moky}","host":"d","port":4}},
                {{"host":"e"}},{{"host":"f","port":70000}},{{"id":"@@","host":"g","port":5}}]"#
        );
        for text in [rows.clone(), format!(r#"{{"stations":{rows}}}"#)] {
            let list = neighbors(&own, &stations(text.as_bytes()).unwrap());
            let a = Neighbor { id: Some(moky.clone()), host: "a".to_owned(), port: 1 };
            let c = Neighbor { id: None, host: "c".to_owned(), port: 3 };
            assert_eq!(*list, [a, c]);
        }
        assert_eq!(stations(b"{}"), None);
    }

    #[test]
    fn a_list_is_fetched_and_kept_and_a_refusal_changes_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let source = format!("http://{}/stations.json", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for answer in
                ["200 OK\r\nA: b\r\n\r\n[{\"host\":\"a\",\"port\":1}]", "404 No\r\n\r\n[]"]
            {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                assert!(request.starts_with(b"GET /stations.json HTTP/1.0\r\n"));
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("list.json");
        let listed = refresh(&source, Some(&output)).unwrap();
        assert_eq!(listed, [Listed { id: String::new(), host: "a".to_owned(), port: 1 }]);
        assert_eq!(read_file(&output).unwrap(), listed);
        assert_eq!(refresh(&source, Some(&output)).unwrap_err().to_string(), "the server says 404");
        assert_eq!(read_file(&output).unwrap(), listed);
        server.join().unwrap();
        assert!(fetch("https://example.org/").is_err() && fetch("http://a:b/").is_err());
    }
}
