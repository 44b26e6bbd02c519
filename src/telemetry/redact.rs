//! What of a peer's bytes may stand in the log: no query but the parameters that the operator
//! allows, no credentials, nothing that acts on a terminal, and never more than a bound.
//!
//! Cookies, `Authorization`, `Sec-WebSocket-Key`, close reasons and payloads have no function here:
//! they are never passed to the log at all.

use std::borrow::Cow;

/// The path of a request target, with those of its query parameters that `allow` names (spelled
/// exactly as on the wire). At most [`PATH_BYTES`] bytes.
///
/// Parameters of path segments (`;jsessionid=…`) go as well, and so does what follows a `?` that was
/// percent-encoded by mistake: both carry session tokens in practice.
pub(crate) fn url_path(path_and_query: &str, allow: &[String]) -> String {
    let target = path_and_query.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut shown = String::with_capacity(path.len().min(PATH_BYTES));
    let path = encoded_question_mark(path).map_or(path, |at| &path[..at]);
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            shown.push('/');
        }
        shown.push_str(segment.split(';').next().unwrap_or_default());
    }
    let mut before = '?';
    // Some servers split at `;` too, so it cannot carry anything past the list.
    for parameter in query.split(['&', ';']) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !name.is_empty() && allow.iter().any(|allowed| allowed == name) {
            shown.push(before);
            shown.push_str(parameter);
            before = '&';
        }
    }
    bounded(&shown, PATH_BYTES)
}

fn encoded_question_mark(path: &str) -> Option<usize> {
    path.as_bytes().windows(3).position(|three| three.eq_ignore_ascii_case(b"%3f"))
}

/// The subprotocols of a `Sec-WebSocket-Protocol` value, without the credentials that browsers smuggle
/// there for want of a header they could set. At most [`VALUE_BYTES`] bytes.
///
/// An entry stops after `bearer.` in any case (so `base64url.bearer.authorization.k8s.io.…` does as
/// well). Redacted whole: the entry after a lone `bearer`, `access_token`, `authorization`, `token`
/// or `auth`, one that holds the start of a JWT (`eyJ`), and one longer than any real name.
pub(crate) fn subprotocols(value: &str) -> String {
    let mut shown = String::new();
    let mut names_next = false;
    for (at, entry) in value.split(',').map(str::trim).enumerate() {
        if at > 0 {
            shown.push_str(", ");
        }
        let lower = entry.to_ascii_lowercase();
        if names_next || entry.contains("eyJ") || entry.len() > SUBPROTOCOL_BYTES {
            if lower.starts_with("bearer.") {
                shown.push_str(&entry[.."bearer.".len()]);
            }
            shown.push_str(REDACTED);
        } else if let Some(at) = lower.find("bearer").map(|at| at + "bearer".len())
            && at < entry.len()
        {
            shown.push_str(&entry[..at]);
            // Whatever stands between, a space or a colon: what follows is the credential.
            shown.push('.');
            shown.push_str(REDACTED);
        } else {
            shown.push_str(entry);
        }
        names_next =
            matches!(&*lower, "bearer" | "access_token" | "authorization" | "token" | "auth");
    }
    bounded(&shown, VALUE_BYTES)
}

/// An `Origin` as it may be logged: scheme, host and port. What no real Origin has (a user, a path, a
/// query) may hold a secret and is dropped. At most [`VALUE_BYTES`] bytes.
pub(crate) fn origin(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let colon = if scheme.is_empty() { "" } else { "://" };
    let scheme = scheme.split(['?', '#', '@', '/']).next().unwrap_or_default();
    bounded(&format!("{scheme}{colon}{host}"), VALUE_BYTES)
}

/// A request method as OpenTelemetry spells it: one of RFC 9110 §9 or RFC 5789 by its name, and
/// `_OTHER` for what is a client's own text.
pub(crate) fn method(method: &str) -> &'static str {
    let known = METHODS.iter().find(|known| **known == method);
    known.copied().unwrap_or("_OTHER")
}

/// `text` with unsafe characters replaced by U+FFFD, cut to `max_bytes` with `…` at the end.
pub(crate) fn bounded(text: &str, max_bytes: usize) -> String {
    // Characters grow at most threefold, and none shrinks: nothing past the bound is needed.
    let head = &text[..text.floor_char_boundary(max_bytes.saturating_add(1))];
    let replace = |ch| if is_unsafe(ch) { char::REPLACEMENT_CHARACTER } else { ch };
    let mut shown: String = head.chars().map(replace).collect();
    if head.len() < text.len() {
        // Long enough to be cut below, also when the boundary fell short of the bound.
        shown.push('…');
    }
    truncated(&shown, max_bytes).into_owned()
}

/// `text`, or as much of its beginning as fits `max_bytes` with a `…` behind it.
pub(super) fn truncated(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Whether a character may act instead of being read: control characters (ESC, and the C1 set that
/// some terminals obey), line and paragraph separators, and those that reorder or hide text.
pub(super) fn is_unsafe(ch: char) -> bool {
    ch.is_control()
        || matches!(ch, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(ch, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The longest path in a line, in bytes.
pub(crate) const PATH_BYTES: usize = 512;
/// The longest user agent, Origin or list of subprotocols in a line, in bytes.
pub(crate) const VALUE_BYTES: usize = 256;
/// The longest subprotocol that is believed to be a name, in bytes.
const SUBPROTOCOL_BYTES: usize = 64;
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allow(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_path_keeps_only_allowed_parameters() {
        for (target, shown) in [
            ("/ws", "/ws"),
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/ws?", "/ws"),
            ("/ws?token=SECRET", "/ws"),
            ("/ws?room=1", "/ws?room=1"),
            ("/ws?token=SECRET&room=1&x=SECRET&EIO=4", "/ws?room=1&EIO=4"),
            ("/ws?room", "/ws?room"),
            ("/ws?room=a=b", "/ws?room=a=b"),
            ("/ws?=SECRET", "/ws"),
            ("/ws?Room=SECRET", "/ws"),
            ("/ws?room=1;token=SECRET", "/ws?room=1"),
            ("/ws?room=1#SECRET", "/ws?room=1"),
            ("/ws#SECRET?room=SECRET", "/ws"),
            ("/ws%3ftoken=SECRET", "/ws"),
            ("/ws%3Ftoken=SECRET?room=1", "/ws?room=1"),
            ("/a;jsessionid=SECRET/b;v=SECRET", "/a/b"),
            ("//a/../b", "//a/../b"),
        ] {
            assert_eq!(url_path(target, &allow(&["room", "EIO"])), shown, "{target}");
        }
        assert_eq!(url_path("/ws?room=SECRET", &[]), "/ws");
        assert_eq!(url_path("/ws?=SECRET", &allow(&[""])), "/ws");
    }

    #[test]
    fn subprotocols_lose_their_credentials() {
        let long = format!("chat, openai-insecure-api-key.{}", "SECRET".repeat(10));
        for (value, shown) in [
            ("chat", "chat"),
            ("graphql-transport-ws, v12.stomp", "graphql-transport-ws, v12.stomp"),
            ("chat,superchat", "chat, superchat"),
            ("", ""),
            ("bearer.SECRET", "bearer.[redacted]"),
            ("chat, BEARER.SECRET,mqtt", "chat, BEARER.[redacted], mqtt"),
            ("Bearer.SECRET, bearer.SECRET", "Bearer.[redacted], bearer.[redacted]"),
            ("bearer.", "bearer.[redacted]"),
            ("bearer:SECRET", "bearer.[redacted]"),
            ("bearer SECRET", "bearer.[redacted]"),
            ("base64url.bearer.authorization.k8s.io.SECRET", "base64url.bearer.[redacted]"),
            ("bearer, SECRET", "bearer, [redacted]"),
            ("access_token, SECRET, chat", "access_token, [redacted], chat"),
            ("bearer, bearer.SECRET", "bearer, bearer.[redacted]"),
            ("header-eyJSECRET", "[redacted]"),
            ("bearer.eyJSECRET", "bearer.[redacted]"),
            ("token, SECRETbearer.x", "token, [redacted]"),
            (&long, "chat, [redacted]"),
        ] {
            assert_eq!(subprotocols(value), shown, "{value}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (value, shown) in [
            ("https://app.example:8443", "https://app.example:8443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            ("null", "null"),
            ("", ""),
            ("https://user:SECRET@app.example", "https://app.example"),
            ("https://app.example/SECRET", "https://app.example"),
            ("https://app.example?t=SECRET", "https://app.example"),
            ("https://app.example#SECRET", "https://app.example"),
            ("app.example/SECRET", "app.example"),
            ("x?SECRET://app.example", "x://app.example"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(origin(value), shown, "{value}");
        }
    }

    #[test]
    fn unsafe_characters_are_replaced_and_length_is_bounded() {
        assert_eq!(bounded("curl/8.5.0", 256), "curl/8.5.0");
        assert_eq!(bounded("a\x1b[31m\r\nb\u{9b}c\u{202e}d", 256), "a�[31m��b�c�d");
        assert_eq!(bounded(&"x".repeat(10), 10), "x".repeat(10));
        assert_eq!(bounded(&"x".repeat(11), 10), format!("{}…", "x".repeat(7)));
        assert_eq!(bounded(&"é".repeat(6), 10), "ééé…");
        assert_eq!(url_path(&"/a".repeat(400), &[]).len(), PATH_BYTES);
    }

    proptest! {
        #[test]
        fn whatever_a_peer_sends_is_safe_and_bounded(text in ".*|(?s).{0,400}", max in 3_usize..600) {
            let rooms = allow(&["room"]);
            for (shown, bound) in [
                (bounded(&text, max), max),
                (origin(&text), VALUE_BYTES),
                (subprotocols(&text), VALUE_BYTES),
                (url_path(&text, &rooms), PATH_BYTES),
            ] {
                prop_assert!(shown.len() <= bound, "{} > {bound}", shown.len());
                prop_assert!(!shown.contains(is_unsafe), "{shown:?}");
            }
            if text.len() <= max && !text.contains(is_unsafe) {
                prop_assert_eq!(bounded(&text, max), text);
            }
        }

        #[test]
        fn a_query_value_never_shows(before in "[a-z&;=%/]{0,20}", after in "[a-z&;=]{0,20}") {
            let target = format!("/ws?{before}&token=SECRET{after}");
            prop_assert!(!url_path(&target, &allow(&["room"])).contains("SECRET"));
        }
    }
}
