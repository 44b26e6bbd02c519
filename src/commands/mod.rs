//! What the commands do, one file a command: values in, text out. Flags and exit codes are `cli`'s.

pub mod cert;
