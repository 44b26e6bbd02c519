//! Which reserved bits the extensions of an opening handshake allow.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use crate::tunnel::frames::{BINARY, RESERVED, RSV1, TEXT};

/// What the backend agreed to in its 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extensions {
    /// None: every reserved bit is 0 (RFC 6455 §5.2).
    None,
    /// RSV1 marks compressed messages, on their first frames (RFC 7692 §6).
    PermessageDeflate,
    /// One we do not know, which may use any of the bits.
    Unknown,
}

impl Extensions {
    /// Reads `Sec-WebSocket-Extensions` of the 101.
    pub(crate) fn negotiated(response: &HeaderMap) -> Self {
        let mut found = Self::None;
        // A comma in a quoted parameter splits it wrongly, and the pieces are unknown: on the safe
        // side, and permessage-deflate has no such parameter.
        let values = response.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter();
        for one in values.flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
            let name = one.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"permessage-deflate") {
                found = Self::PermessageDeflate;
            } else if !one.trim_ascii().is_empty() {
                return Self::Unknown;
            }
        }
        found
    }

    /// The bits a frame with this opcode may have.
    pub(super) fn allowed(self, opcode: u8) -> u8 {
        match self {
            Self::None => 0,
            Self::PermessageDeflate if matches!(opcode, TEXT | BINARY) => RSV1,
            Self::PermessageDeflate => 0,
            Self::Unknown => RESERVED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_101_says_is_what_was_negotiated() {
        let deflate = "permessage-deflate; client_max_window_bits=15; server_no_context_takeover";
        let cases: [(&[&str], Extensions); 9] = [
            (&[], Extensions::None),
            (&[""], Extensions::None),
            (&[" , "], Extensions::None),
            (&[deflate], Extensions::PermessageDeflate),
            (&["Permessage-Deflate ,"], Extensions::PermessageDeflate),
            (&["x-webkit-deflate-frame"], Extensions::Unknown),
            (&["permessage-deflate, mux; max-channels=4"], Extensions::Unknown),
            (&["mux", "permessage-deflate"], Extensions::Unknown),
            (&["; permessage-deflate"], Extensions::Unknown),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_EXTENSIONS, line.parse().unwrap());
            }
            assert_eq!(Extensions::negotiated(&headers), expected, "{lines:?}");
        }
    }
}
