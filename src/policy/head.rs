//! Is this request head one that everybody reads alike? (RFC 9112 §2–§6.) Judged on raw bytes,
//! before a parser that forgives. What the fields mean is left to `handshake` and `headers`.
//!
//! Stricter than RFC 9112 allows a recipient to be, on purpose: whatever two parsers could read in
//! two ways (bare LF or CR, folded lines, blanks around names, repeated lengths) is refused.

use crate::policy::handshake;
use crate::policy::origin::split_port;

/// What follows the head on the wire (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The next byte belongs to the next head.
    NoBody,
    /// Exactly this many bytes of body, at least one.
    Length(u64),
    /// A chunked body.
    Chunked,
}

/// A head that everybody reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) framing: Framing,
    /// It speaks of WebSocket, rightly or not: nothing behind it is read as HTTP any more.
    pub(crate) opening: bool,
}

/// Why a head is refused. The text is shown to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// 400: ambiguous or not HTTP.
    Malformed(&'static str),
    /// 431: longer than `limits.header_size`, or more than 100 fields.
    TooLarge,
    /// 505: not HTTP/1.0 or HTTP/1.1.
    Version,
}

/// Where a head ends, looked for as bytes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// No end in sight yet; what is here so far could become a head.
    Partial,
    /// The head is the first so many bytes, blank line included.
    Complete(usize),
}

/// Looks for the end of the head in `bytes`, of which the first `seen` were looked at before.
///
/// # Errors
/// At the first bare LF or bare CR: RFC 9112 §2.2 lets a recipient take a bare LF for a line end,
/// which is how two recipients come to disagree. At the first control character, so that what is
/// not HTTP at all, such as TLS within TLS, is not waited for.
pub(crate) fn scan(bytes: &[u8], seen: usize) -> Result<Scan, BadHead> {
    let start = seen.saturating_sub(3);
    for at in start..bytes.len() {
        match bytes[at] {
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => {
                return Err(BadHead::Malformed("a line ends without CR"));
            }
            b'\n' if at >= 3 && bytes[at - 2] == b'\n' => return Ok(Scan::Complete(at + 1)),
            b'\n' => {}
            _ if at > 0 && bytes[at - 1] == b'\r' => {
                return Err(BadHead::Malformed("a CR stands alone"));
            }
            b'\t' | b'\r' => {}
            byte if byte.is_ascii_control() => {
                return Err(BadHead::Malformed("a control character"));
            }
            _ => {}
        }
    }
    Ok(Scan::Partial)
}

/// Judges a whole head, as `scan` found it.
///
/// # Errors
/// `BadHead`, with the answer it deserves.
pub(crate) fn judge(head: &[u8]) -> Result<Judged, BadHead> {
    unfolded(head)?;
    request_line(head)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(BadHead::Malformed("the head is not whole")),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(httparse::Error::Version) => return Err(BadHead::Version),
        Err(_) => return Err(BadHead::Malformed("the head is not HTTP")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(BadHead::Malformed("the request line is not whole"));
    };
    if request.headers.iter().any(|field| field.name.len() > NAME_BYTES_MAX) {
        return Err(BadHead::TooLarge);
    }
    let fields = Fields(request.headers);
    let host = fields.host()?;
    check_target(method, target, host)?;
    Ok(Judged { framing: fields.framing(minor)?, opening: fields.speak_of_websocket() })
}

/// RFC 9112 §5.2: obs-fold.
fn unfolded(head: &[u8]) -> Result<(), BadHead> {
    if head.windows(2).any(|pair| pair[0] == b'\n' && matches!(pair[1], b' ' | b'\t')) {
        return Err(BadHead::Malformed("a header line is folded"));
    }
    Ok(())
}

/// RFC 9112 §3: three parts with one space between.
fn request_line(head: &[u8]) -> Result<(), BadHead> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or(head);
    let mut parts = line.split(|byte| *byte == b' ');
    let whole = parts.by_ref().take(3).filter(|part| !part.is_empty()).count() == 3;
    if whole && parts.next().is_none() {
        return Ok(());
    }
    Err(BadHead::Malformed("the request line is not a method, a target and a version"))
}

/// RFC 9112 §3.2: origin-form; absolute-form when it names the same host; `*` for OPTIONS.
fn check_target(method: &str, target: &str, host: &str) -> Result<(), BadHead> {
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic());
    // What `http` cannot read, hyper would refuse with an answer of its own.
    if !visible || target.contains('#') || (target != "*" && target.parse::<http::Uri>().is_err()) {
        return Err(BadHead::Malformed("the request target has characters it cannot have"));
    }
    if method == "CONNECT" {
        return Err(BadHead::Malformed("CONNECT is not offered here"));
    }
    if target.starts_with('/') || (method == "OPTIONS" && target == "*") {
        return Ok(());
    }
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(scheme))
        .map(|rest| rest.split(['/', '?']).next().unwrap_or(rest));
    match authority {
        Some(authority) if authority.eq_ignore_ascii_case(host) => Ok(()),
        Some(_) => Err(BadHead::Malformed("the request target names another host than Host")),
        None => Err(BadHead::Malformed("the request target is not a path")),
    }
}

/// The fields of one head, looked up without regard to case.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    }

    /// RFC 9112 §3.2: exactly one Host, and a valid one. Asked of HTTP/1.0 too.
    fn host(&self) -> Result<&'a str, BadHead> {
        let mut hosts = self.all("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => std::str::from_utf8(host)
                .ok()
                .filter(|host| split_port(host).is_some())
                .ok_or(BadHead::Malformed("Host is not a host")),
            (None, _) => Err(BadHead::Malformed("Host is missing")),
            (Some(_), Some(_)) => Err(BadHead::Malformed("there is more than one Host")),
        }
    }

    /// RFC 9112 §6.1–§6.3; one Content-Length of digits, or exactly `chunked`, never both.
    fn framing(&self, minor: u8) -> Result<Framing, BadHead> {
        let mut lengths = self.all("content-length");
        let mut codings = self.all("transfer-encoding");
        let (length, coding) = (lengths.next(), codings.next());
        if lengths.next().is_some() || codings.next().is_some() {
            return Err(BadHead::Malformed("the body's length is given more than once"));
        }
        match (length, coding) {
            (None, None) => Ok(Framing::NoBody),
            (Some(_), Some(_)) => {
                Err(BadHead::Malformed("Content-Length and Transfer-Encoding together"))
            }
            (None, Some(coding)) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            (None, Some(_)) => Err(BadHead::Malformed("only the chunked coding is understood")),
            (Some(length), None) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(length).ok().filter(|_| digits);
                match text.and_then(|text| text.parse().ok()) {
                    Some(0) => Ok(Framing::NoBody),
                    Some(length) => Ok(Framing::Length(length)),
                    None => Err(BadHead::Malformed("Content-Length is not a number")),
                }
            }
        }
    }

    fn speak_of_websocket(&self) -> bool {
        let websocket =
            |value: &[u8]| value.split(|byte| *byte == b',').any(handshake::speaks_of_websocket);
        self.all("upgrade").any(websocket)
            || self.all("sec-websocket-key").next().is_some()
            || self.all("sec-websocket-version").next().is_some()
    }
}

/// Header fields in one head; one more is refused with 431.
pub(crate) const FIELDS_MAX: usize = 100;

/// Bytes of a field's name, as `http` bounds them; hyper would refuse a longer one in its own words.
const NAME_BYTES_MAX: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Judged, BadHead> {
        let head = text.as_bytes();
        match scan(head, 0)? {
            Scan::Complete(length) => judge(&head[..length]),
            Scan::Partial => panic!("not a whole head: {text:?}"),
        }
    }

    const ORDINARY: Judged = Judged { framing: Framing::NoBody, opening: false };

    #[test]
    fn what_everybody_reads_alike_passes() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", ORDINARY),
            ("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", ORDINARY),
            ("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", ORDINARY),
            ("GET https://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n", ORDINARY),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ORDINARY),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n",
                Judged { framing: Framing::Length(12), opening: false },
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                Judged { framing: Framing::Chunked, opening: false },
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, WebSocket\r\n\r\n",
                Judged { framing: Framing::NoBody, opening: true },
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x\r\n\r\n",
                Judged { framing: Framing::NoBody, opening: true },
            ),
        ];
        for (head, expected) in cases {
            assert_eq!(ask(head), Ok(expected), "{head:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let cases = [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /`x HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        ];
        for head in cases {
            assert!(matches!(ask(head), Err(BadHead::Malformed(_))), "{head:?} {:?}", ask(head));
        }
        assert_eq!(ask("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(BadHead::Version));
    }

    #[test]
    fn the_hundredth_field_passes_and_the_next_does_not() {
        let head = |fields: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1))
        };
        assert_eq!(ask(&head(FIELDS_MAX)), Ok(ORDINARY));
        assert_eq!(ask(&head(FIELDS_MAX + 1)), Err(BadHead::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn scanning_in_pieces_finds_what_scanning_at_once_finds(
            bytes in proptest::collection::vec(
                proptest::sample::select(&b"a\r\n :"[..]), 0..40),
            cut in 0usize..40,
        ) {
            let cut = cut.min(bytes.len());
            let pieces = match scan(&bytes[..cut], 0) {
                Ok(Scan::Partial) => scan(&bytes, cut),
                other => other,
            };
            proptest::prop_assert_eq!(pieces, scan(&bytes, 0));
        }

        #[test]
        fn judging_never_panics(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = judge(&bytes);
        }
    }
}
