//! wsgate, a TLS edge for WebSocket applications.
//!
//! The life of one upgrade: `proxy::accept` takes the socket and a permit and hands both to the
//! worker with the fewest; `tls` shakes hands; `proxy::wire` judges the head on raw bytes before
//! hyper reads it; `proxy::upgrade` asks `policy` once, in order, and obeys; `proxy::upstream` dials
//! in the order of `backends::hash` and insists on a true 101; hyper is dissolved, and `tunnel`
//! carries the bytes in the same task until a close, a limit or a drain.
//!
//! `docs/architecture.md` has the picture, the rooms and the reasons.

pub mod backends;
pub mod certs;
pub mod cli;
pub mod commands;
pub mod config;
pub(crate) mod demo;
pub(crate) mod drain;
pub mod policy;
pub mod proxy;
pub mod runtime;
pub mod status;
pub mod telemetry;
pub mod tls;
pub(crate) mod tunnel;
