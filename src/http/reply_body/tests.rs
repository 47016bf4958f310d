use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;

use super::*;

fn batch(chunks: &[&'static str]) -> ChunkBatch {
    let mut batch = ChunkBatch::default();
    for chunk in chunks {
        batch.push(Bytes::from_static(chunk.as_bytes()));
    }
    batch
}

#[test]
fn a_batch_survives_partial_writes() {
    for step in 1..=7 {
        let mut batch = batch(&["ab", "", "c", "defg"]);
        let mut written = Vec::new();
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = batch.chunks_vectored(&mut slices);
            assert_eq!(&*slices[0], batch.chunk());
            let text = slices[..filled].iter().flat_map(|slice| slice.to_vec());
            let text: Vec<u8> = text.collect();
            let count = step.min(text.len());
            written.extend_from_slice(&text[..count]);
            batch.advance(count);
        }
        assert_eq!(written, b"abcdefg", "in steps of {step}");
    }
}

#[tokio::test]
async fn batches_are_bounded_in_chunks_and_bytes() {
    let small = vec![Bytes::from_static(b"m 1\n"); 2 * MAX_BATCH_CHUNKS + 1];
    let large = vec![Bytes::from(vec![b'a'; MAX_BATCH_BYTES / 2 + 1]); 3];
    for (chunks, expected) in [(small, [64, 64, 1]), (large, [2, 1, 0])] {
        let mut body = ReplyBody::new(chunks);
        for count in expected.into_iter().filter(|count| *count > 0) {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap().chunks.len(), count);
        }
        assert!(body.frame().await.is_none());
    }
}

/// A generator of `count` chunks, and a counter of the generated ones.
fn counted(count: usize) -> (ChunkIterator, Arc<AtomicUsize>) {
    let generated = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&generated);
    let chunk = move |number: usize| {
        counter.fetch_add(1, Ordering::Relaxed);
        // Every third chunk is empty.
        match number % 3 {
            1 => Bytes::new(),
            _ => Bytes::from(format!("{number};")),
        }
    };
    (Box::new((0..count).map(chunk)), generated)
}

#[tokio::test]
async fn a_short_body_has_a_length() {
    let pool = BlockingPool::new(1);
    for (count, length, whole) in [
        (0, Some(0), ""),
        (1, Some(2), "0;"),
        (5, Some(6), "0;2;3;"),
        (6, None, "0;2;3;5;"),
        (9, None, "0;2;3;5;6;8;"),
    ] {
        let (chunks, _) = counted(count);
        let body = ReplyBody::streamed(&pool, true, chunks).await.unwrap();
        assert_eq!(body.content_length(), length, "{count}");
        let mut sent = Vec::new();
        let mut collected = body.collect().await.unwrap().aggregate();
        while collected.has_remaining() {
            sent.extend_from_slice(collected.chunk());
            let count = collected.chunk().len();
            collected.advance(count);
        }
        assert_eq!(sent, whole.as_bytes(), "{count}");
    }
}

#[tokio::test]
async fn nothing_is_generated_for_a_client_that_stalls_or_disconnects() {
    let pool = BlockingPool::new(1);
    let (chunks, generated) = counted(1000);
    let mut body = ReplyBody::streamed(&pool, true, chunks).await.unwrap();
    assert_eq!(generated.load(Ordering::Relaxed), SHORT_CHUNKS);
    let (long, none_generated) = counted(1000);
    let long = ReplyBody::streamed(&pool, false, long).await.unwrap();
    assert_eq!(
        (
            long.content_length(),
            none_generated.load(Ordering::Relaxed)
        ),
        (None, 0)
    );
    // The pool is free between chunks.
    assert_eq!(pool.free(), 1);
    for _ in 0..SHORT_CHUNKS {
        body.frame().await.unwrap().unwrap();
    }
    let taken = generated.load(Ordering::Relaxed);
    assert!(taken <= SHORT_CHUNKS + 5, "{taken}");
    drop(body);
    pool.run(|| ()).await.unwrap();
    assert_eq!(generated.load(Ordering::Relaxed), taken);
}
