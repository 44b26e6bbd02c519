//! The wall clock, read in one place. Everything that decides takes time as an argument; certificate
//! validity and log timestamps are about the calendar, so the IO side passes this in.

use std::time::SystemTime;

/// Now, by the system's calendar. It may jump; never measure a duration with it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Now, as an HTTP field says it (RFC 9110 §5.6.7).
pub(crate) fn http_date() -> String {
    let now = jiff::Timestamp::try_from(wall()).unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
