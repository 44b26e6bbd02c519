//! The beginning of a frame, kept back until enough of it has come to tell what it is.

/// What [`Follower::next`](crate::tunnel::frames::Follower::next) left untaken at the end of a read.
///
/// It goes in front of the next read. At the end of the stream it is forwarded as it is.
#[derive(Debug, Default)]
pub(crate) struct Held {
    len: u8,
    bytes: [u8; Held::MAX],
}

impl Held {
    /// Bytes that may be left: all but the last of the longest header.
    pub(crate) const MAX: usize = 13;

    /// Keeps what is left, empty or not.
    ///
    /// # Panics
    /// With more than [`Held::MAX`] bytes, which a follower that gives no event never leaves.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        assert!(rest.len() <= Self::MAX, "no more than a header is held");
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.len = u8::try_from(rest.len()).expect("at most 13 bytes are held");
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}
