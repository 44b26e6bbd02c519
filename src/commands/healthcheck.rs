//! `wsgate healthcheck`: for containers that have no shell.

use std::time::Duration;

use clap::Args;

use crate::commands::check::report;
use crate::commands::load::load;
use crate::commands::settings::Settings;
use crate::commands::{DONE, FAILED};
use crate::config::addresses::ListenAddr;
use crate::status;

/// `wsgate healthcheck`.
#[derive(Args, Clone, Debug)]
pub struct Healthcheck {
    /// The status listener [default: status.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    pub status: Option<ListenAddr>,
    /// Where else `status.listen` comes from.
    #[command(flatten)]
    pub settings: Settings,
}

/// Asks `/readyz` of the listener that is named, or of the configuration's status listener.
pub fn ask(check: &Healthcheck) -> u8 {
    let listener = match check.status {
        Some(listener) => listener,
        None => match load(&check.settings) {
            Err(errors) => return report(&errors),
            Ok(loaded) => match loaded.file.status.listen {
                Some(listener) => listener,
                None => {
                    eprintln!("error: status.listen is null: nobody can be asked");
                    return FAILED;
                }
            },
        },
    };
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(status::healthcheck(listener.get(), LIMIT)));
    match asked {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}

/// For the whole question.
const LIMIT: Duration = Duration::from_secs(3);
