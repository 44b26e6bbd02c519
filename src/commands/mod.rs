//! What the commands do, one file a command, its flags beside it. Each returns its exit code.

pub(crate) mod admin;
pub mod cert;
pub mod check;
pub mod config;
pub mod demo;
pub mod healthcheck;
mod load;
pub mod run;
pub mod settings;

use std::io::Write as _;

/// Stopped cleanly.
pub(crate) const DONE: u8 = 0;

/// Could not run, or the answer is no.
pub(crate) const FAILED: u8 = 1;

/// The configuration is wrong (sysexits.h: EX_CONFIG).
pub(crate) const CONFIG: u8 = 78;

/// Prints `text` to standard output; a reader that has gone has seen enough.
pub(crate) fn print(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    DONE
}
