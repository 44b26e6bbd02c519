//! The gate between real clients and real servers: Node's `ws`, socket.io, Python's `websockets`,
//! curl, OpenSSL and Chromium.
//!
//! Scripts in `tests/clients/` speak; each prints its findings as one JSON line, which the tests
//! here judge. `tests/run` installs what they need: a missing tool is a failure, never a skip.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "clients/chromium.rs"]
mod chromium;
#[path = "clients/closing.rs"]
mod closing;
#[path = "clients/curl.rs"]
mod curl;
#[path = "clients/gate.rs"]
mod gate;
#[path = "clients/openssl.rs"]
mod openssl;
#[path = "clients/process.rs"]
mod process;
#[path = "clients/socketio.rs"]
mod socketio;
#[path = "clients/tools.rs"]
mod tools;
#[path = "clients/websockets.rs"]
mod websockets;
