//! Node's `ws` and Python's `websockets`, each as client and as server.

use serde_json::{Value, json};

use crate::gate::Gate;
use crate::tools::{Backend, client};

const NODE: &str = "ws_backend.mjs";
const PYTHON: &str = "websockets_backend.py";
const HSTS: &str = "max-age=63072000";

#[test]
fn node_client_and_node_server_understand_each_other() {
    let backend = Backend::start(NODE, &[]);
    let gate = Gate::start(&[&backend], "");
    let found = node_client(&gate, &backend);

    assert_eq!(found["deflate"]["answered"], "permessage-deflate");
    let deflated = backend.event("open", "/deflate");
    assert_eq!(deflated["extensions"], "permessage-deflate");
    // A mebibyte of one letter: it would be that long if the compression did not reach the backend.
    let bytes = backend.event("close", "/deflate")["bytes"].as_u64().unwrap();
    assert!(bytes < 64 * 1024, "{bytes} bytes reached the backend");
    assert_eq!(backend.event("close", "/echo")["reason"], "done");
}

#[test]
fn node_client_and_python_server_understand_each_other() {
    let backend = Backend::start(PYTHON, &[]);
    let gate = Gate::start(&[&backend], "");
    let found = node_client(&gate, &backend);

    // The parameters are Python's own, so the gate has not written them.
    let answered = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
    assert_eq!(found["deflate"]["answered"], answered);
}

#[test]
fn python_client_and_node_server_understand_each_other() {
    let backend = Backend::start(NODE, &[]);
    let gate = Gate::start(&[&backend], "");
    let found = python_client(&gate, &backend);
    assert_eq!(found["messages"]["extensions"], "permessage-deflate");
}

#[test]
fn python_client_and_python_server_understand_each_other() {
    let backend = Backend::start(PYTHON, &[]);
    let gate = Gate::start(&[&backend], "");
    python_client(&gate, &backend);
}

/// What Node's client finds, whoever the server is.
fn node_client(gate: &Gate, backend: &Backend) -> Value {
    let found = client(gate, "ws_client.mjs", &[&gate.socket_url(), &gate.origin()]);

    let messages = &found["messages"];
    assert_eq!(messages["text"], json!({"same": true, "binary": false}), "{found}");
    assert_eq!(messages["binary"], json!({"same": true, "binary": true}), "{found}");
    assert_eq!(messages["empty"], json!({"same": true, "binary": false}), "{found}");
    assert_eq!(messages["mebibyte"], json!({"same": true, "binary": true}), "{found}");
    assert_eq!(raw_values(messages, "strict-transport-security"), [HSTS], "{found}");
    assert_eq!(raw_values(messages, "x-content-type-options"), ["nosniff"], "{found}");
    // Strict clients refuse `upgrade, close`.
    let connection = messages["headers"]["connection"].as_str().unwrap();
    assert!(connection.eq_ignore_ascii_case("upgrade"), "{connection}");
    assert_eq!(found["deflate"]["mebibyte"]["same"], true, "{found}");

    assert_eq!(found["subprotocol"], json!({"chosen": "chat.v1", "answered": "chat.v1"}));
    let offered = &backend.event("open", "/subprotocol")["headers"]["sec-websocket-protocol"];
    assert_eq!(offered, "chat.v2,chat.v1", "as the client sent it");
    let offered = &backend.event("open", "/deflate")["headers"]["sec-websocket-extensions"];
    assert_eq!(offered, "permessage-deflate; client_max_window_bits", "as the client sent it");

    let pings = json!({"pong": "from the client", "ping": "from-the-backend"});
    assert_eq!(found["pings"], pings, "{found}");
    assert_eq!(backend.event("pong", "/ping")["data"], "from-the-backend");

    let normal = json!({"code": 1000, "reason": "bye"});
    let own = json!({"code": 4001, "reason": "session over"});
    for (by, path, close) in [
        ("backendNormal", "/backend-1000", &normal),
        ("backendOwn", "/backend-4001", &own),
        ("clientNormal", "/client-1000", &normal),
        ("clientOwn", "/client-4001", &own),
    ] {
        assert_eq!(&found[by], close, "{by}");
        let seen = backend.event("close", path);
        assert_eq!((&seen["code"], &seen["reason"]), (&close["code"], &close["reason"]), "{by}");
    }

    assert_forwarded(gate, &backend.event("open", "/forged")["headers"]);
    assert_refused(backend, &found["foreignOrigin"], &found["noOrigin"]);
    found
}

/// What Python's client finds, whoever the server is.
fn python_client(gate: &Gate, backend: &Backend) -> Value {
    let found = client(gate, "websockets_client.py", &[&gate.socket_url(), &gate.origin()]);

    let messages = &found["messages"];
    for kind in ["text", "binary", "mebibyte", "fragments", "pong"] {
        assert_eq!(messages[kind], true, "{kind}: {found}");
    }
    assert_eq!(messages["hsts"], json!([HSTS]));
    assert_eq!(messages["subprotocol"], "chat.v1");
    assert_eq!(backend.event("close", "/echo")["code"], 4001);
    assert_eq!(backend.event("close", "/echo")["reason"], "session over");
    assert_eq!(found["backend"], json!({"code": 4001, "reason": "session over"}));

    assert_forwarded(gate, &backend.event("open", "/echo")["headers"]);
    assert_refused(backend, &found["foreign_origin"], &found["no_origin"]);
    found
}

/// The backend knows the client and how it came, and nothing that the client made up.
fn assert_forwarded(gate: &Gate, headers: &Value) {
    let host = gate.https.to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", host.as_str()),
    ] {
        assert_eq!(headers[name], value, "{name} in {headers}");
    }
    assert!(headers.get("forwarded").is_none(), "{headers}");
    assert!(!headers.to_string().contains("203.0.113.6"), "{headers}");
}

fn assert_refused(backend: &Backend, foreign_origin: &Value, no_origin: &Value) {
    assert_eq!((foreign_origin, no_origin), (&json!(403), &json!(403)));
    let told = backend.service.events();
    assert!(told.iter().all(|event| event["path"] != "/refused"), "a refusal reached the backend");
}

/// The values under a name in Node's flat list of names and values, which keeps duplicates.
fn raw_values(answer: &Value, name: &str) -> Vec<String> {
    let raw = answer["raw"].as_array().unwrap();
    raw.chunks_exact(2)
        .filter(|pair| pair[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)))
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}
