//! Lists of stations as some server gives them, in its HTTP and in a file: what is taken is in the
//! JSON, and a list of ours is taken whole.
#![no_main]

use dim::server::config::Listed;
use dim::server::neighbors::{body_of, stations};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn list(bytes: &[u8]) {
    let value = serde_json::from_slice::<Value>(bytes);
    let Some(taken) = stations(bytes) else {
        assert!(!value.is_ok_and(|value| value.is_array()), "an array is a list");
        return;
    };
    let value = value.expect("it was read");
    let listed = value.as_array().or_else(|| value["stations"].as_array()).expect("a list");
    assert!(taken.len() <= listed.len());
    let mut rest = listed.iter();
    for station in &taken {
        let same = |other: &Value| {
            other["host"] == *station.host
                && other["port"] == station.port
                && other.get("tls").map_or(!station.tls, |tls| *tls == station.tls)
                && (station.id.is_empty()
                    || ["did", "ID", "id"].iter().any(|name| other[name] == *station.id))
        };
        assert!(rest.any(same), "{station:?} is in the list, in its place");
    }
    let ours: Vec<Value> = taken
        .iter()
        .map(|Listed { id, host, port, tls }| {
            json!({"did": id, "host": host, "port": port, "tls": tls})
        })
        .collect();
    for form in [json!(ours), json!({"stations": ours})] {
        assert_eq!(stations(form.to_string().as_bytes()).as_ref(), Some(&taken));
    }
}

fuzz_target!(|input: &[u8]| {
    list(input);
    match body_of(input.to_vec()) {
        Ok(body) => {
            assert!(input.ends_with(&body));
            list(&body);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let answer = [b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", input].concat();
    assert_eq!(body_of(answer).expect("it says 200"), input);
});
