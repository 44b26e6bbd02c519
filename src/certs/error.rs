//! What can be wrong with a certificate or key file, each as a sentence that says what to do.

use std::path::PathBuf;
use std::{fmt, io};

use jiff::Timestamp;

/// One fault in one file. Its text never holds anything from inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertError {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing is there, or a link on the way leads nowhere.
    Missing,
    /// A directory, socket, pipe or device.
    NotAFile,
    /// The system does not let it be read.
    Unreadable(io::ErrorKind),
    /// More than 1 MiB.
    TooLarge,
    /// No byte in it.
    Empty,
    /// A PEM block that begins and does not end.
    Truncated,
    /// PEM whose inside is not Base64, or a broken BEGIN line.
    BadPem,
    /// DER where PEM is expected.
    Der,
    /// PEM or other text without a certificate.
    NoCertificate,
    /// A private key where the certificate should be.
    KeyInPlaceOfCertificate,
    /// PEM or other text without a private key.
    NoKey,
    /// A certificate where the private key should be.
    CertificateInPlaceOfKey,
    /// A private key under a passphrase.
    EncryptedKey,
    /// A PEM block that is not an X.509 certificate; counted from 1.
    BadCertificate(usize),
    /// The TLS library does not take the first certificate (X.509 version 1, for example).
    UnusableCertificate(String),
    /// A private key of a kind or size that is not served.
    BadKey,
    /// The key is not that of the certificate in this file.
    KeyMismatch(PathBuf),
    /// The key is that of a later certificate in the chain; counted from 1.
    ChainOrder(usize),
    /// Its time is over.
    Expired(Timestamp),
    /// Its time has not come.
    NotYetValid(Timestamp),
}

impl CertError {
    pub(super) fn new(file: impl Into<PathBuf>, problem: Problem) -> Self {
        Self { file: file.into(), problem }
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for CertError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file; check the path, and where its links lead"),
            Self::NotAFile => f.write_str("not a regular file; name the PEM file itself"),
            Self::Unreadable(io::ErrorKind::PermissionDenied) => {
                f.write_str("permission denied; let the user that runs wsgate read it")
            }
            Self::Unreadable(kind) => write!(f, "cannot be read ({kind}); check the file system"),
            Self::TooLarge => {
                f.write_str("larger than 1 MiB; name a PEM file with one chain or one key")
            }
            Self::Empty => f.write_str("the file is empty; write the PEM text into it"),
            Self::Truncated => f.write_str(
                "the file ends inside a PEM block; write it whole, best under another name first, \
                 then rename it",
            ),
            Self::BadPem => f.write_str("not valid PEM; export it again as PEM (Base64) text"),
            Self::Der => f.write_str(
                "binary DER, not PEM; convert it with `openssl x509 -inform der` or \
                 `openssl pkey -inform der`",
            ),
            Self::NoCertificate => {
                f.write_str("no certificate in it; it needs a `BEGIN CERTIFICATE` block")
            }
            Self::KeyInPlaceOfCertificate => f.write_str(
                "a private key is here in place of the certificate; are the two swapped?",
            ),
            Self::NoKey => {
                f.write_str("no private key in it; it needs a `BEGIN PRIVATE KEY` block")
            }
            Self::CertificateInPlaceOfKey => f.write_str(
                "a certificate is here in place of the private key; are the two swapped?",
            ),
            Self::EncryptedKey => f.write_str(
                "the private key has a passphrase; remove it with `openssl pkey -in … -out …`",
            ),
            Self::BadCertificate(n) => {
                write!(f, "certificate {n} in the file cannot be parsed; export it again")
            }
            Self::UnusableCertificate(why) => write!(
                f,
                "the certificate cannot be served ({why}); issue an X.509 version 3 certificate"
            ),
            Self::BadKey => f.write_str(
                "the private key cannot be used; make it ECDSA P-256, P-384 or P-521, Ed25519, or \
                 RSA of 2048 to 8192 bits",
            ),
            Self::KeyMismatch(cert) => write!(
                f,
                "the private key does not belong to the certificate in {}; install the two \
                 together",
                cert.display()
            ),
            Self::ChainOrder(n) => write!(
                f,
                "the key belongs to certificate {n} in the file; put that one first, then its \
                 issuers"
            ),
            Self::Expired(at) => write!(f, "the certificate expired at {at}; renew it"),
            Self::NotYetValid(at) => {
                write!(f, "the certificate is valid only from {at}; check the clock")
            }
        }
    }
}
