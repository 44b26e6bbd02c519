//! The flags.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::targets::Target;

/// wsgate beside nginx and HAProxy: CPU time and memory as medians, in Markdown.
#[derive(Debug, Parser)]
#[command(name = "side_by_side", max_term_width = 100)]
pub(crate) struct Options {
    /// What to measure [default: everything]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Row>,
    /// Who is measured [default: all, and `baseline` with --baseline]
    #[arg(long, value_delimiter = ',', value_enum)]
    targets: Vec<Target>,
    /// How often each is measured; the table shows medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// 9,500 idle sockets and 30 s after closing them, in place of 4,000 and 5 s
    #[arg(long)]
    pub(crate) full: bool,
    /// Idle sockets, in place of what --full says
    #[arg(long, value_name = "N")]
    idle_sockets: Option<usize>,
    /// Sockets that send echoes at once
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) sockets: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub(crate) millis: u64,
    /// Bytes of one bulk measurement, in MiB
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    pub(crate) bulk_mib: u64,
    /// Messages a second when latency is measured
    #[arg(long, default_value_t = 4000, value_name = "N")]
    pub(crate) rate: u32,
    /// Another wsgate, measured as `baseline`
    #[arg(long, value_name = "PATH")]
    pub(crate) baseline: Option<PathBuf>,
    /// The wsgate to measure, in place of the one cargo built
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_wsgate"))]
    pub(crate) wsgate: PathBuf,
    /// When to give up
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub(crate) limit_minutes: u64,
    /// Set by `cargo bench`, not by `cargo test`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// One thing measured. Some yield several lines of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// Memory of idle sockets, before and after them, and echoes beside them
    Idle,
    /// 125 B there and back
    Echo,
    /// 16 KiB there and back
    Echo16k,
    /// Bulk to the backend
    Upload,
    /// Bulk to the client
    Download,
    /// Full handshake, upgrade, echo, close
    Full,
    /// The same resumed
    Resumed,
    /// The same full, with an RSA certificate
    Rsa,
    /// Percentiles at a fixed rate
    Latency,
}

impl Options {
    pub(crate) fn rows(&self) -> Vec<Row> {
        let asked = |row: &Row| self.only.is_empty() || self.only.contains(row);
        Row::value_variants().iter().copied().filter(asked).collect()
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let asked = |target: &Target| match target {
            Target::Baseline => self.baseline.is_some(),
            target => self.targets.is_empty() || self.targets.contains(target),
        };
        Target::value_variants().iter().copied().filter(asked).collect()
    }

    pub(crate) fn idle_sockets(&self) -> usize {
        self.idle_sockets.unwrap_or(if self.full { 9_500 } else { 4_000 })
    }

    /// Seconds between closing the idle sockets and looking at memory again.
    pub(crate) fn after_closing_secs(&self) -> u64 {
        if self.full { 30 } else { 5 }
    }
}

impl Row {
    /// Whether it is measured with larger buffers too.
    pub(crate) fn depends_on_buffers(self) -> bool {
        matches!(self, Self::Idle | Self::Echo | Self::Echo16k | Self::Upload | Self::Download)
    }
}
