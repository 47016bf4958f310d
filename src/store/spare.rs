//! Memory for the text of pages, used again.
//!
//! A page that is joined anew takes memory of about the size that its old text
//! leaves. Fresh memory would cost more than the copying, and where one thread
//! writes and another reads, an allocator that keeps threads apart would hold
//! all text twice.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces that each thread keeps at most, ...
const MOST_PIECES: usize = 16;

/// ... each of so many bytes at most.
const LARGEST_PIECE: usize = 64 * 1024;

/// Unused bytes of a piece: one in so many.
const UNUSED: usize = 16;

thread_local! {
    /// The newest is the last: it is most likely in the processor's cache.
    static SPARE: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// Keeps the memory of a text for another one, unless somebody still reads it.
pub fn keep(text: Bytes) {
    if text.is_empty() {
        return;
    }
    let Ok(memory) = text.try_into_mut() else {
        return;
    };
    // The text may have been a part of a larger one.
    if memory.capacity() > LARGEST_PIECE {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() == MOST_PIECES {
            spare.pop_front();
        }
        spare.push_back(memory);
    });
}

/// Empty memory with room for `len` bytes.
pub fn take(len: usize) -> BytesMut {
    let fits = |memory: &BytesMut| fits(memory.capacity(), len);
    let found = SPARE.with_borrow_mut(|spare| {
        let at = spare.iter().rposition(fits)?;
        spare.remove(at)
    });
    match found {
        Some(mut memory) => {
            memory.clear();
            memory
        }
        None => BytesMut::with_capacity(len),
    }
}

/// Whether memory of that capacity serves `len` bytes with little left over.
pub fn fits(capacity: usize, len: usize) -> bool {
    (len..=len + len / UNUSED).contains(&capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_nobody_reads_is_used_again() {
        let mut text = take(10_000);
        text.extend_from_slice(&[b'a'; 10_000]);
        let text = text.freeze();
        let place = text.as_ptr();
        let reader = text.clone();
        keep(text);
        assert_ne!(take(9_900).as_ptr(), place, "somebody reads it");
        keep(reader);
        assert_ne!(take(5_000).as_ptr(), place, "it is far too large");
        assert_ne!(take(10_001).as_ptr(), place, "it is too small");
        let again = take(9_900);
        assert_eq!(again.as_ptr(), place);
        assert!(again.is_empty());
    }

    #[test]
    fn few_pieces_are_kept_and_none_that_is_large() {
        for len in 1..=2 * MOST_PIECES {
            keep(Bytes::from(vec![b'a'; 1000 + len]));
        }
        keep(Bytes::from(vec![b'a'; LARGEST_PIECE + 1]));
        keep(Bytes::from(vec![b'a'; LARGEST_PIECE + 1]).slice(..1000));
        let kept =
            SPARE.with_borrow(|spare| spare.iter().map(BytesMut::capacity).collect::<Vec<_>>());
        assert_eq!(kept.len(), MOST_PIECES);
        assert_eq!(kept.last(), Some(&(1000 + 2 * MOST_PIECES)));
    }
}
