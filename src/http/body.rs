//! Bodies of answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::turns::Turn;
use crate::store::{Snapshot, Texts};

/// Pieces sent one after the other. Each is let go once it is sent, so a slow
/// reader holds no more than what it has still to be sent.
#[derive(Debug)]
pub struct Pieces {
    pieces: Source,
    left: u64,
    /// Held until all is sent, or the client is gone.
    turn: Option<Turn>,
    /// Bytes given out since others had a turn.
    stretch: usize,
}

/// After so many bytes others have a turn. A fast reader takes a large answer
/// as it is written, so that sending it would be one step of milliseconds, and
/// the thread that takes it may be the one that looks for new connections.
const STRETCH: usize = 512 * 1024;

#[derive(Debug)]
enum Source {
    Made(vec::IntoIter<Bytes>),
    /// Pages that are joined when their turn comes.
    Pages(Texts),
}

impl Pieces {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Pieces {
            left: pieces.iter().map(|piece| piece.len() as u64).sum(),
            pieces: Source::Made(pieces.into_iter()),
            turn: None,
            stretch: 0,
        }
    }

    /// The text of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        Pieces {
            left: snapshot.len() as u64,
            pieces: Source::Pages(snapshot.texts()),
            turn: None,
            stretch: 0,
        }
    }

    /// The same, which holds a place among those that are sent at once for as
    /// long as it is in memory.
    pub fn holding(self, turn: Turn) -> Self {
        Pieces {
            turn: Some(turn),
            ..self
        }
    }

    pub fn len(&self) -> u64 {
        self.left
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Pieces::new(vec![bytes])
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.stretch >= STRETCH {
            self.stretch = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = match &mut self.pieces {
            Source::Made(pieces) => pieces.next(),
            Source::Pages(texts) => texts.next(),
        };
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
            self.stretch += piece.len();
        } else {
            self.turn = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
