//! One WebSocket of the load generator: TLS 1.3, upgrade, exchanges that check what comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Result;
use crate::frames::{
    ACCEPT, BINARY, BULK_BYTES, CLOSE, KEY, NORMAL_CLOSURE, Repeats, mask, masked, pattern, plain,
};

/// How to reach the proxy. Each has tickets of its own.
#[derive(Clone)]
pub(crate) struct Dial {
    address: SocketAddr,
    connector: TlsConnector,
}

impl Dial {
    /// TLS 1.3 with one suite and one group, so that everybody does the same arithmetic.
    pub(crate) fn new(address: SocketAddr, roots_pem: &[u8], resume: bool) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots_pem) {
            roots.add(root?)?;
        }
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384];
        provider.kx_groups = vec![kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption =
            if resume { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }
}

/// An open WebSocket.
pub(crate) struct Socket {
    pub(crate) stream: TlsStream<TcpStream>,
}

impl Socket {
    /// Connects and upgrades; anything but the expected 101 is an error.
    pub(crate) async fn open(dial: &Dial, path: &str) -> Result<Self> {
        let tcp = TcpStream::connect(dial.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = dial.connector.connect(name, tcp).await?;
        let host = format!("localhost:{}", dial.address.port());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n\
             User-Agent: side_by_side\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::with_capacity(1024);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD_BYTES || stream.read_buf(&mut head).await? == 0 {
                return Err(format!("bad head: {}", head.escape_ascii()).into());
            }
        }
        let text = String::from_utf8_lossy(&head);
        if !text.starts_with("HTTP/1.1 101 ") || !text.contains(ACCEPT) {
            return Err(format!("not upgraded: {text}").into());
        }
        let socket = Self { stream };
        socket.check_session()?;
        Ok(socket)
    }

    /// What was agreed on must be what the table says.
    fn check_session(&self) -> Result<()> {
        let (_, session) = self.stream.get_ref();
        let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = session.negotiated_key_exchange_group().map(|group| group.name());
        if (suite, group) != (Some(CipherSuite::TLS13_AES_256_GCM_SHA384), Some(NamedGroup::X25519))
        {
            return Err(format!("agreed on {suite:?} and {group:?}").into());
        }
        Ok(())
    }

    /// Whether the handshake took a ticket.
    pub(crate) fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// One message there and back.
    pub(crate) async fn echo(&mut self, exchange: &mut Exchange) -> Result<()> {
        exchange.next();
        self.stream.write_all(&exchange.request).await?;
        self.stream.flush().await?;
        self.stream.read_exact(&mut exchange.answer).await?;
        if exchange.answer != exchange.expected {
            return Err("an echo came back altered".into());
        }
        Ok(())
    }

    /// Sends `count` bulk frames, which `bulk` is one of, and awaits that all have arrived.
    pub(crate) async fn pour(&mut self, count: u64, bulk: &[u8]) -> Result<()> {
        self.stream.write_all(&masked(BINARY, &count.to_be_bytes())).await?;
        for _ in 0..count {
            self.stream.write_all(bulk).await?;
        }
        self.stream.flush().await?;
        let expected = plain(BINARY, &count.to_be_bytes());
        let mut answer = vec![0; expected.len()];
        self.stream.read_exact(&mut answer).await?;
        if answer != expected {
            return Err("the count of bulk frames came back altered".into());
        }
        Ok(())
    }

    /// Asks for `count` bulk frames and takes them.
    pub(crate) async fn draw(&mut self, count: u64) -> Result<()> {
        self.stream.write_all(&masked(BINARY, &count.to_be_bytes())).await?;
        self.stream.flush().await?;
        let mut expected = Repeats::of(plain(BINARY, &pattern(BULK_BYTES)));
        let mut left = count * expected.period() as u64;
        let mut buffer = vec![0; BULK_BYTES];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.stream.read(&mut buffer[..most]).await?;
            if read == 0 || !expected.follow(&buffer[..read]) {
                return Err("bulk came back altered or cut".into());
            }
            left -= read as u64;
        }
        Ok(())
    }

    /// The closing handshake, then the end of both directions.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.stream.write_all(&masked(CLOSE, &NORMAL_CLOSURE)).await?;
        self.stream.flush().await?;
        let expected = plain(CLOSE, &NORMAL_CLOSURE);
        let mut answer = vec![0; expected.len()];
        self.stream.read_exact(&mut answer).await?;
        if answer != expected {
            return Err("Close came back altered".into());
        }
        // nginx and HAProxy may leave out close_notify, which rustls reports; the end is the end.
        let mut more = [0];
        if matches!(self.stream.read(&mut more).await, Ok(1)) {
            return Err("bytes behind Close".into());
        }
        // The other side may be gone already.
        let _ = self.stream.shutdown().await;
        Ok(())
    }
}

/// A message and the answer to it, different each time.
pub(crate) struct Exchange {
    /// What goes out.
    pub(crate) request: Vec<u8>,
    /// What must come back.
    pub(crate) expected: Vec<u8>,
    answer: Vec<u8>,
    payload: usize,
    number: u64,
}

impl Exchange {
    /// Messages of `payload` bytes, at least eight.
    pub(crate) fn of(payload: usize) -> Self {
        let pattern = pattern(payload);
        let expected = plain(BINARY, &pattern);
        let answer = vec![0; expected.len()];
        Self { request: masked(BINARY, &pattern), expected, answer, payload, number: 0 }
    }

    /// The same messages, counted from the first.
    pub(crate) fn again(&self) -> Self {
        Self::of(self.payload)
    }

    /// Puts the next number into the first eight bytes of the payload.
    pub(crate) fn next(&mut self) {
        self.number += 1;
        let mut number = self.number.to_be_bytes();
        let start = self.expected.len() - self.payload;
        self.expected[start..start + 8].copy_from_slice(&number);
        mask(&mut number);
        let start = self.request.len() - self.payload;
        self.request[start..start + 8].copy_from_slice(&number);
    }
}

/// Of an answer's head.
const HEAD_BYTES: usize = 16 * 1024;
