//! The certificates the gate serves.
