//! Values that are one of a few words, as the file spells them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{suggest, unknown_word};
use super::spelled::spelled;
use crate::backends::key::HashKey;
use crate::policy::origin;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as the file spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(unknown_word(text, Self::WORDS)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The lowest TLS version that is spoken.
    MinVersion {
        /// TLS 1.3 only.
        Tls13 = "1.3",
        /// TLS 1.2 as well, with ECDHE AEAD suites only.
        Tls12 = "1.2",
    }
}

words! {
    /// A cipher suite, by its IANA name.
    Cipher {
        /// TLS 1.3.
        Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3.
        Chacha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.3.
        Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.2.
        EcdheEcdsaAes256GcmSha384 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2.
        EcdheRsaAes256GcmSha384 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2.
        EcdheEcdsaChacha20Poly1305Sha256 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2.
        EcdheRsaChacha20Poly1305Sha256 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2.
        EcdheEcdsaAes128GcmSha256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2.
        EcdheRsaAes128GcmSha256 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    }
}

impl Cipher {
    /// The suites that serve TLS 1.2, strongest first.
    pub const TLS12: [Self; 6] = [
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheRsaAes256GcmSha384,
        Self::EcdheEcdsaChacha20Poly1305Sha256,
        Self::EcdheRsaChacha20Poly1305Sha256,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheRsaAes128GcmSha256,
    ];

    /// Whether the suite serves TLS 1.2; if not, it serves TLS 1.3.
    #[must_use]
    pub fn is_tls12(self) -> bool {
        Self::TLS12.contains(&self)
    }
}

words! {
    /// What happens to a client that sends no Origin.
    MissingOrigin {
        /// It is refused: a browser always sends one, and its absence proves nothing.
        Deny = "deny",
        /// It passes, as native clients do; those who send one are still checked.
        Allow = "allow",
    }
}

impl From<MissingOrigin> for origin::MissingOrigin {
    fn from(word: MissingOrigin) -> Self {
        match word {
            MissingOrigin::Deny => Self::Deny,
            MissingOrigin::Allow => Self::Allow,
        }
    }
}

words! {
    /// What `X-Forwarded-Proto` says of an opening handshake.
    Proto {
        /// As most applications expect.
        Https = "https",
        /// For those that ask for the WebSocket scheme.
        Wss = "wss",
    }
}

words! {
    /// What follows when a peer breaks the framing of RFC 6455.
    BrokenFraming {
        /// Its bytes go on, unfollowed; it is counted.
        Pass = "pass",
        /// It is closed with 1002.
        Close = "close",
    }
}

words! {
    /// The code of the Close frames that end sockets in a drain.
    CloseCode {
        /// Going away (RFC 6455 §7.4.1).
        GoingAway = "1001",
        /// Service restart, in the IANA registry: come back.
        ServiceRestart = "1012",
    }
}

words! {
    /// The least severe lines that are written.
    Level {
        /// An operator must act.
        Error = "error",
        /// Something is degraded.
        Warn = "warn",
        /// What happens to sockets and backends.
        Info = "info",
        /// Every request.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How a line looks.
    Format {
        /// `text` on a terminal, `json` off one.
        Auto = "auto",
        /// One JSON object a line.
        Json = "json",
        /// For a person.
        Text = "text",
    }
}

words! {
    /// How much of a client's address is written.
    ClientIp {
        /// All of it.
        Full = "full",
        /// Its network: /24 for IPv4, /48 for IPv6.
        Masked = "masked",
    }
}

/// What decides which backend a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashEntry(pub HashKey);

impl FromStr for HashEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("query:")
            && name.bytes().any(|b| !b.is_ascii_graphic() || b"&=#".contains(&b))
        {
            // A query is compared as it is sent, where none of these stands in a name.
            return Err(format!("`{name}` is not a query's name; percent-encode it"));
        }
        text.parse().map(Self).map_err(|message: String| match text.split_once(':') {
            Some(("cookie" | "header" | "query", _)) => message,
            _ => suggest(message, text, ["client_ip", "path"]),
        })
    }
}

impl fmt::Display for HashEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

spelled!(HashEntry, "`client_ip`, `cookie:NAME`, `header:NAME`, `query:NAME` or `path`", {
    "type": "string",
    "description": "What decides which backend a client gets.",
    "pattern": "^(client_ip|path|(cookie|header|query):.+)$",
    "examples": ["client_ip", "cookie:session", "header:x-user-id", "query:room", "path"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys() {
        for text in ["client_ip", "path", "cookie:sid", "header:x-user", "query:room%5B%5D"] {
            assert_eq!(text.parse::<HashEntry>().unwrap().to_string(), text);
        }
        let cases = [
            ("clientip", "did you mean `client_ip`?"),
            ("cookie", "write `cookie:NAME`"),
            ("query:", "write `query:NAME`"),
            ("header:a b", "is not a header's name"),
            ("query:a=b", "percent-encode it"),
            ("ip_hash", "query:NAME, path"),
            ("path:x", "did you mean `path`?"),
        ];
        for (text, end) in cases {
            let error = text.parse::<HashEntry>().unwrap_err();
            assert!(error.ends_with(end), "{text}: {error}");
        }
    }

    #[test]
    fn a_word_in_another_spelling_is_suggested() {
        let cases = [
            ("INFO".parse::<Level>().map(drop), "did you mean `info`?"),
            ("warning".parse::<Level>().map(drop), "did you mean `warn`?"),
            ("TLS-AES-256-GCM-SHA384".parse::<Cipher>().map(drop), "TLS_AES_256_GCM_SHA384`?"),
            (
                "ECDHE-RSA-AES128-GCM-SHA256".parse::<Cipher>().map(drop),
                "_RSA_WITH_AES_128_GCM_SHA256`?",
            ),
            ("1.1".parse::<MinVersion>().map(drop), "`1.1` is not `1.3` or `1.2`"),
        ];
        for (result, end) in cases {
            let error = result.unwrap_err();
            assert!(error.ends_with(end) || error.starts_with(end), "{error}");
        }
        assert_eq!(Cipher::WORDS.len(), 9);
        assert_eq!("masked".parse(), Ok(ClientIp::Masked));
    }
}
