//! Reads Cap'n Proto messages in the standard framing for streams:
//! <https://capnproto.org/encoding.html#serialization-over-a-stream>.
//!
//! [`frame`] computes the length of a message from its segment table. [`decode`] reads
//! the message in place.

use capnp::message::{Reader, ReaderOptions};
use capnp::serialize::NoAllocSliceSegments;

use super::{Message, MessageError};
use crate::exposition::Text;
use crate::metric_data_capnp::inbound_metrics;
use crate::reason::Reason;

/// The limit on segments of a message, which is the same in other implementations.
const MAX_SEGMENTS: u64 = 511;

/// The size of a word in bytes.
const WORD: u64 = 8;

/// Returns the length of the message at the start of `bytes`; `None` while its segment
/// table is incomplete.
///
/// # Errors
///
/// The message has too many segments, or is longer than `longest` bytes.
pub fn frame(bytes: &[u8], longest: usize) -> Result<Option<usize>, MessageError> {
    let Some(count) = number(bytes, 0) else {
        return Ok(None);
    };
    let segments = count + 1;
    if segments > MAX_SEGMENTS {
        return Err(MessageError::new(
            Reason::Malformed,
            format!(
                "this is not a Cap'n Proto message: it would have {segments} segments, and the limit is {MAX_SEGMENTS}"
            ),
        ));
    }
    // The count, a length for each segment, and padding to a whole word.
    let table = (4 * (segments + 1)).next_multiple_of(WORD);
    let mut length = table;
    for segment in 0..segments {
        let Some(words) = number(bytes, 4 * (segment as usize + 1)) else {
            return Ok(None);
        };
        length += words * WORD;
        if length > longest as u64 {
            return Err(MessageError::new(
                Reason::TooLarge,
                format!(
                    "the message of {length} bytes or more exceeds the limit of {longest} bytes (receiver.max_payload)"
                ),
            ));
        }
    }
    Ok(Some(length as usize))
}

/// The little-endian 32-bit number at `offset`.
fn number(bytes: &[u8], offset: usize) -> Option<u64> {
    let four = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(u64::from(u32::from_le_bytes(four)))
}

/// Reads a complete message. Missing fields are empty texts, and fields of a newer schema
/// are ignored.
pub fn decode(message: &[u8]) -> Result<Message, MessageError> {
    let mut options = ReaderOptions::new();
    // A valid message is read at most twice, since both fields may point to the same text.
    // The limit stops at circular pointers.
    options.traversal_limit_in_words(Some(2 * (message.len() / WORD as usize + 1)));
    let malformed = |problem: capnp::Error| {
        MessageError::new(
            Reason::Malformed,
            format!("this is not a message of the schema: {problem}"),
        )
    };
    let not_utf8 = |field: &'static str| {
        move |_| MessageError::new(Reason::InvalidUtf8, format!("{field} is not UTF-8"))
    };

    let mut rest = message;
    let segments = NoAllocSliceSegments::from_slice(&mut rest, options).map_err(malformed)?;
    let reader = Reader::new(segments, options);
    let metrics: inbound_metrics::Reader<'_> = reader.get_root().map_err(malformed)?;
    let name = metrics.get_app_name().map_err(malformed)?;
    let name = name.to_str().map_err(not_utf8("appName"))?;
    let data = metrics.get_data().map_err(malformed)?;
    let data = data.to_str().map_err(not_utf8("data"))?;
    Ok(Message {
        apps: vec![(name.to_owned(), Text::new(data))],
    })
}
