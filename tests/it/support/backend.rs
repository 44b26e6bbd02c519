//! A backend that records every byte it gets and answers from a script.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::eventually;

/// A listening backend; it ends when dropped, its connections with it.
pub struct Backend {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection to a backend, its first head read.
pub struct Conversation {
    pub stream: TcpStream,
    /// The request's head, with the blank line.
    pub head: String,
    /// What was read behind it.
    pub early: Vec<u8>,
}

impl Conversation {
    /// The values of a field of the request.
    pub fn field(&self, name: &str) -> Vec<String> {
        field(&self.head, name)
    }

    /// A good 101 for this request, with `more` field lines.
    pub fn switching(&self, more: &str) -> String {
        let accept = accept_of(&self.field("sec-websocket-key")[0]);
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gate that has gone is for the test to notice.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends back whatever comes, early bytes first, until the end.
    pub async fn echo(mut self) {
        let early = std::mem::take(&mut self.early);
        self.send(early).await;
        let (mut read, mut write) = self.stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    }
}

impl Backend {
    /// Each connection, once its first head is there, goes to `script`.
    pub async fn start<F, W>(script: F) -> Self
    where
        F: Fn(Conversation) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// The same at a given address, where a backend may have been before.
    pub async fn start_at<F, W>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Conversation) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let bind = || async move { TcpListener::bind(address).await.ok() };
        let listener = eventually(&format!("{address} free"), bind).await;
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (counted, recorded) = (Arc::clone(&connections), Arc::clone(&heads));
        let script = Arc::new(script);
        let accepting = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                counted.fetch_add(1, Ordering::SeqCst);
                let (recorded, script) = (Arc::clone(&recorded), Arc::clone(&script));
                conversations.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut bytes = Vec::new();
                    let end = loop {
                        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                            break at + 4;
                        }
                        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                            return;
                        }
                    };
                    let early = bytes.split_off(end);
                    let head = String::from_utf8_lossy(&bytes).into_owned();
                    recorded.lock().unwrap().push(head.clone());
                    script(Conversation { stream, head, early }).await;
                });
            }
        });
        Self { address, connections, heads, accepting }
    }

    /// WebSockets are echoed; other requests get 200 with their own head as the body.
    pub async fn echo() -> Self {
        Self::named("").await
    }

    /// The same, with `name` in the field `x-backend` of each answer.
    pub async fn named(name: &'static str) -> Self {
        Self::named_at("127.0.0.1:0".parse().unwrap(), name).await
    }

    /// The same at a given address.
    pub async fn named_at(address: SocketAddr, name: &'static str) -> Self {
        Self::start_at(address, move |mut talk| async move {
            let who = format!("x-backend: {name}\r\n");
            if talk.field("upgrade").is_empty() {
                let head = talk.head.clone();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\n{who}Connection: close\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                );
                talk.send(answer).await;
            } else {
                let answer = talk.switching(&who);
                talk.send(answer).await;
                talk.echo().await;
            }
        })
        .await
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of the first requests on each connection.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits for the `number`th head, counted from 0.
    pub async fn head(&self, number: usize) -> String {
        eventually("a request at the backend", || {
            std::future::ready(self.heads().get(number).cloned())
        })
        .await
    }
}

/// The values of a field in a raw head.
pub fn field(head: &str, name: &str) -> Vec<String> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

/// RFC 6455 §4.2.2.
pub fn accept_of(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}
