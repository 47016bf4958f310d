//! Packs values for storage: large ones are compressed once, here.
//!
//! The engine could compress them, but would do so each time it writes a value: to the
//! journal, to a file, and again when files are merged. Packed values also take less memory
//! until they are in a file.

use std::borrow::Cow;

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// The first byte of a packed value. Its length and the compressed bytes follow.
const PACKED: u8 = 0xff;

const HEADER: usize = 1 + size_of::<u32>();

/// Values from this size on are packed.
const WORTH_PACKING: usize = 256;

/// The largest unpacked length that is believed before memory is allocated for it.
const LARGEST: usize = 1 << 30;

/// Returns the stored form of a value, made in `scratch` if it differs from the value.
pub fn pack<'v>(value: &'v [u8], scratch: &'v mut Vec<u8>) -> &'v [u8] {
    let is_marked = value.first() == Some(&PACKED);
    if value.len() < WORTH_PACKING && !is_marked {
        return value;
    }
    let most = HEADER + get_maximum_output_size(value.len());
    if scratch.len() < most {
        scratch.resize(most, 0);
    }
    let (header, block) = scratch.split_at_mut(HEADER);
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    header[0] = PACKED;
    header[1..].copy_from_slice(&length.to_be_bytes());
    match compress_into(value, block) {
        Ok(used) => &scratch[..HEADER + used],
        Err(_) => unreachable!("the block has room for the largest result"),
    }
}

/// Returns the value of a stored form; `None` if it is damaged.
pub fn unpack(stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    if stored.first() != Some(&PACKED) {
        return Some(Cow::Borrowed(stored));
    }
    let (length, block) = stored[1..].split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    let mut value = vec![0; Some(length).filter(|length| *length <= LARGEST)?];
    let written = decompress_into(block, &mut value).ok()?;
    (written == length).then_some(Cow::Owned(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn large_values_take_less_room() {
        let text = "http_requests_total{code=\"200\"} 17\n".repeat(100);
        let mut scratch = Vec::new();
        let packed = pack(text.as_bytes(), &mut scratch);
        assert!(packed.len() < text.len() / 4, "{}", packed.len());
        assert_eq!(unpack(packed).unwrap(), text.as_bytes());
        assert_eq!(pack(b"small", &mut scratch), b"small");
    }

    #[test]
    fn damage_is_noticed() {
        let packed = pack(&[7; 1000], &mut Vec::new()).to_vec();
        for cut in 1..packed.len() {
            assert_eq!(unpack(&packed[..cut]), None, "{cut}");
        }
        let mut longer = packed.clone();
        longer[4] += 1;
        assert_eq!(unpack(&longer), None);
        let mut huge = packed;
        huge[1..5].fill(0xff);
        assert_eq!(unpack(&huge), None);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(mark: bool, rest in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut value = rest;
            if mark {
                value.insert(0, PACKED);
            }
            // Earlier content of the buffer must not leak into the result.
            let mut scratch = vec![0xaa; 700];
            let packed = pack(&value, &mut scratch);
            prop_assert_eq!(&*unpack(packed).unwrap(), &*value);
        }
    }
}
