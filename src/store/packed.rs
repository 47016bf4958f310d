//! Compressed text that can be put together with other such text.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use super::crc::Crc;

/// A page's text as one raw deflate block that ends on a byte boundary (a sync
/// flush, RFC 1951 section 3.2.4), so that blocks can be put one after the
/// other, and its CRC-32.
#[derive(Debug, Clone)]
pub struct Packed {
    pub block: Bytes,
    pub crc: Crc,
}

impl Packed {
    /// Compresses on the thread that asks. Making a compressor costs more than
    /// a page, so each thread keeps one.
    pub fn new<P: AsRef<[u8]>>(pieces: &[P]) -> Self {
        thread_local! {
            static COMPRESSOR: RefCell<(Compress, Vec<u8>)> =
                RefCell::new((Compress::new(Compression::fast(), false), Vec::new()));
        }
        COMPRESSOR.with_borrow_mut(|(compressor, block)| {
            compressor.reset();
            block.clear();
            for (index, piece) in pieces.iter().enumerate() {
                let piece = piece.as_ref();
                let last = index + 1 == pieces.len();
                let flush = if last {
                    FlushCompress::Sync
                } else {
                    FlushCompress::None
                };
                let mut taken = 0;
                loop {
                    block.reserve(piece.len() / 8 + 256);
                    let before = compressor.total_in();
                    compressor
                        .compress_vec(&piece[taken..], block, flush)
                        .expect("deflating has no failing state");
                    taken += (compressor.total_in() - before) as usize;
                    // Room left over means that the flush is complete.
                    if taken == piece.len() && block.len() < block.capacity() {
                        break;
                    }
                }
            }
            Packed {
                block: Bytes::copy_from_slice(block),
                crc: Crc::of(pieces),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_compress_is_packed_whole() {
        use std::io::Read;
        let mut state = 1_u64;
        let text: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let packed = Packed::new(&[Bytes::from(text.clone())]);
        let mut reader = flate2::read::DeflateDecoder::new(&packed.block[..]);
        let mut read = vec![0; text.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == text);
    }
}
