//! A TLS session without IO: ciphertext in, plaintext out, and the other way round. rustls'
//! unbuffered API behind four verbs, so that what replaces it in rustls 0.24 replaces it here alone.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error, InvalidMessage, ServerConfig};

/// The server's side of one session. Holds keys and the tail of a record, no buffers.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// Ciphertext of a record that is not whole yet. No memory when empty.
    partial: Vec<u8>,
    peer_closed: bool,
    close_notify_sent: bool,
    broken: bool,
}

/// Bytes to be sent, at the end of a buffer that somebody else owns.
pub(crate) struct Sealed<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> Sealed<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// Lets `fill` write into `room` more bytes and keeps as many as it says it wrote.
    fn extend<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let before = self.buffer.len();
        self.buffer.resize(before + room, 0);
        let written = fill(&mut self.buffer[before..]);
        self.buffer.truncate(before + written.as_ref().copied().unwrap_or(0));
        written.map(drop)
    }
}

impl Session {
    /// A session that waits for a ClientHello.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            peer_closed: false,
            close_notify_sent: false,
            broken: false,
        })
    }

    /// What was agreed on.
    pub(crate) fn common(&self) -> &CommonState {
        &self.connection
    }

    /// Whether application data may flow both ways.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client has said close_notify: no more plaintext comes.
    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Puts the ciphertext that is kept, the beginning of a record, in front of what will be read.
    pub(crate) fn put_partial(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.partial);
    }

    /// Takes in what was read behind what `put_partial` put there. `plain` gets the plaintext of
    /// each whole record, `sealed` what is to be sent, a fatal alert included.
    ///
    /// # Errors
    /// When the client breaks the protocol. Nothing more can be taken in then.
    pub(crate) fn ingest(
        &mut self,
        bytes: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        sealed: &mut Sealed<'_>,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::HandshakeNotComplete);
        }
        let taken = self.advance(bytes, &mut plain, sealed);
        if taken.is_err() {
            self.explain(sealed);
        }
        let rest = match &taken {
            Ok(taken) => &bytes[*taken..],
            Err(_) => &[],
        };
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        taken.map(drop)
    }

    /// Seals `bytes` into records.
    ///
    /// # Errors
    /// When the session is over, or its keys are.
    pub(crate) fn seal(&mut self, bytes: &[u8], sealed: &mut Sealed<'_>) -> Result<(), Error> {
        self.when_writing(sealed, |writing, sealed| {
            let records = bytes.len() / RECORD_BYTES + 1;
            let mut room = bytes.len() + records * RECORD_OVERHEAD_BYTES;
            loop {
                match sealed.extend(room, |out| writing.encrypt(bytes, out)) {
                    Ok(()) => return Ok(()),
                    Err(EncryptError::InsufficientSize(short)) if short.required_size > room => {
                        room = short.required_size;
                    }
                    Err(_) => return Err(Error::EncryptError),
                }
            }
        })
    }

    /// Says close_notify, once.
    ///
    /// # Errors
    /// When the handshake is not over.
    pub(crate) fn close_notify(&mut self, sealed: &mut Sealed<'_>) -> Result<(), Error> {
        if self.broken || std::mem::replace(&mut self.close_notify_sent, true) {
            return Ok(());
        }
        self.when_writing(sealed, |writing, sealed| {
            sealed
                .extend(ALERT_BYTES_MAX, |out| writing.queue_close_notify(out))
                .map_err(|_| Error::EncryptError)
        })
    }

    /// Runs the state machine over `bytes` until it wants more, and says how many it has taken.
    fn advance(
        &mut self,
        bytes: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        sealed: &mut Sealed<'_>,
    ) -> Result<usize, Error> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[taken..]);
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, sealed)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | ConnectionState::Closed => return Ok(taken + discard),
                // 0-RTT is never offered.
                _ => return Err(Error::HandshakeNotComplete),
            }
            taken += discard;
        }
    }

    /// Encodes the alert that explains an error, and ends the session: what broke it must not be
    /// shown to rustls again.
    fn explain(&mut self, sealed: &mut Sealed<'_>) {
        self.broken = true;
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(&mut []).state
            else {
                return;
            };
            if encode(&mut data, sealed).is_err() {
                return;
            }
        }
    }

    /// Brings the state machine to where data can be sent.
    fn when_writing(
        &mut self,
        sealed: &mut Sealed<'_>,
        act: impl FnOnce(&mut Writing<'_>, &mut Sealed<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::HandshakeNotComplete);
        }
        loop {
            // Fragments of a handshake message may be waiting there: rustls keeps their place.
            match self.connection.process_tls_records(&mut self.partial).state? {
                ConnectionState::WriteTraffic(mut writing) => return act(&mut writing, sealed),
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, sealed)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(Error::HandshakeNotComplete),
            }
        }
    }
}

type Writing<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

fn encode(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    sealed: &mut Sealed<'_>,
) -> Result<(), Error> {
    let mut room = HANDSHAKE_BYTES;
    loop {
        match sealed.extend(room, |out| data.encode(out)) {
            Ok(()) => return Ok(()),
            Err(EncodeError::InsufficientSize(short)) if short.required_size > room => {
                room = short.required_size;
            }
            Err(_) => return Err(Error::InvalidMessage(InvalidMessage::MessageTooLarge)),
        }
    }
}

/// Plaintext in one record (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Header, content type, explicit nonce (TLS 1.2) and tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 8 + 16;

/// A sealed alert.
const ALERT_BYTES_MAX: usize = 64;

/// Room for a usual handshake message; a larger one says so.
const HANDSHAKE_BYTES: usize = 4096;
