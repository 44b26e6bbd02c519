//! A TLS connection on a worker: ciphertext is read into the worker's own buffer and decrypted
//! there; what is sent is sealed into another one. A connection keeps bytes of its own only while a
//! record is not whole or its peer does not take what was sealed.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::session::{Sealed, Session};

/// A client connection behind TLS.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Ciphertext that the client does not take: `unsent[sent..]`. No memory when empty.
    unsent: Vec<u8>,
    sent: usize,
    /// Plaintext that its reader does not take, in the HTTP stage only.
    unread: Vec<u8>,
    read: usize,
    ended: bool,
}

impl TlsStream {
    /// Shakes hands. Tickets may be left to be sent with the first answer.
    ///
    /// # Errors
    /// What rustls says, as the source of an `InvalidData` error, or what the socket says.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(crate) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = Session::new(config).map_err(io::Error::other)?;
        let mut stream = Self {
            tcp,
            session,
            unsent: Vec::new(),
            sent: 0,
            unread: Vec::new(),
            read: 0,
            ended: false,
        };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// What was agreed on.
    pub(crate) fn common(&self) -> &CommonState {
        self.session.common()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_sent(cx))?;
            let mut early = std::mem::take(&mut self.unread);
            let ingested = self.poll_ingest(cx, |bytes| early.extend_from_slice(bytes));
            self.unread = early;
            if ready!(ingested)? == Ingested::End {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and decrypts what that completes.
    ///
    /// # Errors
    /// Broken TLS; the alert that says so has been sent as far as the socket took it.
    fn poll_ingest(
        &mut self,
        cx: &mut Context<'_>,
        plain: impl FnMut(&[u8]),
    ) -> Poll<io::Result<Ingested>> {
        if self.ended || self.session.peer_closed() {
            return Poll::Ready(Ok(Ingested::End));
        }
        if self.unsent.len() - self.sent > REPLIES_BYTES_MAX {
            // A client that asks for replies and does not take them gets no further.
            ready!(self.poll_sent(cx))?;
        }
        let mut plain = plain;
        CIPHER.with_borrow_mut(|cipher| {
            cipher.clear();
            self.session.put_partial(cipher);
            if cipher.len() + RECORD_BYTES_MAX > cipher.capacity() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            // read_buf is cancel safe, and polled once it is a read without a wait.
            if ready!(pin!(self.tcp.read_buf(cipher)).poll(cx))? == 0 {
                self.ended = true;
                return Poll::Ready(Ok(Ingested::End));
            }
            let mut sealed = Sealed::new(&mut self.unsent);
            let ingested = self.session.ingest(cipher, &mut plain, &mut sealed);
            match ingested {
                Ok(()) => Poll::Ready(Ok(Ingested::Some)),
                Err(error) => {
                    // A socket that does not take the alert now never will.
                    let _ = self.poll_sent(cx);
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
                }
            }
        })
    }

    /// Reads once into `plain`; whether something came or the client has ended. Plaintext that the
    /// HTTP stage left comes first.
    ///
    /// # Errors
    /// As the socket, or broken TLS.
    pub(crate) fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        plain: &mut Vec<u8>,
    ) -> Poll<io::Result<Ingested>> {
        if self.read < self.unread.len() {
            plain.extend_from_slice(&self.unread[self.read..]);
            self.unread = Vec::new();
            self.read = 0;
            return Poll::Ready(Ok(Ingested::Some));
        }
        self.poll_ingest(cx, |bytes| plain.extend_from_slice(bytes))
    }

    /// Seals `bytes` and sends what the socket takes; the rest is kept, behind what is kept already.
    ///
    /// # Errors
    /// As the socket, or a session that is over.
    pub(crate) fn seal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        SEALED.with_borrow_mut(|buffer| {
            buffer.clear();
            let mut sealed = Sealed::new(buffer);
            self.session.seal(bytes, &mut sealed).map_err(io::Error::other)?;
            let mut rest = buffer.as_slice();
            while !rest.is_empty() && self.unsent.is_empty() {
                match Pin::new(&mut self.tcp).poll_write(cx, rest) {
                    Poll::Ready(written) => rest = &rest[written?..],
                    Poll::Pending => break,
                }
            }
            self.unsent.extend_from_slice(rest);
            Ok(())
        })
    }

    /// What the system has to say of the socket while nothing is read from it; said once.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.tcp.take_error().ok().flatten()
    }

    /// Ready when everything that was sealed has gone.
    ///
    /// # Errors
    /// As the socket.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let unsent = &self.unsent[self.sent..];
            self.sent += ready!(Pin::new(&mut self.tcp).poll_write(cx, unsent))?;
        }
        if self.sent > 0 {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingested {
    /// Perhaps plaintext; a record that is not whole brings none.
    Some,
    /// close_notify, or the end of the connection without it.
    End,
}

/// For the HTTP stage, which wants to be given bytes.
impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read == this.unread.len() {
            this.unread.clear();
            this.read = 0;
            let mut unread = std::mem::take(&mut this.unread);
            let ingested = this.poll_ingest(cx, |bytes| unread.extend_from_slice(bytes));
            if !unread.is_empty() {
                this.unread = unread;
            }
            match ingested {
                Poll::Ready(Ok(Ingested::Some)) => {}
                Poll::Ready(Ok(Ingested::End)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // Tickets and key updates that no answer takes along.
                    let _ = this.poll_sent(cx)?;
                    return Poll::Pending;
                }
            }
        }
        let give = (this.unread.len() - this.read).min(out.remaining());
        out.put_slice(&this.unread[this.read..this.read + give]);
        this.read += give;
        if this.read == this.unread.len() {
            this.unread = Vec::new();
            this.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        let most = bytes.len().min(WRITE_BYTES_MAX);
        self.seal(cx, &bytes[..most])?;
        Poll::Ready(Ok(most))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    /// close_notify, then FIN.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut sealed = Sealed::new(&mut this.unsent);
        this.session.close_notify(&mut sealed).map_err(io::Error::other)?;
        ready!(this.poll_sent(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

thread_local! {
    /// What is read goes through here and is decrypted in place.
    static CIPHER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(CIPHER_BYTES));
    /// What is sent is sealed here.
    static SEALED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(CIPHER_BYTES));
}

/// Four records, and the tail of one.
const CIPHER_BYTES: usize = 5 * RECORD_BYTES_MAX;

/// RFC 8446 §5.2, and room for TLS 1.2's overhead.
const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048 + 5;

/// Plaintext sealed at once in the HTTP stage.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Tickets, key updates and alerts that may wait to be sent before reading stops.
const REPLIES_BYTES_MAX: usize = 16 * 1024;
