//! What the operator wrote, and what is wrong with it.

pub mod error;
mod interpolate;
mod yaml;

pub use error::ConfigError;
