//! The wall clock, read in one place. Everything that decides takes time as an argument; certificate
//! validity and log timestamps are about the calendar, so the IO side passes this in.

use std::time::SystemTime;

/// Now, by the system's calendar. It may jump; never measure a duration with it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
