//! Bodies of replies, sent chunk by chunk.

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

/// The body of a reply. Each chunk is freed once it is sent, so a slow client holds
/// only the memory of what it has not yet read.
#[derive(Debug)]
pub struct ReplyBody {
    source: Source,
    /// The number of bytes left to send; `None` for a generated body.
    left: Option<u64>,
    /// The number of bytes since the task last yielded.
    since_yield: usize,
    /// Records the duration when the last chunk is handed to hyper or the client disconnects.
    timer: Option<Timer>,
    /// Memory that counts as used until the last chunk is sent. It is shared with the last
    /// batch of chunks, which outlives the body.
    held: Option<Arc<BudgetShare>>,
}

/// Records the time since `start` when it is dropped.
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

/// The task yields after this many bytes. A large body for a fast client would occupy
/// the thread for milliseconds, and the thread may be the one that accepts connections.
const YIELD_BYTES: usize = 512 * 1024;

/// The limit on chunks in a batch: hyper passes at most 64 to one `writev`.
const MAX_BATCH_CHUNKS: usize = 64;

/// The size at which a batch is complete, in bytes.
const MAX_BATCH_BYTES: usize = 128 * 1024;

/// Chunks that one system call writes.
#[derive(Debug, Default)]
pub struct ChunkBatch {
    /// None of them is empty.
    chunks: VecDeque<Bytes>,
    bytes: usize,
    _held: Option<Arc<BudgetShare>>,
}

impl ChunkBatch {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    fn is_full(&self) -> bool {
        self.chunks.len() >= MAX_BATCH_CHUNKS || self.bytes >= MAX_BATCH_BYTES
    }
}

impl Buf for ChunkBatch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks);
        filled
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut count = count;
        self.bytes -= count;
        while let Some(chunk) = self.chunks.front_mut().filter(|_| count > 0) {
            if chunk.len() > count {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
    }
}

/// The source of the chunks.
#[derive(Debug)]
enum Source {
    /// Chunks in memory.
    Ready(vec::IntoIter<Bytes>),
    /// Pages of a snapshot, each joined when it is sent.
    Pages(Texts),
    /// Chunks that are generated while the body is sent.
    Streamed(StreamedChunks),
}

/// Generates a body. Each call of `next` takes a bounded time that does not grow with the
/// store. A chunk may be empty.
pub type ChunkIterator = Box<dyn Iterator<Item = Bytes> + Send>;

/// Chunks that are generated on a pool, each after the one before is sent. So the body
/// takes the memory of one chunk, and a client that disconnects causes no more work.
/// Between chunks the pool is free: clients that do not read do not occupy it.
struct StreamedChunks {
    pool: BlockingPool,
    /// Generated chunks that are not yet sent.
    ready: VecDeque<Bytes>,
    state: State,
}

enum State {
    /// No chunk is being generated.
    Idle(ChunkIterator),
    /// The pool generates the next chunk.
    Running(Pin<Box<dyn Future<Output = Result<Generated, JoinError>> + Send>>),
    /// The iterator has ended.
    Done,
}

/// The iterator, unless it has ended, and the chunks that it returned.
type Generated = (Option<ChunkIterator>, Vec<Bytes>);

/// A body of at least this many chunks is not short.
const SHORT_CHUNKS: usize = 6;

/// A body of at least this many bytes is not short.
const SHORT_BYTES: usize = 64 << 10;

fn next_chunk(mut chunks: ChunkIterator) -> Generated {
    match chunks.next() {
        Some(chunk) => (Some(chunks), vec![chunk]),
        None => (None, Vec::new()),
    }
}

/// Generates chunks until the body ends or proves not to be short.
fn first_chunks(mut chunks: ChunkIterator) -> Generated {
    let mut ready = Vec::new();
    let mut bytes = 0;
    while ready.len() < SHORT_CHUNKS && bytes < SHORT_BYTES {
        let Some(chunk) = chunks.next() else {
            return (None, ready);
        };
        bytes += chunk.len();
        ready.push(chunk);
    }
    (Some(chunks), ready)
}

impl StreamedChunks {
    /// Returns the next chunk that is not empty.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, JoinError>>> {
        loop {
            match self.ready.pop_front() {
                Some(chunk) if chunk.is_empty() => continue,
                Some(chunk) => return Poll::Ready(Some(Ok(chunk))),
                None => {}
            }
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(chunks) => {
                    let pool = self.pool.clone();
                    let work = async move { pool.run(move || next_chunk(chunks)).await };
                    State::Running(Box::pin(work))
                }
                State::Running(mut work) => match work.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Running(work);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((chunks, ready))) => {
                        self.ready.extend(ready);
                        chunks.map_or(State::Done, State::Idle)
                    }
                    Poll::Ready(Err(problem)) => return Poll::Ready(Some(Err(problem))),
                },
            };
        }
    }
}

impl fmt::Debug for StreamedChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedChunks").finish_non_exhaustive()
    }
}

impl ReplyBody {
    /// A body of chunks in memory.
    pub fn new(chunks: Vec<Bytes>) -> Self {
        ReplyBody {
            left: Some(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
            source: Source::Ready(chunks.into_iter()),
            since_yield: 0,
            timer: None,
            held: None,
        }
    }

    /// The text of a snapshot.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        ReplyBody {
            left: Some(snapshot.len() as u64),
            source: Source::Pages(snapshot.texts()),
            since_yield: 0,
            timer: None,
            held: None,
        }
    }

    /// A body that `chunks` generates on `pool`. If it may be `short`, the first chunks are
    /// generated at once, and if they turn out to be the whole body, it has a length.
    /// Otherwise generation begins after the head of the reply is sent, so that a client
    /// that has disconnected costs at most one chunk.
    ///
    /// # Errors
    ///
    /// The iterator panicked.
    pub async fn streamed(
        pool: &BlockingPool,
        short: bool,
        chunks: ChunkIterator,
    ) -> Result<Self, JoinError> {
        let (rest, ready) = match short {
            true => pool.run(move || first_chunks(chunks)).await?,
            false => (Some(chunks), Vec::new()),
        };
        let Some(chunks) = rest else {
            return Ok(ReplyBody::new(ready));
        };
        Ok(ReplyBody {
            left: None,
            source: Source::Streamed(StreamedChunks {
                pool: pool.clone(),
                ready: ready.into(),
                state: State::Idle(chunks),
            }),
            since_yield: 0,
            timer: None,
            held: None,
        })
    }

    /// Records the time from `start` until the last chunk is handed to hyper or the
    /// client disconnects.
    pub fn timed(self, start: Instant, durations: Arc<DurationHistogram>) -> Self {
        ReplyBody {
            timer: Some(Timer { start, durations }),
            ..self
        }
    }

    /// Holds memory of a budget until the body is sent or dropped.
    pub fn holding(self, held: BudgetShare) -> Self {
        ReplyBody {
            held: Some(Arc::new(held)),
            ..self
        }
    }

    /// The number of bytes, unless the body is generated while it is sent.
    pub fn content_length(&self) -> Option<u64> {
        self.left
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> Self {
        ReplyBody::new(vec![bytes])
    }
}

impl Body for ReplyBody {
    type Data = ChunkBatch;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<ChunkBatch>, JoinError>>> {
        if self.since_yield >= YIELD_BYTES {
            self.since_yield = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut batch = ChunkBatch {
            _held: self.held.clone(),
            ..ChunkBatch::default()
        };
        while !batch.is_full() {
            let chunk = match &mut self.source {
                Source::Ready(chunks) => chunks.next(),
                Source::Pages(texts) => texts.next(),
                // A generated chunk makes a batch by itself.
                Source::Streamed(_) if batch.bytes > 0 => None,
                Source::Streamed(chunks) => match ready!(chunks.poll_next(cx)) {
                    Some(Err(problem)) => return Poll::Ready(Some(Err(problem))),
                    chunk => chunk.and_then(Result::ok),
                },
            };
            let Some(chunk) = chunk else { break };
            batch.push(chunk);
        }
        if batch.bytes == 0 {
            self.timer = None;
            self.held = None;
            return Poll::Ready(None);
        }
        if let Some(left) = &mut self.left {
            *left -= batch.bytes as u64;
        }
        self.since_yield += batch.bytes;
        Poll::Ready(Some(Ok(Frame::data(batch))))
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
mod tests;
