//! What should happen, decided from values alone: no socket, clock, task, lock, log or metric here.

pub mod origin;
