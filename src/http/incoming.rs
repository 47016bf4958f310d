//! Bodies of requests: read as they come, within bounds of size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::config::Requests;
use crate::coding::{self, Coding, CodingError};
use crate::ingest::Rejection;
use crate::net::{
    BlockingPool, BudgetShare, MemoryBudget, MinimumRate, RATE_BYTES, RATE_PERIOD, SMALL_MESSAGE,
};
use crate::reason::Reason;
use crate::telemetry::sender_log;

/// A body, counted against the budget until it is dropped.
#[derive(Debug)]
pub struct ReceivedBody {
    pub bytes: Bytes,
    held: BudgetShare,
}

/// What is read and dropped of a body that nobody wants, so that the
/// connection can be kept, and for how long. Past that it is closed.
const MOST_DISCARDED: u64 = 64 << 10;
const LONGEST_DISCARD: Duration = Duration::from_secs(1);

/// What is read and dropped of a body that was refused, and for how long: a
/// connection that is closed with bytes unread is reset, and the client might
/// never see the answer.
const MOST_LINGERING: usize = 16 << 20;
const LONGEST_LINGER: Duration = Duration::from_secs(1);

/// Reads on in the background, while the answer is on its way.
fn linger(mut body: Incoming) {
    tokio::spawn(timeout(LONGEST_LINGER, async move {
        let mut left = MOST_LINGERING;
        while let Some(Ok(frame)) = body.frame().await {
            let came = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(came) {
                Some(less) => left = less,
                None => break,
            }
        }
    }));
}

/// Reads a body to its end. A client that waits for `100 Continue` is told to
/// go on by it. Returns what is wrong, and how many bytes had come.
///
/// `waits` tells of such a client: one that is refused before sends nothing.
pub async fn read(
    body: Incoming,
    budget: &Arc<MemoryBudget>,
    config: &Requests,
    waits: bool,
) -> Result<ReceivedBody, (Rejection, usize)> {
    let limit = config.max_body;
    let too_large = || {
        let message = format!("the body has more than {limit} bytes (push.max_body)");
        Rejection::new(Reason::TooLarge, &message)
    };
    // What says that it is too large need not come.
    if body.size_hint().lower() > limit as u64 {
        if !waits {
            linger(body);
        }
        return Err((too_large(), 0));
    }
    let mut held = BudgetShare::new(budget);
    let mut whole = BytesMut::new();
    let mut only = None;
    let mut body = body;
    let mut came = 0;
    let mut pace: Option<MinimumRate> = None;
    let read = async {
        loop {
            let frame = match &mut pace {
                None => body.frame().await,
                Some(pace) => tokio::select! {
                    frame = body.frame() => frame,
                    () = pace.too_slow(budget) => return Err(too_slow()),
                },
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|problem| {
                let message = format!("the body did not arrive whole: {problem}");
                Rejection::new(Reason::Truncated, &message)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            came += data.len();
            if came > limit {
                return Err(too_large());
            }
            if !held.grow(data.len()) {
                return Err(no_buffer());
            }
            if came > SMALL_MESSAGE {
                pace.get_or_insert_with(MinimumRate::begin)
                    .count(data.len());
            }
            // Most bodies come in one piece, which is not copied.
            if whole.is_empty() && only.is_none() {
                only = Some(data);
                continue;
            }
            if let Some(first) = only.take() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        Ok(())
    };
    let read = timeout(config.body_timeout, read)
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "the body did not arrive within {:?} (push.body_timeout)",
                config.body_timeout
            );
            Err(Rejection::new(Reason::Timeout, &message))
        });
    match read {
        Ok(()) => Ok(ReceivedBody {
            bytes: only.unwrap_or_else(|| whole.freeze()),
            held,
        }),
        Err(fault) => {
            if matches!(fault.reason, Reason::TooLarge | Reason::NoBuffer) {
                linger(body);
            }
            Err((fault, came))
        }
    }
}

fn no_buffer() -> Rejection {
    let message = "all memory for bodies is in use (push.max_buffered); try again";
    Rejection::new(Reason::NoBuffer, message)
}

fn too_slow() -> Rejection {
    let message = format!(
        "the body came too slowly: more than half of the memory for bodies is in use \
         (push.max_buffered), and a body of more than {SMALL_MESSAGE} bytes must then bring {RATE_BYTES} \
         bytes every {RATE_PERIOD:?}"
    );
    Rejection::new(Reason::Timeout, &message)
}

/// Reads a small body and drops it, so that the connection can go on. Returns
/// whether it can.
pub async fn discard(mut body: Incoming) -> bool {
    if body
        .size_hint()
        .upper()
        .is_none_or(|most| most > MOST_DISCARDED)
    {
        return body.is_end_stream();
    }
    let rest = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    timeout(LONGEST_DISCARD, rest).await.unwrap_or(false)
}

impl ReceivedBody {
    /// The body of a request without one.
    pub fn empty() -> Self {
        ReceivedBody {
            bytes: Bytes::new(),
            held: BudgetShare::new(&Arc::new(MemoryBudget::new(0, Arc::default()))),
        }
    }

    /// Bytes as they came.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Counts `more` bytes, which are made of the body, for as long as it is
    /// there.
    pub fn grow(&mut self, more: usize) -> Result<(), Rejection> {
        if self.held.grow(more) {
            return Ok(());
        }
        Err(no_buffer())
    }
}

/// Compressed bodies up to the first size that decompress to at most the second
/// are decompressed on the serving thread. Larger ones would delay its other
/// connections.
const PACKED_AT_ONCE: usize = 16 << 10;
const UNPACKED_AT_ONCE: usize = 64 << 10;

impl ReceivedBody {
    /// The body as it was before it was compressed, to at most `limit` bytes.
    /// Much of it is made away from the threads that serve, and all of it is
    /// counted as it grows.
    pub async fn unpacked(
        mut self,
        content_encoding: &str,
        limit: usize,
        turns: &BlockingPool,
    ) -> Result<Self, Rejection> {
        let coding = Coding::from_header(content_encoding)?;
        if coding == Coding::Identity
            && let Some(packed) = Coding::detect(&self.bytes)
        {
            let message = format!(
                "the body is {packed}, and no header says so: send Content-Encoding: {packed}"
            );
            return Err(Rejection::new(Reason::UnsupportedMedia, &message));
        }
        if coding == Coding::Identity || self.len() <= PACKED_AT_ONCE {
            let at_once = match coding {
                Coding::Identity => limit,
                _ => limit.min(UNPACKED_AT_ONCE),
            };
            match coding::decode(coding, self.bytes.clone(), at_once) {
                Err(CodingError::TooLarge { .. }) if at_once < limit => {}
                plain => return self.become_plain(plain?),
            }
        }
        let unpack = move || {
            let held = &mut self.held;
            let mut room = |more| held.grow(more);
            match coding::decode_with_room(coding, self.bytes.clone(), limit, &mut room) {
                Err(CodingError::NoRoom) => Err(no_buffer()),
                plain => self.become_plain(plain?),
            }
        };
        turns.run(unpack).await.unwrap_or_else(|problem| {
            sender_log::internal_error(format_args!("a body cannot be decompressed: {problem}"));
            let message = "the body cannot be decompressed; the log says why";
            Err(Rejection::new(Reason::Closed, message))
        })
    }

    /// Replaces the body by `plain`, its decompressed form.
    fn become_plain(mut self, plain: Bytes) -> Result<Self, Rejection> {
        let more = plain.len().saturating_sub(self.held.bytes());
        if !self.held.grow(more) {
            return Err(no_buffer());
        }
        self.held.shrink_to(plain.len());
        self.bytes = plain;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_body_decompresses_to_is_counted_while_it_is_there() {
        use std::io::Write as _;

        let turns = BlockingPool::new(1);
        let text = vec![b'#'; 300 << 10];
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&text).unwrap();
        let packed = Bytes::from(packed.finish().unwrap());
        let taken = |limit: usize| {
            let budget = Arc::new(MemoryBudget::new(limit, Arc::default()));
            let mut held = BudgetShare::new(&budget);
            assert!(held.grow(packed.len()));
            let bytes = packed.clone();
            (budget, ReceivedBody { bytes, held })
        };
        let (budget, body) = taken(1 << 20);
        let plain = body.unpacked("gzip", 1 << 20, &turns).await.unwrap();
        assert_eq!((plain.len(), budget.used()), (text.len(), text.len()));
        drop(plain);
        assert_eq!(budget.used(), 0);
        let (budget, body) = taken(200 << 10);
        let refused = body.unpacked("gzip", 1 << 20, &turns).await.unwrap_err();
        assert_eq!(refused.reason, Reason::NoBuffer);
        assert_eq!(budget.used(), 0);
        let (budget, body) = taken(1 << 20);
        let refused = body.unpacked("gzip", 100 << 10, &turns).await.unwrap_err();
        assert_eq!(refused.reason, Reason::TooLarge);
        assert_eq!(budget.used(), 0);
    }
}
