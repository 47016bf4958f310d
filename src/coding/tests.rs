use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const COMPRESSED: [Coding; 3] = [Coding::Gzip, Coding::Snappy, Coding::Zstd];

fn packed(coding: Coding, plain: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Identity => plain.to_vec(),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Snappy => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.into_inner().unwrap()
        }
        Coding::Zstd => compress_to_vec(plain, CompressionLevel::Fastest),
    }
}

fn unpacked(coding: Coding, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, CodingError> {
    decode(coding, Bytes::from(body), limit).map(|plain| plain.to_vec())
}

fn text() -> Vec<u8> {
    (0..20_000)
        .flat_map(|n| format!("series_total{{n=\"{n}\"}} {n}\n").into_bytes())
        .collect()
}

#[test]
fn headers_select_the_coding() {
    for (header, coding) in [
        ("", Coding::Identity),
        (" ,", Coding::Identity),
        ("Identity", Coding::Identity),
        ("gzip", Coding::Gzip),
        ("X-GZip", Coding::Gzip),
        (" SNAPPY ", Coding::Snappy),
        ("zstd,", Coding::Zstd),
    ] {
        assert_eq!(Coding::from_header(header), Ok(coding), "{header:?}");
    }
    let message = |header| Coding::from_header(header).unwrap_err().to_string();
    assert_eq!(
        message("br"),
        "Content-Encoding \"br\" is not supported; supported are gzip, snappy (framed), zstd and identity"
    );
    assert_eq!(
        message("gzip, zstd"),
        "Content-Encoding \"gzip, zstd\" names several codings, but a body can have only one"
    );
}

#[test]
fn one_or_several_members_are_decompressed() {
    let text = text();
    for coding in COMPRESSED {
        let whole = packed(coding, &text);
        assert_eq!(
            unpacked(coding, whole, text.len()),
            Ok(text.clone()),
            "{coding}"
        );
        let mut two = packed(coding, &text[..1000]);
        two.extend(packed(coding, &text[1000..]));
        assert_eq!(
            unpacked(coding, two, text.len()),
            Ok(text.clone()),
            "{coding}"
        );
        assert_eq!(
            unpacked(coding, packed(coding, b""), 0),
            Ok(Vec::new()),
            "{coding}"
        );
    }
    assert_eq!(
        unpacked(Coding::Identity, text.clone(), text.len()),
        Ok(text)
    );
}

#[test]
fn data_after_gzip_members_is_rejected() {
    let (first, second) = (
        packed(Coding::Gzip, b"m1 1\n"),
        packed(Coding::Gzip, b"m2 2\n"),
    );
    let both = [&first[..], &second].concat();
    let empty = packed(Coding::Gzip, b"");
    for body in [both.clone(), [&empty[..], &both, &empty].concat()] {
        assert_eq!(
            unpacked(Coding::Gzip, body, 100),
            Ok(b"m1 1\nm2 2\n".to_vec())
        );
    }
    for end in first.len() + 1..both.len() {
        let error = unpacked(Coding::Gzip, both[..end].to_vec(), 100);
        assert!(error.is_err(), "cut at {end} of {}: {error:?}", both.len());
    }
    // Go's reader refuses padding with zeros, too.
    for more in [&b"\0"[..], &[0; 10], &[0; 512], b"more", &first[..1]] {
        let error = unpacked(Coding::Gzip, [&both[..], more].concat(), 100);
        assert!(error.is_err(), "{more:?} after the last member: {error:?}");
    }
}

#[test]
fn errors_name_data_after_members_and_invalid_frames() {
    let member = packed(Coding::Gzip, b"m 1\n");
    for more in [&b"x"[..], b"\r\n", &[0; 512]] {
        let error = unpacked(Coding::Gzip, [&member[..], more].concat(), 100).unwrap_err();
        let bytes = more.len();
        assert_eq!(
            error.to_string(),
            format!("the body is not valid gzip: {bytes} bytes of other data follow its end")
        );
    }
    let message = |body: &[u8]| {
        let error = unpacked(Coding::Zstd, body.to_vec(), 100).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        message(b"m 1\n"),
        "the body is not valid zstd: a frame does not begin with the magic number of zstd"
    );
    // A single segment with a block of the reserved type.
    assert_eq!(
        message(b"\x28\xb5\x2f\xfd\x20\x01\x07\x00\x00"),
        "the body is not valid zstd: a block of a frame is invalid"
    );
}

#[test]
fn oversized_content_is_rejected() {
    let bomb = vec![0; 8 << 20];
    for coding in COMPRESSED {
        let limit = 1 << 20;
        let error = unpacked(coding, packed(coding, &bomb), limit).unwrap_err();
        assert_eq!(error, CodingError::TooLarge { limit }, "{coding}");
    }
    let error = unpacked(Coding::Identity, vec![0; 11], 10).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the decompressed body has more than 10 bytes (push.max_body)"
    );
}

#[test]
fn truncated_bodies_and_trailing_data_are_rejected() {
    let text = text();
    for coding in COMPRESSED {
        let whole = packed(coding, &text[..5000]);
        // A Snappy stream may end after any chunk: here after its header.
        let whole_too = |end| coding == Coding::Snappy && end == 10;
        for end in (1..whole.len()).filter(|end| !whole_too(*end)) {
            let error = unpacked(coding, whole[..end].to_vec(), text.len());
            assert!(error.is_err(), "{coding} cut at {end} of {}", whole.len());
        }
        let mut more = whole.clone();
        more.extend_from_slice(b"and some more that is no member at all");
        let error = unpacked(coding, more, text.len());
        assert!(
            matches!(error, Err(CodingError::Corrupt { .. })),
            "{coding} {error:?}"
        );
    }
    let cut = |coding, by| {
        let whole = packed(coding, &text[..5000]);
        unpacked(coding, whole[..whole.len() - by].to_vec(), text.len()).unwrap_err()
    };
    for coding in COMPRESSED {
        assert_eq!(cut(coding, 1), CodingError::Truncated { coding });
    }
    assert_eq!(
        cut(Coding::Gzip, 5).to_string(),
        "the body is not valid gzip: it ends too early"
    );
}

#[test]
fn wrong_checksums_are_rejected() {
    let text = text();
    for coding in COMPRESSED {
        let mut whole = packed(coding, &text[..5000]);
        // The checksum is in the last four bytes of zstd and the last eight of
        // gzip; in a Snappy chunk it comes first.
        let at = match coding {
            Coding::Gzip => whole.len() - 8,
            Coding::Snappy => 14,
            _ => whole.len() - 1,
        };
        whole[at] ^= 1;
        let error = unpacked(coding, whole, text.len());
        assert!(
            matches!(error, Err(CodingError::Corrupt { .. })),
            "{coding} {error:?}"
        );
    }
}

#[test]
fn zstd_frames_without_data_are_skipped() {
    let mut body = vec![0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    body.extend(packed(Coding::Zstd, b"m 1\n"));
    assert_eq!(
        unpacked(Coding::Zstd, body.clone(), 100),
        Ok(b"m 1\n".to_vec())
    );
    assert_eq!(
        unpacked(Coding::Zstd, body[..9].to_vec(), 100),
        Err(CodingError::Truncated {
            coding: Coding::Zstd
        })
    );
}

#[test]
fn memory_is_requested_before_it_is_used() {
    let text = text();
    for coding in COMPRESSED {
        let body = Bytes::from(packed(coding, &text));
        let mut asked = 0;
        let whole = decode_with_room(coding, body.clone(), text.len(), &mut |more| {
            asked += more;
            true
        });
        assert_eq!(whole.unwrap(), text, "{coding}");
        assert!(asked + FIRST_GROWTH >= text.len(), "{coding} {asked}");
        let mut left = text.len() / 2;
        let refused = decode_with_room(coding, body, text.len(), &mut |more| {
            let rest = left.checked_sub(more);
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        assert_eq!(refused, Err(CodingError::NoRoom), "{coding}");
        let small = Bytes::from(packed(coding, &text[..1000]));
        let unasked = decode_with_room(coding, small, text.len(), &mut |_| false);
        assert_eq!(unasked.unwrap().len(), 1000, "{coding}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_bytes_neither_panic_nor_exceed_the_limit(
        coding in prop::sample::select(&COMPRESSED[..]),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        head in any::<bool>(),
    ) {
        let mut whole = if head {
            packed(coding, b"m 1\n")
        } else {
            Vec::new()
        };
        whole.extend(body);
        if let Ok(plain) = unpacked(coding, whole, 100) {
            prop_assert!(plain.len() <= 100);
        }
    }

    #[test]
    fn mutated_bodies_neither_panic_nor_exceed_the_limit(
        coding in prop::sample::select(&COMPRESSED[..]),
        plain in proptest::collection::vec("[a-c]{1,9}", 0..300),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let plain = plain.concat().into_bytes();
        let mut body = packed(coding, &plain);
        for (place, byte) in &changes {
            // Snappy writes nothing for empty content.
            if !body.is_empty() {
                let place = place.index(body.len());
                body[place] = *byte;
            }
        }
        match unpacked(coding, body, plain.len()) {
            Ok(read) => prop_assert!(read.len() <= plain.len()),
            Err(error) => prop_assert!(!changes.is_empty(), "{}", error),
        }
    }
}

#[test]
fn only_small_bodies_are_decoded_at_once() {
    let decoded = |coding, plain: &[u8], limit| {
        let body = Bytes::from(packed(coding, plain));
        decode_small(coding, &body, limit).map(|result| result.map(|plain| plain.len()))
    };
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(40_000)
    .collect();
    let zeros = vec![0; 100_000];
    for coding in COMPRESSED {
        assert_eq!(decoded(coding, &zeros[..1000], 1 << 20), Some(Ok(1000)));
        assert_eq!(
            decoded(coding, &zeros, 1 << 20),
            None,
            "the result is large"
        );
        assert_eq!(decoded(coding, &noise, 1 << 20), None, "the body is large");
        let too_large = Some(Err(CodingError::TooLarge { limit: 500 }));
        assert_eq!(decoded(coding, &zeros[..1000], 500), too_large);
    }
    let identity = decoded(Coding::Identity, &zeros, 1 << 20);
    assert_eq!(identity, Some(Ok(zeros.len())));
}
