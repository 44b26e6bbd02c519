//! Who may ask the admin listener. A website in the operator's browser can reach loopback too: by a
//! name of its own that it points here (DNS rebinding), or by a form that posts. So the `Host` is
//! judged, and a POST needs a header that no form can send and no script may without being asked.

use std::hint::black_box;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use sha2::{Digest as _, Sha256};

/// The secret that a caller shows. Only its hash is kept, so it cannot appear anywhere.
#[derive(Clone, Debug)]
pub struct Token([u8; 32]);

impl Token {
    /// The token in a file's `text`; white space around it does not count.
    ///
    /// # Errors
    /// It has less than 16 or more than 4096 characters, or one that is no visible ASCII.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) {
            return Err(format!("a token has from {TOKEN_MIN} to {TOKEN_MAX} characters"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token has visible ASCII characters only, no blanks".to_owned());
        }
        Ok(Self::of(token.as_bytes()))
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// In a time that depends on neither.
    fn matches(&self, shown: &[u8]) -> bool {
        let differing = self.0.iter().zip(Self::of(shown).0).fold(0, |all, (a, b)| all | (a ^ b));
        black_box(differing) == 0
    }
}

/// What is asked of a caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    token: Option<Token>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The `Host` is not one that an operator would use.
    ForeignHost,
    /// The token is missing or wrong.
    NoToken,
    /// A POST without `X-Wsgate-Admin: 1`.
    NoHeader,
}

impl Refusal {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::ForeignHost | Self::NoHeader => StatusCode::FORBIDDEN,
            Self::NoToken => StatusCode::UNAUTHORIZED,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ForeignHost => "host",
            Self::NoToken => "token",
            Self::NoHeader => "header",
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ForeignHost => "this Host is not served here: use localhost or the address\n",
            Self::NoToken => "a token is needed: Authorization: Bearer TOKEN\n",
            Self::NoHeader => "a POST needs the header X-Wsgate-Admin: 1\n",
        }
    }
}

impl Guard {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self { token }
    }

    /// Judges a request that came to the address `local`, if it came by one.
    pub(crate) fn check<B>(
        &self,
        request: &Request<B>,
        local: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        // An absolute target would name another host than the one that is judged (RFC 9112 §3.2.2).
        if request.uri().authority().is_some() {
            return Err(Refusal::ForeignHost);
        }
        let mut hosts = request.headers().get_all(HOST).iter();
        match (hosts.next().map(|host| host.to_str()), hosts.next()) {
            (Some(Ok(host)), None) if is_ours(host, local) => {}
            _ => return Err(Refusal::ForeignHost),
        }
        if let Some(token) = &self.token {
            let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
            let shown = shown.and_then(|shown| shown.split_at_checked(SCHEME.len()));
            match shown {
                Some((scheme, shown))
                    if scheme.eq_ignore_ascii_case(SCHEME) && token.matches(shown) => {}
                _ => return Err(Refusal::NoToken),
            }
        }
        let header = request.headers().get(HEADER);
        if *request.method() == Method::POST && header.is_none_or(|value| value != "1") {
            return Err(Refusal::NoHeader);
        }
        Ok(())
    }
}

/// `localhost`, a loopback address, or the address that was connected to. The port does not count:
/// a forwarded one is another.
fn is_ours(host: &str, local: Option<IpAddr>) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => (v6, rest),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return false;
    }
    match name.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => {
            address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address)
        }
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// The header of a POST; its value is `1`.
pub(crate) const HEADER: &str = "x-wsgate-admin";

const SCHEME: &[u8] = b"bearer ";
const TOKEN_MIN: usize = 16;
const TOKEN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_by_name_or_by_the_address_that_was_connected_to() {
        let local = Some("10.0.0.5".parse().unwrap());
        for (host, ours) in [
            ("localhost", true),
            ("LocalHost:9181", true),
            ("127.0.0.1:9181", true),
            ("127.9.9.9", true),
            ("[::1]:9181", true),
            ("[::ffff:127.0.0.1]", true),
            ("10.0.0.5:9181", true),
            ("10.0.0.6:9181", false),
            ("0.0.0.0:9181", false),
            ("evil.example:9181", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:9181@evil.example", false),
            ("[::1]evil", false),
            ("[::1", false),
            ("", false),
        ] {
            assert_eq!(is_ours(host, local), ours, "{host}");
        }
        assert!(!is_ours("10.0.0.5", None));
    }

    #[test]
    fn tokens_are_compared_whole() {
        let token = Token::parse("  correct-horse-battery\n").unwrap();
        assert!(token.matches(b"correct-horse-battery"));
        for wrong in ["", "correct-horse-batter", "correct-horse-battery1", "Correct-horse-battery"]
        {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("horse"));
        for bad in ["", "too-short-by-1c", "sixteen chars or more", "sixteen-characters-ä"] {
            Token::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_a_refusal_of_its_own() {
        let guard = Guard::new(Some(Token::parse("0123456789abcdef").unwrap()));
        let good = || {
            Request::post("/api/v1/drain")
                .header(HOST, "localhost")
                .header(AUTHORIZATION, "Bearer 0123456789abcdef")
                .header(HEADER, "1")
        };
        let check = |request: http::request::Builder| guard.check(&request.body(()).unwrap(), None);
        assert_eq!(check(good()), Ok(()));
        assert_eq!(check(good().header(HOST, "localhost")), Err(Refusal::ForeignHost));
        assert_eq!(check(good().uri("http://localhost/")), Err(Refusal::ForeignHost));
        let without = |name: &str| {
            let mut request = good().body(()).unwrap();
            request.headers_mut().remove(name);
            guard.check(&request, None)
        };
        assert_eq!(without("host"), Err(Refusal::ForeignHost));
        assert_eq!(without("authorization"), Err(Refusal::NoToken));
        assert_eq!(without("x-wsgate-admin"), Err(Refusal::NoHeader));
        for value in ["Basic 0123456789abcdef", "Bearer", "Bearer 0123456789abcdeF", "Bearé"] {
            let mut request = good().body(()).unwrap();
            let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().insert(AUTHORIZATION, value);
            assert_eq!(guard.check(&request, None), Err(Refusal::NoToken));
        }
        let mut read = good().method(Method::GET).body(()).unwrap();
        read.headers_mut().remove(HEADER);
        assert_eq!(guard.check(&read, None), Ok(()));
    }
}
