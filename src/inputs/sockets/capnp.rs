//! Cap'n Proto messages, in the standard framing for streams:
//! <https://capnproto.org/encoding.html#serialization-over-a-stream>.
//!
//! [`frame`] finds where a message ends from its segment table; [`decode`]
//! reads it where it lies.

use capnp::message::{Reader, ReaderOptions};
use capnp::serialize::NoAllocSliceSegments;

use super::{Failure, Message};
use crate::exposition::Text;
use crate::metric_data_capnp::inbound_metrics;
use crate::reason::Reason;

/// More segments than this are refused, as every reader of the format does.
const MOST_SEGMENTS: u64 = 511;

const WORD: u64 = 8;

/// Finds the length of the message that `bytes` begins with; `None` while too
/// little of it is here to tell. A message past `longest` bytes is refused
/// before its body is read.
pub fn frame(bytes: &[u8], longest: usize) -> Result<Option<usize>, Failure> {
    let Some(count) = number(bytes, 0) else {
        return Ok(None);
    };
    let segments = count + 1;
    if segments > MOST_SEGMENTS {
        return Err(Failure::new(
            Reason::Malformed,
            format!(
                "this is no Cap'n Proto message: it claims {segments} segments, and {MOST_SEGMENTS} are allowed"
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
            return Err(Failure::new(
                Reason::TooLarge,
                format!(
                    "a message may have {longest} bytes (receiver.max_payload), and this one has {length} or more"
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

/// Reads one whole message. Missing fields are empty texts, and fields of a
/// newer schema are passed over.
pub fn decode(message: &[u8]) -> Result<Message, Failure> {
    let mut options = ReaderOptions::new();
    // Nothing in a message of this schema is read more than twice (the two
    // texts might be one), so pointers that lead in circles are soon noticed.
    options.traversal_limit_in_words(Some(2 * (message.len() / WORD as usize + 1)));
    let malformed = |problem: capnp::Error| {
        Failure::new(
            Reason::Malformed,
            format!("this is no message of the schema: {problem}"),
        )
    };
    let not_utf8 = |field: &'static str| {
        move |_| Failure::new(Reason::InvalidUtf8, format!("{field} is not UTF-8"))
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
