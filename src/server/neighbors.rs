//! Which neighbour stations there are, and connections to them: what waits for files, names and
//! other machines, on threads of its own.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::config::{Listed, Neighbors};
use super::dial::{Hurried, connect, reach};
use super::mesh::{Letter, Mailbox};
use super::tls::trust::Trust;
use crate::client::folder::write_bytes;
use crate::proto::id::Id;
use crate::shard::neighbor::{LinkId, Neighbor};

/// Stations that are taken from all lists together: each costs a connection and a copy of every
/// broadcast.
const NEIGHBORS_MAX: usize = 256;
/// How often a source is read anew; the reference's rhythm.
const REFRESH: Duration = Duration::from_secs(600);
/// Bytes of a list, and of what stands before it in an answer.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// Letters of a stranger's URL in one line of the log.
const URL_SHOWN_MAX: usize = 200;

/// Who this station is, to be left out of lists.
pub(crate) struct Own {
    pub(crate) id: Id,
    /// Host and port, by all names that are known.
    pub(crate) places: Vec<(String, u16)>,
}

/// The thread that reads the lists.
pub(crate) struct Roster {
    trust: Arc<Trust>,
    wake: mpsc::Sender<Neighbors>,
}

impl Roster {
    /// Reads the lists now, whenever told to, and every ten minutes if there is a source. Ends when
    /// this is dropped.
    pub(crate) fn start(
        own: Own,
        mut settings: Neighbors,
        trust: Arc<Trust>,
        hear: impl Fn(Arc<[Neighbor]>) + Send + 'static,
    ) -> io::Result<Self> {
        let (wake, woken) = mpsc::channel::<Neighbors>();
        let believed = trust.clone();
        std::thread::Builder::new().name("dim-neighbors".into()).spawn(move || {
            let mut told: Arc<[Neighbor]> = Arc::default();
            let mut fetched: Option<Vec<Listed>> = None;
            loop {
                // What is here first: a source may take long.
                tell(&gather(&own, &settings, fetched.as_deref()), &mut told, &hear);
                if let Some(source) = &settings.source {
                    match refresh(source, &believed, settings.output.as_deref()) {
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
        Ok(Self { trust, wake })
    }

    /// Settings have changed, or files behind them.
    pub(crate) fn read_again(&self, settings: Neighbors) {
        self.trust.set(settings.ca.clone());
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

/// Stations of a list in JSON: an array, or an object with `stations`. Entries without host and port,
/// or with another `tls` than true or false, are left out; none if it is no list.
pub fn stations(bytes: &[u8]) -> Option<Vec<Listed>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let list = value.as_array().or_else(|| value.get("stations")?.as_array())?;
    let read = |station: &Value| {
        let id = ["did", "ID", "id"].iter().find_map(|name| station.get(name)?.as_str());
        Some(Listed {
            id: id.unwrap_or_default().to_owned(),
            host: station.get("host")?.as_str()?.to_owned(),
            port: u16::try_from(station.get("port")?.as_u64()?).ok()?,
            // Whoever wrote something else than true wanted TLS no less.
            tls: station.get("tls").map_or(Some(false), Value::as_bool)?,
        })
    };
    Some(list.iter().filter_map(read).collect())
}

/// All listed stations but this one, each once.
fn neighbors(own: &Own, listed: &[Listed]) -> Arc<[Neighbor]> {
    let mut all: Vec<Neighbor> = Vec::new();
    for Listed { id: text, host, port, tls } in listed {
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
        all.push(Neighbor { id, host: host.clone(), port: *port, tls: *tls });
    }
    if all.len() > NEIGHBORS_MAX {
        tracing::warn!(listed = all.len(), taken = NEIGHBORS_MAX, "too many neighbours");
        all.truncate(NEIGHBORS_MAX);
    }
    all.into()
}

/// Fetches a list, and keeps it in a file if one is named.
fn refresh(source: &str, trust: &Trust, output: Option<&Path>) -> io::Result<Vec<Listed>> {
    let body = fetch(source, trust)?;
    let listed = stations(&body).ok_or_else(|| io::Error::other("not a list of stations"))?;
    if let Some(path) = output {
        // The list is good without the file too.
        if let Err(error) = write_bytes(path, &body, false) {
            tracing::warn!(%error, "the list of neighbours is not kept");
        }
    }
    Ok(listed)
}

/// Where a list is.
pub(crate) struct Source<'a> {
    /// Whether it is an `https:` one.
    pub(crate) tls: bool,
    host: &'a str,
    port: u16,
    /// Host and port as they are in the URL.
    authority: &'a str,
    path: &'a str,
}

impl<'a> Source<'a> {
    /// Reads `http://HOST[:PORT][/PATH]`, or the same with `https`; what is wrong with it otherwise.
    pub(crate) fn read(url: &'a str) -> Result<Self, &'static str> {
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("not an http: or https: URL"),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("blanks or letters beyond ASCII in the URL");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| "no port in the URL")?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("no host in the URL");
        }
        Ok(Self { tls, host, port, authority, path })
    }
}

/// What an URL shows. Asked in HTTP/1.0, so that the answer is not cut into pieces and ends with the
/// connection.
fn fetch(source: &str, trust: &Trust) -> io::Result<Vec<u8>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let Source { tls, host, port, authority, path } = Source::read(source).map_err(invalid)?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
    let mut wire = Hurried::new(connect(host, port)?.0);
    if !tls {
        return ask(&mut wire, &request);
    }
    let mut session = trust.greet(host, &mut wire)?;
    ask(&mut rustls::Stream::new(&mut session, &mut wire), &request)
}

fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            // Many servers hang up without TLS's own farewell. A list that was cut is no JSON.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
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
        let elsewhere = location(answer.get(..end).unwrap_or_default());
        return Err(io::Error::other(match elsewhere.filter(|_| status.starts_with('3')) {
            Some(url) => format!("the server says {status}; name where it is: {url}"),
            None => format!("the server says {status}"),
        }));
    }
    Ok(answer.split_off(end + 4))
}

/// Connects to a neighbour and tells the shard, from a thread of its own. With `trust`, under TLS.
pub(super) fn dial(
    mailbox: Arc<Mailbox<Letter>>,
    link: LinkId,
    host: String,
    port: u16,
    trust: Option<Arc<Trust>>,
) {
    let answer = mailbox.clone();
    let dialing = std::thread::Builder::new().name("dim-dial".into()).spawn(move || {
        let reached = reach(&host, port, trust.as_deref());
        if let Err(error) = &reached {
            tracing::debug!(host, port, %error, "neighbour not reached");
        }
        mailbox.deliver(Letter::Dialed { link, reached: reached.ok() });
    });
    if let Err(error) = dialing {
        tracing::warn!(%error, "no thread to dial a neighbour");
        // There is room for it, or the shard is so busy that the link can wait for the next start.
        let _ = answer.send(vec![Letter::Dialed { link, reached: None }]);
    }
}

/// Where an answer sends whoever asks, as far as it can be shown in a line.
fn location(head: &[u8]) -> Option<String> {
    let lines = head.split(|byte| *byte == b'\n');
    let mut fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let (_, url) = fields.find(|(name, _)| name.eq_ignore_ascii_case("location"))?;
    Some(url.trim().chars().filter(char::is_ascii_graphic).take(URL_SHOWN_MAX).collect())
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    #[test]
    fn lists_are_read_in_both_shapes_and_leave_this_station_out() {
        let own = Own { id: Id::gsp(), places: vec![("here".to_owned(), 9394)] };
        let moky = Id::moky();
        let rows = format!(
            r#"[{{"ID":"{moky}","host":"a","port":1}},{{"host":"here","port":9394}},
                {{"did":"gsp@everywhere","host":"b","port":2}},{{"host":"c","port":3,"tls":true}},
                {{"host":"a","port":1}},{{"id":"{moky}","host":"d","port":4}},
                {{"host":"e"}},{{"host":"f","port":70000}},{{"host":"h","port":6,"tls":"yes"}},{{"id":"@@","host":"g","port":5}}]"#
        );
        for text in [rows.clone(), format!(r#"{{"stations":{rows}}}"#)] {
            let list = neighbors(&own, &stations(text.as_bytes()).unwrap());
            let a = Neighbor { id: Some(moky.clone()), host: "a".to_owned(), port: 1, tls: false };
            let c = Neighbor { id: None, host: "c".to_owned(), port: 3, tls: true };
            assert_eq!(*list, [a, c]);
        }
        assert_eq!(stations(b"{}"), None);
    }

    /// A server that gives each who asks the next of these answers, and hangs up; under TLS for
    /// `localhost`, if there is a file to keep its certificate in.
    fn server(
        answers: Vec<&'static str>,
        certificate: Option<&Path>,
    ) -> (u16, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = certificate.map(|path| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(path, made.cert.pem()).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap();
            let chain = vec![made.cert.der().clone()];
            Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
        });
        let serve = move |stream: &mut dyn ReadWrite, answer: &str| {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    return;
                }
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /stations.json HTTP/1.0\r\n"));
            // Who hears too much hangs up first.
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        };
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                match &tls {
                    None => serve(&mut stream, answer),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(&mut rustls::StreamOwned::new(session, stream), answer);
                    }
                }
            }
        });
        (port, thread)
    }

    trait ReadWrite: Read + Write {}

    impl<T: Read + Write> ReadWrite for T {}

    const LIST: &str = "200 OK\r\nA: b\r\n\r\n[{\"host\":\"a\",\"port\":1}]";

    #[test]
    fn a_list_is_fetched_and_kept_and_a_refusal_changes_nothing() {
        let elsewhere = "301 Moved\r\nlocation: https://b/\x1b\r\n\r\n";
        let (port, server) = server(vec![LIST, "404 No\r\n\r\n[]", elsewhere], None);
        let source = format!("http://127.0.0.1:{port}/stations.json");
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("list.json");
        let trust = Trust::new(None);
        let fetched = || refresh(&source, &trust, Some(&output)).map_err(|e| e.to_string());
        let listed = fetched().unwrap();
        let (id, host) = (String::new(), "a".to_owned());
        assert_eq!(listed, [Listed { id, host, port: 1, tls: false }]);
        assert_eq!(read_file(&output).unwrap(), listed);
        assert_eq!(fetched(), Err("the server says 404".to_owned()));
        let elsewhere = "the server says 301; name where it is: https://b/";
        assert_eq!(fetched(), Err(elsewhere.to_owned()));
        assert_eq!(read_file(&output).unwrap(), listed);
        server.join().unwrap();
    }

    #[test]
    fn a_list_is_fetched_under_tls_from_the_right_server_only() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let cut = "200 OK\r\n\r\n[{\"host\":\"a\",";
        let (port, server) = server(vec![LIST, LIST, cut, LIST], Some(&ca));
        let trust = Trust::new(Some(ca.clone()));
        let fetched = |host: &str| {
            let source = format!("https://{host}:{port}/stations.json");
            refresh(&source, &trust, None).map_err(|error| error.to_string())
        };
        assert_eq!(fetched("localhost").map(|list| list.len()), Ok(1));
        let other = fetched("127.0.0.1").unwrap_err();
        assert!(other.contains("not valid for name \"127.0.0.1\""), "{other}");
        assert_eq!(fetched("localhost"), Err("not a list of stations".to_owned()));
        let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&ca, stranger.cert.pem()).unwrap();
        trust.set(Some(ca));
        let stranger = fetched("localhost").unwrap_err();
        assert!(stranger.contains("neighbors.ca"), "{stranger}");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_without_an_end_is_not_heard_to_it() {
        struct Flood;
        impl Read for Flood {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                bytes.fill(b' ');
                Ok(bytes.len())
            }
        }
        impl Write for Flood {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = ask(&mut Flood, "GET / HTTP/1.0\r\n\r\n").unwrap_err();
        assert_eq!(error.to_string(), "a longer answer than any list");
    }

    #[test]
    fn an_url_is_read_or_refused_with_the_reason() {
        let read = |url| Source::read(url).map(|s| (s.tls, s.host, s.port, s.authority, s.path));
        assert_eq!(read("http://a"), Ok((false, "a", 80, "a", "/")));
        assert_eq!(read("https://a/b?c"), Ok((true, "a", 443, "a", "/b?c")));
        assert_eq!(read("https://[::1]:8443/"), Ok((true, "::1", 8443, "[::1]:8443", "/")));
        assert_eq!(read("https://[::1]/"), Ok((true, "::1", 443, "[::1]", "/")));
        for (url, why) in [
            ("ftp://a/", "not an http: or https: URL"),
            ("a/b.json", "not an http: or https: URL"),
            ("https:///b", "no host in the URL"),
            ("http://a:b/", "no port in the URL"),
            ("https://a/b c", "blanks or letters beyond ASCII in the URL"),
        ] {
            assert_eq!(read(url), Err(why), "{url}");
        }
    }
}
