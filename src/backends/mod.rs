//! Which backends there are, which of them are up, and which one a key means.

pub(crate) mod hash;
