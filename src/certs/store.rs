//! The served pairs: loaded once, replaced pair by pair, read by every handshake without a lock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use super::dev::{DevError, dev_pair};
use super::error::CertError;
use super::load::{Content, ContentDigest, Pair, PairFiles, parse_chain, parse_key, signing_key};
use super::report;
use super::select::Served;
use super::summary::CertSummary;
use crate::telemetry::metrics::Metrics;

/// The certificates the gate serves now. Handshakes that have begun keep the pair they chose.
pub struct CertStore {
    served: ArcSwap<Served>,
    source: Source,
    /// For each pair of files, the content last refused. Held while the pairs change.
    refused: Mutex<Vec<Option<ContentDigest>>>,
    /// Woken when an in-memory pair was replaced.
    pub(super) renewed: Notify,
}

enum Source {
    Files(Vec<PairFiles>),
    Memory(Vec<String>),
}

/// What became of one pair of files when it was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The files hold what is served.
    Unchanged,
    /// The new pair is served from now on.
    Reloaded(Box<CertSummary>),
    /// The files changed, and not for the good: the old pair stays.
    Refused {
        /// Where it was read.
        files: PairFiles,
        /// Everything wrong with it.
        problems: Vec<CertError>,
        /// Whether this very content was refused before.
        seen_before: bool,
    },
}

impl CertStore {
    /// Loads every pair; the first is the default. `files` is not empty.
    ///
    /// An expired or not yet valid pair is served: at a start there is nothing better, and clients
    /// judge. [`warnings`](Self::warnings) tells of it and [`default_is_valid`](Self::default_is_valid) is false.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files.
    pub fn load(files: Vec<PairFiles>) -> Result<Arc<Self>, Vec<CertError>> {
        let mut pairs = Vec::new();
        let mut problems = Vec::new();
        for files in &files {
            match Content::read(files).check() {
                Ok(pair) => pairs.push(Arc::new(pair)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(Self::new(pairs, Source::Files(files))) } else { Err(problems) }
    }

    /// Makes a self-signed pair for `names`, in memory only.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn self_signed(names: &[String], now: SystemTime) -> Result<Arc<Self>, DevError> {
        let pair = Arc::new(make_pair(names, now)?);
        Ok(Self::new(vec![pair], Source::Memory(names.to_vec())))
    }

    fn new(pairs: Vec<Arc<Pair>>, source: Source) -> Arc<Self> {
        let refused = Mutex::new(vec![None; pairs.len()]);
        let served = ArcSwap::from_pointee(Served::new(pairs));
        Arc::new(Self { served, source, refused, renewed: Notify::new() })
    }

    /// Replaces the in-memory pair by a fresh one of the same names; logged and counted as a reload.
    ///
    /// # Errors
    /// When the store serves files.
    pub fn renew_self_signed(
        &self,
        now: SystemTime,
        metrics: &Metrics,
    ) -> Result<CertSummary, DevError> {
        let Source::Memory(names) = &self.source else { return Err(DevError::NotInMemory) };
        let pair = make_pair(names, now)?;
        let summary = pair.summary.clone();
        {
            let _changing = self.changing();
            self.served.store(Arc::new(Served::new(vec![Arc::new(pair)])));
        }
        report::reloaded(&summary, metrics);
        self.renewed.notify_one();
        Ok(summary)
    }

    /// Reads every pair of files again and serves those that changed and are sound at `now`; an
    /// outcome for each pair, none for a pair in memory. Blocks on the file system; logs nothing.
    pub fn reload(&self, now: SystemTime) -> Vec<ReloadOutcome> {
        let Source::Files(files) = &self.source else { return Vec::new() };
        let mut refused = self.changing();
        let mut pairs = self.served.load().pairs().to_vec();
        let mut outcomes = Vec::with_capacity(files.len());
        for ((files, pair), refused) in files.iter().zip(&mut pairs).zip(refused.iter_mut()) {
            outcomes.push(match read_again(files, pair.digest, now) {
                Again::Same => {
                    *refused = None;
                    ReloadOutcome::Unchanged
                }
                Again::New(new) => {
                    *refused = None;
                    let summary = new.summary.clone();
                    *pair = Arc::new(*new);
                    ReloadOutcome::Reloaded(Box::new(summary))
                }
                Again::Bad(digest, problems) => {
                    let seen_before = refused.replace(digest) == Some(digest);
                    ReloadOutcome::Refused { files: files.clone(), problems, seen_before }
                }
            });
        }
        if outcomes.iter().any(|outcome| matches!(outcome, ReloadOutcome::Reloaded(_))) {
            self.served.store(Arc::new(Served::new(pairs)));
        }
        outcomes
    }

    /// The served certificates, the default first.
    #[must_use]
    pub fn summaries(&self) -> Vec<CertSummary> {
        self.served.load().pairs().iter().map(|pair| pair.summary.clone()).collect()
    }

    /// The default certificate itself, without its chain.
    pub(crate) fn default_certificate(&self) -> Option<CertificateDer<'static>> {
        let served = self.served.load();
        let chain = &served.pairs().first()?.certified.cert;
        chain.first().cloned()
    }

    /// A sentence for each served certificate that clients refuse at `now`.
    #[must_use]
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        self.summaries().iter().filter_map(|summary| summary.warning(now)).collect()
    }

    /// Whether the certificate was made in memory, for want of files.
    #[must_use]
    pub fn is_self_signed_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    /// Whether the default certificate is valid at `now`.
    #[must_use]
    pub fn default_is_valid(&self, now: SystemTime) -> bool {
        let served = self.served.load();
        let default = served.pairs().first();
        default.is_some_and(|pair| pair.summary.valid(now))
    }

    /// The files behind the pairs; none for a pair in memory.
    pub(super) fn files(&self) -> &[PairFiles] {
        match &self.source {
            Source::Files(files) => files,
            Source::Memory(_) => &[],
        }
    }

    // A panic while it is held leaves the pairs as they were: they are swapped whole.
    fn changing(&self) -> MutexGuard<'_, Vec<Option<ContentDigest>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.load();
        let pair = served.choose(hello.server_name(), hello.signature_schemes())?;
        Some(Arc::clone(&pair.certified))
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = self.served.load();
        let names = served.pairs().iter().map(|pair| pair.summary.name());
        f.debug_list().entries(names).finish()
    }
}

enum Again {
    Same,
    New(Box<Pair>),
    Bad(ContentDigest, Vec<CertError>),
}

/// Reads `files` until they stand still: files that change while they are read are no fault.
fn read_again(files: &PairFiles, served: ContentDigest, now: SystemTime) -> Again {
    let mut content = Content::read(files);
    let mut reads = 1;
    loop {
        let digest = content.digest();
        if digest == served {
            return Again::Same;
        }
        let problems = match content.check().and_then(|pair| pair.valid_at(now)) {
            Ok(pair) => return Again::New(Box::new(pair)),
            Err(problems) => problems,
        };
        content = Content::read(files);
        reads += 1;
        if content.digest() == digest || reads > READS_MAX {
            return Again::Bad(digest, problems);
        }
    }
}

fn make_pair(names: &[String], now: SystemTime) -> Result<Pair, DevError> {
    let (cert, key) = dev_pair(names, SELF_SIGNED_DAYS, now)?;
    let memory = std::path::Path::new("memory");
    let (chain, mut summary) =
        parse_chain(memory, cert.as_bytes()).expect("rcgen writes one PEM certificate");
    summary.file = None;
    let key = parse_key(memory, key.as_bytes())
        .and_then(|key| signing_key(memory, &key))
        .expect("rcgen writes one P-256 key as PEM");
    Ok(Pair::in_memory(CertifiedKey::new(chain, key), summary))
}

/// A gate that runs longer renews it, see `watch`.
const SELF_SIGNED_DAYS: u32 = 90;
const READS_MAX: u32 = 4;

#[cfg(test)]
mod tests;
