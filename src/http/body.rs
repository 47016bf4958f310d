//! Bodies of answers.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use std::vec;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinError;

use crate::net::{BlockingPool, BudgetShare};
use crate::store::{Snapshot, Texts};
use crate::telemetry::DurationHistogram;

/// ReplyBody sent one after the other. Each is let go once it is sent, so a slow
/// reader holds no more than what it has still to be sent.
#[derive(Debug)]
pub struct ReplyBody {
    pieces: Source,
    /// Bytes still to be sent, where that is known.
    left: Option<u64>,
    /// Bytes given out since others had a turn.
    stretch: usize,
    /// Runs until all is handed on, or the client is gone.
    timer: Option<Timer>,
    /// Memory that it takes until all is sent, or the client is gone. The last
    /// run outlives the body.
    held: Option<Arc<BudgetShare>>,
}

/// Notes how long something took when it is dropped.
#[derive(Debug)]
struct Timer {
    start: Instant,
    durations: Arc<DurationHistogram>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.durations.record(self.start.elapsed());
    }
}

/// After so many bytes others have a turn. A fast reader takes a large answer
/// as it is written, so that sending it would be one step of milliseconds, and
/// the thread that takes it may be the one that looks for new connections.
const STRETCH: usize = 512 * 1024;

/// What is handed on together, so that one system call writes many small
/// pieces. hyper gives 64 to one `writev`.
const RUN_PIECES: usize = 64;
const RUN_BYTES: usize = 128 * 1024;

/// ReplyBody that are written together.
#[derive(Debug, Default)]
pub struct Run {
    pieces: VecDeque<Bytes>,
    left: usize,
    _held: Option<Arc<BudgetShare>>,
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
    /// What is made while it is sent.
    Steps(Steps),
}

/// Makes an answer step by step. Each step takes a bounded time, however much the
/// store holds, and may yield an empty piece.
pub type ChunkIterator = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer that grows with what is held, made in steps away from the threads
/// that serve. A step is taken once the one before is handed on, so that an
/// answer takes the memory of one step, and none is taken for a client that
/// has left. A place among the turns is taken for each step and free between
/// them, so that readers who do not read keep nobody waiting.
struct Steps {
    turns: BlockingPool,
    made: VecDeque<Bytes>,
    state: State,
}

enum State {
    Waiting(ChunkIterator),
    Working(Pin<Box<dyn Future<Output = Result<Step, JoinError>> + Send>>),
    Ended,
}

/// The maker, unless it has ended, and what it made.
type Step = (Option<ChunkIterator>, Vec<Bytes>);

/// An answer is short if it ends within these steps and bytes.
const SHORT_STEPS: usize = 6;
const SHORT_BYTES: usize = 64 << 10;

fn one_step(mut maker: ChunkIterator) -> Step {
    match maker.next() {
        Some(piece) => (Some(maker), vec![piece]),
        None => (None, Vec::new()),
    }
}

/// Goes on until the answer ends or turns out not to be short.
fn first_steps(mut maker: ChunkIterator) -> Step {
    let mut made = Vec::new();
    let mut bytes = 0;
    while made.len() < SHORT_STEPS && bytes < SHORT_BYTES {
        let Some(piece) = maker.next() else {
            return (None, made);
        };
        bytes += piece.len();
        made.push(piece);
    }
    (Some(maker), made)
}

impl Steps {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, JoinError>>> {
        loop {
            match self.made.pop_front() {
                Some(piece) if piece.is_empty() => continue,
                Some(piece) => return Poll::Ready(Some(Ok(piece))),
                None => {}
            }
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Waiting(maker) => {
                    let turns = self.turns.clone();
                    let work = async move { turns.run(move || one_step(maker)).await };
                    State::Working(Box::pin(work))
                }
                State::Working(mut work) => match work.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Working(work);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((maker, made))) => {
                        self.made.extend(made);
                        maker.map_or(State::Ended, State::Waiting)
                    }
                    Poll::Ready(Err(problem)) => return Poll::Ready(Some(Err(problem))),
                },
            };
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

impl ReplyBody {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        ReplyBody {
            left: Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
            pieces: Source::Made(pieces.into_iter()),
            stretch: 0,
            timer: None,
            held: None,
        }
    }

    /// The text of a snapshot.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        ReplyBody {
            left: Some(snapshot.len() as u64),
            pieces: Source::Pages(snapshot.texts()),
            stretch: 0,
            timer: None,
            held: None,
        }
    }

    /// What `maker` makes. An answer that may be `short` is begun at once, and
    /// has a length if it is. The head of another is sent before its first step:
    /// a client that has left is then known after one.
    pub async fn streamed(
        turns: &BlockingPool,
        short: bool,
        maker: ChunkIterator,
    ) -> Result<Self, JoinError> {
        let (rest, made) = match short {
            true => turns.run(move || first_steps(maker)).await?,
            false => (Some(maker), Vec::new()),
        };
        let Some(maker) = rest else {
            return Ok(ReplyBody::new(made));
        };
        Ok(ReplyBody {
            left: None,
            pieces: Source::Steps(Steps {
                turns: turns.clone(),
                made: made.into(),
                state: State::Waiting(maker),
            }),
            stretch: 0,
            timer: None,
            held: None,
        })
    }

    /// The same, which notes the time since `start` once all of it is handed
    /// on, or the client is gone.
    pub fn timed(self, start: Instant, durations: Arc<DurationHistogram>) -> Self {
        ReplyBody {
            timer: Some(Timer { start, durations }),
            ..self
        }
    }

    /// The same, which keeps `held` until it is dropped.
    pub fn holding(self, held: BudgetShare) -> Self {
        ReplyBody {
            held: Some(Arc::new(held)),
            ..self
        }
    }

    /// Bytes, where they are known before all is made.
    pub fn len(&self) -> Option<u64> {
        self.left
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> Self {
        ReplyBody::new(vec![bytes])
    }
}

impl Body for ReplyBody {
    type Data = Run;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Run>, JoinError>>> {
        if self.stretch >= STRETCH {
            self.stretch = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut run = Run {
            _held: self.held.clone(),
            ..Run::default()
        };
        while !run.is_full() {
            let piece = match &mut self.pieces {
                Source::Made(pieces) => pieces.next(),
                Source::Pages(texts) => texts.next(),
                // A step is as much as goes together.
                Source::Steps(_) if run.left > 0 => None,
                Source::Steps(steps) => match ready!(steps.poll_next(cx)) {
                    Some(Err(problem)) => return Poll::Ready(Some(Err(problem))),
                    piece => piece.and_then(Result::ok),
                },
            };
            let Some(piece) = piece else { break };
            run.push(piece);
        }
        if run.left == 0 {
            self.timer = None;
            self.held = None;
            return Poll::Ready(None);
        }
        if let Some(left) = &mut self.left {
            *left -= run.left as u64;
        }
        self.stretch += run.left;
        Poll::Ready(Some(Ok(Frame::data(run))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
            let mut body = ReplyBody::new(pieces);
            for count in expected.into_iter().filter(|count| *count > 0) {
                let frame = body.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap().pieces.len(), count);
            }
            assert!(body.frame().await.is_none());
        }
    }

    /// An answer of `pieces` pieces, and a counter of the steps taken.
    fn counted(pieces: usize) -> (ChunkIterator, Arc<AtomicUsize>) {
        let steps = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&steps);
        let piece = move |number: usize| {
            taken.fetch_add(1, Ordering::Relaxed);
            // Some steps come to nothing.
            match number % 3 {
                1 => Bytes::new(),
                _ => Bytes::from(format!("{number};")),
            }
        };
        (Box::new((0..pieces).map(piece)), steps)
    }

    #[tokio::test]
    async fn an_answer_is_made_in_steps_and_a_short_one_has_a_length() {
        let turns = BlockingPool::new(1);
        for (pieces, length, whole) in [
            (0, Some(0), ""),
            (1, Some(2), "0;"),
            (5, Some(6), "0;2;3;"),
            (6, None, "0;2;3;5;"),
            (9, None, "0;2;3;5;6;8;"),
        ] {
            let (maker, _) = counted(pieces);
            let body = ReplyBody::streamed(&turns, true, maker).await.unwrap();
            assert_eq!(body.len(), length, "{pieces}");
            let mut sent = Vec::new();
            let mut collected = body.collect().await.unwrap().aggregate();
            while collected.has_remaining() {
                sent.extend_from_slice(collected.chunk());
                let count = collected.chunk().len();
                collected.advance(count);
            }
            assert_eq!(sent, whole.as_bytes(), "{pieces}");
        }
    }

    #[tokio::test]
    async fn no_step_is_taken_for_a_client_that_does_not_read_or_has_left() {
        let turns = BlockingPool::new(1);
        let (maker, steps) = counted(1000);
        let mut body = ReplyBody::streamed(&turns, true, maker).await.unwrap();
        assert_eq!(steps.load(Ordering::Relaxed), SHORT_STEPS);
        let (long, no_steps) = counted(1000);
        let long = ReplyBody::streamed(&turns, false, long).await.unwrap();
        assert_eq!((long.len(), no_steps.load(Ordering::Relaxed)), (None, 0));
        // The place is free for others meanwhile.
        assert_eq!(turns.free(), 1);
        for _ in 0..SHORT_STEPS {
            body.frame().await.unwrap().unwrap();
        }
        let taken = steps.load(Ordering::Relaxed);
        assert!(taken <= SHORT_STEPS + 5, "{taken}");
        drop(body);
        turns.run(|| ()).await.unwrap();
        assert_eq!(steps.load(Ordering::Relaxed), taken);
    }
}
