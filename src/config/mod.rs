//! What the operator wrote, and what is wrong with it.
//!
//! `yaml` makes a tree with places, `de` shows it to serde, `file` is its mirror, `validate` checks
//! what one value alone cannot show. serde_yaml is not used on purpose: its values do not know
//! where they were written, and it stops at the first problem.

pub mod addresses;
pub mod admin_addr;
mod build;
mod de;
pub mod error;
pub mod file;
mod findings;
mod interpolate;
mod show;
mod source;
mod spelled;
mod validate;
pub mod values;
pub mod words;
mod yaml;

#[cfg(test)]
mod tests;

pub use build::{build, log_settings};
pub use error::ConfigError;
pub use file::File;
pub use show::{schema, show};
pub use source::Source;

/// Reads a configuration; `env` gives the variables for `${VAR}`.
///
/// # Errors
/// Every mistake in it, in the order of the text.
pub fn parse(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<File, Vec<ConfigError>> {
    let (file, source) = read(file_name, text, env);
    let mistakes = mistakes(&file, &source);
    if mistakes.is_empty() { Ok(file) } else { Err(mistakes) }
}

/// Reads what can be read; the rest has its default. What is wrong with it is for [`mistakes`] to
/// say, once flags are laid over it.
#[must_use]
pub fn read(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> (File, Source) {
    Source::read(file_name, text, env)
}

/// Every mistake that shows without looking at other files, in the order of the text; those of flags
/// come first.
#[must_use]
pub fn mistakes(file: &File, source: &Source) -> Vec<ConfigError> {
    let mut errors: Vec<_> = source.problems().collect();
    errors.extend(validate::validate(file, source));
    errors.sort_by_key(ConfigError::line_col);
    errors
}

/// A file with every key, its default and a comment.
#[must_use]
pub fn default_file() -> &'static str {
    include_str!("../../config/wsgate.yaml")
}

/// Where a key of this name belongs, for who wrote it elsewhere.
fn place_of(key: &str) -> Option<String> {
    let paths = show::paths();
    let mut sections = paths.iter().filter_map(|path| match path.rsplit_once('.') {
        Some((section, name)) if name == key => Some(section),
        _ => None,
    });
    match (sections.next(), sections.next()) {
        (Some(only), None) => Some(format!("`{key}` belongs in `{only}`")),
        _ => None,
    }
}
