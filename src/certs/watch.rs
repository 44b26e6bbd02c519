//! Keeps the served pairs in step with their files: events on directories for speed, a poll of the
//! content for certainty.
//!
//! Watching a file would follow the inode, which dies at the first rename; so directories are
//! watched, and traced anew after every change, because links move. Whatever a file system does not
//! tell (network mounts, a full inotify table, a directory that came back) the poll finds.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::load::PairFiles;
use super::paths::Entries;
use super::report::{self, Gauges};
use super::store::{CertStore, ReloadOutcome};
use crate::telemetry::clock::wall;
use crate::telemetry::metrics::Metrics;

/// Reloads `store` when its files change, on every `poll` (at least 100 ms), and when `reload_now`
/// is notified; keeps the validity gauges; renews an in-memory pair before it expires. Runs until
/// `cancel` is done.
///
/// # Cancel safety
/// It may be dropped at any time: a pair is swapped whole or not at all.
pub async fn watch(
    store: Arc<CertStore>,
    poll: Duration,
    reload_now: Arc<Notify>,
    metrics: Arc<Metrics>,
    cancel: impl Future<Output = ()>,
) {
    let changed = Arc::new(Notify::new());
    let eyes = if store.files().is_empty() { Eyes::shut() } else { Eyes::open(&changed) };
    tokio::select! {
        () = cancel => {}
        () = follow(store, eyes, changed, poll, reload_now, metrics) => {}
    }
}

async fn follow(
    store: Arc<CertStore>,
    mut eyes: Eyes,
    changed: Arc<Notify>,
    poll: Duration,
    reload_now: Arc<Notify>,
    metrics: Arc<Metrics>,
) {
    let mut gauges = Gauges::default();
    for summary in store.summaries() {
        report::loaded(&summary);
    }
    // The first tick comes at once: what changed since the load is found then.
    let mut ticks = interval(poll.max(POLL_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        gauges.publish(&store, &metrics);
        let asked = tokio::select! {
            () = reload_now.notified() => true,
            () = changed.notified() => { settle(&changed).await; false }
            () = store.renewed.notified() => continue,
            _ = ticks.tick() => false,
        };
        if store.is_self_signed_in_memory() {
            renew_if_due(&store, &metrics);
            continue;
        }
        let outcomes;
        (eyes, outcomes) = look_and_reload(Arc::clone(&store), eyes, &changed).await;
        for outcome in &outcomes {
            report::outcome(outcome, asked, &metrics);
        }
    }
}

/// Waits until the files have been quiet for a moment, since a pair is written in several steps,
/// but no longer than a bound: something may write for ever.
async fn settle(changed: &Notify) {
    let bound = Instant::now() + SETTLE_MAX;
    loop {
        let quiet = (Instant::now() + SETTLE_QUIET).min(bound);
        if timeout_at(quiet, changed.notified()).await.is_err() || Instant::now() >= bound {
            return;
        }
    }
}

async fn look_and_reload(
    store: Arc<CertStore>,
    mut eyes: Eyes,
    changed: &Arc<Notify>,
) -> (Eyes, Vec<ReloadOutcome>) {
    // Links are followed, watches set and files read off the runtime: each may wait for a disk.
    let work = tokio::task::spawn_blocking(move || {
        eyes.look_at(store.files());
        let outcomes = store.reload(wall());
        (eyes, outcomes)
    });
    match work.await {
        Ok(done) => done,
        // The watcher died with the thread, or the runtime ends; the next poll tries anew.
        Err(_) => (Eyes::open(changed), Vec::new()),
    }
}

fn renew_if_due(store: &CertStore, metrics: &Metrics) {
    let now = wall();
    let due = store.summaries().iter().any(|summary| summary.days_left(now) < RENEW_DAYS_LEFT);
    if due && let Err(error) = store.renew_self_signed(now, metrics) {
        tracing::error!(
            event = "tls.cert.reload_failed",
            "error.message" = %error,
            "certificate not reloaded, the old one stays"
        );
    }
}

/// The directory watcher, with what it looks at.
struct Eyes {
    /// `None` where the system gave none.
    watcher: Option<RecommendedWatcher>,
    entries: Arc<ArcSwap<Entries>>,
    warned: bool,
}

impl Eyes {
    /// A watcher that wakes `changed` for each event that concerns the entries it looks at.
    fn open(changed: &Arc<Notify>) -> Self {
        let entries = Arc::new(ArcSwap::from_pointee(Entries::default()));
        let (seen, wake) = (Arc::clone(&entries), Arc::clone(changed));
        let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if concerns(&event, &seen.load()) {
                wake.notify_one();
            }
        });
        match made {
            Ok(watcher) => Self { watcher: Some(watcher), entries, warned: false },
            Err(error) => {
                report::watch_failed(&error);
                Self::shut()
            }
        }
    }

    /// No watcher: only the poll sees.
    fn shut() -> Self {
        Self { watcher: None, entries: Arc::default(), warned: true }
    }

    /// Watches the directories that decide what `files` mean now.
    fn look_at(&mut self, files: &[PairFiles]) {
        let Some(watcher) = &mut self.watcher else { return };
        let paths = || files.iter().flat_map(|pair| [pair.cert.as_path(), pair.key.as_path()]);
        // A link that moves before its directory is watched goes unnoticed: look again until what
        // is watched is what is there.
        for _ in 0..LOOKS_MAX {
            let entries = Arc::new(Entries::behind(paths()));
            let before = self.entries.swap(Arc::clone(&entries));
            for gone in before.directories.difference(&entries.directories) {
                // It fails where the directory itself is gone, and its watch with it.
                let _ = watcher.unwatch(gone);
            }
            for directory in &entries.directories {
                // Again each time: a directory that was deleted and made anew has lost its watch,
                // and may even have the same inode.
                if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive)
                    && directory.exists()
                    && !self.warned
                {
                    self.warned = true;
                    report::watch_failed(&error);
                }
            }
            if Entries::behind(paths()) == *entries {
                return;
            }
        }
    }
}

fn concerns(event: &notify::Result<Event>, entries: &Entries) -> bool {
    match event {
        // Our own reading is an access too.
        Ok(event) if event.kind.is_access() => false,
        Ok(event) if event.need_rescan() || event.paths.is_empty() => true,
        Ok(event) => event.paths.iter().any(|path| entries.concern(path)),
        Err(_) => true,
    }
}

const POLL_MIN: Duration = Duration::from_millis(100);
const SETTLE_QUIET: Duration = Duration::from_millis(200);
/// With the reload after it, well within the two seconds a new pair may take to be served.
const SETTLE_MAX: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 4;
const RENEW_DAYS_LEFT: i64 = 30;

#[cfg(test)]
mod tests;
