//! What should happen, decided from values alone: no socket, clock, task, lock, log or metric here.

pub mod client;
pub(crate) mod handshake;
pub(crate) mod head;
pub mod headers;
pub mod origin;
pub mod quota;
pub(crate) mod rejection;
