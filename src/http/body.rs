//! Bodies of answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::store::{Page, Snapshot};

/// Pieces sent one after the other. Each is let go once it is sent, so a slow
/// reader holds no more than what it has still to be sent.
#[derive(Debug)]
pub struct Pieces {
    pieces: vec::IntoIter<Piece>,
    left: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// Joined when its turn comes.
    Page(Arc<Page>),
}

impl Pieces {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        let pieces: Vec<Piece> = pieces.into_iter().map(Piece::Bytes).collect();
        Pieces {
            pieces: pieces.into_iter(),
            left,
        }
    }

    /// The text of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let pages: Vec<Piece> = snapshot.pages().iter().cloned().map(Piece::Page).collect();
        Pieces {
            pieces: pages.into_iter(),
            left: snapshot.len() as u64,
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
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.next().map(|piece| {
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Page(page) => page.text().clone(),
            };
            self.left -= bytes.len() as u64;
            Ok(Frame::data(bytes))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
