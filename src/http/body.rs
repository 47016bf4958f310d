//! Bodies of answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::{Buf, Bytes};
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

/// What is handed on together, so that one system call writes many small
/// pieces. hyper gives 64 to one `writev`.
const RUN_PIECES: usize = 64;
const RUN_BYTES: usize = 128 * 1024;

/// Pieces that are written together.
#[derive(Debug, Default)]
pub struct Run {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Run {
    fn push(&mut self, piece: Bytes) {
        // The first of what is left is never empty.
        if !piece.is_empty() {
            self.left += piece.len();
            self.pieces.push_back(piece);
        }
    }

    fn is_full(&self) -> bool {
        self.pieces.len() >= RUN_PIECES || self.left >= RUN_BYTES
    }
}

impl Buf for Run {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut count = count;
        self.left -= count;
        while let Some(piece) = self.pieces.front_mut().filter(|_| count > 0) {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

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
    type Data = Run;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Run>, Infallible>>> {
        if self.stretch >= STRETCH {
            self.stretch = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut run = Run::default();
        while !run.is_full() {
            let piece = match &mut self.pieces {
                Source::Made(pieces) => pieces.next(),
                Source::Pages(texts) => texts.next(),
            };
            let Some(piece) = piece else { break };
            run.push(piece);
        }
        if run.left == 0 {
            self.turn = None;
            return Poll::Ready(None);
        }
        self.left -= run.left as u64;
        self.stretch += run.left;
        Poll::Ready(Some(Ok(Frame::data(run))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn run(pieces: &[&'static str]) -> Run {
        let mut run = Run::default();
        for piece in pieces {
            run.push(Bytes::from_static(piece.as_bytes()));
        }
        run
    }

    #[test]
    fn a_run_is_its_pieces_however_much_of_them_is_written_at_once() {
        for step in 1..=7 {
            let mut run = run(&["ab", "", "c", "defg"]);
            let mut written = Vec::new();
            while run.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = run.chunks_vectored(&mut slices);
                assert_eq!(&*slices[0], run.chunk());
                let text = slices[..filled].iter().flat_map(|slice| slice.to_vec());
                let text: Vec<u8> = text.collect();
                let count = step.min(text.len());
                written.extend_from_slice(&text[..count]);
                run.advance(count);
            }
            assert_eq!(written, b"abcdefg", "in steps of {step}");
        }
    }

    #[tokio::test]
    async fn what_is_handed_on_at_once_is_bounded() {
        let small = vec![Bytes::from_static(b"m 1\n"); 2 * RUN_PIECES + 1];
        let large = vec![Bytes::from(vec![b'a'; RUN_BYTES / 2 + 1]); 3];
        for (pieces, expected) in [(small, [64, 64, 1]), (large, [2, 1, 0])] {
            let mut body = Pieces::new(pieces);
            for count in expected.into_iter().filter(|count| *count > 0) {
                let frame = body.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap().pieces.len(), count);
            }
            assert!(body.frame().await.is_none());
        }
    }
}
