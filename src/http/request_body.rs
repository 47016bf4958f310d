//! Reads and decompresses request bodies, within limits of size, memory and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::config::Requests;
use crate::clock;
use crate::coding::{self, Coding, CodingError};
use crate::fairness::Account;
use crate::ingest::Rejection;
use crate::net::{
    BlockingPool, BudgetShare, MemoryBudget, MinimumRate, RATE_BYTES, RATE_PERIOD, SMALL_MESSAGE,
};
use crate::reason::Reason;
use crate::telemetry::sender_log;

/// A body in memory. Its size counts against the budget until it is dropped.
#[derive(Debug)]
pub struct ReceivedBody {
    /// The bytes as they arrived, or as they were decompressed.
    pub bytes: Bytes,
    held: BudgetShare,
    charge: BodyCharge,
}

/// Charges the bytes of a body to its sender, each once: the bytes that arrive, or the
/// decompressed bytes if these are more.
#[derive(Debug, Default)]
pub struct BodyCharge {
    account: Account,
    /// Bytes that were charged.
    paid: usize,
}

impl BodyCharge {
    /// Charges to `account`, which has been charged `paid` bytes already.
    pub fn new(account: Account, paid: usize) -> Self {
        BodyCharge { account, paid }
    }

    /// The account that the body is charged to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Charges the difference to `bytes` in total.
    fn raise_to(&mut self, bytes: usize) {
        if bytes > self.paid && self.account.is_limited() {
            self.account.charge(0, bytes - self.paid, clock::tick());
            self.paid = bytes;
        }
    }
}

/// The size up to which an unread body is discarded to keep the connection, in bytes. With
/// a larger body, the connection is closed.
const MAX_DISCARDED: u64 = 64 << 10;

/// The time limit for discarding an unread body.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The limit on bytes of a rejected body that are read and discarded. Closing a socket with
/// unread bytes resets the connection, and the client may lose the reply.
const MAX_LINGERING: usize = 16 << 20;

/// The time limit for discarding a rejected body.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Discards the rest of a rejected body in the background, while the reply is sent.
fn linger(mut body: Incoming) {
    tokio::spawn(timeout(LINGER_TIMEOUT, async move {
        let mut left = MAX_LINGERING;
        while let Some(Ok(frame)) = body.frame().await {
            let arrived = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(arrived) {
                Some(less) => left = less,
                None => break,
            }
        }
    }));
}

/// Reads a whole body and charges its bytes with `charge`. If the client waits for `100
/// Continue` (`expects_continue`), hyper sends it at the first read; after an early
/// rejection, such a client sends no body.
///
/// # Errors
///
/// The rejection, and the number of bytes that arrived before it.
pub async fn read(
    body: Incoming,
    budget: &Arc<MemoryBudget>,
    config: &Requests,
    mut charge: BodyCharge,
    expects_continue: bool,
) -> Result<ReceivedBody, (Rejection, usize)> {
    let limit = config.max_body;
    let too_large = || {
        let message = format!("the body has more than {limit} bytes (push.max_body)");
        Rejection::new(Reason::TooLarge, &message)
    };
    // Reject by `Content-Length`, before the body arrives.
    if body.size_hint().lower() > limit as u64 {
        if !expects_continue {
            linger(body);
        }
        return Err((too_large(), 0));
    }
    let mut held = BudgetShare::new(budget);
    let mut whole = BytesMut::new();
    let mut only = None;
    let mut body = body;
    let mut arrived = 0;
    let mut rate: Option<MinimumRate> = None;
    let read = async {
        loop {
            let frame = match &mut rate {
                None => body.frame().await,
                Some(rate) => tokio::select! {
                    frame = body.frame() => frame,
                    () = rate.too_slow(budget) => return Err(too_slow()),
                },
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|problem| {
                let message = format!("the body is incomplete: {problem}");
                Rejection::new(Reason::Truncated, &message)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            arrived += data.len();
            if arrived > limit {
                return Err(too_large());
            }
            if !held.grow(data.len()) {
                return Err(no_buffer());
            }
            if arrived > SMALL_MESSAGE {
                rate.get_or_insert_with(MinimumRate::begin)
                    .count(data.len());
            }
            // Most bodies arrive in one chunk, which is not copied.
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
    charge.raise_to(arrived);
    match read {
        Ok(()) => Ok(ReceivedBody {
            bytes: only.unwrap_or_else(|| whole.freeze()),
            held,
            charge,
        }),
        Err(rejection) => {
            if matches!(rejection.reason, Reason::TooLarge | Reason::NoBuffer) {
                linger(body);
            }
            Err((rejection, arrived))
        }
    }
}

fn no_buffer() -> Rejection {
    let message = "all memory for bodies is in use (push.max_buffered); try again";
    Rejection::new(Reason::NoBuffer, message)
}

fn too_slow() -> Rejection {
    let message = format!(
        "the body arrives too slowly: while more than half of the memory for bodies is in use \
         (push.max_buffered), a body of more than {SMALL_MESSAGE} bytes must send {RATE_BYTES} \
         bytes every {RATE_PERIOD:?}"
    );
    Rejection::new(Reason::Timeout, &message)
}

/// Discards an unread body if it is small. Returns whether the connection can serve
/// another request.
pub async fn discard(mut body: Incoming) -> bool {
    if body
        .size_hint()
        .upper()
        .is_none_or(|size| size > MAX_DISCARDED)
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
    timeout(DISCARD_TIMEOUT, rest).await.unwrap_or(false)
}

impl ReceivedBody {
    /// The body of a request without one.
    pub fn empty() -> Self {
        ReceivedBody {
            bytes: Bytes::new(),
            held: BudgetShare::new(&Arc::new(MemoryBudget::new(0, Arc::default()))),
            charge: BodyCharge::default(),
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Also counts `more` bytes derived from the body, until it is dropped.
    ///
    /// # Errors
    ///
    /// The budget is used up ([`Reason::NoBuffer`]).
    pub fn grow(&mut self, more: usize) -> Result<(), Rejection> {
        if self.held.grow(more) {
            return Ok(());
        }
        Err(no_buffer())
    }
}

impl ReceivedBody {
    /// Decompresses a body to at most `limit` bytes. A large body is decompressed on
    /// `pool`. The result counts against the budget as it grows.
    ///
    /// # Errors
    ///
    /// The coding is unknown, the body is corrupt, or a limit on size or memory is reached.
    pub async fn decompressed(
        mut self,
        content_encoding: &str,
        limit: usize,
        pool: &BlockingPool,
    ) -> Result<Self, Rejection> {
        let coding = Coding::from_header(content_encoding)?;
        if coding == Coding::Identity
            && let Some(coding) = Coding::detect(&self.bytes)
        {
            let header = match content_encoding.trim() {
                "" => "the request has no Content-Encoding".to_owned(),
                header => format!("its Content-Encoding is {header:?}"),
            };
            let message =
                format!("the body is {coding}, but {header}; send \"Content-Encoding: {coding}\"");
            return Err(Rejection::new(Reason::UnsupportedMedia, &message));
        }
        if let Some(plain) = coding::decode_small(coding, &self.bytes, limit) {
            return self.replace_by(plain?);
        }
        let decompress = move || {
            let held = &mut self.held;
            let mut room = |more| held.grow(more);
            match coding::decode_with_room(coding, self.bytes.clone(), limit, &mut room) {
                Err(CodingError::NoRoom) => Err(no_buffer()),
                plain => self.replace_by(plain?),
            }
        };
        pool.run(decompress).await.unwrap_or_else(|problem| {
            sender_log::internal_error(format_args!("a body cannot be decompressed: {problem}"));
            let message = "the body cannot be decompressed; the log has the cause";
            Err(Rejection::new(Reason::Closed, message))
        })
    }

    /// Replaces the bytes by `plain`, their decompressed form.
    fn replace_by(mut self, plain: Bytes) -> Result<Self, Rejection> {
        let more = plain.len().saturating_sub(self.held.bytes());
        if !self.held.grow(more) {
            return Err(no_buffer());
        }
        self.held.shrink_to(plain.len());
        self.charge.raise_to(plain.len());
        self.bytes = plain;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn decompressed_bytes_count_until_the_body_is_dropped() {
        use std::io::Write as _;

        let pool = BlockingPool::new(1);
        let text = vec![b'#'; 300 << 10];
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&text).unwrap();
        let packed = Bytes::from(packed.finish().unwrap());
        let received = |limit: usize| {
            let budget = Arc::new(MemoryBudget::new(limit, Arc::default()));
            let mut held = BudgetShare::new(&budget);
            assert!(held.grow(packed.len()));
            let bytes = packed.clone();
            let charge = BodyCharge::default();
            let body = ReceivedBody {
                bytes,
                held,
                charge,
            };
            (budget, body)
        };
        let (budget, body) = received(1 << 20);
        let plain = body.decompressed("gzip", 1 << 20, &pool).await.unwrap();
        assert_eq!((plain.len(), budget.used()), (text.len(), text.len()));
        drop(plain);
        assert_eq!(budget.used(), 0);
        let (budget, body) = received(200 << 10);
        let rejection = body.decompressed("gzip", 1 << 20, &pool).await.unwrap_err();
        assert_eq!(rejection.reason, Reason::NoBuffer);
        assert_eq!(budget.used(), 0);
        let (budget, body) = received(1 << 20);
        let rejection = body
            .decompressed("gzip", 100 << 10, &pool)
            .await
            .unwrap_err();
        assert_eq!(rejection.reason, Reason::TooLarge);
        assert_eq!(budget.used(), 0);
    }
}
