//! Properties of data that apps send over sockets, for tests and `fuzz/`.

use std::sync::Arc;

use capnp::message::Builder;

use super::config::Format;
use super::{Inbox, InboxLimits, Message, MessageError, Next};
use crate::metric_data_capnp::inbound_metrics;
use crate::net::MemoryBudget;

/// The limit on the size of a message in these streams.
pub(super) const MAX_PAYLOAD: usize = 4096;

/// The outcome of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) messages: Vec<Message>,
    pub(super) result: Result<(), MessageError>,
}

/// JSON documents. The first byte is the size of the pieces in which the rest arrives.
///
/// Pieces give the same messages as the whole stream. Accepted documents are JSON.
pub fn json(data: &[u8]) {
    let Some((piece, documents)) = data.split_first() else {
        return;
    };
    let outcome = in_pieces(Format::Json, documents, *piece);
    if outcome.result.is_ok() {
        let values = serde_json::Deserializer::from_slice(documents);
        let values = values.into_iter::<serde_json::Value>();
        assert_eq!(
            values.filter(Result::is_ok).count(),
            outcome.messages.len(),
            "{}",
            String::from_utf8_lossy(documents)
        );
    }
}

/// Cap'n Proto messages. The first byte is the size of the pieces in which the rest arrives.
///
/// Pieces give the same messages as the whole stream. Encoding a decoded message again
/// gives the same message.
pub fn capnp(data: &[u8]) {
    let Some((piece, messages)) = data.split_first() else {
        return;
    };
    let outcome = in_pieces(Format::Capnp, messages, *piece);
    for message in outcome.messages {
        for (name, text) in &message.apps {
            let mut written = Builder::new_default();
            let mut metrics: inbound_metrics::Builder<'_> = written.init_root();
            metrics.set_app_name(name);
            metrics.set_data(std::str::from_utf8(text.bytes()).expect("texts are UTF-8"));
            let bytes = capnp::serialize::write_message_to_words(&written);
            let again = super::capnp::decode(&bytes).expect("it was read before");
            assert_eq!(again, message);
        }
    }
}

fn in_pieces(format: Format, bytes: &[u8], piece: u8) -> Outcome {
    let whole = receive(format, [bytes]);
    let piece = usize::from(piece).max(1);
    assert_eq!(receive(format, bytes.chunks(piece)), whole);
    whole
}

pub(super) fn limits() -> InboxLimits {
    InboxLimits {
        max_payload: MAX_PAYLOAD,
        max_inline: usize::MAX,
        max_apps: 100,
        budget: Arc::new(MemoryBudget::new(1 << 20, Arc::default())),
    }
}

/// Feeds the chunks and ends the stream. Checks the memory after each chunk.
pub(super) fn receive<'c>(format: Format, chunks: impl IntoIterator<Item = &'c [u8]>) -> Outcome {
    let limits = limits();
    let budget = Arc::clone(&limits.budget);
    let mut inbox = Inbox::new(format, limits);
    let mut messages = Vec::new();
    let mut result = Ok(());
    for chunk in chunks {
        result = inbox.feed(chunk, |message, _| {
            messages.push(message);
            Ok(Next::Message)
        });
        let longest = MAX_PAYLOAD + chunk.len();
        let used = budget.used();
        assert!(used <= longest, "{used} bytes are buffered");
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = inbox.finish();
    }
    drop(inbox);
    assert_eq!(budget.used(), 0, "memory is released");
    Outcome { messages, result }
}
