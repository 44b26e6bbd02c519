//! Bytes over a connection of their own, and how exactly it ends.

use std::collections::BTreeMap;

use tokio::io::AsyncReadExt as _;

use super::client::{Answer, Client};
use super::gate::Gate;
use super::soon;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// close_notify, then FIN.
    Orderly,
    /// FIN, reset or an alert.
    Abrupt,
}

impl Client {
    /// Reads until the end, whatever it is.
    pub async fn until_the_end(&mut self) -> (Vec<u8>, Ending) {
        let mut bytes = std::mem::take(&mut self.early);
        let ending = soon("the end of a connection", async {
            loop {
                match self.stream.read_buf(&mut bytes).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) => return Ending::Abrupt,
                }
            }
            match self.stream.get_mut().0.read(&mut [0]).await {
                Ok(0) => Ending::Orderly,
                _ => Ending::Abrupt,
            }
        })
        .await;
        (bytes, ending)
    }

    /// Sends what the gate may not want to read to the end.
    pub async fn push(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt as _;
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Reads the refusal that ends this connection.
    pub async fn refusal(&mut self) -> Answer {
        let (bytes, ending) = self.until_the_end().await;
        let answer = refusal(&bytes);
        assert_eq!(ending, Ending::Orderly, "{answer:?}");
        answer
    }
}

impl Gate {
    /// Sends `bytes` over a new connection and reads the refusal that ends it.
    pub async fn refuses(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.push(bytes.as_ref()).await;
        client.refusal().await
    }

    /// `wsgate_upgrades_total` by outcome.
    pub async fn outcomes(&self) -> BTreeMap<String, u64> {
        let (_, text) = self.status("/metrics").await;
        text.lines()
            .filter_map(|line| line.strip_prefix("wsgate_upgrades_total{outcome=\""))
            .filter_map(|line| line.split_once("\"} "))
            .map(|(outcome, count)| (outcome.to_owned(), count.parse().unwrap()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Waits until `wsgate_upgrades_total` says `expected` of an outcome.
    pub async fn outcome_becomes(&self, outcome: &str, expected: f64) {
        let sample = format!("wsgate_upgrades_total{{outcome=\"{outcome}\"}}");
        self.metric_becomes(&sample, expected).await;
    }

    /// The gate still does what it is for.
    pub async fn still_serves(&self) {
        let mut socket = self.websocket("/still").await;
        socket.send(b"still serving").await;
        assert_eq!(socket.read(13).await, b"still serving");
    }
}

/// One whole answer that the gate gave in its own name, and not a byte behind it.
fn refusal(bytes: &[u8]) -> Answer {
    let answer = whole_answer(bytes);
    assert_own_fields(&answer);
    assert!(answer.status >= 400, "{answer:?}");
    let connection = answer.one("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(connection.split(", ").any(|word| word == "close"), "{answer:?}");
    assert_eq!(answer.one("content-type"), Some("text/plain; charset=utf-8"), "{answer:?}");
    answer
}

/// What stands on every response, exactly once.
pub fn assert_own_fields(answer: &Answer) {
    assert_eq!(answer.one("strict-transport-security"), Some("max-age=63072000"), "{answer:?}");
    assert_eq!(answer.one("x-content-type-options"), Some("nosniff"), "{answer:?}");
}

/// Parses `bytes`, which hold one answer and nothing else. To HEAD there is no body.
pub fn whole_answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let (line, fields) = head.split_once("\r\n").unwrap();
    // hyper answers HTTP/1.0 in kind.
    let line = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = line.unwrap_or_else(|| panic!("not HTTP: {text:?}"))[..3].parse().unwrap();
    let fields: Vec<(String, String)> = fields
        .split("\r\n")
        .map(|field| field.split_once(": ").unwrap_or((field, "")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let answer = Answer { status, fields, body: body.as_bytes().to_vec() };
    if let Some(length) = answer.one("content-length") {
        let length: usize = length.parse().unwrap();
        assert!(body.is_empty() || body.len() == length, "{length} bytes of body in {text:?}");
    }
    answer
}

/// The first flight of a TLS client.
pub fn client_hello(gate: &Gate) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = rustls::ClientConnection::new(gate.ca.client(), name).unwrap();
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}
