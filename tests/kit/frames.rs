//! Each framing as a client writes and reads it, apart from the station's own code.

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// MTP with an `OK` to every message.
    Mtp,
    /// MTP without.
    MtpSilent,
    /// WebSocket with an `ACK:` to every message.
    WebSocketAck,
    /// WebSocket without.
    WebSocket,
    /// Mars: every request is answered under its own number.
    Mars,
    /// The JSON lines of 2019.
    Lines,
}

impl Form {
    pub(crate) const ALL: [Self; 6] =
        [Self::Mtp, Self::MtpSilent, Self::WebSocketAck, Self::WebSocket, Self::Mars, Self::Lines];

    pub(crate) fn is_web(self) -> bool {
        matches!(self, Self::WebSocketAck | Self::WebSocket)
    }

    pub(crate) fn is_mtp(self) -> bool {
        matches!(self, Self::Mtp | Self::MtpSilent)
    }

    /// Whether it acknowledges what it gets.
    pub(crate) fn acknowledges(self) -> bool {
        matches!(self, Self::Mtp | Self::WebSocketAck | Self::Mars)
    }
}

/// Types of MTP packages.
pub(crate) const COMMAND: u8 = 0;
pub(crate) const COMMAND_RESPONSE: u8 = 1;
pub(crate) const MESSAGE: u8 = 2;
pub(crate) const MESSAGE_RESPONSE: u8 = 3;

pub(crate) fn mtp(kind: u8, id: [u8; 8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [b"DIM", &[0x40 | kind][..], &id, &len, body].concat()
}

/// What one message, or a word, looks like on the wire.
pub(crate) fn frame(form: Form, id: [u8; 8], body: &[u8]) -> Vec<u8> {
    match form {
        Form::Mtp | Form::MtpSilent => mtp(MESSAGE, id, body),
        Form::WebSocket | Form::WebSocketAck => web(body),
        Form::Mars => {
            let [.., a, b, c, d] = id;
            mars(SEND_MSG, u32::from_be_bytes([a, b, c, d]), body)
        }
        Form::Lines => [body, b"\n"].concat(),
    }
}

/// Commands of Mars packages.
pub(crate) const SEND_MSG: u32 = 3;
pub(crate) const PUSH_MESSAGE: u32 = 10_001;

pub(crate) fn mars(cmd: u32, seq: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    let head = [20, 200, cmd, seq, len].map(u32::to_be_bytes);
    [head.as_flattened(), body].concat()
}

/// A masked binary frame, as browsers send it.
fn web(body: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![0x82];
    match body.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ ..65_536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// What a browser asks for, with what it offers besides.
pub(crate) fn handshake_request() -> Vec<u8> {
    b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1:9394\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    User-Agent: Mozilla/5.0\r\n\
    Upgrade: websocket\r\n\
    Origin: http://dim.example\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        .to_vec()
}

/// A package of the station.
pub(crate) struct Package {
    /// Type and transaction id, in MTP.
    pub(crate) kind: u8,
    pub(crate) id: [u8; 8],
    pub(crate) body: Vec<u8>,
}

/// Takes the first whole package out of what was read.
pub(crate) fn take(form: Form, read: &mut Vec<u8>) -> Option<Package> {
    match form {
        Form::Mtp | Form::MtpSilent => {
            let head: [u8; 16] = *read.first_chunk()?;
            assert_eq!(&head[..3], b"DIM", "no package: {}", read.escape_ascii());
            assert_eq!(head[3] >> 4, 4, "a header of another length");
            let id = *head[4..].first_chunk().unwrap();
            let body = cut(read, 16, u32::from_be_bytes(*head[12..].first_chunk()?).into())?;
            Some(Package { kind: head[3] & 15, id, body })
        }
        Form::WebSocket | Form::WebSocketAck => {
            let (opcode, len) = (*read.first()?, *read.get(1)?);
            if opcode == CLOSE {
                // The end of the connection follows, which is what the client waits for.
                return None;
            }
            assert_eq!(opcode, 0x81, "anything but a whole text frame");
            let body = match len {
                126 => {
                    let len = u16::from_be_bytes(*read.get(2..)?.first_chunk()?);
                    assert!(len > 125, "not the shortest form");
                    cut(read, 4, len.into())?
                }
                127 => cut(read, 10, u64::from_be_bytes(*read.get(2..)?.first_chunk()?))?,
                len => cut(read, 2, len.into())?,
            };
            Some(Package { kind: MESSAGE, id: [0; 8], body })
        }
        Form::Mars => {
            let head: [u8; 20] = *read.first_chunk()?;
            let word = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().unwrap());
            assert_eq!((word(0), word(4)), (20, 200), "no package: {}", read.escape_ascii());
            let body = cut(read, 20, word(16).into())?;
            let (cmd, seq) = (word(8), word(12));
            if cmd != PUSH_MESSAGE {
                let id = u64::from(seq).to_be_bytes();
                return Some(Package { kind: MESSAGE_RESPONSE, id, body });
            }
            // A push is known by the line before it, and acknowledged by repeating that line.
            let end = body.iter().position(|byte| *byte == b'\n').unwrap();
            let sn = body[..=end].strip_prefix(b"Mars SN:").unwrap();
            let id = *sn.first_chunk().unwrap();
            Some(Package { kind: MESSAGE, id, body: body[end + 1..].to_vec() })
        }
        Form::Lines => {
            let end = read.iter().position(|byte| *byte == b'\n')?;
            let mut body: Vec<u8> = read.drain(..=end).collect();
            body.pop();
            Some(Package { kind: MESSAGE, id: [0; 8], body })
        }
    }
}

/// First byte of a CLOSE frame.
const CLOSE: u8 = 0x88;

/// What a CLOSE frame says that stands at the beginning.
pub(crate) fn close(read: &[u8]) -> Option<(u16, String)> {
    let (head, rest) = read.split_first_chunk::<4>()?;
    assert_eq!(head[0], CLOSE, "no CLOSE: {}", read.escape_ascii());
    let reason = rest.get(..usize::from(head[1]) - 2)?;
    Some((u16::from_be_bytes([head[2], head[3]]), String::from_utf8(reason.to_vec()).unwrap()))
}

fn cut(read: &mut Vec<u8>, head: usize, len: u64) -> Option<Vec<u8>> {
    let end = head + usize::try_from(len).unwrap();
    let body = read.get(head..end)?.to_vec();
    read.drain(..end);
    Some(body)
}

/// The acknowledgement of a WebSocket client, cut out of the text as those do it.
pub(crate) fn web_acknowledgement(body: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(body).unwrap();
    let value = |name: &str| {
        let after = &text[text.find(name)?..];
        let after = &after[after.find(':')? + 1..];
        let end = after.find(',').or_else(|| after.find('}'))?;
        Some(after[..end].trim_matches(' ').trim_matches('"').trim_matches('\'').to_owned())
    };
    let (time, signature) = (value("time").unwrap(), value("signature").unwrap());
    format!(r#"ACK:{{"time":{time},"signature":"{signature}"}}"#).into_bytes()
}
