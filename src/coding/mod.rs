//! Decompresses bodies by their `Content-Encoding`. Pure.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::fmt;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::reason::Reason;

/// The content coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// One gzip member or several (RFC 1952).
    Gzip,
    /// The framed format of Snappy: a stream of chunks with checksums. Remote
    /// write uses another one, a single block without a frame.
    Snappy,
    /// One Zstandard frame or several (RFC 8878).
    Zstd,
}

/// Why a body cannot be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// The header names an unknown coding.
    #[error(
        "Content-Encoding {0:?} is not supported; supported are gzip, snappy (framed), zstd and identity"
    )]
    Unknown(String),
    /// The header names more than one coding.
    #[error("Content-Encoding {0:?} names several codings, but a body can have only one")]
    Several(String),
    /// The content is larger than the limit.
    #[error("the decompressed body has more than {limit} bytes (push.max_body)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The memory for bodies is used up.
    #[error("no memory is left to decompress the body")]
    NoRoom,
    /// The body ends too early.
    #[error("the body is not valid {coding}: it ends too early")]
    Truncated {
        /// The coding of the body.
        coding: Coding,
    },
    /// The body is not of the coding.
    #[error("the body is not valid {coding}: {problem}")]
    Corrupt {
        /// The coding of the body.
        coding: Coding,
        /// What the decoder says.
        problem: String,
    },
}

impl Coding {
    /// The coding that a header names; [`Coding::Identity`] if it is empty.
    /// Several headers are joined by commas. Case does not matter.
    ///
    /// # Errors
    ///
    /// An unknown coding, or more than one.
    pub fn from_header(header: &str) -> Result<Coding, CodingError> {
        let mut names = header.split(',').map(str::trim).filter(|it| !it.is_empty());
        let Some(name) = names.next() else {
            return Ok(Coding::Identity);
        };
        if names.next().is_some() {
            return Err(CodingError::Several(shown(header)));
        }
        match name.to_ascii_lowercase().as_str() {
            "identity" => Ok(Coding::Identity),
            // RFC 9110 defines both names as the same coding.
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "snappy" => Ok(Coding::Snappy),
            "zstd" => Ok(Coding::Zstd),
            _ => Err(CodingError::Unknown(shown(name))),
        }
    }

    /// The coding whose first bytes a body has. No text, JSON or protobuf
    /// begins like that.
    pub fn detect(bytes: &[u8]) -> Option<Coding> {
        let beginnings: [(&[u8], Coding); 3] = [
            (b"\x1f\x8b", Coding::Gzip),
            (b"\x28\xb5\x2f\xfd", Coding::Zstd),
            (b"\xff\x06\x00\x00sNaPpY", Coding::Snappy),
        ];
        let seen = beginnings
            .iter()
            .find(|(begin, _)| bytes.starts_with(begin));
        seen.map(|(_, coding)| *coding)
    }

    /// The coding's name in headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Snappy => "snappy",
            Coding::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The start of a client's text, for an error.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Decompresses a body of at most `limit` bytes of content. A body that is not
/// compressed is not copied. Besides the result, this uses a constant amount of
/// memory, and a window for zstd (see [`WINDOW`]).
///
/// # Errors
///
/// A body that is not of the coding, ends early, or is larger than the limit.
pub fn decode(coding: Coding, body: Bytes, limit: usize) -> Result<Bytes, CodingError> {
    decode_with_room(coding, body, limit, &mut |_| true)
}

/// Compressed bodies up to this many bytes are decompressed on a serving thread, if the
/// result has at most [`MAX_SMALL_RESULT`] bytes.
const MAX_SMALL_BODY: usize = 16 << 10;

/// The largest result, in bytes, of decompression on a serving thread. A larger one would
/// delay the other work of the thread.
const MAX_SMALL_RESULT: usize = 64 << 10;

/// Like [`decode`], for a body that is fast to decompress. Returns `None` for any
/// other: the caller then decodes it on another thread.
pub fn decode_small(
    coding: Coding,
    body: &Bytes,
    limit: usize,
) -> Option<Result<Bytes, CodingError>> {
    let small_limit = match coding {
        Coding::Identity => limit,
        _ if body.len() > MAX_SMALL_BODY => return None,
        _ => limit.min(MAX_SMALL_RESULT),
    };
    match decode(coding, body.clone(), small_limit) {
        Err(CodingError::TooLarge { .. }) if small_limit < limit => None,
        decoded => Some(decoded),
    }
}

/// Like [`decode`], but asks `room` for memory while the result grows. `room` is called with a
/// number of bytes and returns whether they may be used. The first bytes are not asked for.
///
/// # Errors
///
/// As for [`decode`], and when `room` refuses memory.
pub fn decode_with_room(
    coding: Coding,
    body: Bytes,
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Bytes, CodingError> {
    if coding == Coding::Identity {
        return if body.len() <= limit {
            Ok(body)
        } else {
            Err(CodingError::TooLarge { limit })
        };
    }
    let mut out = BodyContent {
        coding,
        bytes: Vec::new(),
        limit,
        room,
    };
    match coding {
        Coding::Identity => {}
        Coding::Gzip => decode_gzip(&body, &mut out)?,
        Coding::Snappy => out.read(snap::read::FrameDecoder::new(body.reader()))?,
        Coding::Zstd => decode_zstd(&body, &mut out)?,
    }
    Ok(Bytes::from(out.bytes))
}

/// The content of a body while it is decompressed.
struct BodyContent<'r> {
    coding: Coding,
    bytes: Vec<u8>,
    limit: usize,
    room: &'r mut dyn FnMut(usize) -> bool,
}

/// Bytes that the result grows by at first; later it doubles.
const FIRST_GROWTH: usize = 16 << 10;

impl BodyContent<'_> {
    /// Reads `reader` to its end.
    fn read(&mut self, mut reader: impl Read) -> Result<(), CodingError> {
        let (coding, limit) = (self.coding, self.limit);
        loop {
            let free = self.bytes.capacity() - self.bytes.len();
            // One byte more than the limit shows that it is exceeded.
            let left = (limit - self.bytes.len()).saturating_add(1);
            let step = match free {
                0 => self.grow(left)?,
                free => free,
            };
            let step = step.min(left);
            // The reader fills it or ends, so it takes no further memory.
            let before = self.bytes.len();
            let read = reader
                .by_ref()
                .take(step as u64)
                .read_to_end(&mut self.bytes);
            if self.bytes.len() > limit {
                return Err(CodingError::TooLarge { limit });
            }
            match read {
                Ok(_) if self.bytes.len() - before < step => return Ok(()),
                Ok(_) => {}
                Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(CodingError::Truncated { coding });
                }
                Err(problem) => return Err(corrupt(coding, problem)),
            }
        }
    }

    /// Makes room for up to `left` more bytes and returns how many.
    fn grow(&mut self, left: usize) -> Result<usize, CodingError> {
        let held = self.bytes.len();
        let step = held.max(FIRST_GROWTH).min(left);
        // The window of zstd keeps a copy of the last bytes.
        let window = match self.coding {
            Coding::Zstd => step,
            _ => 0,
        };
        if held > 0 && !(self.room)(step + window) {
            return Err(CodingError::NoRoom);
        }
        self.bytes.reserve_exact(step);
        Ok(step)
    }
}

fn corrupt(coding: Coding, problem: impl fmt::Display) -> CodingError {
    let problem = problem.to_string();
    CodingError::Corrupt { coding, problem }
}

/// Decompresses the members of a body. Each decoder allocates its state, so all members
/// after the first share one.
fn decode_gzip(body: &[u8], out: &mut BodyContent<'_>) -> Result<(), CodingError> {
    let mut rest = body;
    out.read(GzDecoder::new(&mut rest))?;
    match rest {
        [] => Ok(()),
        [0x1f] | [0x1f, 0x8b, ..] => out.read(MultiGzDecoder::new(rest)),
        _ => Err(corrupt(
            Coding::Gzip,
            format_args!("{} bytes of other data follow its end", rest.len()),
        )),
    }
}

/// Largest window of a zstd frame that is always accepted: what every decoder
/// should support (RFC 8878, section 3.1.1.1.2). That much memory is used while
/// a frame is read. A larger window must fit the limit of the body.
const WINDOW: usize = 8 << 20;

/// Magic number of frames without data, apart from its lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;

/// Decompresses the frames of a body, one after the other.
fn decode_zstd(body: &[u8], out: &mut BodyContent<'_>) -> Result<(), CodingError> {
    let coding = Coding::Zstd;
    let truncated = || CodingError::Truncated { coding };
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(out.limit.max(WINDOW) as u64);
    let mut rest = body;
    while !rest.is_empty() {
        let magic = rest.first_chunk().ok_or_else(truncated)?;
        if u32::from_le_bytes(*magic) & !0xf == SKIPPABLE {
            let length = rest[4..].first_chunk().ok_or_else(truncated)?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = rest[8..].get(length..).ok_or_else(truncated)?;
            continue;
        }
        if let Err(problem) = decoder.reset(&mut rest) {
            return Err(match is_at_end(&problem) {
                true => truncated(),
                false => corrupt(coding, zstd_problem(&problem)),
            });
        }
        let frame = Frame {
            decoder: &mut decoder,
            rest: &mut rest,
        };
        out.read(frame)?;
        let expected = decoder.get_checksum_from_data();
        if expected.is_some() && expected != decoder.get_calculated_checksum() {
            return Err(corrupt(coding, "a frame has the wrong checksum"));
        }
    }
    Ok(())
}

/// What is wrong with a frame. The messages of the decoder show its own types.
fn zstd_problem(problem: &FrameDecoderError) -> String {
    use FrameDecoderError as Problem;
    match problem {
        Problem::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_)) => {
            "a frame does not begin with the magic number of zstd".to_owned()
        }
        Problem::ReadFrameHeaderError(_) | Problem::FrameHeaderError(_) => {
            "the header of a frame is invalid".to_owned()
        }
        Problem::WindowSizeTooBig { requested, max } => {
            format!("a frame has a window of {requested} bytes, more than {max}")
        }
        Problem::DictNotProvided { .. } => "a frame needs a dictionary".to_owned(),
        Problem::FailedToReadBlockHeader(_) | Problem::FailedToReadBlockBody(_) => {
            "a block of a frame is invalid".to_owned()
        }
        _ => "a frame is invalid".to_owned(),
    }
}

/// Whether the input ended too early.
fn is_at_end(problem: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(problem), |problem| problem.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
}

/// Reads one frame, block by block.
struct Frame<'d, 'b> {
    decoder: &'d mut FrameDecoder,
    rest: &'d mut &'b [u8],
}

impl Read for Frame<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let decoded = self.decoder.decode_blocks(&mut *self.rest, UptoBlocks(1));
            decoded.map_err(|problem| match is_at_end(&problem) {
                true => io::ErrorKind::UnexpectedEof.into(),
                false => io::Error::other(zstd_problem(&problem)),
            })?;
        }
        self.decoder.read(buffer)
    }
}

impl From<&CodingError> for Reason {
    fn from(problem: &CodingError) -> Self {
        match problem {
            CodingError::Unknown(_) | CodingError::Several(_) => Reason::UnsupportedMedia,
            CodingError::TooLarge { .. } => Reason::TooLarge,
            CodingError::NoRoom => Reason::NoBuffer,
            CodingError::Truncated { .. } | CodingError::Corrupt { .. } => Reason::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
