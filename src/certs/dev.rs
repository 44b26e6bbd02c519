//! Certificates made here, for development: self-signed, ECDSA P-256.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::DnsName;

/// Why no development pair could be made.
#[derive(Debug)]
pub enum DevError {
    /// No name was given.
    NoName,
    /// This is neither a DNS name (or `*.` before one) nor an IP address.
    Name(String),
    /// The generator failed.
    Generate(rcgen::Error),
    /// The store serves files; there is nothing in memory to replace.
    NotInMemory,
}

impl fmt::Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("a certificate needs a name; try `localhost`"),
            Self::Name(name) => write!(
                f,
                "`{}` is neither a DNS name nor an IP address; write `localhost`, \
                 `*.example.test` or `127.0.0.1` (other alphabets as Punycode)",
                name.escape_debug()
            ),
            Self::Generate(error) => write!(f, "the certificate could not be made: {error}"),
            Self::NotInMemory => {
                f.write_str("the certificate comes from files; change the files and it is reloaded")
            }
        }
    }
}

impl std::error::Error for DevError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Generate(error) => Some(error),
            Self::NoName | Self::Name(_) | Self::NotInMemory => None,
        }
    }
}

/// Makes a self-signed certificate for `names` (DNS names, wildcards, IP addresses) and its key, as
/// PEM. It is valid from an hour before `now` for `days` after it.
///
/// # Errors
/// When a name cannot stand in a certificate, or the generator fails.
pub fn dev_pair(
    names: &[String],
    days: u32,
    now: SystemTime,
) -> Result<(String, String), DevError> {
    let first = names.first().ok_or(DevError::NoName)?;
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(DevError::Name(name.clone()));
    }
    let mut params = CertificateParams::new(names.to_vec()).map_err(DevError::Generate)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970.saturating_sub(HOUR);
    params.not_after = epoch + since_1970 + DAY * days.min(DAYS_MAX);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(DevError::Generate)?;
    let cert = params.self_signed(&key).map_err(DevError::Generate)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn is_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
        || DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// A hundred years: an overflowing date would panic.
const DAYS_MAX: u32 = 36_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_named() {
        let now = crate::telemetry::clock::wall();
        for bad in ["", "a b", "bücher.test", "[::1]", "*.*.test", "a\n"] {
            let error = dev_pair(&["localhost".into(), bad.into()], 1, now).unwrap_err();
            assert!(matches!(&error, DevError::Name(name) if name == bad), "{error}");
        }
        assert!(matches!(dev_pair(&[], 1, now), Err(DevError::NoName)));
        assert!(dev_pair(&["*.a.test".into(), "::1".into()], u32::MAX, now).is_ok());
    }
}
