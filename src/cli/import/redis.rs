//! As much of the Redis protocol as it takes to read: one connection, one question at a time.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server that is silent for so long does not answer any more.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest value, in bytes: what the reference stores there is one message each.
const VALUE_BYTES_MAX: usize = 32 << 20;
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Most elements of one answer.
const ELEMENTS_MAX: usize = 1 << 20;
/// Deepest nesting of answers: that of SCAN is a list in a list.
const DEPTH_MAX: usize = 3;
/// The database that the reference keeps messages in.
const DATABASE: &str = "8";
const PORT: u16 = 6379;

/// Why a server could not be read.
#[derive(Debug)]
pub(super) enum RedisError {
    /// The address is not `redis://[[user]:password@]host[:port][/database]`.
    Url(&'static str),
    /// The network, or the server's end of it.
    Io(io::Error),
    /// The server refuses, in its own words.
    Refused(String),
    /// What answers is not Redis.
    Protocol(&'static str),
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(wrong) => {
                write!(f, "{wrong}; expected redis://[[user]:password@]host[:port][/database]")
            }
            Self::Io(error) => error.fmt(f),
            Self::Refused(text) => write!(f, "the server refuses: {}", text.escape_debug()),
            Self::Protocol(what) => write!(f, "this is no redis server: {what}"),
        }
    }
}

impl From<io::Error> for RedisError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where a server is and who asks.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    address: String,
    user: String,
    password: String,
    database: String,
}

impl Place {
    fn parse(url: &str) -> Result<Self, RedisError> {
        let rest = url.strip_prefix("redis://").ok_or(RedisError::Url("not a redis address"))?;
        let (rest, database) = match rest.split_once('/') {
            Some((rest, database)) if !database.is_empty() => (rest, database),
            Some((rest, _)) => (rest, DATABASE),
            None => (rest, DATABASE),
        };
        if database.parse::<u16>().is_err() {
            return Err(RedisError::Url("the database is not a number"));
        }
        let (login, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login.split_once(':').unwrap_or(("", login));
        let bare_v6 = host.ends_with(']');
        let (name, port) = match host.rsplit_once(':').filter(|_| !bare_v6) {
            Some((name, port)) => {
                (name, port.parse().map_err(|_| RedisError::Url("the port is not a number"))?)
            }
            None => (host, PORT),
        };
        if name.is_empty() {
            return Err(RedisError::Url("no host"));
        }
        let [user, password, database] = [user, password, database].map(str::to_owned);
        Ok(Self { address: format!("{name}:{port}"), user, password, database })
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Bytes(Option<Vec<u8>>),
    List(Vec<Self>),
}

/// An open connection.
pub(super) struct Redis<S = TcpStream> {
    stream: BufReader<S>,
}

impl Redis {
    pub(super) fn connect(url: &str) -> Result<Self, RedisError> {
        let place = Place::parse(url)?;
        let stream = TcpStream::connect(&place.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut redis = Self { stream: BufReader::new(stream) };
        match (place.user.as_str(), place.password.as_str()) {
            ("", "") => {}
            ("", password) => drop(redis.ask(&["AUTH", password])?),
            (user, password) => drop(redis.ask(&["AUTH", user, password])?),
        }
        redis.ask(&["SELECT", &place.database])?;
        Ok(redis)
    }
}

impl<S: Read + Write> Redis<S> {
    /// Some keys that match, and where to go on; the walk begins and ends at "0". A key may come
    /// twice.
    pub(super) fn scan(
        &mut self,
        cursor: &str,
        pattern: &str,
    ) -> Result<(String, Vec<Vec<u8>>), RedisError> {
        const WRONG: RedisError = RedisError::Protocol("SCAN is not answered by keys");
        let reply = self.ask(&["SCAN", cursor, "MATCH", pattern, "COUNT", "1000"])?;
        let Reply::List(parts) = reply else { return Err(WRONG) };
        let mut parts = parts.into_iter();
        let (Some(Reply::Bytes(Some(cursor))), Some(keys)) = (parts.next(), parts.next()) else {
            return Err(WRONG);
        };
        let cursor = String::from_utf8(cursor).map_err(|_| WRONG)?;
        Ok((cursor, values(keys)?))
    }

    /// The last `count` members of a sorted set, in its order.
    pub(super) fn last_members(
        &mut self,
        key: &[u8],
        count: u32,
    ) -> Result<Vec<Vec<u8>>, RedisError> {
        let from = format!("-{count}");
        let reply = self.ask_bytes(&[b"ZRANGE", key, from.as_bytes(), b"-1"])?;
        values(reply)
    }

    /// The value of a key, if there is one.
    pub(super) fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, RedisError> {
        match self.ask_bytes(&[b"GET", key])? {
            Reply::Bytes(value) => Ok(value),
            _ => Err(RedisError::Protocol("GET is not answered by a value")),
        }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Reply, RedisError> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.ask_bytes(&words)
    }

    fn ask_bytes(&mut self, words: &[&[u8]]) -> Result<Reply, RedisError> {
        let mut question = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            question.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            question.extend_from_slice(word);
            question.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&question)?;
        self.reply(DEPTH_MAX)
    }

    fn reply(&mut self, depth: usize) -> Result<Reply, RedisError> {
        let mut line = String::new();
        (&mut self.stream).take(LINE_BYTES_MAX).read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(RedisError::Protocol("a line without its end"));
        };
        let length = |text: &str, most: usize| match text.parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(length) => match usize::try_from(length) {
                Ok(length) if length <= most => Ok(Some(length)),
                _ => Err(RedisError::Protocol("a length out of bounds")),
            },
            Err(_) => Err(RedisError::Protocol("a length that is no number")),
        };
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(Reply::Text(text.to_owned())),
            Some(("-", text)) => Err(RedisError::Refused(text.to_owned())),
            Some(("$", text)) => match length(text, VALUE_BYTES_MAX)? {
                None => Ok(Reply::Bytes(None)),
                Some(length) => {
                    let mut value = vec![0; length + 2];
                    self.stream.read_exact(&mut value)?;
                    value.truncate(length);
                    Ok(Reply::Bytes(Some(value)))
                }
            },
            Some(("*", text)) if depth > 0 => {
                let length = length(text, ELEMENTS_MAX)?.unwrap_or_default();
                (0..length)
                    .map(|_| self.reply(depth - 1))
                    .collect::<Result<_, _>>()
                    .map(Reply::List)
            }
            _ => Err(RedisError::Protocol("an answer of an unknown kind")),
        }
    }
}

fn values(reply: Reply) -> Result<Vec<Vec<u8>>, RedisError> {
    const WRONG: RedisError = RedisError::Protocol("a list of something else than values");
    let Reply::List(list) = reply else { return Err(WRONG) };
    list.into_iter()
        .map(|value| match value {
            Reply::Bytes(Some(bytes)) => Ok(bytes),
            _ => Err(WRONG),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers what it was told to, whatever is asked.
    struct Parrot(io::Cursor<Vec<u8>>);

    impl Read for Parrot {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Parrot {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn saying(text: &str) -> Redis<Parrot> {
        Redis { stream: BufReader::new(Parrot(io::Cursor::new(text.as_bytes().to_vec()))) }
    }

    #[test]
    fn answers_are_read() {
        let page = saying("*2\r\n$1\r\n7\r\n*2\r\n$1\r\na\r\n$3\r\nb\r\n\r\n").scan("0", "*");
        assert_eq!(page.unwrap(), ("7".to_owned(), vec![b"a".to_vec(), b"b\r\n".to_vec()]));
        assert_eq!(saying("$-1\r\n").value(b"x").unwrap(), None);
        assert_eq!(saying("*0\r\n").last_members(b"x", 5).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_no_answer_is_refused_without_much_memory() {
        for text in [
            "",
            "$5\r\nab",
            "$99999999999\r\n",
            "*2000000\r\n",
            "*1\r\n*1\r\n*1\r\n*1\r\n+a\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "$-2\r\n",
            "$x\r\n",
            "+no end",
            "\r\n",
            "é\r\n",
        ] {
            assert!(saying(text).value(b"x").is_err(), "{text:?}");
        }
        let refused = saying("-NOAUTH Authentication required.\r\n").value(b"x").unwrap_err();
        assert_eq!(refused.to_string(), "the server refuses: NOAUTH Authentication required.");
    }

    #[test]
    fn addresses_are_taken_apart() {
        let place = |url: &str| {
            let Place { address, user, password, database } = Place::parse(url).unwrap();
            [address, user, password, database].join(" ")
        };
        assert_eq!(place("redis://localhost"), "localhost:6379   8");
        assert_eq!(place("redis://:p@ss@10.0.0.1:7000/3"), "10.0.0.1:7000  p@ss 3");
        assert_eq!(place("redis://me:secret@[::1]/"), "[::1]:6379 me secret 8");
        for bad in ["localhost", "redis://", "redis://h:x", "redis://h/x", "rediss://h"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
