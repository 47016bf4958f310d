//! Compressed text that can be joined with other compressed text.

use std::cell::RefCell;

use bytes::Bytes;

use crate::store::pages::crc::Crc;
use crate::store::pages::deflate::Deflate;

/// A text as raw deflate blocks, and its CRC-32. The blocks end on a byte boundary
/// and none is final, so those of other texts can follow.
#[derive(Debug, Clone)]
pub struct Compressed {
    pub block: Bytes,
    pub crc: Crc,
}

impl Compressed {
    /// Compresses `text` on the calling thread. Each thread keeps one compressor.
    pub fn new(text: &[u8]) -> Self {
        thread_local! {
            static DEFLATE: RefCell<Deflate> = RefCell::new(Deflate::new());
        }
        DEFLATE.with_borrow_mut(|deflate| {
            let block = Bytes::copy_from_slice(deflate.compress(text));
            deflate.shrink();
            let crc = Crc::of(text);
            Compressed { block, crc }
        })
    }
}
