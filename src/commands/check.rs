//! `wsgate check`: what is wrong with the configuration, without running it.

use crate::commands::load::build;
use crate::commands::settings::Settings;
use crate::commands::{CONFIG, DONE, print};
use crate::config::ConfigError;

/// Finds every error; certificates are read and compared with their keys.
pub fn check(settings: &Settings) -> u8 {
    match build(settings) {
        Ok((loaded, plan)) => {
            for warning in &plan.banner.warnings {
                eprintln!("warning: {warning}");
            }
            let backends = match loaded.file.upstreams.servers.len() {
                1 => "1 backend".to_owned(),
                count => format!("{count} backends"),
            };
            print(&format!("{}: good, {backends}\n", loaded.name))
        }
        Err(errors) => report(&errors),
    }
}

/// Prints every error to standard error.
pub(super) fn report(errors: &[ConfigError]) -> u8 {
    for error in errors {
        eprintln!("{error}");
    }
    match errors.len() {
        0 => DONE,
        1 => CONFIG,
        count => {
            eprintln!("error: {count} errors in the configuration");
            CONFIG
        }
    }
}
