//! What is said of certificates: log events, counts, and the gauges of their validity.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::store::{CertStore, ReloadOutcome};
use super::summary::CertSummary;
use crate::telemetry::metrics::Metrics;

/// A certificate is served from the start.
pub(super) fn loaded(summary: &CertSummary) {
    tracing::info!(
        event = "tls.cert.loaded",
        "tls.certificate.names" = %names(summary),
        "tls.certificate.sha256" = %summary.sha256,
        "tls.certificate.not_after" = %summary.not_after,
        file = summary.file.as_ref().map(|file| tracing::field::display(file.display())),
        "certificate loaded"
    );
}

/// A certificate replaced another.
pub(super) fn reloaded(summary: &CertSummary, metrics: &Metrics) {
    metrics.certificate_reloads.with_label_values(&["ok"]).inc();
    tracing::info!(
        event = "tls.cert.reloaded",
        "tls.certificate.names" = %names(summary),
        "tls.certificate.sha256" = %summary.sha256,
        "tls.certificate.not_after" = %summary.not_after,
        file = summary.file.as_ref().map(|file| tracing::field::display(file.display())),
        "certificate reloaded"
    );
}

/// Logs and counts `outcome`. The same refused content is said once, unless somebody `asked`.
pub(super) fn outcome(outcome: &ReloadOutcome, asked: bool, metrics: &Metrics) {
    match outcome {
        ReloadOutcome::Unchanged => {}
        ReloadOutcome::Reloaded(summary) => reloaded(summary, metrics),
        ReloadOutcome::Refused { seen_before: true, .. } if !asked => {}
        ReloadOutcome::Refused { files, problems, .. } => {
            metrics.certificate_reloads.with_label_values(&["error"]).inc();
            let reason: Vec<_> = problems.iter().map(ToString::to_string).collect();
            tracing::error!(
                event = "tls.cert.reload_failed",
                file = %files.cert.display(),
                "error.message" = %reason.join("; "),
                "certificate not reloaded, the old one stays"
            );
        }
    }
}

/// Directories that cannot be watched; changes there are seen by the poll alone.
pub(super) fn watch_failed(error: &notify::Error) {
    tracing::warn!(
        event = "tls.cert.watch_failed",
        "error.message" = %error,
        "certificate directories cannot be watched, changes are found by the poll"
    );
}

/// The validity gauges, by name. Series of names no longer served go away.
#[derive(Default)]
pub(super) struct Gauges {
    published: BTreeMap<String, (Timestamp, Timestamp)>,
}

impl Gauges {
    pub(super) fn publish(&mut self, store: &CertStore, metrics: &Metrics) {
        let mut now: BTreeMap<String, (Timestamp, Timestamp)> = BTreeMap::new();
        for summary in store.summaries() {
            let validity = (summary.not_before, summary.not_after);
            // RSA and ECDSA share a name: the one that expires first is the one to know of.
            let kept = now.entry(summary.name().to_owned()).or_insert(validity);
            if validity.1 < kept.1 {
                *kept = validity;
            }
        }
        for name in self.published.keys().filter(|name| !now.contains_key(*name)) {
            // It fails for a series that is not there, which is what is wanted.
            let _ = metrics.certificate_not_before.remove_label_values(&[name]);
            let _ = metrics.certificate_not_after.remove_label_values(&[name]);
        }
        for (name, (not_before, not_after)) in &now {
            metrics.certificate_not_before.with_label_values(&[name]).set(seconds(*not_before));
            metrics.certificate_not_after.with_label_values(&[name]).set(seconds(*not_after));
        }
        self.published = now;
    }
}

fn names(summary: &CertSummary) -> String {
    if summary.names.is_empty() { summary.subject.clone() } else { summary.names.join(",") }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}
