//! A TLS client that writes what it is told, byte for byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;

/// One TLS connection.
pub struct Client {
    pub stream: TlsStream<TcpStream>,
    /// Read behind the last answer's head.
    pub early: Vec<u8>,
}

/// The head of an answer, and its body where it has a length.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names, in order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field; panics when it is repeated.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands {} times", all.len());
        all.first().copied()
    }
}

impl Client {
    pub async fn connect(to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Self { stream, early: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes `text` and reads one answer.
    pub async fn ask(&mut self, text: &str) -> Answer {
        self.send(text.as_bytes()).await;
        self.answer().await
    }

    /// Reads one answer: the head, and the body where a Content-Length says how long it is.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.unwrap()
    }

    /// The same, with an error when the connection ends before the head is whole.
    pub async fn try_answer(&mut self) -> io::Result<Answer> {
        soon("an answer", async {
            let mut bytes = std::mem::take(&mut self.early);
            let end = loop {
                if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at;
                }
                if self.stream.read_buf(&mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut body = bytes.split_off(end + 4);
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap()[9..12].parse().unwrap();
            let fields: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap_or((line, "")))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let mut answer = Answer { status, fields, body: Vec::new() };
            let length: usize = answer.one("content-length").map_or(0, |n| n.parse().unwrap());
            while body.len() < length {
                if self.stream.read_buf(&mut body).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.early = body.split_off(length.min(body.len()));
            answer.body = body;
            Ok(answer)
        })
        .await
    }

    /// Reads exactly `length` bytes.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.early);
        soon("bytes", async {
            while bytes.len() < length {
                assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "ended too early");
            }
        })
        .await;
        self.early = bytes.split_off(length);
        bytes
    }

    /// Reads until the end; whatever ends the connection is an end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.early);
        soon("the end", async { while let Ok(1..) = self.stream.read_buf(&mut bytes).await {} })
            .await;
        bytes
    }
}
