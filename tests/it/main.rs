//! The gate from outside: a process on port 0, raw bytes on both sides.

#![allow(unreachable_pub, dead_code, reason = "a test binary has no callers of its own")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod architecture;
mod bytes;
mod certs;
mod cli;
mod demo;
mod drain;
mod observe;
mod smoke;
mod sticky;
