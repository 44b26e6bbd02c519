//! Headless Chromium: a page over https, its WebSocket, and a page of another origin.

use std::path::Path;

use serde_json::json;

use crate::gate::Gate;
use crate::tools::{Backend, CHROMIUM, client};

#[test]
fn a_page_opens_its_websocket_and_a_foreign_page_cannot() {
    assert!(Path::new(CHROMIUM).exists(), "{CHROMIUM} is missing: tests/run installs it");
    let backend = Backend::start("ws_backend.mjs", &[]);
    let elsewhere = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    let own = format!("https://localhost:{}", gate.https.port());
    let foreign = format!("http://localhost:{}/", elsewhere.address.port());
    let found = client(&gate, "browser.mjs", &[CHROMIUM, &own, &foreign, &gate.spki]);

    let page = &found["page"];
    assert_eq!(page["status"], 200, "{found}");
    assert_eq!(page["title"], "ws backend", "{found}");
    assert_eq!(page["http"], "http/1.1", "{found}");
    assert_eq!(page["secure"], true, "{found}");
    let tls = json!({"protocol": "TLS 1.3", "group": "X25519MLKEM768", "cipher": "AES_256_GCM"});
    assert_eq!(page["tls"], tls, "{found}");

    let socket = json!({
        "opened": true, "text": "grüße", "same": true, "protocol": "chat.v1",
        "extensions": "permessage-deflate", "code": 4001, "wasClean": true,
    });
    assert_eq!(found["socket"], socket, "{found}");
    let seen = backend.event("open", "/from-page");
    assert_eq!(seen["headers"]["origin"], own.as_str());
    assert_eq!(backend.event("close", "/from-page")["reason"], "page done");

    assert_eq!(found["refused"], json!({"opened": false, "code": 1006}), "{found}");
    elsewhere.event("request", "/");
    let told = backend.service.events();
    assert!(told.iter().all(|event| event["path"] != "/from-foreign"), "{told:?}");
    // The browser did ask: without that the page could have been stopped by anything.
    let refusal = gate.service.wait_for_event("ws.rejected");
    assert_eq!(refusal["error.type"], "origin_denied", "{refusal}");
    assert_eq!(refusal["origin"], foreign.trim_end_matches('/'), "{refusal}");
}
