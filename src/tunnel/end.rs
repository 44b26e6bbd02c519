//! The two ends of a tunnel: what can be taken from one and given to the other. Both keep what
//! their socket does not take, so a direction needs no buffer of its own.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls::{Ingested, TlsStream};
use crate::tunnel::Reason;

/// One end of a tunnel.
pub(crate) trait End {
    /// Takes what there is, behind what `into` holds; never more than its spare capacity, unless
    /// decrypting brings more.
    ///
    /// # Errors
    /// As the socket, or broken TLS.
    fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>)
    -> Poll<io::Result<Ingested>>;

    /// Gives `bytes`; what the socket does not take now is kept, behind what is kept already. Who
    /// waits for `poll_gone` before each call bounds that to what one call gives.
    ///
    /// # Errors
    /// As the socket.
    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()>;

    /// Ready when everything given has gone.
    ///
    /// # Errors
    /// As the socket.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the connection was reset, asked while nothing is read from it. Said once.
    fn was_reset(&self) -> bool;

    /// Ends this direction once everything given has gone: close_notify where there is TLS, and FIN.
    ///
    /// # Errors
    /// As the socket.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl End for TlsStream {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<Ingested>> {
        let taken = self.poll_plain(cx, into);
        if taken.is_pending() {
            // Replies to the client's key updates go out though nothing else does.
            let _ = self.poll_sent(cx)?;
        }
        taken
    }

    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        self.seal(cx, bytes)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn was_reset(&self) -> bool {
        self.take_error().is_some_and(|error| Reason::of(&error) == Reason::Reset)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

/// A backend: a socket, and what it does not take.
pub(crate) struct Plain<S> {
    socket: S,
    unsent: Vec<u8>,
    sent: usize,
}

/// The backend's end.
pub(crate) type BackendEnd = Plain<TcpStream>;

impl<S> Plain<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, unsent: Vec::new(), sent: 0 }
    }
}

impl<S: tokio::io::AsyncRead + AsyncWrite + Unpin> End for Plain<S> {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<Ingested>> {
        // read_buf is cancel safe, and polled once it is a read without a wait.
        let read = ready!(pin!(self.socket.read_buf(into)).poll(cx))?;
        Poll::Ready(Ok(if read == 0 { Ingested::End } else { Ingested::Some }))
    }

    fn give(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() && self.unsent.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => rest = &rest[written?..],
                Poll::Pending => break,
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let unsent = &self.unsent[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        if self.sent > 0 {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Never asked of backends: what came before their reset belongs to a client that may read
    /// slowly.
    fn was_reset(&self) -> bool {
        false
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gone(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
