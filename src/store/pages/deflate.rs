//! A deflate compressor (RFC 1951) for pages, which are compressed again whenever
//! they change.
//!
//! A general compressor clears its tables for each page, searches all of its
//! window for matches, and keeps the window. A line of an exposition is much like
//! the line before it or one a few lines up, so the distance of the last match is
//! mostly that of the next. This compressor tries that distance first, then one
//! small hash table, and otherwise writes a literal. It uses the fixed codes of
//! section 3.2.6.
//!
//! Medians of 31 interleaved rounds over the pages of 1,000 apps, one core
//! (`cargo bench -p bench --bench pages -- compressors`): processor time, and size
//! of the result.
//!
//! | Text | This | `zlib-rs`, level 1 | `fdeflate` |
//! | --- | ---: | ---: | ---: |
//! | counters, 9.5 MB | 7.8 ms, 1.20 MB | 17.8 ms, 1.19 MB | 16.4 ms, 14.20 MB |
//! | histograms, 12.5 MB | 13.4 ms, 1.63 MB | 27.8 ms, 1.61 MB | 22.7 ms, 18.55 MB |
//! | gauges, random labels and values, 8.4 MB | 22.1 ms, 3.44 MB | 37.6 ms, 3.41 MB | 12.1 ms, 12.54 MB |
//! | a Go program's own metrics, 1.9 MB | 3.4 ms, 0.75 MB | 9.1 ms, 0.75 MB | 2.5 ms, 2.94 MB |
//!
//! It is 1.7 to 2.7 times as fast as `zlib-rs`, for a result at most one percent
//! larger. `fdeflate` is made for images: its result is larger than the text.

/// Bytes that are compressed at a time, so that positions fit 16 bits. Matches do
/// not cross pieces.
const PIECE: usize = 1 << 16;

/// The greatest distance of a match (section 3.2.5).
const FARTHEST: usize = 1 << 15;

/// The greatest length of a match (section 3.2.5).
const LONGEST: usize = 258;

/// The minimum length of a match, in bytes: the hash that finds matches covers as many.
const SHORTEST: usize = 4;

const HASH_BITS: u32 = 12;

/// Maximum number of bytes in a stored block.
const STORED: usize = u16::MAX as usize;

/// Bytes of a stored block's header.
const STORED_HEADER: usize = 5;

/// Maximum output memory that is kept from one text to the next, in bytes.
const MAX_KEPT: usize = 256 * 1024;

/// Bits to write, the lowest first.
#[derive(Debug, Clone, Copy)]
struct Code {
    bits: u32,
    count: u32,
}

impl Code {
    /// This code followed by `next`, at most 32 bits together.
    fn and(self, next: Code) -> Code {
        Code {
            bits: self.bits | next.bits << self.count,
            count: self.count + next.count,
        }
    }
}

/// The codes of bytes.
static LITERALS: [Code; 256] = literals();

/// The codes of match lengths with their extra bits.
static LENGTHS: [Code; LONGEST + 1] = lengths();

const END_OF_BLOCK: Code = fixed(256);

/// The header of a block in fixed codes that is not final.
const FIXED_BLOCK: Code = Code {
    bits: 0b010,
    count: 3,
};

/// The header of a stored block that is not final. It ends on a byte boundary.
const STORED_BLOCK: Code = Code { bits: 0, count: 3 };

/// A compressor that is reused for text after text.
#[derive(Debug)]
pub struct Deflate {
    /// Last positions of bytes, by their hash. It is cleared for each piece, so
    /// that the output does not depend on texts before.
    seen: Box<[u16; 1 << HASH_BITS]>,
    block: Vec<u8>,
}

impl Default for Deflate {
    fn default() -> Self {
        Deflate::new()
    }
}

impl Deflate {
    /// A compressor without memory for results yet.
    pub fn new() -> Self {
        Deflate {
            seen: Box::new([0; 1 << HASH_BITS]),
            block: Vec::new(),
        }
    }

    /// Frees memory that only a large text needs.
    pub fn shrink(&mut self) {
        self.block.clear();
        self.block.shrink_to(MAX_KEPT);
    }

    /// Compresses `text` into blocks that end on a byte boundary. None is final, so
    /// others can follow. Incompressible text is stored and grows by 5 bytes for
    /// each 64 KiB.
    pub fn compress(&mut self, text: &[u8]) -> &[u8] {
        self.block.clear();
        let mut bits = Bits::to(&mut self.block);
        for piece in text.chunks(PIECE) {
            bits.put(FIXED_BLOCK);
            compress_piece(piece, &mut self.seen, &mut bits);
            bits.put(END_OF_BLOCK);
        }
        // A sync flush: an empty stored block (section 3.2.4).
        bits.put_stored(&[]);
        let stored = text.len() + text.len().div_ceil(STORED) * STORED_HEADER;
        if self.block.len() > stored && !text.is_empty() {
            self.block.clear();
            let mut bits = Bits::to(&mut self.block);
            for piece in text.chunks(STORED) {
                bits.put_stored(piece);
            }
        }
        &self.block
    }
}

fn compress_piece(text: &[u8], seen: &mut [u16; 1 << HASH_BITS], bits: &mut Bits<'_>) {
    seen.fill(0);
    let mut at = 0;
    // The distance of the last match, 0 before the first.
    let mut distance = 0;
    let mut distance_code = Code { bits: 0, count: 0 };
    while let Some(here) = four_at(text, at) {
        let near = at.wrapping_sub(distance);
        let found = if distance > 0 && four_at(text, near) == Some(here) {
            Some(near)
        } else {
            let hash = here.wrapping_mul(0x9E37_79B1) >> (u32::BITS - HASH_BITS);
            let last = &mut seen[hash as usize];
            let place = usize::from(std::mem::replace(last, at as u16));
            let may_be = place < at && at - place <= FARTHEST;
            (may_be && four_at(text, place) == Some(here)).then_some(place)
        };
        let Some(found) = found else {
            bits.put(LITERALS[usize::from(text[at])]);
            at += 1;
            continue;
        };
        if at - found != distance {
            distance = at - found;
            distance_code = code_of_distance(distance as u32);
        }
        let len = SHORTEST + common_prefix(&text[found + SHORTEST..], &text[at + SHORTEST..]);
        bits.put(LENGTHS[len].and(distance_code));
        at += len;
    }
    for byte in &text[at..] {
        bits.put(LITERALS[usize::from(*byte)]);
    }
}

fn four_at(text: &[u8], at: usize) -> Option<u32> {
    let four = text.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

/// The length of the common prefix, at most that of a match without its first
/// [`SHORTEST`] bytes.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    const MOST: usize = LONGEST - SHORTEST;
    let len = one.len().min(other.len()).min(MOST);
    let (one, other) = (&one[..len], &other[..len]);
    let (ones, one_rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    for (eights, (one, other)) in ones.iter().zip(others).enumerate() {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return 8 * eights + differing.trailing_zeros() as usize / 8;
        }
    }
    let rest = one_rest.iter().zip(other_rest);
    8 * ones.len() + rest.take_while(|(one, other)| one == other).count()
}

/// The code of a distance with its extra bits. From the third code on, each pair of
/// codes has one extra bit more than the pair before.
fn code_of_distance(distance: u32) -> Code {
    let from_zero = distance - 1;
    if from_zero < 2 {
        return Code {
            bits: reversed(from_zero, 5),
            count: 5,
        };
    }
    let power = from_zero.ilog2();
    let extra_bits = power - 1;
    let number = 2 * power + (from_zero >> extra_bits & 1);
    let extra = from_zero & ((1 << extra_bits) - 1);
    Code {
        bits: reversed(number, 5) | extra << 5,
        count: 5 + extra_bits,
    }
}

const fn literals() -> [Code; 256] {
    let mut codes = [Code { bits: 0, count: 0 }; 256];
    let mut byte = 0;
    while byte < codes.len() {
        codes[byte] = fixed(byte as u32);
        byte += 1;
    }
    codes
}

/// From the ninth code on, each four codes have one extra bit more than the four
/// before. The greatest length has a code of its own.
const fn lengths() -> [Code; LONGEST + 1] {
    let mut codes = [Code { bits: 0, count: 0 }; LONGEST + 1];
    let mut len = 3;
    while len < LONGEST {
        let from_zero = len as u32 - 3;
        let extra_bits = if from_zero < 8 {
            0
        } else {
            from_zero.ilog2() - 2
        };
        let symbol = 257 + 4 * extra_bits + (from_zero >> extra_bits);
        let extra = from_zero & ((1 << extra_bits) - 1);
        let code = fixed(symbol);
        codes[len] = Code {
            bits: code.bits | extra << code.count,
            count: code.count + extra_bits,
        };
        len += 1;
    }
    codes[LONGEST] = fixed(285);
    codes
}

/// The fixed code of a literal, the end of a block, or a length.
const fn fixed(symbol: u32) -> Code {
    let (code, count) = match symbol {
        0..=143 => (0x30 + symbol, 8),
        144..=255 => (0x190 + symbol - 144, 9),
        256..=279 => (symbol - 256, 7),
        _ => (0xC0 + symbol - 280, 8),
    };
    Code {
        bits: reversed(code, count),
        count,
    }
}

/// `code` with its bits reversed: codes are written from their highest bit on,
/// everything else from the lowest.
const fn reversed(code: u32, count: u32) -> u32 {
    code.reverse_bits() >> (u32::BITS - count)
}

/// A writer of bits, which fill each byte from its lowest bit on.
struct Bits<'b> {
    bytes: &'b mut Vec<u8>,
    /// Bits that do not fill 32 yet.
    pending: u64,
    count: u32,
}

impl<'b> Bits<'b> {
    fn to(bytes: &'b mut Vec<u8>) -> Self {
        Bits {
            bytes,
            pending: 0,
            count: 0,
        }
    }

    fn put(&mut self, code: Code) {
        self.pending |= u64::from(code.bits) << self.count;
        self.count += code.count;
        if self.count >= u32::BITS {
            let full = self.pending as u32;
            self.bytes.extend_from_slice(&full.to_le_bytes());
            self.pending >>= u32::BITS;
            self.count -= u32::BITS;
        }
    }

    /// Writes a stored block, which ends on a byte boundary.
    fn put_stored(&mut self, text: &[u8]) {
        self.put(STORED_BLOCK);
        let pending = self.pending.to_le_bytes();
        let filled = self.count.div_ceil(u8::BITS) as usize;
        self.bytes.extend_from_slice(&pending[..filled]);
        (self.pending, self.count) = (0, 0);
        let len = text.len() as u16;
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&(!len).to_le_bytes());
        self.bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{DeflateDecoder, DeflateEncoder};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What a decoder reads from the blocks, with a final one after them.
    fn decompressed(blocks: &[u8]) -> Vec<u8> {
        let stream = [blocks, &[3, 0]].concat();
        let mut text = Vec::new();
        let mut decoder = DeflateDecoder::new(&stream[..]);
        decoder.read_to_end(&mut text).expect("a deflate stream");
        assert_eq!(decoder.total_in(), stream.len() as u64);
        text
    }

    fn check(text: &[u8]) -> usize {
        let mut deflate = Deflate::new();
        let compressed = deflate.compress(text).to_vec();
        assert!(decompressed(&compressed) == text);
        let most = text.len() + text.len().div_ceil(STORED) * STORED_HEADER;
        assert!(
            compressed.len() <= most.max(6),
            "{} bytes",
            compressed.len()
        );
        // Texts compressed before make no difference.
        deflate.compress(b"other text, other places");
        assert_eq!(deflate.compress(text), compressed);
        compressed.len()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    #[test]
    fn all_lengths_and_distances_decode() {
        for len in 0..=2 * LONGEST + 2 {
            check(&vec![b'a'; len]);
            check(&[&noise(300)[..], b"|", &noise(300)[..len.min(300)]].concat());
        }
        let noise = noise(PIECE);
        let powers = (0..=15).map(|power| 1_usize << power);
        for distance in powers.flat_map(|power| [power - 1, power, power + 1]) {
            // Nothing else repeats in the text between.
            let between = &noise[100..][..distance];
            check(&[&noise[..40], between, &noise[..40], between].concat());
        }
    }

    #[test]
    fn texts_of_any_length_decode() {
        for len in [0, 1, 3, 4, 5, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            check(&noise(len));
            check(&"m{a=\"b\"} 1\n".repeat(len / 11 + 1).as_bytes()[..len]);
        }
    }

    #[test]
    fn exposition_compresses_about_as_well_as_with_zlib() {
        let lines: String = (0..400)
            .map(|n| {
                format!(
                    "requests_total{{host=\"host-{}\",path=\"/p/{}\"}} {}\n",
                    n / 20,
                    n % 20,
                    n * n % 97
                )
            })
            .collect();
        let mut zlib = Vec::new();
        DeflateEncoder::new(lines.as_bytes(), flate2::Compression::fast())
            .read_to_end(&mut zlib)
            .unwrap();
        let ours = check(lines.as_bytes());
        assert!(ours * 20 <= zlib.len() * 21, "{ours} and {}", zlib.len());
        assert_eq!(check(&noise(PIECE)), PIECE + 2 * STORED_HEADER);
    }

    proptest! {
        #[test]
        fn any_text_decodes(
            words in vec(vec(any::<u8>(), 0..12), 1..20),
            order in vec(0..20_usize, 0..3000),
        ) {
            let all = order.iter().map(|at| &words[at % words.len()][..]);
            check(&all.collect::<Vec<_>>().concat());
        }
    }
}
