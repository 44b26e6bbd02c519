//! Sockets that the gate closes, as real clients and servers see it: the code that was configured,
//! never 1006, whatever they are in the middle of.

use serde_json::{Value, json};

use crate::gate::{Gate, Settings};
use crate::process::Service;
use crate::tools::{Backend, CHROMIUM, start_client};

const NODE: &str = "closing_backend.mjs";
const PYTHON: &str = "closing_backend.py";

/// What each client opens; the last is in the middle of a message when the gate drains.
const PATHS: [&str; 4] = ["/idle", "/busy", "/deflate", "/large"];

#[test]
fn a_drain_is_a_clean_close_to_node_on_both_sides() {
    drained("closing_client.mjs", NODE, 1012);
}

#[test]
fn a_drain_is_a_clean_close_to_python_on_both_sides() {
    drained("closing_client.py", PYTHON, 1012);
}

#[test]
fn a_drain_is_a_clean_close_to_node_in_front_of_python() {
    drained("closing_client.mjs", PYTHON, 1001);
}

#[test]
fn a_drain_is_a_clean_close_to_python_in_front_of_node() {
    drained("closing_client.py", NODE, 1001);
}

fn drained(client: &str, server: &str, code: u16) {
    let backend = Backend::start(server, &[]);
    let mut gate = Gate::start(&[&backend], &drain(code));
    let client = start_client(&gate, client, &["drain", &gate.socket_url(), &gate.origin()]);
    client.wait_for_event("ready");
    backend.event("busy", "/busy");
    backend.event("busy", "/deflate");
    gate.service.signal("TERM");

    for path in PATHS {
        assert_eq!(closed(&client, path)["code"], code, "{path}");
        assert_eq!(backend.event("close", path)["code"], code, "{path}");
    }
    assert_eq!(client.wait_for_event("large")["bytes"], 8 * 1024 * 1024, "and the whole message");
    assert_all_drained(&mut gate, code);
}

#[test]
fn a_drain_is_a_clean_close_to_chromium() {
    let backend = Backend::start(NODE, &[]);
    let mut gate = Gate::start(&[&backend], &drain(1012));
    let own = format!("https://localhost:{}", gate.https.port());
    let browser = start_client(&gate, "closing_browser.mjs", &[CHROMIUM, &own, &gate.spki]);
    backend.event("open", "/idle");
    backend.event("busy", "/busy");
    assert_eq!(backend.event("busy", "/deflate")["path"], "/deflate");
    backend.event("request", "/hold");
    assert_eq!(backend.event("open", "/deflate")["extensions"], "permessage-deflate");
    gate.service.signal("TERM");

    let found = browser.wait_for("findings", |line| line["large"].is_object());
    let clean = json!({"code": 1012, "wasClean": true});
    for name in ["idle", "busy", "deflate"] {
        assert_eq!(found[name], clean, "{name}");
    }
    let large = json!({"code": 1012, "wasClean": true, "bytes": 8 * 1024 * 1024});
    assert_eq!(found["large"], large);
    for path in PATHS {
        assert_eq!(backend.event("close", path)["code"], 1012, "{path}");
    }
    assert_all_drained(&mut gate, 1012);
}

#[test]
fn sockets_that_are_too_old_are_closed_as_cleanly() {
    let backend = Backend::start(NODE, &[]);
    let settings = Settings { limits: "max_age: 3s", ..Settings::DEFAULT };
    let gate = settings.start(&[&backend], &drain(1012));
    let client = node(&gate, "drain");
    for path in PATHS {
        assert_eq!(closed(&client, path)["code"], 1012, "{path}");
        assert_eq!(backend.event("close", path)["code"], 1012, "{path}");
        gate.service.wait_for("its line", |line| {
            line["event"] == "ws.closed" && line["close.reason"] == "max_age"
        });
    }
    client.wait_for_event("large");
}

#[test]
fn silent_clients_stay_and_their_pongs_do_not_reach_the_backend() {
    let backend = Backend::start(NODE, &[]);
    let gate = Gate::start(&[&backend], HEARTBEAT);
    let node = node(&gate, "silent");
    let arguments = ["silent", &gate.socket_url(), &gate.origin()];
    let python = start_client(&gate, "closing_client.py", &arguments);
    for client in [&node, &python] {
        client.wait_for_several("ping", 3);
    }
    // Its own ping is answered, and it is the only answer it ever got.
    assert_eq!(backend.event("pong", "/silent")["data"], "from-the-backend");
    let told = backend.service.events();
    assert_eq!(told.iter().filter(|event| event["event"] == "pong").count(), 1, "{told:?}");
    assert!(told.iter().all(|event| event["event"] != "close"), "{told:?}");
    assert_eq!(gate.metric("wsgate_heartbeat_timeouts_total"), 0.0);
}

#[test]
fn a_client_that_is_stopped_is_ended_and_counted() {
    let backend = Backend::start(NODE, &[]);
    let gate = Gate::start(&[&backend], HEARTBEAT);
    let client = node(&gate, "stopped");
    client.wait_for_event("ready");
    client.signal("STOP");
    assert_eq!(backend.event("close", "/stopped")["code"], 1001);
    let line = gate.service.wait_for_event("ws.closed");
    assert_eq!(line["close.reason"], "heartbeat", "{line}");
    assert_eq!((&line["close.code"], &line["close.initiator"]), (&json!(1001), &json!("gate")));
    assert_eq!(gate.metric("wsgate_heartbeat_timeouts_total"), 1.0);
    // Back again, it reads why.
    client.signal("CONT");
    assert_eq!(closed(&client, "/stopped")["code"], 1001);
}

#[test]
fn a_message_that_is_too_large_never_reaches_the_backend() {
    let backend = Backend::start(NODE, &[]);
    let gate =
        Settings { limits: "message_size: 64KiB", ..Settings::DEFAULT }.start(&[&backend], "");
    let client = node(&gate, "big");
    assert_eq!(closed(&client, "/big")["code"], 1009);
    assert_eq!(backend.event("close", "/big")["code"], 1001);
    let told = backend.service.events();
    assert!(told.iter().all(|event| event["event"] != "message"), "{told:?}");
    gate.service.wait_for_event("ws.closed");
    assert_eq!(gate.metric("wsgate_websocket_guard_closes_total{guard=\"message_size\"}"), 1.0);
}

#[test]
fn messages_beyond_the_rate_close_their_socket() {
    let backend = Backend::start(NODE, &[]);
    let limits = "messages_per_second: 10";
    let gate = Settings { limits, ..Settings::DEFAULT }.start(&[&backend], "");
    let client = node(&gate, "flood");
    assert_eq!(closed(&client, "/flood")["code"], 1008);
    assert_eq!(backend.event("close", "/flood")["code"], 1001);
    let told = backend.service.events();
    let passed = told.iter().filter(|event| event["event"] == "message").count();
    assert!((10..1000).contains(&passed), "{passed} messages passed");
    gate.service.wait_for_event("ws.closed");
    assert_eq!(gate.metric("wsgate_websocket_guard_closes_total{guard=\"message_rate\"}"), 1.0);
}

/// Every socket ended in its turn, long before the drain time was over.
fn assert_all_drained(gate: &mut Gate, code: u16) {
    assert_eq!(gate.service.exit_code(), Some(0));
    let lines = gate.service.events();
    let closed: Vec<_> = lines.iter().filter(|line| line["event"] == "ws.closed").collect();
    assert_eq!(closed.len(), PATHS.len());
    for line in closed {
        assert_eq!(line["close.reason"], "drain", "{line}");
        assert_eq!((&line["close.code"], &line["close.initiator"]), (&json!(code), &json!("gate")));
    }
}

fn closed(client: &Service, path: &str) -> Value {
    client.wait_for(&format!("close of {path}"), |event| {
        event["event"] == "close" && event["path"] == path
    })
}

fn node(gate: &Gate, mode: &str) -> Service {
    start_client(gate, "closing_client.mjs", &[mode, &gate.socket_url(), &gate.origin()])
}

fn drain(code: u16) -> String {
    format!("drain: {{delay: 0s, timeout: 20s, spread: 1s, close_code: {code}}}")
}

const HEARTBEAT: &str = "heartbeat: {interval: 1s, misses: 2}";
