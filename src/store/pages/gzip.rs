//! Page runs as one gzip member (RFC 1952).
//!
//! The member is the runs' deflate blocks in order, an empty final block, the
//! CRC-32 combined from those of the runs, and the length. It is one member
//! because many readers stop after the first.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::store::pages::page_run::PageRun;

/// A member's header: deflate, no name, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty final block of fixed Huffman codes. Pages end in blocks that are not
/// final.
const FINAL_BLOCK: [u8; 2] = [3, 0];

/// The member's bytes in pieces, of which the blocks are shared with the runs.
pub fn member(page_runs: &[Arc<PageRun>]) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(page_runs.len() + 2);
    pieces.push(Bytes::from_static(&HEADER));
    let mut crc = 0;
    let mut len = 0;
    for run in page_runs {
        crc = run.crc.after(crc);
        len += run.len;
        pieces.push(run.block.clone());
    }
    let mut end = BytesMut::with_capacity(FINAL_BLOCK.len() + 8);
    end.put_slice(&FINAL_BLOCK);
    end.put_u32_le(crc);
    // The format takes the length modulo 2^32.
    end.put_u32_le(len as u32);
    pieces.push(end.freeze());
    pieces
}
