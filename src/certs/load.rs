//! Reading a pair of files and judging it: PEM, chain, key, match. What is valid *now* is asked
//! apart, because a start forgives what a reload does not.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};

use super::error::{CertError, Problem};
use super::summary::CertSummary;

/// Where one certificate chain and its private key lie, both PEM, each at most 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key, without a passphrase. May be the same file.
    pub key: PathBuf,
}

/// A chain with its key, proven to belong together.
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) summary: CertSummary,
    pub(super) digest: ContentDigest,
}

/// SHA-256 over both files as read, or over why they could not be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentDigest([u8; 32]);

/// Both files as read at one time, not yet judged.
pub(super) struct Content<'a> {
    files: &'a PairFiles,
    cert: Result<Vec<u8>, CertError>,
    key: Result<Vec<u8>, CertError>,
}

impl<'a> Content<'a> {
    pub(super) fn read(files: &'a PairFiles) -> Self {
        Self { files, cert: read_bounded(&files.cert), key: read_bounded(&files.key) }
    }

    pub(super) fn digest(&self) -> ContentDigest {
        let mut hash = Sha256::new();
        for part in [&self.cert, &self.key] {
            let (tag, bytes) = match part {
                Ok(bytes) => (0_u8, Cow::Borrowed(bytes)),
                Err(error) => (1, Cow::Owned(error.to_string().into_bytes())),
            };
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes.as_slice());
        }
        ContentDigest(hash.finalize().into())
    }

    /// The pair, or everything that is wrong with it.
    pub(super) fn check(self) -> Result<Pair, Vec<CertError>> {
        let digest = self.digest();
        let cert = self.cert.and_then(|bytes| parse_chain(&self.files.cert, &bytes));
        let key = self.key.and_then(|bytes| {
            let key = parse_key(&self.files.key, &bytes)?;
            signing_key(&self.files.key, &key)
        });
        match (cert, key) {
            (Ok((chain, summary)), Ok(key)) => {
                let certified = join(self.files, chain, key).map_err(|error| vec![error])?;
                Ok(Pair { certified: Arc::new(certified), summary, digest })
            }
            (cert, key) => Err(cert.err().into_iter().chain(key.err()).collect()),
        }
    }
}

impl Pair {
    /// A pair made in memory, where nothing is compared with a file.
    pub(super) fn in_memory(certified: CertifiedKey, summary: CertSummary) -> Self {
        Self { certified: Arc::new(certified), summary, digest: ContentDigest([0; 32]) }
    }

    /// Refuses a pair that clients would refuse at `now`.
    pub(super) fn valid_at(self, now: SystemTime) -> Result<Self, Vec<CertError>> {
        let problem = if self.summary.expired(now) {
            Problem::Expired(self.summary.not_after)
        } else if self.summary.not_yet_valid(now) {
            Problem::NotYetValid(self.summary.not_before)
        } else {
            return Ok(self);
        };
        Err(vec![CertError::new(self.summary.file.unwrap_or_default(), problem)])
    }
}

/// Judges a pair without serving it.
///
/// # Errors
/// Everything that is wrong with either file; its validity is not asked.
pub(crate) fn check_pair(files: &PairFiles) -> Result<(), Vec<CertError>> {
    Content::read(files).check().map(drop)
}

/// Reads a regular file of at most 1 MiB that is not empty.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, CertError> {
    let fail = |problem| CertError::new(path, problem);
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => fail(Problem::Missing),
        kind => fail(Problem::Unreadable(kind)),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(fail(Problem::NotAFile));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 {
        0 => Err(fail(Problem::Empty)),
        len if len > FILE_BYTES_MAX => Err(fail(Problem::TooLarge)),
        _ => Ok(bytes),
    }
}

/// The certificates in `bytes`, at least one, with the facts of the first.
pub(crate) fn parse_chain(
    file: &Path,
    bytes: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, CertSummary), CertError> {
    let fail = |problem| CertError::new(file, problem);
    let sections = sections(bytes).map_err(fail)?;
    let has_key = sections.iter().any(|(kind, _)| is_key(*kind));
    let is_cert = |kind: &SectionKind| *kind == SectionKind::Certificate;
    let chain: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| is_cert(kind))
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    for (n, der) in (1..).zip(&chain) {
        if CertSummary::from_der(der, None).is_none() {
            return Err(fail(Problem::BadCertificate(n)));
        }
    }
    let first = chain.first().and_then(|der| CertSummary::from_der(der, Some(file.to_owned())));
    match first {
        Some(summary) => Ok((chain, summary)),
        None if has_key => Err(fail(Problem::KeyInPlaceOfCertificate)),
        None if is_der(bytes) => Err(fail(Problem::Der)),
        None => Err(fail(Problem::NoCertificate)),
    }
}

/// The first private key in `bytes`.
pub(crate) fn parse_key(file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, CertError> {
    let fail = |problem| CertError::new(file, problem);
    if ENCRYPTED_MARKS.iter().any(|mark| bytes.windows(mark.len()).any(|w| w == *mark)) {
        return Err(fail(Problem::EncryptedKey));
    }
    let sections = sections(bytes).map_err(fail)?;
    let has_cert = sections.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let key = sections.into_iter().find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    key.ok_or_else(|| match () {
        () if has_cert => fail(Problem::CertificateInPlaceOfKey),
        () if is_der(bytes) => fail(Problem::Der),
        () => fail(Problem::NoKey),
    })
}

/// The key as one that signs handshakes.
pub(crate) fn signing_key(
    file: &Path,
    key: &PrivateKeyDer<'_>,
) -> Result<Arc<dyn SigningKey>, CertError> {
    any_supported_type(key).map_err(|_| CertError::new(file, Problem::BadKey))
}

fn join(
    files: &PairFiles,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, CertError> {
    let mut certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        // A match that cannot be proven is none: it would show as failing handshakes.
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch | InconsistentKeys::Unknown)) => {
            for n in 2..=certified.cert.len() {
                certified.cert.rotate_left(1);
                if certified.keys_match().is_ok() {
                    return Err(CertError::new(&files.cert, Problem::ChainOrder(n)));
                }
            }
            Err(CertError::new(&files.key, Problem::KeyMismatch(files.cert.clone())))
        }
        Err(error) => {
            Err(CertError::new(&files.cert, Problem::UnusableCertificate(error.to_string())))
        }
    }
}

fn sections(bytes: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, Problem> {
    // The parser's own messages quote the line they stumble on; they are not passed on.
    <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| {
        match error {
            pem::Error::MissingSectionEnd { .. } => Problem::Truncated,
            _ => Problem::BadPem,
        }
    })
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

// A SEQUENCE with a length of two bytes, as every certificate and RSA key begins, or of one.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x82 | 0x81, ..])
        || matches!(bytes, [0x30, len, rest @ ..] if rest.len() == usize::from(*len))
}

const FILE_BYTES_MAX: u64 = 1024 * 1024;
const ENCRYPTED_MARKS: [&[u8]; 2] =
    [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
