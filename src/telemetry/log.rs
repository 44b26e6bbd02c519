//! The log: where lines go, and which events become one. How a line reads is `format`'s business,
//! what may stand in it `redact`'s, how often `sample`'s.
//!
//! Callers name their event and spell fields as OpenTelemetry does:
//! `tracing::info!(event = "ws.closed", conn_id, "close.initiator" = "client", bytes_in = 5_u64,
//! "socket closed")`. An `Option` that is `None` leaves its field out.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntCounter;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::clock;
use super::metrics::Metrics;

pub use super::format::Style;

/// What the operator chose about the log.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// The least severe level that is written. Default `info`; `off` writes nothing.
    pub level: LevelFilter,
    /// How lines look. Default [`Format::Auto`].
    pub format: Format,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, format: Format::Auto }
    }
}

/// How lines look, as the operator spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, for machines.
    Json,
    /// Short lines for people.
    Text,
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
}

impl Format {
    /// The style for an output that is, or is not, a terminal. Colours are for terminals only, and
    /// never when `no_color` asks for none.
    #[must_use]
    pub fn style(self, terminal: bool, no_color: bool) -> Style {
        match (self, terminal) {
            (Self::Json, _) | (Self::Auto, false) => Style::Json,
            (Self::Text, _) | (Self::Auto, true) => Style::Text { color: terminal && !no_color },
        }
    }
}

/// Keeps the log's writer thread; dropping it writes what is queued, waiting at most about a second.
#[must_use = "dropping the guard ends the log"]
pub struct LogGuard(#[expect(dead_code, reason = "held for its Drop")] WorkerGuard);

/// Starts the process-wide log on stderr.
///
/// Nobody waits for stderr: a thread of its own writes the lines, at most [`QUEUED_LINES`] wait for
/// it, and those beyond are dropped and counted in `wsgate_log_events_dropped_total`. The first
/// call in a process wins; later ones change nothing.
pub fn init(settings: LogSettings, metrics: &Arc<Metrics>) -> LogGuard {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = settings.format.style(io::stderr().is_terminal(), no_color);
    let stderr = BufWriter::with_capacity(64 * 1024, io::stderr());
    let (output, guard) = queued(stderr, QUEUED_LINES, metrics.log_events_dropped.clone());
    let subscriber = tracing_subscriber::registry().with(layer(output, style, settings.level));
    // Fails only where a subscriber is set already: the first call's.
    let _ = tracing::subscriber::set_global_default(subscriber);
    guard
}

/// The layer that turns events into lines on `writer`, one `write_all` a line.
pub fn layer<S, W>(writer: W, style: Style, level: LevelFilter) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    Lines { writer, style }.with_filter(Admit(level))
}

struct Lines<W> {
    writer: W,
    style: Style,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = self.style.line(event, clock::wall());
        // A log that cannot be written has nowhere to say so.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

/// Admits our own events from a level on, and those of dependencies, which name no `event`, from
/// `warn` on.
struct Admit(LevelFilter);

impl Admit {
    fn admits(&self, meta: &Metadata<'_>) -> bool {
        meta.is_event()
            && *meta.level() <= self.0
            && (*meta.level() <= Level::WARN || meta.fields().field("event").is_some())
    }
}

impl<S> Filter<S> for Admit {
    fn enabled(&self, meta: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.admits(meta)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        if self.admits(meta) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }
}

/// A queue of at most `lines` before a thread that writes them to `writer`.
fn queued<W: Write + Send + 'static>(
    writer: W,
    lines: usize,
    dropped: IntCounter,
) -> (Queue, LogGuard) {
    let (queue, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines)
        .thread_name("wsgate-log")
        .finish(writer);
    let lost = queue.error_counter();
    (Queue { queue, lost, counted: AtomicUsize::new(0), dropped }, LogGuard(guard))
}

/// A non-blocking writer that counts what it drops.
struct Queue {
    queue: NonBlocking,
    lost: ErrorCounter,
    /// How many of `lost` are in `dropped` already.
    counted: AtomicUsize,
    dropped: IntCounter,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.clone().write_all(line)?;
        // The queue swallows the failure and counts it; whoever raises `counted` adds the difference.
        let lost = self.lost.dropped_lines();
        let before = self.counted.fetch_max(lost, Ordering::AcqRel);
        self.dropped.inc_by(lost.saturating_sub(before) as u64);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that wait for the writer at most. They are 1 KiB or less as a rule: about 4 MiB.
pub const QUEUED_LINES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LevelFilter, say: impl FnOnce()) -> Vec<serde_json::Value> {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = layer(move || writer.clone(), Style::Json, level);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        captured.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn events_below_the_level_are_left_out() {
        let say = || {
            tracing::debug!(event = "http.request", "a request");
            tracing::info!(event = "gate.ready", "ready");
        };
        let events = |level| -> Vec<String> {
            let name = |line: serde_json::Value| line["event"].as_str().unwrap().to_owned();
            logged(level, say).into_iter().map(name).collect()
        };
        assert_eq!(events(LevelFilter::INFO), ["gate.ready"]);
        assert_eq!(events(LevelFilter::DEBUG), ["http.request", "gate.ready"]);
        assert!(events(LevelFilter::WARN).is_empty());
        assert!(events(LevelFilter::OFF).is_empty());
    }

    #[test]
    fn dependencies_speak_from_warn_on_under_the_name_log() {
        let lines = logged(LevelFilter::TRACE, || {
            tracing::info!("chatter");
            tracing::warn!(target: "somecrate", left = 3, "low");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["event"], "log");
        assert_eq!(lines[0]["target"], "somecrate");
        assert_eq!(lines[0]["msg"], "low");
        assert_eq!(lines[0]["left"], 3);
    }

    #[test]
    fn auto_is_json_off_a_terminal_and_text_on_one() {
        let plain = Style::Text { color: false };
        let colored = Style::Text { color: true };
        for (format, terminal, no_color, style) in [
            (Format::Auto, false, false, Style::Json),
            (Format::Auto, true, false, colored),
            (Format::Auto, true, true, plain),
            (Format::Json, true, false, Style::Json),
            (Format::Text, false, false, plain),
            (Format::Text, true, false, colored),
        ] {
            assert_eq!(format.style(terminal, no_color), style, "{format:?} {terminal} {no_color}");
        }
    }

    #[test]
    fn the_guard_writes_what_is_queued() {
        let captured = Captured::default();
        let (queue, guard) = queued(captured.clone(), 100, Metrics::new().log_events_dropped);
        for n in 0..100 {
            (&queue).write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(guard);
        assert!(captured.text().ends_with("\n99\n"), "{}", captured.text());
    }

    /// Says when it has taken its first line, then waits to be let go.
    struct Stuck(mpsc::Sender<()>, mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_output_drops_lines_and_counts_them() {
        let metrics = Metrics::new();
        let (taken, first_taken) = mpsc::channel();
        let (release, gate) = mpsc::channel();
        let (queue, guard) = queued(Stuck(taken, gate), 2, metrics.log_events_dropped.clone());
        let say = |text: &[u8]| (&queue).write_all(text).unwrap();
        say(b"in hand\n");
        first_taken.recv().unwrap();
        for _ in 0..2 {
            say(b"queued\n");
        }
        assert_eq!(metrics.log_events_dropped.get(), 0);
        for _ in 0..5 {
            say(b"dropped\n");
        }
        assert_eq!(metrics.log_events_dropped.get(), 5);
        drop(release);
        drop(guard);
    }
}
