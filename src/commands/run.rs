//! `wsgate run`: configuration, log, runtime, in this order.

use std::sync::Arc;

use crate::commands::check::report;
use crate::commands::load::build;
use crate::commands::settings::Settings;
use crate::commands::{DONE, FAILED};
use crate::config;
use crate::runtime::{self, RunError};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Runs the gate until it is told to stop.
pub fn run(settings: &Settings) -> u8 {
    let (loaded, mut plan) = match build(settings) {
        Ok(built) => built,
        Err(errors) => return report(&errors),
    };
    plan.banner.config = loaded.name;
    let metrics = Arc::new(Metrics::new());
    let log = log::init(config::log_settings(&loaded.file), &metrics);
    let served = serve(plan, &metrics);
    // The last lines are written before the process ends.
    drop(log);
    match served {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}

fn serve(plan: runtime::Plan, metrics: &Arc<Metrics>) -> Result<(), RunError> {
    let services = tokio::runtime::Builder::new_current_thread().enable_all().build();
    services.map_err(RunError::System)?.block_on(async {
        let running = runtime::start(plan, metrics)?;
        running.until_signalled().await;
        Ok(())
    })
}
