//! What a certificate says of itself, for people, logs and metrics.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The public facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertSummary {
    /// DNS names (lower case) and IP addresses of the SAN extension, in its order.
    pub names: Vec<String>,
    /// The subject's distinguished name; may be empty.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// SHA-256 of the DER form, as `AB:CD:…`.
    pub sha256: String,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// The kind of its public key, `ECDSA P-256` for example.
    pub key_type: String,
    /// Whether subject and issuer are the same.
    pub self_signed: bool,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// The file it came from; `None` when it was made in memory.
    pub file: Option<PathBuf>,
}

impl CertSummary {
    /// Reads a DER certificate; `None` when it is not one, or bytes follow it.
    pub(crate) fn from_der(der: &CertificateDer<'_>, file: Option<PathBuf>) -> Option<Self> {
        let (rest, cert) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            names: names(&cert),
            subject: printable(&cert.subject().to_string()),
            issuer: printable(&cert.issuer().to_string()),
            sha256: colon_hex(&Sha256::digest(der)),
            not_before: timestamp(cert.validity().not_before),
            not_after: timestamp(cert.validity().not_after),
            key_type: key_type(cert.public_key()),
            self_signed: cert.subject().as_raw() == cert.issuer().as_raw(),
            is_ca: cert.is_ca(),
            file,
        })
    }

    /// One name for a label: the first SAN, else the subject.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.subject)
    }

    /// Whether its validity is over at `now`.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        at(now) > self.not_after
    }

    /// Whether its validity is yet to begin at `now`. A minute is forgiven, because some issuers
    /// date a certificate to the second they sign it, by a clock that is not ours.
    #[must_use]
    pub fn not_yet_valid(&self, now: SystemTime) -> bool {
        self.not_before.as_second() > at(now).as_second() + CLOCK_SKEW_SECONDS
    }

    /// Whether clients take it at `now`.
    #[must_use]
    pub fn valid(&self, now: SystemTime) -> bool {
        !self.expired(now) && !self.not_yet_valid(now)
    }

    /// Why clients refuse it at `now`, as a sentence; `None` while it is valid.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let name = self.name();
        if self.expired(now) {
            let at = self.not_after;
            Some(format!("the certificate for {name} expired at {at}: clients refuse it; renew it"))
        } else if self.not_yet_valid(now) {
            let at = self.not_before;
            Some(format!("the certificate for {name} is valid only from {at}; check the clock"))
        } else {
            None
        }
    }

    /// Whole days from `now` to expiry; negative when it has passed.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        (self.not_after.as_second() - at(now).as_second()).div_euclid(DAY_SECONDS)
    }
}

/// `now` as a timestamp, held within what one can say.
pub(crate) fn at(now: SystemTime) -> Timestamp {
    Timestamp::try_from(now).unwrap_or_else(|_| {
        if now < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX }
    })
}

// "No well-defined expiration" is the last second of 9999 (RFC 5280 §4.1.2.5), past jiff's range.
fn timestamp(time: ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = cert.subject_alternative_name() else { return Vec::new() };
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(printable(&name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    san.value.general_names.iter().filter_map(one).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn key_type(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = spki.algorithm.algorithm.to_id_string();
    let curve = || {
        let parameters = spki.algorithm.parameters.as_ref()?;
        Some(parameters.as_oid().ok()?.to_id_string())
    };
    match algorithm.as_str() {
        "1.2.840.113549.1.1.1" => {
            format!("RSA {}", spki.parsed().map_or(0, |key| key.key_size()))
        }
        "1.2.840.10045.2.1" => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => "ECDSA P-256".to_owned(),
            Some("1.3.132.0.34") => "ECDSA P-384".to_owned(),
            Some("1.3.132.0.35") => "ECDSA P-521".to_owned(),
            Some(other) => format!("ECDSA {other}"),
            None => "ECDSA".to_owned(),
        },
        "1.3.101.112" => "Ed25519".to_owned(),
        _ => algorithm,
    }
}

// A name from a file goes to terminals; nothing in it may steer one.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn colon_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

const DAY_SECONDS: i64 = 86_400;
const CLOCK_SKEW_SECONDS: i64 = 60;
