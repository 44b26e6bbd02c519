//! `wsgate demo`.

use crate::cli::Demo;
use crate::commands::FAILED;

/// Runs the demo.
pub fn demo(_demo: &Demo) -> u8 {
    eprintln!("error: the demo is being built");
    FAILED
}
