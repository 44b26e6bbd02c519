//! The `wsgate` binary: flags → configuration → runtime → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsgate::cli::main()
}
