//! Properties of compressed bodies, for tests and `fuzz/`.

use bytes::Bytes;

use super::{Coding, decode, decode_small};

const LIMIT: usize = 1 << 20;

/// A compressed body. The result stays within the limit, and both ways to decode agree.
pub fn compressed(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    for coding in [Coding::Gzip, Coding::Snappy, Coding::Zstd] {
        let decoded = decode(coding, body.clone(), LIMIT);
        if let Ok(content) = &decoded {
            assert!(content.len() <= LIMIT);
            // One byte less than the content needs is too little.
            if let Some(less) = content.len().checked_sub(1) {
                assert!(decode(coding, body.clone(), less).is_err());
            }
        }
        if let Some(small) = decode_small(coding, &body, LIMIT) {
            assert_eq!(small.ok(), decoded.ok());
        }
    }
}
