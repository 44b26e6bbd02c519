//! The beginning of a frame, kept back until enough of it has come to tell what it is.

use crate::tunnel::frames::wanted;

/// What [`Follower::next`](crate::tunnel::frames::Follower::next) left untaken at the end of a read.
///
/// It goes in front of the next read, by one of two ways: [`Held::put_before`] where the buffer has
/// room in front, else [`Held::top_up`]. At the end of the stream it is forwarded as it is.
#[derive(Debug, Default)]
pub(crate) struct Held {
    len: u8,
    bytes: [u8; Held::MAX + 1],
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
        self.len = 0;
        self.top_up_to(rest.len(), rest);
    }

    /// Moves the bytes to the end of `room`, whose length is at least [`Held::MAX`] and says where
    /// the next read begins. Returns how many they are.
    pub(crate) fn put_before(&mut self, room: &mut [u8]) -> usize {
        let len = usize::from(std::mem::take(&mut self.len));
        let start = room.len() - len;
        room[start..].copy_from_slice(&self.bytes[..len]);
        len
    }

    /// Adds as many of the bytes that follow as it takes to tell what the frame is, none when
    /// nothing is held. Returns how many.
    ///
    /// Then the follower goes over [`Held::as_bytes`] first. If it takes them (always all) or
    /// withholds them, they are to be [cleared](Held::clear); if not, everything is held now.
    pub(crate) fn top_up(&mut self, more: &[u8]) -> usize {
        let mut used = 0;
        while self.len > 0 {
            let goal = wanted(self.as_bytes());
            match self.top_up_to(goal, &more[used..]) {
                0 => break,
                added => used += added,
            }
        }
        used
    }

    /// Nothing is kept back.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds from `more` until `goal` bytes are there; no frame needs more than 14 to be known.
    fn top_up_to(&mut self, goal: usize, more: &[u8]) -> usize {
        let len = usize::from(self.len);
        let added = goal.saturating_sub(len).min(more.len());
        self.bytes[len..][..added].copy_from_slice(&more[..added]);
        self.len += u8::try_from(added).expect("at most 14 bytes are held");
        added
    }
}
