//! Known answers: every vector of every file is read and held to. `DIM_VECTORS` names another
//! folder of the same form (flat files and `transport/`).
//!
//! What a vector leaves open (`must: false`), and where we differ on purpose, is printed with
//! `-- --nocapture` and stands, for the committed set, in `open.txt`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at a set that is not whole"
)]

mod bots;
mod contents;
mod encodings;
mod identity;
mod keys;
mod messages;
mod sessions;
mod set;
mod streams;
mod transport;

use set::{list, map, run, run_items};

#[test]
fn the_archivist_answers_as_recorded() {
    assert_eq!(bots::answers_are_those_recorded("archivist.json"), 6);
}

#[test]
fn the_assistant_answers_as_recorded() {
    assert_eq!(bots::answers_are_those_recorded("assistant.json"), 5);
}

#[test]
fn digests() {
    run("digests.json", encodings::digest);
}

#[test]
fn transportable_data() {
    run("ted.json", encodings::transportable);
}

#[test]
fn ids_are_generated() {
    run("id_generate.json", identity::generated);
}

#[test]
fn ids_are_parsed() {
    run("id_parse.json", identity::parsed);
}

#[test]
fn metas_are_proved() {
    run("metas.json", identity::meta);
}

#[test]
fn documents_are_accepted() {
    run("documents.json", identity::document);
}

#[test]
fn accounts_are_restored() {
    let file = set::file("accounts.json");
    let accounts = map(&file, "accounts").iter();
    run_items("accounts.json", accounts.map(|(name, a)| (name.clone(), a)), identity::account);
}

#[test]
fn rsa() {
    run("rsa.json", keys::rsa);
}

#[test]
fn ecc() {
    run("ecc.json", keys::ecc);
}

#[test]
fn aes() {
    run("aes.json", keys::aes);
}

#[test]
fn short_names_become_long_ones() {
    run("shortener.json", contents::short_names);
}

#[test]
fn contents_pass_the_filters_of_all_generations() {
    run("contents.json", contents::filters);
}

#[test]
fn good_messages_are_verified_opened_and_relayed() {
    let actors = messages::actors();
    run("messages.json", |vector| messages::good(vector, &actors));
}

#[test]
fn malformed_messages_are_refused() {
    let actors = messages::actors();
    run("malformed.json", |vector| messages::malformed(vector, &actors));
}

#[test]
fn good_streams_are_understood_however_they_are_cut() {
    run("transport/good.json", streams::stream);
}

#[test]
fn malformed_streams_are_survived_however_they_are_cut() {
    run("transport/malformed.json", streams::stream);
}

#[test]
fn packages_are_packed_as_the_reference_packs_them() {
    run("transport/pack.json", transport::packed);
}

#[test]
fn the_right_answers_count_as_delivered() {
    run("transport/delivery.json", transport::delivery);
}

#[test]
fn recorded_sessions_split_as_recorded() {
    for (name, session) in sessions::recorded() {
        let connections = list(&session, "connections").iter();
        let labelled = connections.map(|one| (set::text(one, "user").to_owned(), one));
        run_items(&name, labelled, sessions::connection);
    }
}
