//! `wsgate cert show` and `wsgate cert dev`.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::certs::{self, CertSummary, DevError, PairFiles, dev_pair};
use crate::commands::check::report;
use crate::commands::load::load;
use crate::commands::settings::Settings;
use crate::commands::{DONE, FAILED, print};
use crate::telemetry::clock;

/// What `cert show` found.
#[derive(Debug)]
pub struct Shown {
    /// The text for standard output.
    pub text: String,
    /// How many `error:` lines are in it; the exit code is 0 without any.
    pub errors: usize,
}

/// `wsgate cert show`: the chains that are named, or those of the configuration.
pub fn show_command(cert: &[PathBuf], key: Option<PathBuf>, settings: &Settings) -> u8 {
    let pairs: Vec<(PathBuf, Option<PathBuf>)> = match cert {
        [] => match load(settings) {
            Err(errors) => return report(&errors),
            Ok(loaded) => loaded
                .file
                .tls
                .certificates
                .into_iter()
                .map(|pair| (pair.cert, Some(pair.key)))
                .collect(),
        },
        [one] => vec![(one.clone(), key)],
        several => several.iter().map(|cert| (cert.clone(), None)).collect(),
    };
    if pairs.is_empty() {
        eprintln!("error: name a certificate file, or set tls.certificates");
        return FAILED;
    }
    let shown = show(&pairs, clock::wall());
    print(&shown.text);
    if shown.errors == 0 { DONE } else { FAILED }
}

/// `wsgate cert dev`.
pub fn dev_command(out: &Path, mut names: Vec<String>, days: u32, force: bool) -> u8 {
    if names.is_empty() {
        names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    }
    match dev(out, &names, days, force, clock::wall()) {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}

/// Describes each chain in `pairs` as of `now`, and whether the key, where one is given, belongs to
/// it. Faults are lines in the text.
#[must_use]
pub fn show(pairs: &[(PathBuf, Option<PathBuf>)], now: SystemTime) -> Shown {
    let mut shown = Shown { text: String::new(), errors: 0 };
    for (cert, key) in pairs {
        shown.pair(cert, key.as_deref(), now);
    }
    shown
}

impl Shown {
    fn pair(&mut self, cert: &Path, key: Option<&Path>, now: SystemTime) {
        if !self.text.is_empty() {
            self.line("");
        }
        self.line(&cert.display().to_string());
        let chain = chain(cert);
        for (n, summary) in (1..).zip(chain.iter().flatten()) {
            self.certificate(n, summary, now);
        }
        let problems = match (&chain, key) {
            (_, Some(key)) => {
                let files = PairFiles { cert: cert.to_owned(), key: key.to_owned() };
                certs::check_pair(&files).err().unwrap_or_default()
            }
            (Err(error), None) => vec![error.clone()],
            (Ok(_), None) => Vec::new(),
        };
        if let (Some(key), true) = (key, problems.is_empty()) {
            self.line(&format!("  key {} matches", key.display()));
        }
        for problem in &problems {
            self.line(&format!("  error: {problem}"));
        }
        self.errors += problems.len();
        let warnings = warnings(chain.as_deref().unwrap_or_default(), now);
        for warning in warnings.into_iter().chain(key.and_then(exposed)) {
            self.line(&format!("  warning: {warning}"));
        }
    }

    fn certificate(&mut self, n: usize, summary: &CertSummary, now: SystemTime) {
        let names =
            if summary.names.is_empty() { &summary.subject } else { &summary.names.join(", ") };
        let left = left(summary, now);
        let issuer = if summary.self_signed { "itself" } else { &summary.issuer };
        self.line(&format!("  {n}. {names}"));
        self.line(&format!("     issuer   {issuer}"));
        self.line(&format!(
            "     valid    {} to {} ({left})",
            summary.not_before, summary.not_after
        ));
        self.line(&format!("     key      {}", summary.key_type));
        self.line(&format!("     SHA-256  {}", summary.sha256));
    }

    fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn chain(cert: &Path) -> Result<Vec<CertSummary>, certs::CertError> {
    let bytes = certs::read_bounded(cert)?;
    let (chain, _) = certs::parse_chain(cert, &bytes)?;
    let file = Some(cert.to_owned());
    Ok(chain.iter().filter_map(|der| CertSummary::from_der(der, file.clone())).collect())
}

fn warnings(chain: &[CertSummary], now: SystemTime) -> Vec<String> {
    let mut warnings: Vec<_> = chain.iter().filter_map(|summary| summary.warning(now)).collect();
    let Some(first) = chain.first() else { return warnings };
    if first.valid(now) && first.days_left(now) < SOON_DAYS {
        warnings.push(format!("{}; renew it", left(first, now)));
    }
    if first.names.is_empty() {
        warnings.push(
            "it has no subject alternative name: clients match no host to it; issue it with the \
             DNS names it serves"
                .to_owned(),
        );
    }
    if first.is_ca {
        warnings.push(
            "it is a CA certificate: some clients refuse it from a server; issue one with CA:FALSE"
                .to_owned(),
        );
    }
    for (n, pair) in (1..).zip(chain.windows(2)) {
        if pair[0].issuer != pair[1].subject {
            warnings.push(format!(
                "certificate {} did not issue certificate {n}: order the chain from the server's \
                 own certificate upwards",
                n + 1
            ));
        }
    }
    if chain.len() == 1 && !first.self_signed {
        warnings.push(
            "no intermediate follows it: clients that do not know its issuer refuse it; append \
             the chain (certbot: fullchain.pem)"
                .to_owned(),
        );
    }
    warnings
}

fn left(summary: &CertSummary, now: SystemTime) -> String {
    match summary.days_left(now) {
        _ if summary.not_yet_valid(now) => "not yet valid".to_owned(),
        _ if summary.expired(now) => "expired".to_owned(),
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    }
}

fn exposed(key: &Path) -> Option<String> {
    let mode = fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        format!(
            "every user can read {}; `chmod 600` it (a Secret: defaultMode 0440)",
            key.display()
        )
    })
}

/// Why `cert dev` wrote nothing, or not everything.
#[derive(Debug)]
pub enum DevCommandError {
    /// No pair could be made.
    Pair(DevError),
    /// The file is there already, and `force` was not asked for.
    Exists(PathBuf),
    /// The file, or its directory, could not be written.
    Write(PathBuf, io::Error),
}

impl fmt::Display for DevCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(error) => error.fmt(f),
            Self::Exists(file) => {
                write!(
                    f,
                    "{} exists; --force replaces it, --out names another place",
                    file.display()
                )
            }
            Self::Write(file, error) => {
                write!(f, "{} could not be written: {error}", file.display())
            }
        }
    }
}

impl std::error::Error for DevCommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pair(error) => Some(error),
            Self::Exists(_) => None,
            Self::Write(_, error) => Some(error),
        }
    }
}

/// Writes a self-signed pair for `names` as `tls.crt` (0644) and `tls.key` (0600) into `out`, which
/// is made when missing, and says what was written. Each file appears whole or not at all.
///
/// # Errors
/// When a file exists and `force` is false, a name is none, or the directory cannot be written.
pub fn dev(
    out: &Path,
    names: &[String],
    days: u32,
    force: bool,
    now: SystemTime,
) -> Result<String, DevCommandError> {
    let (cert, key) = (out.join("tls.crt"), out.join("tls.key"));
    let exists = |file: &&PathBuf| file.symlink_metadata().is_ok();
    if let Some(file) = [&cert, &key].into_iter().find(exists).filter(|_| !force) {
        return Err(DevCommandError::Exists(file.clone()));
    }
    let (cert_pem, key_pem) = dev_pair(names, days, now).map_err(DevCommandError::Pair)?;
    fs::create_dir_all(out).map_err(|error| DevCommandError::Write(out.to_owned(), error))?;
    for (file, pem, mode) in [(&key, &key_pem, 0o600), (&cert, &cert_pem, 0o644)] {
        write_whole(file, pem, mode)
            .map_err(|error| DevCommandError::Write(file.clone(), error))?;
    }
    let (cert, key) = (cert.display(), key.display());
    Ok(format!(
        "wrote {cert} and {key} for {}\n\
         serve  wsgate --upstreams 127.0.0.1:8080 --tls-cert {cert} --tls-key {key}\n\
         trust  curl --cacert {cert} https://{}:8443/\n",
        names.join(", "),
        names.first().map_or("localhost", String::as_str),
    ))
}

/// Writes beside `file`, then renames over it.
fn write_whole(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let write = || {
        let mut open = OpenOptions::new();
        let mut writer = open.write(true).create_new(true).mode(mode).open(&beside)?;
        // The umask may have taken more than is meant.
        writer.set_permissions(fs::Permissions::from_mode(mode))?;
        writer.write_all(text.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&beside, file)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

const SOON_DAYS: i64 = 14;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certs::testing::{Dir, chain, ecdsa, ecdsa_at, key_lines};
    use crate::telemetry::clock::wall;

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn dev_writes_a_pair_that_show_approves() {
        let dir = Dir::new();
        let out = dir.path().join("new/place");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let now = wall();
        let text = dev(&out, &names, 30, false, now).unwrap();
        assert!(text.contains("tls.crt") && text.contains("localhost, 127.0.0.1"), "{text}");
        assert_eq!((mode(&out.join("tls.crt")), mode(&out.join("tls.key"))), (0o644, 0o600));
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2, "no temporary file stays");

        let shown = show(&[(out.join("tls.crt"), Some(out.join("tls.key")))], now);
        assert_eq!(shown.errors, 0, "{}", shown.text);
        for want in [
            "localhost, 127.0.0.1",
            "itself",
            "ECDSA P-256",
            "(30 days left)",
            "matches",
            "SHA-256",
        ] {
            assert!(shown.text.contains(want), "{want} in {}", shown.text);
        }
        assert!(!shown.text.contains("warning"), "{}", shown.text);

        // It is its own anchor, as the text says to trust it.
        let cert = out.join("tls.crt");
        let verified = std::process::Command::new("openssl")
            .args(["verify", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile"])
            .args([&cert, &cert])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }

    #[test]
    fn dev_replaces_nothing_unless_forced() {
        let dir = Dir::new();
        let names = ["localhost".to_owned()];
        for file in ["tls.crt", "tls.key"] {
            let out = dir.path().join(format!("with-{file}"));
            fs::create_dir(&out).unwrap();
            fs::write(out.join(file), "mine").unwrap();
            let refused = dev(&out, &names, 30, false, wall()).unwrap_err();
            assert!(matches!(&refused, DevCommandError::Exists(path) if path.ends_with(file)));
            assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
            assert_eq!(fs::read_to_string(out.join(file)).unwrap(), "mine");
            dev(&out, &names, 30, true, wall()).unwrap();
            assert!(fs::read_to_string(out.join(file)).unwrap().starts_with("-----BEGIN"));
            assert_eq!(mode(&out.join("tls.key")), 0o600);
        }
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = dev(&file, &names, 30, false, wall()).unwrap_err();
        assert!(matches!(refused, DevCommandError::Write(..)), "{refused}");
    }

    #[test]
    fn show_says_what_is_wrong_and_shows_the_rest() {
        let dir = Dir::new();
        let now = wall();
        let (one, two) = (ecdsa_at(&["one.test"], now), ecdsa(&["two.test"]));
        let files = dir.write("mixed", &(one.0, two.1.clone()));
        let shown = show(&[(files.cert.clone(), Some(files.key.clone()))], wall());
        assert_eq!(shown.errors, 1);
        assert!(shown.text.contains("one.test"), "{}", shown.text);
        assert!(shown.text.contains("error: "), "{}", shown.text);
        assert!(shown.text.contains("does not belong"), "{}", shown.text);
        for line in key_lines(&two.1) {
            assert!(!shown.text.contains(line), "key material in {}", shown.text);
        }
        let gone = show(&[(dir.path().join("gone"), None)], wall());
        assert_eq!(gone.errors, 1);
        assert!(gone.text.contains("no such file"), "{}", gone.text);

        let later = now + Duration::from_secs(85 * 86_400);
        let soon = show(&[(files.cert.clone(), None)], later);
        assert_eq!(soon.errors, 0);
        assert!(soon.text.contains("warning: 5 days left; renew it"), "{}", soon.text);
        let much_later = now + Duration::from_secs(91 * 86_400);
        let expired = show(&[(files.cert, None)], much_later);
        assert!(expired.text.contains("(expired)"), "{}", expired.text);
        assert!(expired.text.contains("warning: the certificate for one.test expired"));
    }

    #[test]
    fn show_tells_a_broken_chain_from_a_whole_one() {
        let dir = Dir::new();
        let (leaf, intermediate, key) = chain("leaf.test");
        let text = |name: &str, pem: &str| {
            let file = dir.path().join(name);
            fs::write(&file, pem).unwrap();
            show(&[(file, None)], wall()).text
        };
        let whole = text("whole", &format!("{leaf}{intermediate}"));
        assert!(whole.contains("2. CN=Test intermediate"), "{whole}");
        assert!(!whole.contains("warning"), "{whole}");
        assert!(text("alone", &leaf).contains("no intermediate follows"));
        assert!(text("turned", &format!("{intermediate}{leaf}")).contains("did not issue"));
        let files = dir.write("exposed", &(leaf, key));
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        let shown = show(&[(files.cert, Some(files.key))], wall());
        assert!(shown.text.contains("every user can read"), "{}", shown.text);
    }
}
