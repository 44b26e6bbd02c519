//! What the gate says about itself: metrics, log events, the wall clock. Used by every room, uses
//! none of them.

pub(crate) mod clock;
mod format;
pub mod log;
pub mod metrics;
pub(crate) mod redact;
pub(crate) mod sample;

#[cfg(test)]
mod documented;
