//! The configuration as a command sees it: file, environment and flags in one.

use std::io;
use std::path::{Path, PathBuf};

use crate::commands::settings::Settings;
use crate::config::addresses::ListenAddrs;
use crate::config::file::Certificate;
use crate::config::{self, ConfigError, File, Source};
use crate::runtime::Plan;
use crate::telemetry::clock;

/// What is in force, and where it was written.
pub(super) struct Loaded {
    pub(super) file: File,
    /// The file's path, or that there is none.
    pub(super) name: String,
    source: Source,
}

/// Reads the file that is named, or the first of the usual ones, and lays the flags over it.
pub(super) fn load(settings: &Settings) -> Result<Loaded, Vec<ConfigError>> {
    let loaded = read(settings)?;
    let mistakes = config::mistakes(&loaded.file, &loaded.source);
    if mistakes.is_empty() { Ok(loaded) } else { Err(mistakes) }
}

/// The same, with the working parts, and every error that either finds.
pub(super) fn build(settings: &Settings) -> Result<(Loaded, Plan), Vec<ConfigError>> {
    let loaded = read(settings)?;
    let plan = config::build(&loaded.file, &loaded.source, clock::wall())?;
    Ok((loaded, plan))
}

fn read(settings: &Settings) -> Result<Loaded, Vec<ConfigError>> {
    let found = find(settings).map_err(|error| vec![*error])?;
    let (mut file, mut source, name) = match found {
        Some((path, text)) => {
            let name = path.display().to_string();
            let env = |name: &str| std::env::var(name).ok();
            let (file, source) = config::read(&name, &text, &env);
            (file, source, name)
        }
        None => (File::default(), Source::nowhere(), "no file, flags and defaults".to_owned()),
    };
    overlay(&mut file, &mut source, settings);
    Ok(Loaded { file, name, source })
}

fn find(settings: &Settings) -> Result<Option<(PathBuf, String)>, Box<ConfigError>> {
    let read = |path: &Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            Err(Box::new(ConfigError::setting(settings.name("config"), message)))
        }
    };
    match &settings.config {
        Some(path) => match read(path)? {
            None => {
                let message = format!("there is no file `{}`", path.display());
                Err(Box::new(ConfigError::setting(settings.name("config"), message)))
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

/// Flags and the environment win over the file, and take the blame.
fn overlay(file: &mut File, source: &mut Source, settings: &Settings) {
    let Settings {
        variables: _,
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
    let mut blame = |path, field| source.overridden(path, settings.name(field));
    if !upstreams.is_empty() {
        file.upstreams.servers.clone_from(upstreams);
        blame("upstreams.servers", "upstreams");
    }
    if !listen.is_empty() {
        file.listen.https = Some(ListenAddrs(listen.clone()));
        blame("listen.https", "listen");
    }
    if let (Some(cert), Some(key)) = (tls_cert, tls_key) {
        file.tls.certificates = vec![Certificate { cert: cert.clone(), key: key.clone() }];
        blame("tls.certificates.0.cert", "tls_cert");
        blame("tls.certificates.0.key", "tls_key");
        blame("tls.certificates", "tls_cert");
    }
    if !origin.is_empty() {
        file.security.origins.clone_from(origin);
        blame("security.origins", "origin");
    }
    if !trust.is_empty() {
        file.security.trusted_proxies.clone_from(trust);
        blame("security.trusted_proxies", "trust");
    }
    if let Some(hash) = hash {
        file.upstreams.hash.clone_from(hash);
        blame("upstreams.hash", "hash");
    }
    if let Some(format) = log_format {
        file.log.format = *format;
        blame("log.format", "log_format");
    }
    if let Some(level) = log_level {
        file.log.level = *level;
        blame("log.level", "log_level");
    }
}

const USUAL: [&str; 2] = ["wsgate.yaml", "/etc/wsgate/wsgate.yaml"];
