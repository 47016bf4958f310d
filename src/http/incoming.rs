//! Bodies of requests: read as they come, within bounds of size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use crate::config::Push;
use crate::net::Budget;
use crate::push::Fault;
use crate::telemetry::Reason;

/// A body, counted against the budget until it is dropped.
#[derive(Debug)]
pub struct Taken {
    pub bytes: Bytes,
    held: Held,
}

#[derive(Debug)]
struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Counts more, if there is room.
    fn grow(&mut self, more: usize) -> bool {
        let grown = self.budget.take(more);
        self.bytes += if grown { more } else { 0 };
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
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
    budget: &Arc<Budget>,
    config: &Push,
    waits: bool,
) -> Result<Taken, (Fault, usize)> {
    let limit = config.max_body;
    let too_large = || {
        let message = format!("the body has more than {limit} bytes (push.max_body)");
        Fault::new(Reason::TooLarge, &message)
    };
    // What says that it is too large need not come.
    if body.size_hint().lower() > limit as u64 {
        if !waits {
            linger(body);
        }
        return Err((too_large(), 0));
    }
    let mut held = Held {
        budget: Arc::clone(budget),
        bytes: 0,
    };
    let mut whole = BytesMut::new();
    let mut only = None;
    let mut body = body;
    let mut came = 0;
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|problem| {
                let message = format!("the body did not arrive whole: {problem}");
                Fault::new(Reason::Truncated, &message)
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
            Err(Fault::new(Reason::Timeout, &message))
        });
    match read {
        Ok(()) => Ok(Taken {
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

fn no_buffer() -> Fault {
    let message = "all memory for bodies is in use (push.max_buffered); try again";
    Fault::new(Reason::NoBuffer, message)
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

impl Taken {
    /// No body at all.
    pub fn none() -> Self {
        Taken {
            bytes: Bytes::new(),
            held: Held {
                budget: Arc::new(Budget::new(0, Arc::default())),
                bytes: 0,
            },
        }
    }

    /// Bytes as they came.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Counts `more` bytes, which are made of the body, for as long as it is
    /// there.
    pub fn grow(&mut self, more: usize) -> Result<(), Fault> {
        if self.held.grow(more) {
            return Ok(());
        }
        Err(no_buffer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_back() {
        let budget = Arc::new(Budget::new(10, Arc::default()));
        let hold = || Held {
            budget: Arc::clone(&budget),
            bytes: 0,
        };
        let mut first = hold();
        assert!(first.grow(6) && first.grow(4) && !first.grow(1));
        let mut second = hold();
        assert!(!second.grow(1) && second.grow(0));
        drop(first);
        assert!(second.grow(10));
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
