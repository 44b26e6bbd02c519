//! What one value alone cannot show: ranges, and values that contradict each other.

use std::net::SocketAddr;

use super::error::{ConfigError, did_you_mean};
use super::file::File;
use super::source::Source;
use super::values::{Period, Size};
use super::words::MinVersion;
use crate::policy::origin::OriginRule;
use crate::status::endpoint::Endpoint;

/// Checks `file`, which was read from `source` and has flags laid over it. Values that could not be
/// read are passed over: they have their error already.
pub(super) fn validate(file: &File, source: &Source) -> Vec<ConfigError> {
    let mut checks = Checks { source, errors: Vec::new() };
    checks.version(file);
    checks.listeners(file);
    checks.admin(file);
    checks.tls(file);
    checks.security(file);
    checks.limits(file);
    checks.lengths_of_time(file);
    checks.servers(file);
    checks.errors
}

struct Checks<'a> {
    source: &'a Source,
    errors: Vec<ConfigError>,
}

impl Checks<'_> {
    /// Reports what is wrong with the first of `paths`, if none of them is in doubt.
    fn fail(&mut self, paths: &[&str], message: impl Into<String>) {
        if paths.iter().all(|path| self.source.is_sound(path)) {
            self.errors.push(self.source.error(paths[0], message));
        }
    }

    fn fail_with_help(&mut self, paths: &[&str], message: impl Into<String>, help: &str) {
        let before = self.errors.len();
        self.fail(paths, message);
        for error in &mut self.errors[before..] {
            error.help = Some(help.to_owned());
        }
    }

    /// Reports every element of the list at `path` that is there twice.
    fn unique<T: PartialEq>(&mut self, path: &str, list: &[T], show: impl Fn(&T) -> String) {
        for (index, element) in list.iter().enumerate() {
            if list[..index].contains(element) {
                let message = format!("`{}` is in the list twice", show(element));
                self.fail(&[&format!("{path}.{index}")], message);
            }
        }
    }

    fn version(&mut self, file: &File) {
        if file.version != 1 {
            let message = format!("version {} of the format is not known here", file.version);
            self.fail(&["version"], did_you_mean(message, 1));
        }
    }

    fn listeners(&mut self, file: &File) {
        let https = file.listen.https.as_ref().map(|list| list.0.as_slice()).unwrap_or_default();
        if file.listen.https.is_some() && https.is_empty() && self.source.is_whole(HTTPS) {
            let message = "there is no address in the list";
            self.fail_with_help(&[HTTPS], message, "`null` means `[::]:8443`");
        }
        self.unique(HTTPS, https, ToString::to_string);
        let https: Vec<SocketAddr> = https.iter().map(|address| address.get()).collect();
        let mut taken = https.clone();
        let admin = match file.admin.listen.as_ref().map(|address| &address.0) {
            // The default yields to whoever has its address.
            Some(Endpoint::Tcp(address)) if self.source.has("admin.listen") => Some(*address),
            Some(Endpoint::Tcp(_) | Endpoint::Unix(_)) | None => None,
        };
        let others = [
            ("listen.http_redirect", file.listen.http_redirect.map(|address| address.get())),
            ("status.listen", file.status.listen.map(|address| address.get())),
            ("admin.listen", admin),
        ];
        for (path, address) in others {
            let Some(address) = address else { continue };
            // Every bind to port 0 gets a port of its own.
            if address.port() != 0 && taken.contains(&address) {
                let flag = self.source.is_overridden(HTTPS) && https.contains(&address);
                let (paths, other) = match flag {
                    true => ([HTTPS, path], format!("`{path}`")),
                    false => ([path, path], "another listener".to_owned()),
                };
                self.fail(&paths, format!("`{address}` is taken by {other}"));
            }
            taken.push(address);
        }
    }

    fn admin(&mut self, file: &File) {
        let (listen, token_file) = (&file.admin.listen, &file.admin.token_file);
        if let Some(listen) = listen
            && !listen.0.is_local()
            && token_file.is_none()
        {
            let message = format!("`{listen}` can be reached from elsewhere, so it needs a token");
            let help = "set `admin.token_file`, or listen on loopback or a Unix socket";
            self.fail_with_help(&["admin.listen", "admin.token_file"], message, help);
        }
        if token_file.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            self.fail(&["admin.token_file"], "the path of a file is empty");
        }
    }

    fn tls(&mut self, file: &File) {
        let (path, tls) = ("tls.ciphers", &file.tls);
        self.unique(path, &tls.ciphers, ToString::to_string);
        if tls.ciphers.iter().all(|cipher| cipher.is_tls12()) && self.source.is_whole(path) {
            let help = "for example `TLS_AES_256_GCM_SHA384`";
            self.fail_with_help(&[path], "there is no suite of TLS 1.3 in the list", help);
        }
        for (index, cipher) in tls.ciphers.iter().enumerate() {
            if cipher.is_tls12() && tls.min_version == MinVersion::Tls13 {
                let path = format!("{path}.{index}");
                let message = format!("`{cipher}` is a suite of TLS 1.2, which is switched off");
                let help = "remove it, or set `tls.min_version: \"1.2\"`";
                self.fail_with_help(&[&path, "tls.min_version"], message, help);
            }
        }
        for (index, certificate) in tls.certificates.iter().enumerate() {
            for (name, value) in [("cert", &certificate.cert), ("key", &certificate.key)] {
                if value.as_os_str().is_empty() {
                    let path = format!("tls.certificates.{index}.{name}");
                    self.fail(&[&path], "the path of a file is empty");
                }
            }
        }
    }

    fn security(&mut self, file: &File) {
        let origins = &file.security.origins;
        if let Some(any) = origins.iter().position(|origin| origin.0 == OriginRule::Any)
            && origins.len() > 1
        {
            let message = "`*` allows every Origin, so what stands beside it means nothing";
            let help = "let it stand alone, or remove it";
            self.fail_with_help(&[&format!("security.origins.{any}")], message, help);
        }
        let hsts = &file.security.hsts;
        let [preload, subdomains, max_age] =
            ["preload", "include_subdomains", "max_age"].map(|key| format!("security.hsts.{key}"));
        // https://hstspreload.org/#submission-requirements
        if hsts.preload && !hsts.include_subdomains {
            let message = "the preload list takes no name without its subdomains";
            let help = "set `include_subdomains: true`, once every subdomain speaks https";
            self.fail_with_help(&[&preload, &subdomains], message, help);
        }
        if hsts.preload && hsts.max_age < Period::secs(YEAR) {
            let message = "the preload list takes no name with a `max_age` below `365d`";
            self.fail(&[&preload, &max_age], message);
        }
    }

    fn limits(&mut self, file: &File) {
        let limits = &file.limits;
        if !(1..=128).contains(&limits.ipv6_prefix) {
            let message = format!("`{}` is not from 1 to 128", limits.ipv6_prefix);
            self.fail(&["limits.ipv6_prefix"], message);
        }
        if limits.header_size < HEADER_SIZE_MIN || limits.header_size > HEADER_SIZE_MAX {
            let (size, least, most) = (limits.header_size, HEADER_SIZE_MIN, HEADER_SIZE_MAX);
            let message = format!("`{size}` is not from `{least}` to `{most}`");
            self.fail(&["limits.header_size"], message);
        }
        if limits.message_size.is_some_and(|size| size.bytes() == 0) {
            let message = "zero would refuse every message";
            self.fail_with_help(&["limits.message_size"], message, "`null` means no limit");
        }
        for (index, parameter) in file.log.query_allow.iter().enumerate() {
            if parameter.is_empty() {
                self.fail(&[&format!("log.query_allow.{index}")], "the name is empty");
            }
        }
    }

    fn lengths_of_time(&mut self, file: &File) {
        let health = file.upstreams.health.as_ref();
        let never_zero = [
            ("listen.handshake_timeout", Some(file.listen.handshake_timeout)),
            ("tls.reload_interval", Some(file.tls.reload_interval)),
            ("upstreams.connect_timeout", Some(file.upstreams.connect_timeout)),
            ("upstreams.response_timeout", Some(file.upstreams.response_timeout)),
            ("upstreams.health.interval", health.map(|health| health.interval)),
            ("upstreams.health.timeout", health.map(|health| health.timeout)),
        ];
        for (path, period) in never_zero {
            if period == Some(Period::ZERO) {
                self.fail(&[path], "this time must be above zero");
            }
        }
        if file.heartbeat.as_ref().is_some_and(|beat| beat.interval < Period::secs(1)) {
            self.fail(&["heartbeat.interval"], "this time must be at least `1s`");
        }
        let drain = &file.drain;
        // Where the file says nothing of it, a short timeout shortens the spread as well.
        if drain.spread > drain.timeout && self.source.has("drain.spread") {
            let message =
                format!("sockets would be cut before their turn: `timeout` is `{}`", drain.timeout);
            self.fail(&["drain.spread", "drain.timeout"], message);
        }
        let none_is_null =
            [("idle_timeout", file.limits.idle_timeout), ("max_age", file.limits.max_age)];
        for (key, period) in none_is_null {
            if period == Some(Period::ZERO) {
                let message = "zero would end every socket at once";
                let help = "`null` means no limit";
                self.fail_with_help(&[&format!("limits.{key}")], message, help);
            }
        }
    }

    fn servers(&mut self, file: &File) {
        self.unique("upstreams.servers", &file.upstreams.servers, ToString::to_string);
    }
}

const HTTPS: &str = "listen.https";
const YEAR: u64 = 365 * 24 * 3600;
const HEADER_SIZE_MIN: Size = Size::kib(1);
const HEADER_SIZE_MAX: Size = Size::kib(1024);
