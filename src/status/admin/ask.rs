//! Asks a running gate: the client of the admin listener, for `wsgate status`, `reload`, `drain`.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::status::admin::guard::HEADER;
use crate::status::admin::report::Report;
use crate::status::admin::{Action, REPORT_PATH};
use crate::status::endpoint::Endpoint;
use crate::status::probe::reachable;

/// A gate that can be asked.
#[derive(Debug)]
pub(crate) struct Asker {
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// Nobody listens, or nobody does any more.
    Gone(Endpoint, String),
    /// It listens and does not answer in time.
    Silent(Endpoint),
    /// It answers something else than was hoped for.
    Refused(StatusCode, String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(endpoint, why) => write!(f, "cannot reach the gate at {endpoint}: {why}"),
            Self::Silent(endpoint) => write!(f, "{endpoint}: no answer within {LIMIT:?}"),
            Self::Refused(status, body) => write!(f, "the gate answers {status}: {}", body.trim()),
        }
    }
}

impl Asker {
    /// Asks at `endpoint`, with the token that a file's `text` holds.
    ///
    /// # Errors
    /// When that is no token.
    pub(crate) fn new(endpoint: Endpoint, text: Option<&str>) -> Result<Self, String> {
        let bearer = |text: &str| {
            crate::status::admin::guard::Token::parse(text)?;
            let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
                .map_err(|_| "the token cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        Ok(Self { endpoint, authorization: text.map(bearer).transpose()? })
    }

    /// What the gate says of itself; the text as it came, and read.
    ///
    /// # Errors
    /// [`AskError`]
    pub(crate) async fn report(&self) -> Result<(String, Report), AskError> {
        let text = self.ask(Method::GET, REPORT_PATH).await?;
        match serde_json::from_str(&text) {
            Ok(report) => Ok((text, report)),
            Err(error) => Err(AskError::Refused(StatusCode::OK, format!("not a report: {error}"))),
        }
    }

    /// Asks for `action`.
    ///
    /// # Errors
    /// [`AskError`]
    pub(crate) async fn act(&self, action: Action) -> Result<(), AskError> {
        self.ask(Method::POST, action.path()).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<String, AskError> {
        let gone = |why: String| AskError::Gone(self.endpoint.clone(), why);
        let mut request = Request::new(Empty::<Bytes>::new());
        let is_post = method == Method::POST;
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| gone(format!("{path} is no path")))?;
        let fields = request.headers_mut();
        fields.insert(HOST, HeaderValue::from_static("localhost"));
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
        if is_post {
            fields.insert(HEADER, HeaderValue::from_static("1"));
        }
        if let Some(authorization) = &self.authorization {
            fields.insert(AUTHORIZATION, authorization.clone());
        }
        let asked = async {
            match &self.endpoint {
                Endpoint::Tcp(address) => {
                    exchange(TcpStream::connect(&*reachable(*address)).await?, request).await
                }
                Endpoint::Unix(path) => exchange(UnixStream::connect(path).await?, request).await,
            }
        };
        let asked = timeout(LIMIT, asked).await;
        let answered = asked.map_err(|_| AskError::Silent(self.endpoint.clone()))?;
        let (status, body) = answered.map_err(|error| gone(error.to_string()))?;
        match status.is_success() {
            true => Ok(body),
            false => Err(AskError::Refused(status, body)),
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> io::Result<(StatusCode, String)> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // What happens to the connection, the answer tells.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

/// For one question.
const LIMIT: Duration = Duration::from_secs(5);

/// Ten thousand backends take about one.
const BODY_MAX: usize = 16 * 1024 * 1024;
