//! How an event becomes a line: JSON for machines, text for people. Whatever a peer put into a
//! value, one event stays one line and nothing in it acts on a terminal.

use std::fmt::{self, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::redact::{is_unsafe, truncated};

/// How lines look, once the output is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object a line: `ts`, `level`, `event`, `msg`, then the event's fields in its order.
    Json,
    /// `12:34:56.789 INFO  message  field=value …`, times in UTC.
    Text {
        /// Whether to mark time, level and field names with terminal colours.
        color: bool,
    },
}

impl Style {
    /// The line for `event`, newline included.
    pub(crate) fn line(self, event: &Event<'_>, at: SystemTime) -> String {
        let mut fields = Fields::new(self);
        event.record(&mut fields);
        if fields.event.is_none() {
            fields.value("target", event.metadata().target());
        }
        // The epoch stands for a clock outside of years 0 to 9999.
        let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
        match self {
            Self::Json => json(*event.metadata().level(), &fields, at),
            Self::Text { color } => text(*event.metadata().level(), &fields, at, color),
        }
    }
}

fn json(level: Level, fields: &Fields, at: Timestamp) -> String {
    let mut line = String::with_capacity(128 + fields.message.len() + fields.rest.len());
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    put(&mut line, format_args!(r#"{{"ts":"{at:.6}","level":"{level}","event":"#));
    json_string(&mut line, fields.event.as_deref().unwrap_or("log"));
    line.push_str(r#","msg":"#);
    json_string(&mut line, &fields.message);
    line.push_str(&fields.rest);
    line.push_str("}\n");
    line
}

fn text(level: Level, fields: &Fields, at: Timestamp, color: bool) -> String {
    let mut line = String::with_capacity(64 + fields.message.len() + fields.rest.len());
    let (name, paint) = match level {
        Level::ERROR => ("ERROR", "\x1b[31m"),
        Level::WARN => ("WARN ", "\x1b[33m"),
        Level::INFO => ("INFO ", "\x1b[32m"),
        Level::DEBUG => ("DEBUG", "\x1b[34m"),
        Level::TRACE => ("TRACE", "\x1b[35m"),
    };
    let (dim, paint, plain) = if color { (DIM, paint, PLAIN) } else { ("", "", "") };
    let time = at.strftime("%H:%M:%S%.3f");
    put(&mut line, format_args!("{dim}{time}{plain} {paint}{name}{plain} "));
    escaped(&mut line, &fields.message, "");
    if !fields.rest.is_empty() {
        line.push(' ');
        line.push_str(&fields.rest);
    }
    line.push('\n');
    line
}

/// An event's fields: the two with a place of their own, and the rest as it will stand in the line.
struct Fields {
    style: Style,
    event: Option<String>,
    message: String,
    rest: String,
}

impl Fields {
    fn new(style: Style) -> Self {
        Self { style, event: None, message: String::new(), rest: String::new() }
    }

    fn name(&mut self, name: &str) {
        match self.style {
            Style::Json => {
                self.rest.push(',');
                // A field must not stand where the line's own keys do.
                if matches!(name, "ts" | "level" | "event" | "msg") {
                    json_string(&mut self.rest, &format!("field.{name}"));
                } else {
                    json_string(&mut self.rest, name);
                }
                self.rest.push(':');
            }
            Style::Text { color: true } => {
                put(&mut self.rest, format_args!(" {DIM}{name}={PLAIN}"))
            }
            Style::Text { color: false } => put(&mut self.rest, format_args!(" {name}=")),
        }
    }

    /// A number or a bool, which both styles spell as Rust does.
    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field.name());
        put(&mut self.rest, format_args!("{value}"));
    }

    fn value(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.style {
            Style::Json => json_string(&mut self.rest, value),
            Style::Text { .. } if needs_quotes(value) => {
                self.rest.push('"');
                escaped(&mut self.rest, value, "\"\\");
                self.rest.push('"');
            }
            Style::Text { .. } => self.rest.push_str(value),
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        match name {
            "event" => self.event = Some(value.to_owned()),
            "message" => value.clone_into(&mut self.message),
            name => self.value(name, value),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), &truncated(value, VALUE_BYTES));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // Stops with an error once the bound is passed: then it is cut.
        let _ = write!(text, "{value:?}");
        self.text(field.name(), &truncated(&text.0, VALUE_BYTES));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities; a value that is none is left out.
        if value.is_finite() {
            self.bare(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }
}

/// Takes what a `Debug` or `Display` value writes, up to a little over [`VALUE_BYTES`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // Four bytes more than needed: a whole character past the bound shows that it was passed.
        self.0.push_str(&piece[..piece.floor_char_boundary(VALUE_BYTES + 4)]);
        if self.0.len() > VALUE_BYTES { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Whether a value must be quoted so that it cannot pass for two fields.
fn needs_quotes(value: &str) -> bool {
    let splits = |ch: char| ch.is_whitespace() || matches!(ch, '"' | '=') || is_unsafe(ch);
    value.is_empty() || value.contains(splits)
}

/// Appends `value` with unsafe characters escaped, and those in `also` behind a backslash.
fn escaped(line: &mut String, value: &str, also: &str) {
    for ch in value.chars() {
        match ch {
            ch if is_unsafe(ch) => line.extend(ch.escape_default()),
            ch if also.contains(ch) => line.extend(['\\', ch]),
            ch => line.push(ch),
        }
    }
}

/// Appends `value` as a JSON string. Beyond what JSON asks for, everything unsafe is escaped: a line
/// may end up on a terminal or in a script.
fn json_string(line: &mut String, value: &str) {
    line.push('"');
    for ch in value.chars() {
        match ch {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // All of them lie below U+10000: four digits do.
            ch if is_unsafe(ch) => put(line, format_args!("\\u{:04x}", u32::from(ch))),
            ch => line.push(ch),
        }
    }
    line.push('"');
}

/// Appends formatted text to a `String`, which cannot fail.
fn put(line: &mut String, text: fmt::Arguments<'_>) {
    let _ = line.write_fmt(text);
}

/// A value is cut here, in bytes. What peers send is cut much earlier, by `redact`.
const VALUE_BYTES: usize = 2048;
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::Value;
    use tracing::Subscriber;
    use tracing::field::{Empty, display};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    /// The lines of the events that `say` emits, at a fixed time.
    fn lines(style: Style, say: impl FnOnce()) -> String {
        struct Capture(Style, Arc<Mutex<String>>);
        impl<S: Subscriber> Layer<S> for Capture {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_750_000_000_123_456);
                self.1.lock().unwrap().push_str(&self.0.line(event, at));
            }
        }
        let written = Arc::default();
        let capture = Capture(style, Arc::clone(&written));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(capture), say);
        let written = written.lock().unwrap();
        written.clone()
    }

    fn opened() {
        let negotiated = Some("chat");
        let subprotocol = negotiated.map(display);
        let client: SocketAddr = "192.0.2.7:50123".parse().unwrap();
        tracing::info!(
            event = "ws.opened",
            conn_id = %"c1",
            "client.address" = %client.ip(),
            "tls.resumed" = false,
            origin = None::<&str>,
            "url.path" = Some("/ws"),
            subprotocol,
            backend = Empty,
            bytes_in = 5_u64,
            delta = -5_i64,
            duration_s = 1.25,
            "socket opened"
        );
    }

    #[test]
    fn a_json_line_keeps_order_types_and_dotted_names() {
        assert_eq!(
            lines(Style::Json, opened),
            concat!(
                r#"{"ts":"2025-06-15T15:06:40.123456Z","level":"info","event":"ws.opened","#,
                r#""msg":"socket opened","conn_id":"c1","client.address":"192.0.2.7","#,
                r#""tls.resumed":false,"url.path":"/ws","subprotocol":"chat","bytes_in":5,"#,
                r#""delta":-5,"duration_s":1.25}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_text_line_reads_time_level_message_fields() {
        assert_eq!(
            lines(Style::Text { color: false }, opened),
            "15:06:40.123 INFO  socket opened  conn_id=c1 client.address=192.0.2.7 \
             tls.resumed=false url.path=/ws subprotocol=chat bytes_in=5 delta=-5 duration_s=1.25\n"
        );
        let colored = lines(Style::Text { color: true }, opened);
        assert!(colored.contains("\x1b[32mINFO \x1b[0m"), "{colored:?}");
        assert!(colored.contains("\x1b[2mconn_id=\x1b[0mc1"), "{colored:?}");
    }

    const HOSTILE: &str = "a\"b\\ c=d\r\n\t\0\x1b[31m\u{7f}\u{9b}2J\u{2028}\u{2029}\u{202e}é😀";

    #[test]
    fn a_hostile_value_survives_json_and_acts_on_nothing() {
        let line = lines(Style::Json, || {
            tracing::info!(event = "ws.rejected", shown = %HOSTILE, debugged = ?[HOSTILE], "{HOSTILE}");
        });
        let (line, rest) = line.split_once('\n').unwrap();
        assert_eq!(rest, "");
        assert!(!line.contains(is_unsafe), "{line:?}");
        let read: Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["msg"], HOSTILE);
        assert_eq!(read["shown"], HOSTILE);
        assert_eq!(read["debugged"], format!("{:?}", [HOSTILE]));
    }

    #[test]
    fn a_hostile_value_stays_one_field_of_one_line_of_text() {
        let line = lines(Style::Text { color: false }, || {
            tracing::info!(event = "ws.rejected", origin = HOSTILE, empty = "", "{HOSTILE}");
        });
        let (line, rest) = line.split_once('\n').unwrap();
        assert_eq!(rest, "");
        assert!(!line.contains(is_unsafe), "{line:?}");
        let escaped = r#"c=d\r\n\t\u{0}\u{1b}[31m\u{7f}\u{9b}2J\u{2028}\u{2029}\u{202e}é😀"#;
        assert_eq!(
            line,
            format!(r#"15:06:40.123 INFO  a"b\ {escaped}  origin="a\"b\\ {escaped}" empty="""#)
        );
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "é".repeat(VALUE_BYTES);
        let line = lines(Style::Json, || {
            tracing::info!(event = "log", text = long.as_str(), shown = %long, debugged = ?long, "m");
        });
        let read: Value = serde_json::from_str(&line).unwrap();
        for name in ["text", "shown", "debugged"] {
            let value = read[name].as_str().unwrap();
            assert!(value.len() <= VALUE_BYTES && value.ends_with('…'), "{name}: {}", value.len());
        }
    }

    #[test]
    fn a_field_cannot_take_the_place_of_the_line_s_own() {
        let line = lines(Style::Json, || {
            tracing::warn!(ts = 1, level = "x", msg = "y", event = 5, nan = f64::NAN, "m");
        });
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["level"], "warn");
        assert_eq!(read["msg"], "m");
        assert_eq!(read["event"], "log");
        for name in ["field.ts", "field.level", "field.msg", "field.event"] {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{line}");
        }
        assert!(!line.contains("nan"), "{line}");
    }
}
