//! Bodies of answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Pieces sent one after the other. Each is let go once it is sent, so a slow
/// reader holds no more than what it has still to be sent.
#[derive(Debug)]
pub struct Pieces {
    pieces: vec::IntoIter<Bytes>,
    left: u64,
}

impl Pieces {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces {
            pieces: pieces.into_iter(),
            left,
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
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
