//! Is this an opening handshake? (RFC 6455 §4.2.1, RFC 9110 §7.8.) The head was judged by `head`
//! before; who may pass is for `origin` and `quota`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode, Version, request, response};
use sha1::{Digest as _, Sha1};

use crate::policy::rejection::Rejection;

/// A valid opening handshake: the proof that `read` found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpeningHandshake {
    /// What `Sec-WebSocket-Accept` of a true 101 must be (RFC 6455 §4.2.2).
    accept: String,
}

/// Reads an opening handshake from a request that speaks of WebSocket.
///
/// # Errors
/// `BadRequest` with the clause that is broken, `UpgradeRequired` for another protocol version.
pub(crate) fn read(head: &request::Parts, body: BodyHint) -> Result<OpeningHandshake, Rejection> {
    let bad = |reason| Err(Rejection::BadRequest(reason));
    if head.method != Method::GET {
        return bad("an opening handshake is a GET");
    }
    if head.version != Version::HTTP_11 {
        return bad("an opening handshake is HTTP/1.1");
    }
    if body == BodyHint::Some {
        return bad("an opening handshake has no body");
    }
    if !has_token(&head.headers, UPGRADE, "websocket") {
        return bad("`Upgrade: websocket` is missing");
    }
    if !has_token(&head.headers, CONNECTION, "upgrade") {
        return bad("`Connection: upgrade` is missing");
    }
    let key = match only(&head.headers, SEC_WEBSOCKET_KEY) {
        Some(key) if is_key(key.as_bytes()) => key,
        Some(_) => return bad("`Sec-WebSocket-Key` is not 16 bytes in base64"),
        None => return bad("there must be exactly one `Sec-WebSocket-Key`"),
    };
    // RFC 6455 §4.2.2: another version is answered with the one that is spoken here.
    match only(&head.headers, SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => {}
        Some(_) => return Err(Rejection::UpgradeRequired),
        None if head.headers.contains_key(SEC_WEBSOCKET_VERSION) => {
            return bad("there must be exactly one `Sec-WebSocket-Version`");
        }
        None => return Err(Rejection::UpgradeRequired),
    }
    Ok(OpeningHandshake { accept: accept_of(key) })
}

/// Whether a body follows the head, as its framing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyHint {
    None,
    Some,
}

impl OpeningHandshake {
    /// Whether a backend's answer is its own, true 101 (RFC 6455 §4.1).
    pub(crate) fn is_answered_by(&self, answer: &response::Parts) -> bool {
        answer.status == StatusCode::SWITCHING_PROTOCOLS
            && answer.version == Version::HTTP_11
            && has_token(&answer.headers, UPGRADE, "websocket")
            && has_token(&answer.headers, CONNECTION, "upgrade")
            && only(&answer.headers, SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|accept| accept.as_bytes().trim_ascii() == self.accept.as_bytes())
    }
}

/// Whether a request speaks of WebSocket, rightly or not. Then it is judged as an opening handshake
/// and never proxied as ordinary HTTP. Agrees with what `head` says of the same bytes.
pub(crate) fn attempted(headers: &HeaderMap) -> bool {
    headers
        .get_all(UPGRADE)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(speaks_of_websocket)
        || headers.contains_key(SEC_WEBSOCKET_KEY)
        || headers.contains_key(SEC_WEBSOCKET_VERSION)
}

/// Whether a token of `Upgrade` is, or begins with, `websocket`.
pub(crate) fn speaks_of_websocket(token: &[u8]) -> bool {
    token.trim_ascii().get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"websocket"))
}

/// The values that the Origin check looks at: `Origin`, or, where it is absent, the old drafts'
/// `Sec-WebSocket-Origin`.
pub(crate) fn origins(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let name = if headers.contains_key(ORIGIN) { ORIGIN } else { SEC_WEBSOCKET_ORIGIN };
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// The one value of a field, or `None` when it is absent or repeated.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a comma-separated field holds `token`, without regard to case (RFC 9110 §5.6.1).
pub(crate) fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

fn accept_of(key: &HeaderValue) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The name `Origin` had in the drafts up to hybi-10; a few old clients still send it.
const SEC_WEBSOCKET_ORIGIN: HeaderName = HeaderName::from_static("sec-websocket-origin");

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.2.
    fn example() -> request::Parts {
        let request = http::Request::get("/chat")
            .header("Host", "server.example.com")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "http://example.com")
            .header("Sec-WebSocket-Version", "13");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_example_of_the_rfc_passes_with_its_accept() {
        let handshake = read(&example(), BodyHint::None).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_clause_is_required() {
        type Change = fn(&mut request::Parts);
        let bad: [(&str, Change); 11] = [
            ("POST", |h| h.method = Method::POST),
            ("HTTP/1.0", |h| h.version = Version::HTTP_10),
            ("no Upgrade", |h| drop(h.headers.remove("upgrade"))),
            ("another Upgrade", |h| drop(h.headers.insert("upgrade", v("websocketx")))),
            ("no Connection", |h| drop(h.headers.remove("connection"))),
            ("Connection: close", |h| drop(h.headers.insert("connection", v("close")))),
            ("no key", |h| drop(h.headers.remove("sec-websocket-key"))),
            ("short key", |h| drop(h.headers.insert("sec-websocket-key", v("dGhl")))),
            ("not base64", |h| {
                h.headers.insert("sec-websocket-key", v("dGhlIHNhbXBsZSBub25jZQ=!"));
            }),
            ("two keys", |h| {
                h.headers.append("sec-websocket-key", v("dGhlIHNhbXBsZSBub25jZQ=="));
            }),
            ("two versions", |h| {
                h.headers.append("sec-websocket-version", v("13"));
            }),
        ];
        for (name, change) in bad {
            let mut head = example();
            change(&mut head);
            let verdict = read(&head, BodyHint::None);
            assert!(matches!(verdict, Err(Rejection::BadRequest(_))), "{name}: {verdict:?}");
        }
        let with_body = read(&example(), BodyHint::Some);
        assert!(matches!(with_body, Err(Rejection::BadRequest(_))));
    }

    #[test]
    fn another_version_is_told_which_one_is_spoken() {
        for version in [Some("8"), Some("013"), Some("14"), None] {
            let mut head = example();
            head.headers.remove("sec-websocket-version");
            if let Some(version) = version {
                head.headers.insert("sec-websocket-version", v(version));
            }
            assert_eq!(read(&head, BodyHint::None), Err(Rejection::UpgradeRequired), "{version:?}");
        }
    }

    #[test]
    fn tokens_are_lists_without_regard_to_case() {
        let mut head = example();
        head.headers.insert("connection", v("keep-alive, UPGRADE"));
        head.headers.insert("upgrade", v("WebSocket"));
        assert!(read(&head, BodyHint::None).is_ok());
    }

    #[test]
    fn only_a_true_101_answers() {
        let handshake = read(&example(), BodyHint::None).unwrap();
        let answer = |status: u16, upgrade: &str, connection: &str, accept: &str| {
            let answer = http::Response::builder()
                .status(status)
                .header("Upgrade", upgrade)
                .header("Connection", connection)
                .header("Sec-WebSocket-Accept", accept);
            handshake.is_answered_by(&answer.body(()).unwrap().into_parts().0)
        };
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert!(answer(101, "websocket", "upgrade", accept));
        assert!(!answer(200, "websocket", "upgrade", accept));
        assert!(!answer(101, "h2c", "upgrade", accept));
        assert!(!answer(101, "websocket", "close", accept));
        assert!(!answer(101, "websocket", "upgrade", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="));
    }

    #[test]
    fn the_old_origin_field_counts_only_where_origin_is_absent() {
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-origin", v("https://old.example"));
        assert_eq!(origins(&headers).collect::<Vec<_>>(), [b"https://old.example"]);
        headers.insert("origin", v("https://new.example"));
        assert_eq!(origins(&headers).collect::<Vec<_>>(), [b"https://new.example"]);
    }

    fn v(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }
}
