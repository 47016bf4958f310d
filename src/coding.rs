//! Bodies that come compressed: `Content-Encoding`.

use std::fmt;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;

use crate::reason::Reason;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    /// One member or several (RFC 1952).
    Gzip,
    /// The framed format, a stream of chunks with sums. What remote write
    /// calls snappy, one block without a frame, is another.
    Snappy,
    /// One frame or several (RFC 8878).
    Zstd,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    #[error(
        "Content-Encoding {0:?} is not known; known are gzip, snappy (framed), zstd and identity"
    )]
    Unknown(String),
    #[error("Content-Encoding {0:?} names several codings, and a body may have one")]
    Several(String),
    #[error("the body has more than {limit} bytes once it is decompressed (push.max_body)")]
    TooLarge { limit: usize },
    #[error("no memory is left for what the body decompresses to")]
    NoRoom,
    #[error("the body is no sound {coding}: it ends too early")]
    Truncated { coding: Coding },
    #[error("the body is no sound {coding}: {problem}")]
    Corrupt { coding: Coding, problem: String },
}

impl Coding {
    /// By the header's value, empty where there is none. Several headers are
    /// to be joined by commas. Case does not matter.
    pub fn of(header: &str) -> Result<Coding, CodingError> {
        let mut names = header.split(',').map(str::trim).filter(|it| !it.is_empty());
        let Some(name) = names.next() else {
            return Ok(Coding::Identity);
        };
        if names.next().is_some() {
            return Err(CodingError::Several(shown(header)));
        }
        match name.to_ascii_lowercase().as_str() {
            "identity" => Ok(Coding::Identity),
            // RFC 9110 has both names mean the same.
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "snappy" => Ok(Coding::Snappy),
            "zstd" => Ok(Coding::Zstd),
            _ => Err(CodingError::Unknown(shown(name))),
        }
    }

    /// The coding that bytes begin as. No text, JSON or protobuf does.
    pub fn seen_in(bytes: &[u8]) -> Option<Coding> {
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

/// The start of what a client sent, for an error.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Decompresses a body to its end, to at most `limit` bytes. A body that was
/// not compressed is not copied. Beside the result, a constant is used and for
/// zstd a window (see [`WINDOW`]).
pub fn decode(coding: Coding, body: Bytes, limit: usize) -> Result<Bytes, CodingError> {
    decode_in(coding, body, limit, &mut |_| true)
}

/// Like [`decode`], and asks `room` for memory as the result grows: whether so
/// many bytes more may be used. The first bytes come without asking.
pub fn decode_in(
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
    let mut out = Unpacked {
        coding,
        bytes: Vec::new(),
        limit,
        room,
    };
    match coding {
        Coding::Identity => {}
        Coding::Gzip => out.read(MultiGzDecoder::new(body.reader()))?,
        Coding::Snappy => out.read(snap::read::FrameDecoder::new(body.reader()))?,
        Coding::Zstd => unpack_zstd(&body, &mut out)?,
    }
    Ok(Bytes::from(out.bytes))
}

/// What a body decompresses to.
struct Unpacked<'r> {
    coding: Coding,
    bytes: Vec<u8>,
    limit: usize,
    room: &'r mut dyn FnMut(usize) -> bool,
}

/// The result grows by so much at first, and is then doubled.
const FIRST_GROWTH: usize = 16 << 10;

impl Unpacked<'_> {
    /// Reads all of `reader`.
    fn read(&mut self, mut reader: impl Read) -> Result<(), CodingError> {
        let (coding, limit) = (self.coding, self.limit);
        loop {
            let free = self.bytes.capacity() - self.bytes.len();
            // One more byte than allowed tells that there are too many.
            let left = (limit - self.bytes.len()).saturating_add(1);
            let step = match free {
                0 => self.grow(left)?,
                free => free,
            };
            let step = step.min(left);
            // It is filled, or the reader ends: no memory is taken beside it.
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

    /// Makes place for more bytes, of which `left` may come at most.
    fn grow(&mut self, left: usize) -> Result<usize, CodingError> {
        let held = self.bytes.len();
        let step = held.max(FIRST_GROWTH).min(left);
        // The window of zstd holds as much again of what came last.
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

/// How far back a zstd frame may refer, at least: what every decoder should
/// offer (RFC 8878, section 3.1.1.1.2). So much memory is used for it while it
/// is read; a larger window than this must fit the limit.
const WINDOW: usize = 8 << 20;

/// Frames that hold no data begin so, but for the lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;

/// The frames of a body, one after the other.
fn unpack_zstd(body: &[u8], out: &mut Unpacked<'_>) -> Result<(), CodingError> {
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
                false => corrupt(coding, problem),
            });
        }
        let frame = Frame {
            decoder: &mut decoder,
            rest: &mut rest,
        };
        out.read(frame)?;
        let told = decoder.get_checksum_from_data();
        if told.is_some() && told != decoder.get_calculated_checksum() {
            return Err(corrupt(coding, "a frame's checksum is that of other data"));
        }
    }
    Ok(())
}

/// Whether more was to be read than there is.
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
                false => io::Error::other(problem),
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
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const COMPRESSED: [Coding; 3] = [Coding::Gzip, Coding::Snappy, Coding::Zstd];

    fn packed(coding: Coding, plain: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Identity => plain.to_vec(),
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).unwrap();
                encoder.into_inner().unwrap()
            }
            Coding::Zstd => compress_to_vec(plain, CompressionLevel::Fastest),
        }
    }

    fn unpacked(coding: Coding, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, CodingError> {
        decode(coding, Bytes::from(body), limit).map(|plain| plain.to_vec())
    }

    fn text() -> Vec<u8> {
        (0..20_000)
            .flat_map(|n| format!("series_total{{n=\"{n}\"}} {n}\n").into_bytes())
            .collect()
    }

    #[test]
    fn headers_name_their_coding() {
        for (header, coding) in [
            ("", Coding::Identity),
            (" ,", Coding::Identity),
            ("Identity", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("X-GZip", Coding::Gzip),
            (" SNAPPY ", Coding::Snappy),
            ("zstd,", Coding::Zstd),
        ] {
            assert_eq!(Coding::of(header), Ok(coding), "{header:?}");
        }
        let message = |header| Coding::of(header).unwrap_err().to_string();
        assert_eq!(
            message("br"),
            "Content-Encoding \"br\" is not known; known are gzip, snappy (framed), zstd and identity"
        );
        assert_eq!(
            message("gzip, zstd"),
            "Content-Encoding \"gzip, zstd\" names several codings, and a body may have one"
        );
    }

    #[test]
    fn what_was_packed_is_unpacked_once_or_in_several_members() {
        let text = text();
        for coding in COMPRESSED {
            let whole = packed(coding, &text);
            assert_eq!(
                unpacked(coding, whole, text.len()),
                Ok(text.clone()),
                "{coding}"
            );
            let mut two = packed(coding, &text[..1000]);
            two.extend(packed(coding, &text[1000..]));
            assert_eq!(
                unpacked(coding, two, text.len()),
                Ok(text.clone()),
                "{coding}"
            );
            assert_eq!(
                unpacked(coding, packed(coding, b""), 0),
                Ok(Vec::new()),
                "{coding}"
            );
        }
        assert_eq!(
            unpacked(Coding::Identity, text.clone(), text.len()),
            Ok(text)
        );
    }

    #[test]
    fn a_gzip_body_may_have_several_members_and_nothing_after_them() {
        let (first, second) = (
            packed(Coding::Gzip, b"m1 1\n"),
            packed(Coding::Gzip, b"m2 2\n"),
        );
        let both = [&first[..], &second].concat();
        let empty = packed(Coding::Gzip, b"");
        for body in [both.clone(), [&empty[..], &both, &empty].concat()] {
            assert_eq!(
                unpacked(Coding::Gzip, body, 100),
                Ok(b"m1 1\nm2 2\n".to_vec())
            );
        }
        for end in first.len() + 1..both.len() {
            let error = unpacked(Coding::Gzip, both[..end].to_vec(), 100);
            assert!(error.is_err(), "cut at {end} of {}: {error:?}", both.len());
        }
        // Go's reader refuses padding with zeros, too.
        for more in [&b"\0"[..], &[0; 10], &[0; 512], b"more", &first[..1]] {
            let error = unpacked(Coding::Gzip, [&both[..], more].concat(), 100);
            assert!(error.is_err(), "{more:?} after the last member: {error:?}");
        }
    }

    #[test]
    fn past_the_limit_nothing_is_unpacked() {
        let bomb = vec![0; 8 << 20];
        for coding in COMPRESSED {
            let limit = 1 << 20;
            let error = unpacked(coding, packed(coding, &bomb), limit).unwrap_err();
            assert_eq!(error, CodingError::TooLarge { limit }, "{coding}");
        }
        let error = unpacked(Coding::Identity, vec![0; 11], 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the body has more than 10 bytes once it is decompressed (push.max_body)"
        );
    }

    #[test]
    fn bodies_that_are_cut_or_go_on_are_refused() {
        let text = text();
        for coding in COMPRESSED {
            let whole = packed(coding, &text[..5000]);
            // A stream of snappy may end after any chunk: here, its head.
            let whole_too = |end| coding == Coding::Snappy && end == 10;
            for end in (1..whole.len()).filter(|end| !whole_too(*end)) {
                let error = unpacked(coding, whole[..end].to_vec(), text.len());
                assert!(error.is_err(), "{coding} cut at {end} of {}", whole.len());
            }
            let mut more = whole.clone();
            more.extend_from_slice(b"and some more that is no member at all");
            let error = unpacked(coding, more, text.len());
            assert!(
                matches!(error, Err(CodingError::Corrupt { .. })),
                "{coding} {error:?}"
            );
        }
        let cut = |coding, by| {
            let whole = packed(coding, &text[..5000]);
            unpacked(coding, whole[..whole.len() - by].to_vec(), text.len()).unwrap_err()
        };
        for coding in COMPRESSED {
            assert_eq!(cut(coding, 1), CodingError::Truncated { coding });
        }
        assert_eq!(
            cut(Coding::Gzip, 5).to_string(),
            "the body is no sound gzip: it ends too early"
        );
    }

    #[test]
    fn data_that_does_not_fit_its_sum_is_refused() {
        let text = text();
        for coding in COMPRESSED {
            let mut whole = packed(coding, &text[..5000]);
            // In zstd's last four bytes and gzip's last eight is the sum, in
            // snappy's chunk it comes first.
            let at = match coding {
                Coding::Gzip => whole.len() - 8,
                Coding::Snappy => 14,
                _ => whole.len() - 1,
            };
            whole[at] ^= 1;
            let error = unpacked(coding, whole, text.len());
            assert!(
                matches!(error, Err(CodingError::Corrupt { .. })),
                "{coding} {error:?}"
            );
        }
    }

    #[test]
    fn zstd_frames_without_data_are_passed_over() {
        let mut body = vec![0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        body.extend(packed(Coding::Zstd, b"m 1\n"));
        assert_eq!(
            unpacked(Coding::Zstd, body.clone(), 100),
            Ok(b"m 1\n".to_vec())
        );
        assert_eq!(
            unpacked(Coding::Zstd, body[..9].to_vec(), 100),
            Err(CodingError::Truncated {
                coding: Coding::Zstd
            })
        );
    }

    #[test]
    fn room_is_asked_for_before_memory_is_taken() {
        let text = text();
        for coding in COMPRESSED {
            let body = Bytes::from(packed(coding, &text));
            let mut asked = 0;
            let whole = decode_in(coding, body.clone(), text.len(), &mut |more| {
                asked += more;
                true
            });
            assert_eq!(whole.unwrap(), text, "{coding}");
            assert!(asked + FIRST_GROWTH >= text.len(), "{coding} {asked}");
            let mut left = text.len() / 2;
            let refused = decode_in(coding, body, text.len(), &mut |more| {
                let rest = left.checked_sub(more);
                left = rest.unwrap_or(left);
                rest.is_some()
            });
            assert_eq!(refused, Err(CodingError::NoRoom), "{coding}");
            let small = Bytes::from(packed(coding, &text[..1000]));
            let unasked = decode_in(coding, small, text.len(), &mut |_| false);
            assert_eq!(unasked.unwrap().len(), 1000, "{coding}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_bytes_make_it_panic_or_pass_the_limit(
            coding in prop::sample::select(&COMPRESSED[..]),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            head in any::<bool>(),
        ) {
            let mut whole = if head {
                packed(coding, b"m 1\n")
            } else {
                Vec::new()
            };
            whole.extend(body);
            if let Ok(plain) = unpacked(coding, whole, 100) {
                prop_assert!(plain.len() <= 100);
            }
        }

        #[test]
        fn no_mutant_makes_it_panic_or_pass_the_limit(
            coding in prop::sample::select(&COMPRESSED[..]),
            plain in proptest::collection::vec("[a-c]{1,9}", 0..300),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let plain = plain.concat().into_bytes();
            let mut body = packed(coding, &plain);
            for (place, byte) in &changes {
                // Of nothing, Snappy makes nothing.
                if !body.is_empty() {
                    let place = place.index(body.len());
                    body[place] = *byte;
                }
            }
            match unpacked(coding, body, plain.len()) {
                Ok(read) => prop_assert!(read.len() <= plain.len()),
                Err(error) => prop_assert!(!changes.is_empty(), "{}", error),
            }
        }
    }
}
