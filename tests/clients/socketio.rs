//! socket.io over three servers that share nothing: polling, then the upgrade, on one backend.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::gate::{Gate, Settings};
use crate::tools::{Backend, client};

const CLIENTS: usize = 12;

#[test]
fn clients_of_one_address_stay_on_one_backend() {
    let backends = start_backends();
    let gate = start_gate(&backends, "client_ip");
    assert_eq!(sessions(&gate, &backends, "client_ip").len(), 1);
}

#[test]
fn each_cookie_stays_on_its_backend() {
    let backends = start_backends();
    let gate = start_gate(&backends, "cookie:room");
    assert!(sessions(&gate, &backends, "cookie").len() > 1, "all cookies on one backend");
}

#[test]
fn each_query_value_stays_on_its_backend() {
    let backends = start_backends();
    let gate = start_gate(&backends, "query:room");
    assert!(sessions(&gate, &backends, "query").len() > 1, "all queries on one backend");
}

/// The proof that the tests above can fail: `t` differs in every polling request.
#[test]
fn a_key_that_changes_with_every_request_loses_sessions() {
    let backends = start_backends();
    let gate = start_gate(&backends, "query:t");
    let found = run(&gate, "none");
    assert!(found.to_string().contains("Session ID unknown"), "{found}");
}

fn start_backends() -> Vec<Backend> {
    ["one", "two", "three"].map(|name| Backend::start("socketio_backend.mjs", &[name])).into()
}

fn start_gate(backends: &[Backend], hash: &'static str) -> Gate {
    let backends: Vec<_> = backends.iter().collect();
    Settings { hash, ..Settings::DEFAULT }.start(&backends, "")
}

fn run(gate: &Gate, key: &str) -> Value {
    client(gate, "socketio_client.mjs", &[&gate.origin(), &gate.origin(), key])
}

/// Every client polls, upgrades and talks; returns the backends they talked to.
fn sessions(gate: &Gate, backends: &[Backend], key: &str) -> BTreeSet<String> {
    let found = run(gate, key);
    let clients = found["clients"].as_array().unwrap();
    assert_eq!(clients.len(), CLIENTS);
    for seen in clients {
        assert_eq!(seen["errors"], json!([]), "{seen}");
        assert_eq!(seen["transports"], json!(["polling", "websocket"]), "{seen}");
        assert_eq!(seen["echoed"], true, "{seen}");
    }
    for backend in backends {
        let told = backend.service.events();
        assert!(told.iter().all(|event| event["event"] != "engine_error"), "{told:?}");
    }
    clients.iter().map(|seen| seen["backend"].as_str().unwrap().to_owned()).collect()
}
