//! An echo over the station's own WebSocket code, for suites that want one: the station itself
//! answers with messages of DIM. Says its address on standard output; runs until it is ended.
#![allow(clippy::disallowed_methods, reason = "a program for tests opens sockets")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use bytes::Bytes;
use dim::wire::websocket::{BINARY, PONG, Reader, Said, TEXT, control, encode_head};
use dim::wire::{DeframeLimits, Framing, upgrade};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 16 << 10];
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        request.extend(bytes.iter().take(count));
    }
    let key = upgrade::request_key(&request).ok_or_else(|| io::Error::other("no upgrade"))?;
    stream.write_all(&upgrade::answer(key))?;
    let mut reader = Reader::new(DeframeLimits::default());
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        reader.feed(bytes.iter().take(count).copied().collect());
        if !answer(&mut reader, &mut stream)? {
            break;
        }
    }
    // As the station closes: the peer has the last word, and what was written last is not lost.
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut bytes)? > 0 {}
    Ok(())
}

/// Answers what there is; whether more may come.
fn answer(reader: &mut Reader, stream: &mut TcpStream) -> io::Result<bool> {
    loop {
        match reader.next_said() {
            Ok(None) => return Ok(true),
            Ok(Some(Said::Text(body))) => echo(TEXT, &body, stream)?,
            Ok(Some(Said::Binary(body))) => echo(BINARY, &body, stream)?,
            Ok(Some(Said::Ping(payload))) => stream.write_all(&control(PONG, &payload))?,
            Ok(Some(Said::Pong)) => {}
            Ok(Some(Said::Close(answer))) => {
                stream.write_all(&answer)?;
                return Ok(false);
            }
            Err(error) => {
                stream.write_all(error.last_words(Some(Framing::WebSocket)))?;
                return Ok(false);
            }
        }
    }
}

fn echo(opcode: u8, body: &Bytes, stream: &mut TcpStream) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&encode_head(opcode, len), body.as_ref()].concat())
}
