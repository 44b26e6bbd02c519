//! Is this Origin allowed? (RFC 6454, RFC 6455 §10.2.) Reading the field from a request is
//! `handshake`'s; what a refusal looks like is `rejection`'s.

use std::fmt;
use std::str::FromStr;

/// A serialised origin (RFC 6454 §6.2): scheme, host and port, lower-case, default port filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` for a scheme without a default port that names none.
    port: Option<u16>,
}

/// One entry of `security.origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// `*`: every origin, as long as it is one. Never beside other entries.
    Any,
    /// `same-origin`: what the browser asked for, `https://` and the `Host` field.
    SameOrigin,
    /// `https://app.example.com`.
    Exact(Origin),
    /// `https://*.example.com`: any number of whole labels before the suffix, at least one.
    Subdomains {
        /// Scheme and port to match; the host is what follows `*.`.
        suffix: Origin,
    },
}

/// What happens to a client that sends no Origin: native clients do not, browsers always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingOrigin {
    /// Refused (the default): a missing Origin proves nothing.
    Deny,
    /// Let through. Does not loosen the check for those who send one.
    Allow,
}

/// The verdict on an Origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginVerdict {
    Allowed,
    /// Present, and not one of the allowed ones, or not an origin at all.
    Denied,
    /// Absent where one is required.
    Missing,
}

/// The whole policy: `security.origins` and `security.missing_origin`.
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    rules: Vec<OriginRule>,
    missing: MissingOrigin,
}

impl OriginPolicy {
    /// A policy of these rules; an empty list allows nobody who sends an Origin.
    #[must_use]
    pub fn new(rules: Vec<OriginRule>, missing: MissingOrigin) -> Self {
        Self { rules, missing }
    }

    /// Judges the values of the `Origin` field, and `host`, the `Host` field of the same request.
    ///
    /// More than one value, an empty one, `null` and anything unparsable are refused
    /// (RFC 6454 §7.3 allows `null`, which a sandboxed frame of any site can send).
    pub(crate) fn judge<'a>(
        &self,
        mut fields: impl Iterator<Item = &'a [u8]>,
        host: &str,
    ) -> OriginVerdict {
        let Some(field) = fields.next() else {
            return match self.missing {
                MissingOrigin::Allow => OriginVerdict::Allowed,
                MissingOrigin::Deny => OriginVerdict::Missing,
            };
        };
        if fields.next().is_some() {
            return OriginVerdict::Denied;
        }
        let parsed = std::str::from_utf8(field).ok().and_then(|text| text.parse::<Origin>().ok());
        match parsed {
            Some(origin) if self.rules.iter().any(|rule| rule.matches(&origin, host)) => {
                OriginVerdict::Allowed
            }
            _ => OriginVerdict::Denied,
        }
    }

    /// The rules as the configuration spells them, for the start banner.
    #[must_use]
    pub fn rules(&self) -> &[OriginRule] {
        &self.rules
    }

    /// Whether a missing Origin passes.
    #[must_use]
    pub fn missing(&self) -> MissingOrigin {
        self.missing
    }
}

impl OriginRule {
    fn matches(&self, origin: &Origin, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::SameOrigin => format!("https://{host}")
                .parse::<Origin>()
                .is_ok_and(|asked_for| asked_for == *origin),
            Self::Exact(exact) => exact == origin,
            Self::Subdomains { suffix } => {
                suffix.scheme == origin.scheme
                    && suffix.port == origin.port
                    && origin
                        .host
                        .strip_suffix(&suffix.host)
                        .and_then(|labels| labels.strip_suffix('.'))
                        .is_some_and(|labels| !labels.is_empty() && !labels.starts_with('.'))
            }
        }
    }
}

impl FromStr for OriginRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "same-origin" => return Ok(Self::SameOrigin),
            "null" => {
                return Err("`null` is sent by any sandboxed page and cannot be allowed".into());
            }
            _ => {}
        }
        if let Some((scheme, suffix)) = text.split_once("://*.") {
            let suffix = format!("{scheme}://{suffix}").parse()?;
            return Ok(Self::Subdomains { suffix });
        }
        text.parse().map(Self::Exact)
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::SameOrigin => f.write_str("same-origin"),
            Self::Exact(origin) => origin.fmt(f),
            Self::Subdomains { suffix } => {
                write!(f, "{}", suffix.to_string().replacen("://", "://*.", 1))
            }
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    /// Parses a serialised origin; anything after the port, a trailing slash included, is an error.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(match text.split_once(':') {
                None if !text.is_empty() => {
                    format!("`{text}` has no scheme; write `https://{text}`")
                }
                _ => format!("`{text}` is not an origin such as `https://app.example.com`"),
            });
        };
        if !is_scheme(scheme) {
            return Err(format!("`{scheme}` is not a scheme; write `https://…`"));
        }
        if let Some((host, _)) = authority.split_once(['/', '?', '#']) {
            return Err(format!("an origin ends at the port; write `{scheme}://{host}`"));
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority)
            .ok_or_else(|| format!("`{authority}` is not a host with an optional port"))?;
        let port = port.or(match scheme.as_str() {
            "https" | "wss" => Some(443),
            "http" | "ws" => Some(80),
            _ => None,
        });
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https" | "wss", Some(443)) | ("http" | "ws", Some(80)) | (_, None) => Ok(()),
            (_, Some(port)) => write!(f, ":{port}"),
        }
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Splits `host[:port]`, or `None` when it is neither a name, an IPv4 nor a bracketed IPv6 address.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let host = &authority[..address.len() + 2];
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if !host.starts_with('[') && !is_name(host) {
        return None;
    }
    match port {
        None => Some((host, None)),
        // A sign or a leading blank is not a port, whatever u16's parser thinks of `+80`.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// A DNS name or IPv4 address as browsers send them: ASCII letters, digits, `-`, `_`, whole labels.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rules: &[&str], origin: Option<&str>, host: &str) -> OriginVerdict {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        OriginPolicy::new(rules, MissingOrigin::Deny)
            .judge(origin.iter().map(|o| o.as_bytes()), host)
    }

    #[test]
    fn same_origin_compares_scheme_host_and_port() {
        let cases = [
            ("https://app.example.com", "app.example.com", true),
            ("https://app.example.com", "app.example.com:443", true),
            ("https://app.example.com:443", "app.example.com", true),
            ("https://APP.example.com", "app.EXAMPLE.com", true),
            ("https://app.example.com:8443", "app.example.com:8443", true),
            ("https://[::1]:8443", "[::1]:8443", true),
            ("https://app.example.com:8443", "app.example.com", false),
            ("http://app.example.com", "app.example.com", false),
            ("https://evil.example", "app.example.com", false),
            ("https://app.example.com.evil.example", "app.example.com", false),
            ("null", "app.example.com", false),
            ("", "app.example.com", false),
            ("https://app.example.com/", "app.example.com", false),
            ("https://app.example.com https://evil.example", "app.example.com", false),
            ("https://user@app.example.com", "app.example.com", false),
        ];
        for (origin, host, allowed) in cases {
            let verdict = judge(&["same-origin"], Some(origin), host);
            assert_eq!(verdict == OriginVerdict::Allowed, allowed, "{origin} against {host}");
        }
    }

    #[test]
    fn subdomains_match_whole_labels_only() {
        let cases = [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://evilexample.com", false),
            ("https://.example.com", false),
            ("https://a.example.com.evil.example", false),
            ("http://a.example.com", false),
            ("https://a.example.com:8443", false),
        ];
        for (origin, allowed) in cases {
            let verdict = judge(&["https://*.example.com"], Some(origin), "elsewhere.example");
            assert_eq!(verdict == OriginVerdict::Allowed, allowed, "{origin}");
        }
    }

    #[test]
    fn a_missing_origin_is_a_verdict_of_its_own() {
        assert_eq!(judge(&["*"], None, "app.example.com"), OriginVerdict::Missing);
        let lenient = OriginPolicy::new(vec![OriginRule::SameOrigin], MissingOrigin::Allow);
        assert_eq!(lenient.judge(std::iter::empty(), "a.example"), OriginVerdict::Allowed);
        let foreign: &[u8] = b"https://evil.example";
        assert_eq!(lenient.judge([foreign].into_iter(), "a.example"), OriginVerdict::Denied);
    }

    #[test]
    fn two_origins_are_refused_even_when_both_are_allowed() {
        let policy = OriginPolicy::new(vec![OriginRule::Any], MissingOrigin::Deny);
        let twice: [&[u8]; 2] = [b"https://a.example", b"https://a.example"];
        assert_eq!(policy.judge(twice.into_iter(), "a.example"), OriginVerdict::Denied);
    }

    #[test]
    fn any_still_wants_an_origin() {
        assert_eq!(judge(&["*"], Some("null"), "a.example"), OriginVerdict::Denied);
        assert_eq!(judge(&["*"], Some("garbage"), "a.example"), OriginVerdict::Denied);
        assert_eq!(judge(&["*"], Some("https://x.example"), "a.example"), OriginVerdict::Allowed);
    }

    #[test]
    fn a_bad_rule_says_what_to_write() {
        let cases = [
            ("app.example.com", "https://app.example.com"),
            ("https://app.example.com/", "write `https://app.example.com`"),
            ("null", "sandboxed"),
            ("https://a b", "not a host"),
        ];
        for (rule, hint) in cases {
            let error = rule.parse::<OriginRule>().unwrap_err();
            assert!(error.contains(hint), "{rule}: {error}");
        }
    }
}
