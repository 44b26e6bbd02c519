//! The gate from outside: a process on port 0, raw bytes on both sides.

#![allow(unreachable_pub, dead_code, reason = "a test binary has no callers of its own")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod admin;
mod architecture;
mod backends;
mod bytes;
mod certs;
mod cli;
mod closing;
mod counts;
mod demo;
mod drain;
mod forwarded;
mod handshake;
mod hostile;
mod observe;
mod ordinary;
mod origin;
mod pace;
mod quotas;
mod readme;
mod redirect;
mod smoke;
mod sticky;
