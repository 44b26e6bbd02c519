//! What makes a client's connections belong together: the part of a request that is hashed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::header::{COOKIE, HeaderName};
use http::request;

use crate::backends::hash::Key;

/// `upstreams.hash`. Where the named part is absent or empty, the client address stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client address.
    ClientIp,
    /// The value of a cookie.
    Cookie(String),
    /// The first value of a header field.
    Header(HeaderName),
    /// The raw value of a query parameter.
    Query(String),
    /// The path without the query.
    Path,
}

impl HashKey {
    /// The key of one request.
    pub(crate) fn of(&self, head: &request::Parts, client: IpAddr) -> Key {
        let part = match self {
            Self::ClientIp => None,
            Self::Cookie(name) => cookie(head, name),
            Self::Header(name) => head.headers.get(name).map(|value| value.as_bytes()),
            Self::Query(name) => head.uri.query().and_then(|query| parameter(query, name)),
            Self::Path => Some(head.uri.path().as_bytes()),
        };
        match part.filter(|part| !part.is_empty()) {
            Some(part) => Key::of(part),
            None => Key::of(client.to_canonical().to_string().as_bytes()),
        }
    }
}

/// RFC 6265 §4.2.1; the first of that name.
fn cookie<'a>(head: &'a request::Parts, name: &str) -> Option<&'a [u8]> {
    head.headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .next()
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.as_bytes()).next()
}

impl FromStr for HashKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let token = !name.is_empty() && HeaderName::from_bytes(name.as_bytes()).is_ok();
        match (kind, name) {
            ("client_ip", "") if !text.contains(':') => Ok(Self::ClientIp),
            ("path", "") if !text.contains(':') => Ok(Self::Path),
            ("cookie", name) if token => Ok(Self::Cookie(name.to_owned())),
            ("query", name) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            ("header", name) if token => HeaderName::from_str(name)
                .map(Self::Header)
                .map_err(|_| format!("`{name}` is not a header's name")),
            ("cookie" | "header" | "query", "") => {
                Err(format!("`{kind}` needs a name: write `{kind}:NAME`"))
            }
            ("cookie" | "header", _) => Err(format!("`{name}` is not a {kind}'s name")),
            _ => Err(format!(
                "`{text}` is not one of client_ip, cookie:NAME, header:NAME, query:NAME, path"
            )),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(spelled: &str, target: &str, fields: &[(&str, &str)]) -> Key {
        let mut request = http::Request::get(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        spelled.parse::<HashKey>().unwrap().of(&head, IpAddr::from([203, 0, 113, 9]))
    }

    #[test]
    fn each_kind_finds_its_part() {
        let client = Key::of(b"203.0.113.9");
        let cookies = &[("cookie", "a=1; sid=abc"), ("cookie", "sid=later")][..];
        assert_eq!(key("client_ip", "/x", &[]), client);
        assert_eq!(key("cookie:sid", "/x", cookies), Key::of(b"abc"));
        assert_eq!(key("cookie:si", "/x", cookies), client);
        assert_eq!(key("header:X-Room", "/x", &[("x-room", "7")]), Key::of(b"7"));
        assert_eq!(key("query:room", "/x?a=b&room=7", &[]), Key::of(b"7"));
        assert_eq!(key("query:room", "/x?room=", &[]), client);
        assert_eq!(key("path", "/x?room=7", &[]), Key::of(b"/x"));
    }

    #[test]
    fn spelling_goes_both_ways_and_mistakes_are_named() {
        for text in ["client_ip", "cookie:sid", "header:x-room", "query:room", "path"] {
            assert_eq!(text.parse::<HashKey>().unwrap().to_string(), text);
        }
        for (text, hint) in
            [("cookie", "cookie:NAME"), ("ip", "client_ip"), ("header:a b", "header's name")]
        {
            let error = text.parse::<HashKey>().unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
