//! CRC-32 checksums that can be combined.
//!
//! The checksum of two texts in a row follows from those of the texts: multiply
//! the first by x^(8n) modulo the polynomial, where n is the length of the second
//! text in bytes, and add the second. The factor depends on the length alone, so
//! a page keeps its own, and combining costs one multiplication per page.
//! (`crc32fast` combines too, with a dozen multiplications.)

/// The polynomial of gzip's CRC-32 (RFC 1952, section 8), lowest power first.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// x to the power of 1. The coefficient of x^n is bit 31 - n.
const X: u32 = 1 << 30;

/// The checksum of a text, and the factor for its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc {
    pub sum: u32,
    factor: u32,
}

impl Crc {
    /// The checksum of `text`.
    pub fn of(text: &[u8]) -> Self {
        Crc {
            sum: crc32fast::hash(text),
            factor: factor(text.len() as u64),
        }
    }

    /// The checksum of the empty text.
    pub const EMPTY: Crc = Crc {
        sum: 0,
        factor: 1 << 31,
    };

    /// The checksum of the text of `before` followed by this one.
    pub fn joined_to(self, before: Crc) -> Self {
        Crc {
            sum: self.after(before.sum),
            factor: multiply(before.factor, self.factor),
        }
    }

    /// Like [`joined_to`](Self::joined_to), for a text whose sum is `before`,
    /// without a factor for the result.
    pub fn after(self, before: u32) -> u32 {
        multiply(self.factor, before) ^ self.sum
    }
}

/// x^(8 * bytes) modulo the polynomial, by squaring.
fn factor(bytes: u64) -> u32 {
    // x^8, then its squares.
    let mut power = (0..3).fold(X, |power, _| multiply(power, power));
    let mut result = 1 << 31;
    let mut rest = bytes;
    while rest > 0 {
        if rest & 1 == 1 {
            result = multiply(power, result);
        }
        power = multiply(power, power);
        rest >>= 1;
    }
    result
}

/// The product of two polynomials modulo the polynomial.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for power in (0..32).rev() {
        // Masks, since a branch would be mispredicted half the time.
        product ^= b & 0u32.wrapping_sub((a >> power) & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_checksums_equal_that_of_the_whole() {
        let text: Vec<u8> = (0..100_000_u32).map(|n| (n * 31 % 251) as u8).collect();
        for cut in [0, 1, 7, 8, 4_095, 65_536, 99_999, 100_000] {
            let (first, rest) = text.split_at(cut);
            let combined = Crc::of(rest).after(Crc::of(first).sum);
            assert_eq!(combined, crc32fast::hash(&text), "{cut}");
        }
        let thirds = text
            .chunks(33_333)
            .fold(0, |sum, part| Crc::of(part).after(sum));
        assert_eq!(thirds, crc32fast::hash(&text));
    }
}
