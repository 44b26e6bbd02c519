//! What the operator wrote, and what is wrong with it.

pub mod addresses;
pub mod error;
mod interpolate;
mod spelled;
pub mod values;
pub mod words;
mod yaml;

pub use error::ConfigError;
