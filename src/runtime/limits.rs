//! How many connections fit: each takes two descriptors, one to the client and one to the backend.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proxy::accept::BEYOND_MAX;

/// Raises the soft limit on open files to the hard one, as nginx and HAProxy do, and returns how
/// many connections are held at once: what was asked for, or what fits.
pub(crate) fn connections_max(asked: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        // Where it cannot be raised, the old one counts.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    asked.unwrap_or_else(|| automatic(files()))
}

/// What `auto` means. Where the file limit is as good as none (some container runtimes give 2^30),
/// it says nothing about the machine.
fn automatic(files: usize) -> usize {
    fitting(files).min(AUTO_MAX)
}

/// The limit on open files, or a million where there is none.
pub(crate) fn files() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.and_then(|files| usize::try_from(files).ok()).unwrap_or(1 << 20)
}

/// Connections that fit into so many files.
pub(crate) fn fitting(files: usize) -> usize {
    (files.saturating_sub(RESERVED_FILES + BEYOND_MAX) / 2).max(1)
}

/// The most that `listen.max_connections: auto` comes to.
const AUTO_MAX: usize = 1_000_000;

/// Listeners, epoll instances, certificates, health checks, pooled connections.
const RESERVED_FILES: usize = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_takes_two_files() {
        assert_eq!(fitting(20_000), 9_900);
        assert_eq!(fitting(100), 1);
    }

    #[test]
    fn auto_follows_the_file_limit_up_to_a_million() {
        assert_eq!(automatic(20_000), 9_900);
        assert_eq!(automatic(2_000_200), 1_000_000);
        assert_eq!(automatic(2_000_198), 999_999);
        assert_eq!(automatic(1 << 30), 1_000_000);
        assert_eq!(automatic(usize::MAX), 1_000_000);
    }
}
