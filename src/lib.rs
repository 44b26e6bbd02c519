//! wsgate, a TLS edge for WebSocket applications.
#![allow(dead_code)]

pub(crate) mod backends;
pub mod certs;
pub mod commands;
pub mod config;
pub mod policy;
pub mod status;
pub mod telemetry;
