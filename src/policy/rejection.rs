//! A refusal as the client receives it: status, text, label. Every refusal of the gate is one of
//! these, so that none leaves without a reason, a count and a log line.

use std::time::Duration;

use http::StatusCode;

use crate::policy::head::BadHead;

/// Why a request was refused. Each variant is an answer that the client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Not a valid opening handshake (RFC 6455 §4.2.1), or not HTTP that everybody reads alike.
    BadRequest(&'static str),
    /// The head is longer or has more fields than the gate reads (RFC 6585 §5).
    HeadTooLarge,
    /// The head did not come in time (RFC 9110 §15.5.9).
    HeadTimeout,
    /// Not HTTP/1.x (RFC 9110 §15.6.6).
    HttpVersion,
    /// A WebSocket version other than 13 (RFC 6455 §4.2.2).
    UpgradeRequired,
    /// `Origin` is not one of those allowed (RFC 6455 §10.2).
    OriginDenied,
    /// `Origin` is absent where one is required.
    OriginMissing,
    /// The client has no token left (RFC 6585 §4).
    RateLimited { retry_after: Duration },
    /// The client holds as many sockets as one may.
    TooManyFromClient,
    /// The gate holds as many connections as it may.
    GateFull,
    /// The gate is about to stop.
    Draining,
    /// `http.enabled` is false and the request is not an opening handshake.
    HttpDisabled,
    /// No backend took the connection.
    NoBackend,
    /// A backend took the connection, or should have, and did not answer in time.
    BackendTimeout,
    /// A backend broke off, or its answer is not HTTP, or its 101 is not true.
    BackendError,
}

impl Rejection {
    /// The status code.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::OriginDenied | Self::OriginMissing => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } | Self::TooManyFromClient => StatusCode::TOO_MANY_REQUESTS,
            Self::GateFull | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpDisabled => StatusCode::NOT_FOUND,
            Self::NoBackend | Self::BackendError => StatusCode::BAD_GATEWAY,
            Self::BackendTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The sentence in the body: what is wrong, in the client's terms.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(reason) => reason,
            Self::HeadTooLarge => "the request head is too large",
            Self::HeadTimeout => "the request head did not come in time",
            Self::HttpVersion => "only HTTP/1.1 is spoken here",
            Self::UpgradeRequired => "only WebSocket version 13 is spoken here",
            Self::OriginDenied => "this Origin is not allowed",
            Self::OriginMissing => "an Origin is required",
            Self::RateLimited { .. } => "too many opening handshakes from this address",
            Self::TooManyFromClient => "too many WebSockets from this address",
            Self::GateFull => "too many connections, try again later",
            Self::Draining => "the gate is about to stop, try again",
            Self::HttpDisabled => "only WebSockets are served here",
            Self::NoBackend => "no backend could be reached",
            Self::BackendTimeout => "the backend did not answer in time",
            Self::BackendError => "the backend's answer could not be used",
        }
    }

    /// The label of `wsgate_upgrades_total`, and `error.type` in the log.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::HttpVersion
            | Self::HttpDisabled
            | Self::UpgradeRequired => "bad_request",
            Self::OriginDenied => "origin_denied",
            Self::OriginMissing => "origin_missing",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooManyFromClient | Self::GateFull => "too_many_connections",
            Self::Draining => "draining",
            Self::NoBackend => "no_backend",
            Self::BackendTimeout => "backend_timeout",
            Self::BackendError => "backend_error",
        }
    }

    /// Whole seconds after which trying again makes sense, rounded up, at least one
    /// (RFC 9110 §10.2.3).
    pub(crate) fn retry_after(self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
            }
            Self::TooManyFromClient => Some(10),
            Self::GateFull | Self::NoBackend | Self::BackendTimeout | Self::BackendError => Some(5),
            Self::Draining => Some(1),
            Self::BadRequest(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::HttpVersion
            | Self::UpgradeRequired
            | Self::OriginDenied
            | Self::OriginMissing
            | Self::HttpDisabled => None,
        }
        .map(|seconds| seconds.max(1))
    }
}

impl From<BadHead> for Rejection {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::Malformed(reason) => Self::BadRequest(reason),
            BadHead::TooLarge => Self::HeadTooLarge,
            BadHead::Version => Self::HttpVersion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        let wait = |millis| Rejection::RateLimited { retry_after: Duration::from_millis(millis) };
        assert_eq!(wait(0).retry_after(), Some(1));
        assert_eq!(wait(999).retry_after(), Some(1));
        assert_eq!(wait(1000).retry_after(), Some(1));
        assert_eq!(wait(1001).retry_after(), Some(2));
        assert_eq!(Rejection::OriginDenied.retry_after(), None);
    }
}
