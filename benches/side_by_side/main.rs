//! Measures wsgate beside nginx and HAProxy on one machine in one run, and prints a table.
//!
//! ```text
//! cargo bench --bench side_by_side -- [--only echo,idle] [--targets nginx,wsgate] [--full]
//! ```
//! docs/performance.md says what is measured and how. Proxies, load generator and backend are
//! processes of their own; this one starts them, reads their CPU time and memory, and ends them.

mod backend;
mod client;
mod frames;
mod load;
mod machine;
mod measure;
mod options;
mod paced;
mod process;
mod report;
mod targets;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use options::Options;

/// Every failure ends the run: a figure from a run that failed is worth nothing.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let done = runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into);
    let done = done.and_then(|runtime| match role.as_deref() {
        Some(process::BACKEND) => runtime.block_on(backend::serve()),
        Some(process::LOAD) => runtime.block_on(load::obey(std::env::args().nth(2))),
        _ => runtime.block_on(bench(&Options::parse())),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run; whatever ends it, what it started and changed is taken back on the way out.
async fn bench(options: &Options) -> Result<()> {
    if !options.bench {
        println!(
            "nothing is measured without --bench; run it by `cargo bench --bench side_by_side`"
        );
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let limit = Duration::from_secs(60 * options.limit_minutes);
    let report = tokio::select! {
        done = timeout(limit, Box::pin(measure::all(options))) => {
            done.map_err(|_| format!("not done after {} minutes", options.limit_minutes))??
        }
        _ = terminate.recv() => return Err("terminated".into()),
        _ = interrupt.recv() => return Err("interrupted".into()),
    };
    print!("{report}");
    Ok(())
}
