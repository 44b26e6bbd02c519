//! `wsgate config`: its schema, its defaults, what is in force.

use crate::commands::check::report;
use crate::commands::load::load;
use crate::commands::print;
use crate::commands::settings::Settings;
use crate::config;

/// Prints the JSON Schema.
pub fn schema() -> u8 {
    print(&config::schema())
}

/// Prints a file with every key, its default and a comment.
pub fn default() -> u8 {
    print(config::default_file())
}

/// Prints what is in force as YAML.
pub fn show(settings: &Settings) -> u8 {
    match load(settings) {
        Ok(loaded) => print(&config::show(&loaded.file)),
        Err(errors) => report(&errors),
    }
}
