//! What goes upstream, and what comes back: hop-by-hop fields end here (RFC 9110 §7.6.1), what the
//! gate vouches for is written by the gate alone.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};

use crate::policy::client::Client;

/// What the backend is told of the client, `forward.*`.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding {
    /// What `X-Forwarded-Proto` says of a WebSocket.
    pub proto: ForwardedProto,
    /// Whether `Forwarded` (RFC 7239) is sent beside the X-Forwarded-* fields.
    pub forwarded: bool,
}

/// How the client's scheme is told to the backend of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedProto {
    /// `https`, what frameworks look for.
    Https,
    /// `wss`.
    Wss,
}

/// Whether a request leaves as an opening handshake or as ordinary HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Opening,
    Ordinary,
}

/// Whether somebody tried to say what only the gate may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    Nothing,
    Stripped,
}

impl Forwarding {
    /// Turns a client's fields into those the backend gets.
    pub(crate) fn upstream(self, headers: &mut HeaderMap, client: &Client, kind: Kind) -> Forged {
        let vouched = Vouched::take(headers, client);
        hop_by_hop(headers);
        // The gate answers 100 itself when it starts to read the body.
        headers.remove(EXPECT);
        let forged = match (client.peer_is_trusted, vouched.any) {
            (false, true) => Forged::Stripped,
            _ => Forged::Nothing,
        };
        let vouched = if client.peer_is_trusted { vouched } else { Vouched::default() };
        self.vouch(headers, client, kind, vouched);
        if kind == Kind::Opening {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            // A length of zero beside an upgrade says nothing, and some backends trip over it.
            headers.remove(CONTENT_LENGTH);
        }
        forged
    }

    fn vouch(self, headers: &mut HeaderMap, client: &Client, kind: Kind, vouched: Vouched) {
        let scheme = match (kind, self.proto) {
            (Kind::Opening, ForwardedProto::Wss) => "wss",
            (Kind::Opening, ForwardedProto::Https) | (Kind::Ordinary, _) => "https",
        };
        let proto = vouched.proto.unwrap_or(HeaderValue::from_static(scheme));
        let host = vouched.host.or_else(|| headers.get(HOST).cloned());
        if self.forwarded {
            let mut line = vouched.forwarded.map_or_else(String::new, |line| line + ", ");
            let _ = write!(line, "for={};proto={scheme}", node(client.peer));
            if let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) {
                let _ = write!(line, ";host=\"{host}\"");
            }
            insert(headers, FORWARDED, &line);
        } else if let Some(line) = vouched.forwarded {
            insert(headers, FORWARDED, &line);
        }
        let chain = vouched.chain.map_or_else(String::new, |chain| chain + ", ");
        insert(headers, X_FORWARDED_FOR, &format!("{chain}{}", client.peer));
        insert(headers, X_REAL_IP, &client.address.to_string());
        headers.insert(X_FORWARDED_PROTO, proto);
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }
}

/// What the client is told on every response, `security.hsts`.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// `Strict-Transport-Security` (RFC 6797 §6.1) with this age in seconds; `None` sends none.
    #[must_use]
    pub fn new(max_age: Option<u64>, include_subdomains: bool, preload: bool) -> Self {
        let hsts = max_age.map(|seconds| {
            let mut text = format!("max-age={seconds}");
            if include_subdomains {
                text.push_str("; includeSubDomains");
            }
            if preload {
                text.push_str("; preload");
            }
            HeaderValue::try_from(text).expect("digits and ASCII words are a field value")
        });
        Self { hsts }
    }

    /// Writes the gate's own fields, each exactly once, whatever the backend said.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match &self.hsts {
            Some(hsts) => drop(headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone())),
            None => drop(headers.remove(STRICT_TRANSPORT_SECURITY)),
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }

    /// Turns a backend's fields into those the client gets.
    pub(crate) fn downstream(&self, headers: &mut HeaderMap, kind: Kind) {
        hop_by_hop(headers);
        if kind == Kind::Opening {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            // RFC 9110 §8.6: no length in a 1xx.
            headers.remove(CONTENT_LENGTH);
        }
        self.apply(headers);
    }
}

/// Drops what belongs to one hop, and what `Connection` says belongs to it (RFC 9110 §7.6.1).
fn hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Without Host or the origin a request means something else: Connection may not take them.
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What the fields of forwarding said. Of an untrusted peer all are taken out of the request, in
/// every spelling; of a trusted one those that the gate writes anew, and the odd spellings.
#[derive(Default)]
struct Vouched {
    any: bool,
    chain: Option<String>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    forwarded: Option<String>,
}

impl Vouched {
    fn take(headers: &mut HeaderMap, client: &Client) -> Self {
        let joined = |name: HeaderName| {
            let lines: Vec<&str> =
                headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok()).collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        let mut taken = Self {
            any: false,
            chain: joined(X_FORWARDED_FOR),
            proto: headers.get(X_FORWARDED_PROTO).cloned(),
            host: headers.get(X_FORWARDED_HOST).cloned(),
            forwarded: joined(FORWARDED),
        };
        let spoken: Vec<HeaderName> =
            headers.keys().filter(|name| is_vouched_name(name)).cloned().collect();
        for name in spoken {
            taken.any = true;
            let kept = client.peer_is_trusted && !REWRITTEN.contains(&name);
            if !kept || name.as_str().contains('_') {
                headers.remove(name);
            }
        }
        taken
    }
}

/// WSGI, CGI and PHP read `X_Real_IP` as `X-Real-IP`: both spellings are the gate's.
fn is_vouched_name(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins = |with: &str| {
        name.len() >= with.len()
            && name.iter().zip(with.as_bytes()).all(|(a, b)| a == b || (*a, *b) == (b'_', b'-'))
    };
    begins("x-forwarded")
        || ["forwarded", "x-real-ip", "x-url-scheme"]
            .iter()
            .any(|vouched| name.len() == vouched.len() && begins(vouched))
}

/// RFC 7239 §6: an IPv6 address is bracketed and quoted.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    }
}

/// Addresses, and text that was a field value before, are field values.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = http::header::FORWARDED;

/// Fields that the gate writes itself, from what a trusted peer said in them.
const REWRITTEN: [HeaderName; 5] =
    [X_REAL_IP, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, FORWARDED];

const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    UPGRADE,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Fields that `Connection` cannot take away: dropping them would change what was judged.
const END_TO_END: [HeaderName; 8] = [
    HOST,
    CONTENT_LENGTH,
    http::header::ORIGIN,
    http::header::SEC_WEBSOCKET_KEY,
    http::header::SEC_WEBSOCKET_VERSION,
    http::header::SEC_WEBSOCKET_PROTOCOL,
    http::header::SEC_WEBSOCKET_EXTENSIONS,
    http::header::SEC_WEBSOCKET_ACCEPT,
];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Forwarding = Forwarding { proto: ForwardedProto::Https, forwarded: false };

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn stranger() -> Client {
        let address = IpAddr::from([203, 0, 113, 9]);
        Client { peer: address, address, peer_is_trusted: false }
    }

    fn behind_proxy() -> Client {
        Client {
            peer: IpAddr::from([10, 0, 0, 1]),
            address: IpAddr::from([203, 0, 113, 9]),
            peer_is_trusted: true,
        }
    }

    #[test]
    fn forged_fields_never_arrive_in_any_spelling() {
        let mut headers = map(&[
            ("host", "a.example"),
            ("x-real-ip", "6.6.6.6"),
            ("x_real_ip", "6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-user", "root"),
            ("x_forwarded_groups", "wheel"),
            ("forwarded", "for=6.6.6.6"),
            ("connection", "upgrade, x-real-ip, x-forwarded-for, host, close"),
            ("x-other", "kept"),
        ]);
        assert_eq!(PLAIN.upstream(&mut headers, &stranger(), Kind::Opening), Forged::Stripped);
        let expected = map(&[
            ("host", "a.example"),
            ("x-other", "kept"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_appended_to() {
        let mut headers = map(&[
            ("host", "a.example"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "front.example"),
            ("x-forwarded-port", "8443"),
            ("x_forwarded_port", "1"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let forged = PLAIN.upstream(&mut headers, &behind_proxy(), Kind::Ordinary);
        assert_eq!(forged, Forged::Nothing);
        let expected = map(&[
            ("host", "a.example"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.1"),
            ("x-real-ip", "203.0.113.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "front.example"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn forwarded_quotes_ipv6_and_follows_what_trusted_hops_wrote() {
        let forwarding = Forwarding { proto: ForwardedProto::Wss, forwarded: true };
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let mut headers = map(&[("host", "a.example"), ("forwarded", "for=9.9.9.9")]);
        let client = Client { peer, address: peer, peer_is_trusted: true };
        forwarding.upstream(&mut headers, &client, Kind::Opening);
        let expected = "for=9.9.9.9, for=\"[2001:db8::1]\";proto=wss;host=\"a.example\"";
        assert_eq!(headers["forwarded"], expected);
        assert_eq!(headers["x-forwarded-proto"], "wss");
    }

    #[test]
    fn hop_by_hop_fields_end_here_in_both_directions() {
        let security = SecurityHeaders::new(Some(63_072_000), true, false);
        let mut headers = map(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("strict-transport-security", "max-age=1"),
            ("strict-transport-security", "max-age=2"),
            ("x-content-type-options", "other"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        security.downstream(&mut headers, Kind::Ordinary);
        let expected = map(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn connection_cannot_take_away_what_was_judged() {
        let mut headers = map(&[
            ("host", "a.example"),
            ("origin", "https://a.example"),
            ("sec-websocket-key", "k"),
            ("connection", "upgrade, host, origin, sec-websocket-key"),
        ]);
        PLAIN.upstream(&mut headers, &stranger(), Kind::Opening);
        assert!(headers.contains_key("host") && headers.contains_key("origin"));
        assert!(headers.contains_key("sec-websocket-key"));
    }
}
