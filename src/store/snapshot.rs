//! Everything that is exposed at one moment.

use bytes::Bytes;

/// The text of all sections, in order, as pieces that are shared with the
/// store. It costs no copy, and what is written later does not touch it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Snapshot {
    pub(super) fn new(pieces: Vec<Bytes>, len: usize) -> Self {
        Snapshot { pieces, len }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}
