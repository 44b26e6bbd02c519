//! What the tests share: a gate as a process, a TLS client that speaks raw bytes, a backend that
//! records raw bytes and answers from a script.

pub mod backend;
pub mod client;
pub mod frames;
pub mod gate;
pub mod pki;
pub mod raw;

use std::future::Future;
use std::time::Duration;

/// Waits until `look` finds something, and fails the test when it has not after `DEADLINE`.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            // A pace for looking, not a time that anything depends on: allow-sleep
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(found) => found,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Fails the test when `future` takes longer than `DEADLINE`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Generous: it only ends tests that would hang.
pub const DEADLINE: Duration = Duration::from_secs(20);
