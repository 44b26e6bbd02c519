//! wsgate, a TLS edge for WebSocket applications.

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
