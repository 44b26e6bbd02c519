//! Pairs, files and waiting, for the tests of certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256,
    date_time_ymd,
};

use super::{PairFiles, dev_pair};
use crate::telemetry::clock::wall;

/// A temporary directory for pairs of files.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes `name.crt` and `name.key`.
    pub(crate) fn write(&self, name: &str, pair: &(String, String)) -> PairFiles {
        write_pair(self.path(), name, pair)
    }
}

pub(crate) fn write_pair(dir: &Path, name: &str, (cert, key): &(String, String)) -> PairFiles {
    let files =
        PairFiles { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    files
}

/// Replaces a file as careful writers do.
pub(crate) fn rename_over(file: &Path, text: &str) {
    let beside = PathBuf::from(format!("{}.new", file.display()));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

/// A self-signed P-256 pair, valid for 90 days from now.
pub(crate) fn ecdsa(names: &[&str]) -> (String, String) {
    ecdsa_at(names, wall())
}

/// A self-signed P-256 pair, valid for 90 days from `begin`.
pub(crate) fn ecdsa_at(names: &[&str], begin: SystemTime) -> (String, String) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    dev_pair(&names, 90, begin).unwrap()
}

/// A self-signed RSA 2048 pair.
pub(crate) fn rsa(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

/// A leaf for `name`, its intermediate, and the leaf's key.
pub(crate) fn chain(name: &str) -> (String, String, String) {
    let ca = |cn: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
        (params, KeyPair::generate().unwrap())
    };
    let (root_params, root_key) = ca("Test root");
    let root = Issuer::new(root_params, root_key);
    let (middle_params, middle_key) = ca("Test intermediate");
    let intermediate = middle_params.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle_params, middle_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (leaf.signed_by(&key, &middle).unwrap().pem(), intermediate, key.serialize_pem())
}

/// The lines of a PEM key that nobody may ever see again.
pub(crate) fn key_lines(pem: &str) -> Vec<&str> {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// Waits until `reached` holds.
pub(crate) async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(tokio::time::Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
