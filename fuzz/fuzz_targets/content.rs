//! Contents and commands of strangers: every view of them, and what a view says is read again.
#![no_main]

use dim::proto::command as c;
use dim::proto::content::{self as p, Content};
use dim::proto::json::parse;
use dim::proto::kind::Kind;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// If a content can be seen as a `T`, then what is written of that `T` can, and is the same.
fn view<T: Kind + PartialEq + std::fmt::Debug>(content: &Content) {
    let Ok(value) = content.view::<T>() else { return };
    let mut written = content.clone();
    written.put(&value);
    assert_eq!(written.view::<T>().as_ref(), Ok(&value), "{:?}", written.map);
    let sent = Content::read(Value::Object(written.to_map()));
    let sent = sent.unwrap_or_else(|error| panic!("{error}: {:?}", written.map));
    assert_eq!(sent.view::<T>(), Ok(value), "{:?}", sent.map);
}

macro_rules! views {
    ($content:expr; $($kind:ty),* $(,)?) => { $(view::<$kind>($content);)* };
}

fuzz_target!(|input: &[u8]| {
    let Ok(value) = parse(input) else { return };
    let Ok(content) = Content::read(value) else { return };
    views!(&content;
        p::Text, p::Page, p::Card, p::Quote, p::File, p::Image, p::Audio, p::Video, p::Money,
        p::Transfer, p::Application, p::Customized, p::GroupContent, p::Array, p::Combine,
        p::Forward, c::Handshake, c::MetaCommand, c::DocumentsCommand, c::GroupCommand, c::Ans,
        c::Login, c::Report, c::Receipt, c::Search, c::Storage, c::Push, c::Block, c::Mute,
    );
    assert!(content.keys().count() > 0);
    let _ = content.in_group(&dim::proto::id::Id::everyone()).to_map();
});
