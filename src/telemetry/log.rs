//! The log: events as JSON lines or text.
