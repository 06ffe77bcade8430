//! The transport vectors through live sockets: what a client may send, cut wherever a network may
//! cut it, and what a running station writes back, byte for byte.
//!
//! `DIM_VECTORS=folder` names other vectors. A stream of up to 400 bytes, as most are, is cut at every
//! place, a longer one at as many; `DIM_CUTS=n` cuts at up to so many.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;

use kit::{Client, Form, PATIENCE, Person, Station};
use serde_json::Value;

/// Cuts of one stream, unless more are asked for.
const CUTS: usize = 400;
/// Streams sent byte by byte: what is longer is one long message.
const BYTEWISE_BYTES_MAX: usize = 5000;
/// Connections at a time.
const AT_ONCE: usize = 100;

/// What the station may say before it closes, besides what the vectors want of it.
const LAST_WORDS: [&[u8]; 4] = [
    b"",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"\x88\x02\x03\xea",
    b"\x88\x02\x03\xf1",
];

struct Vector {
    id: String,
    input: Vec<u8>,
    chunks: Vec<usize>,
    reply: Vec<u8>,
    mars: bool,
    /// Messages in it: what is no message of a user is acknowledged and dropped.
    messages: usize,
    /// The station ends the connection.
    closed: bool,
    /// It may do so.
    may_close: bool,
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn vectors(file: &str) -> Vec<Vector> {
    let folder = std::env::var_os("DIM_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/data")),
        PathBuf::from,
    );
    let path = folder.join("transport").join(file);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let whole: Value = serde_json::from_slice(&text).unwrap();
    let vectors: Vec<Vector> = whole["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| Vector {
            id: vector["id"].as_str().unwrap().to_owned(),
            input: hex(&vector["input_hex"]),
            chunks: vector["chunks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|len| usize::try_from(len.as_u64().unwrap()).unwrap())
                .collect(),
            reply: hex(&vector["expect"]["reply_hex"]),
            mars: vector["expect"]["framing"] == "mars",
            messages: vector["expect"]["delivered"].as_array().unwrap().len(),
            closed: vector["expect"].get("closed").is_some(),
            may_close: vector["may_close"].as_bool().unwrap_or_default(),
        })
        .collect();
    assert_eq!(whole["count"].as_u64(), Some(vectors.len() as u64));
    vectors
}

/// One vector on one connection.
struct Run<'a> {
    vector: &'a Vector,
    how: String,
    socket: TcpStream,
}

impl<'a> Run<'a> {
    fn begin(address: SocketAddr, vector: &'a Vector, how: String) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { vector, how, socket }
    }

    fn send(&mut self, bytes: &[u8]) {
        let sent = self.socket.write_all(bytes);
        assert!(sent.is_ok() || self.vector.may_close, "{}, {}", self.vector.id, self.how);
    }

    /// Everything has been sent: what comes back, and how the connection ends.
    fn end(self) {
        let Self { vector, how, mut socket } = self;
        let mut heard = Vec::new();
        if !vector.closed {
            if !vector.may_close {
                // It goes on until the client ends it.
                heard.resize(vector.reply.len(), 0);
                let read = socket.read_exact(&mut heard);
                read.unwrap_or_else(|error| panic!("{}, {how}: {error}", vector.id));
            }
            let _ = socket.shutdown(Shutdown::Write);
        }
        let ended = socket.read_to_end(&mut heard);
        ended.unwrap_or_else(|error| panic!("{}, {how}: {error}", vector.id));
        if vector.mars {
            heard = without_empty_answers(&heard, vector.messages);
        }
        let fits = LAST_WORDS.iter().take(if vector.may_close { 4 } else { 1 }).any(|words| {
            let body = heard.strip_suffix(*words);
            body.is_some_and(|body| match vector.may_close && !vector.closed {
                true => vector.reply.starts_with(body),
                false => vector.reply == body,
            })
        });
        let said = heard.escape_ascii();
        assert!(fits, "{}, {how}\n{said}\n{}", vector.id, vector.reply.escape_ascii());
    }
}

/// The vectors are about the transport alone, and in Mars the layer above it may answer a message
/// that it can make nothing of with an empty package of the same command, 3.
fn without_empty_answers(mut heard: &[u8], messages: usize) -> Vec<u8> {
    let (mut kept, mut dropped) = (Vec::new(), 0);
    while let Some(head) = heard.first_chunk::<20>() {
        let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().unwrap());
        let (cmd, body) = (number(8), number(16));
        let (package, rest) = heard.split_at((number(0) + body).try_into().unwrap());
        heard = rest;
        match (cmd, body) {
            (3, 0) => dropped += 1,
            _ => kept.extend(package),
        }
    }
    assert!(dropped <= messages);
    kept.extend(heard);
    kept
}

/// Where a stream is cut, at other places in each.
fn cuts(len: usize, phase: usize) -> impl Iterator<Item = usize> {
    let count = kit::setting("DIM_CUTS").map_or(CUTS, |count| usize::try_from(count).unwrap());
    let step = len.div_ceil(count.max(1)).max(1);
    (1 + phase % step..len).step_by(step)
}

fn run_streams(file: &str) {
    // Longer than anything is waited for: no deadline ends what should have ended.
    let station = Station::start(&[
        "--shards",
        "2",
        "--set",
        "limits.login_ms_max=600000",
        "--set",
        "limits.idle_ms_max=600000",
    ]);
    let vectors = vectors(file);
    let mut barrier = station.connect(&Person::new(), Form::Mtp);
    for vector in &vectors {
        let mut run = Run::begin(station.address, vector, "whole".into());
        run.send(&vector.input);
        run.end();
        let mut run = Run::begin(station.address, vector, "in its chunks".into());
        let mut rest = vector.input.as_slice();
        for len in &vector.chunks {
            let (chunk, after) = rest.split_at(*len);
            run.send(chunk);
            barrier.ping();
            rest = after;
        }
        run.end();
        if vector.input.len() <= BYTEWISE_BYTES_MAX {
            let mut run = Run::begin(station.address, vector, "byte by byte".into());
            vector.input.chunks(1).for_each(|byte| run.send(byte));
            run.end();
        }
    }
    let mut places = vectors
        .iter()
        .zip(0..)
        .flat_map(|(vector, phase)| cuts(vector.input.len(), phase).map(move |at| (vector, at)))
        .peekable();
    while places.peek().is_some() {
        let begun: Vec<_> = places
            .by_ref()
            .take(AT_ONCE)
            .map(|(vector, at)| {
                let mut run = Run::begin(station.address, vector, format!("cut at {at}"));
                run.send(&vector.input[..at]);
                (run, &vector.input[at..])
            })
            .collect();
        // The station has had a turn, so it has most likely read the first parts by themselves.
        barrier.ping();
        for (mut run, rest) in begun {
            run.send(rest);
            run.end();
        }
    }
    for form in Form::ALL {
        let mut client: Client = station.login(&Person::new(), form);
        client.ping();
        client.leave();
    }
}

#[test]
fn good_streams_are_answered_however_they_are_cut() {
    run_streams("good.json");
}

#[test]
fn malformed_streams_are_survived_however_they_are_cut() {
    run_streams("malformed.json");
}
