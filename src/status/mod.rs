//! The status listener: probes and metrics.
