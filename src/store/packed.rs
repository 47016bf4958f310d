//! Compressed text that can be put together with other such text.

use std::cell::RefCell;

use bytes::Bytes;

use super::crc::Crc;
use super::deflate::Deflate;

/// A page's text as raw deflate blocks that end on a byte boundary, so that
/// others can be put after them, and its CRC-32.
#[derive(Debug, Clone)]
pub struct Packed {
    pub block: Bytes,
    pub crc: Crc,
}

impl Packed {
    /// Compresses on the thread that asks. Each keeps what it needs for that.
    pub fn new(text: &[u8]) -> Self {
        thread_local! {
            static DEFLATE: RefCell<Deflate> = RefCell::new(Deflate::new());
        }
        DEFLATE.with_borrow_mut(|deflate| {
            let block = Bytes::copy_from_slice(deflate.pack(text));
            deflate.shrink();
            let crc = Crc::of(text);
            Packed { block, crc }
        })
    }
}
