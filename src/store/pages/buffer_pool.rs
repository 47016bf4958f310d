//! Buffer pool: memory of old page texts, reused for new ones.
//!
//! A page that is joined again needs about as much memory as its old text frees.
//! Fresh memory costs more than the copying. Where one thread writes and another
//! reads, an allocator with an arena per thread would also hold all text twice.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Maximum number of buffers that a thread keeps.
const MAX_BUFFERS: usize = 16;

/// The largest buffer that is kept, in bytes.
const MAX_CAPACITY: usize = 64 * 1024;

/// At most 1/16 of a buffer may stay unused.
const UNUSED_SHARE: usize = 16;

thread_local! {
    /// The newest buffer is the last: it is most likely in the processor's cache.
    static POOL: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// Puts the memory of `text` into the pool, unless somebody still reads it.
pub fn recycle(text: Bytes) {
    if text.is_empty() {
        return;
    }
    let Ok(buffer) = text.try_into_mut() else {
        return;
    };
    // The text may have been a part of a larger one.
    if buffer.capacity() > MAX_CAPACITY {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() == MAX_BUFFERS {
            pool.pop_front();
        }
        pool.push_back(buffer);
    });
}

/// An empty buffer with a capacity of at least `len` bytes, from the pool if one
/// fits.
pub fn take(len: usize) -> BytesMut {
    let fits = |buffer: &BytesMut| fits(buffer.capacity(), len);
    let found = POOL.with_borrow_mut(|pool| {
        let at = pool.iter().rposition(fits)?;
        pool.remove(at)
    });
    match found {
        Some(mut buffer) => {
            buffer.clear();
            buffer
        }
        None => BytesMut::with_capacity(len),
    }
}

/// Whether a buffer of `capacity` bytes holds `len` bytes with little unused.
pub fn fits(capacity: usize, len: usize) -> bool {
    (len..=len + len / UNUSED_SHARE).contains(&capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_once_nobody_reads_it() {
        let mut text = take(10_000);
        text.extend_from_slice(&[b'a'; 10_000]);
        let text = text.freeze();
        let address = text.as_ptr();
        let reader = text.clone();
        recycle(text);
        assert_ne!(take(9_900).as_ptr(), address, "it still has a reader");
        recycle(reader);
        assert_ne!(take(5_000).as_ptr(), address, "it is far too large");
        assert_ne!(take(10_001).as_ptr(), address, "it is too small");
        let again = take(9_900);
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
    }

    #[test]
    fn the_pool_keeps_few_buffers_and_no_large_one() {
        for len in 1..=2 * MAX_BUFFERS {
            recycle(Bytes::from(vec![b'a'; 1000 + len]));
        }
        recycle(Bytes::from(vec![b'a'; MAX_CAPACITY + 1]));
        recycle(Bytes::from(vec![b'a'; MAX_CAPACITY + 1]).slice(..1000));
        let kept = POOL.with_borrow(|pool| pool.iter().map(BytesMut::capacity).collect::<Vec<_>>());
        assert_eq!(kept.len(), MAX_BUFFERS);
        assert_eq!(kept.last(), Some(&(1000 + 2 * MAX_BUFFERS)));
    }
}
