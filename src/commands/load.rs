//! The configuration as a command sees it: file, environment and flags in one.

use std::io;
use std::path::{Path, PathBuf};

use crate::commands::settings::Settings;
use crate::config::addresses::ListenAddrs;
use crate::config::file::Certificate;
use crate::config::{self, ConfigError, File, Source};

/// What is in force, and where it was written.
pub(super) struct Loaded {
    pub(super) file: File,
    pub(super) source: Option<Source>,
    /// The file's path, or that there is none.
    pub(super) name: String,
}

/// Reads the file that is named, or the first of the usual ones, and lays the flags over it.
pub(super) fn load(settings: &Settings) -> Result<Loaded, Vec<ConfigError>> {
    let found = find(settings).map_err(|error| vec![*error])?;
    let mut loaded = match found {
        Some((path, text)) => {
            let name = path.display().to_string();
            let env = |name: &str| std::env::var(name).ok();
            let (file, source) = config::parse_with_source(&name, &text, &env)?;
            Loaded { file, source: Some(source), name }
        }
        None => Loaded {
            file: File::default(),
            source: None,
            name: "no file, flags and defaults".to_owned(),
        },
    };
    overlay(&mut loaded.file, settings);
    if let (Some(source), Some(_)) = (&mut loaded.source, &settings.tls_cert) {
        source.overridden("tls.certificates", "--tls-cert, --tls-key");
    }
    Ok(loaded)
}

fn find(settings: &Settings) -> Result<Option<(PathBuf, String)>, Box<ConfigError>> {
    let read = |path: &Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            Err(Box::new(ConfigError::setting("--config", message)))
        }
    };
    match &settings.config {
        Some(path) => match read(path)? {
            None => {
                let message = format!("there is no file `{}`", path.display());
                Err(Box::new(ConfigError::setting("--config", message)))
            }
            found => Ok(found),
        },
        None => {
            for path in USUAL {
                if let Some(found) = read(Path::new(path))? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

/// Flags and the environment win over the file.
fn overlay(file: &mut File, settings: &Settings) {
    let Settings {
        config: _,
        upstreams,
        listen,
        tls_cert,
        tls_key,
        origin,
        trust,
        hash,
        log_format,
        log_level,
    } = settings;
    if !upstreams.is_empty() {
        file.upstreams.servers.clone_from(upstreams);
    }
    if !listen.is_empty() {
        file.listen.https = Some(ListenAddrs(listen.clone()));
    }
    if let (Some(cert), Some(key)) = (tls_cert, tls_key) {
        file.tls.certificates = vec![Certificate { cert: cert.clone(), key: key.clone() }];
    }
    if !origin.is_empty() {
        file.security.origins.clone_from(origin);
    }
    if !trust.is_empty() {
        file.security.trusted_proxies.clone_from(trust);
    }
    if let Some(hash) = hash {
        file.upstreams.hash.clone_from(hash);
    }
    if let Some(format) = log_format {
        file.log.format = *format;
    }
    if let Some(level) = log_level {
        file.log.level = *level;
    }
}

const USUAL: [&str; 2] = ["wsgate.yaml", "/etc/wsgate/wsgate.yaml"];
