//! Which backends there are, which of them are up, and which one a key means.

pub(crate) mod hash;
pub(crate) mod health;
pub mod key;
pub(crate) mod resolve;
pub mod set;
