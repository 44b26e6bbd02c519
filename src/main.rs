//! The `wsgate` binary: flags → configuration → runtime → exit code.

use std::process::ExitCode;

/// Gives memory back after a crowd has gone: its own thread returns pages that lay unused for 10 s,
/// where glibc keeps nearly all of them for good.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wsgate::cli::main()
}
