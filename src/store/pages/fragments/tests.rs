use super::*;

#[test]
fn removals_leave_no_empty_entries_behind() {
    let mut texts = Fragments::default();
    for span in 0..10 {
        texts.insert(span, Bytes::from_static(b"m 1\n"));
    }
    for round in 0..10_000 {
        texts.remove(round % 10);
        texts.insert(round % 10, Bytes::from(format!("m {round}\n")));
    }
    assert!(texts.loose.len() <= 2 * 10 + EMPTY_LOOSE_ENTRIES + 1);
    assert_eq!(texts.get(9), Bytes::from_static(b"m 9999\n"));
    assert_eq!(texts.joined().0.len(), texts.len());
}

fn fragments_of(each: impl Iterator<Item = String>) -> Fragments {
    let mut texts = Fragments::default();
    for (index, text) in each.enumerate() {
        texts.insert(index, Bytes::from(text));
    }
    texts
}

#[test]
fn small_loose_texts_are_joined() {
    let mut texts = fragments_of((0..100).map(|span| format!("m{span} 0\n")));
    for round in 0..1000 {
        texts.replace(
            round * 7 % 100,
            Bytes::from(format!("m{} {round}\n", round * 7 % 100)),
        );
        assert!(texts.spans.len() - texts.slices <= 25);
    }
    let expected: String = (0..100)
        .map(|span| {
            let last = (0..1000).rev().find(|round| round * 7 % 100 == span);
            format!("m{span} {}\n", last.unwrap())
        })
        .collect();
    assert_eq!(texts.joined().0, expected);
}

#[test]
fn large_texts_are_not_copied() {
    let large: Vec<Bytes> = (0..30)
        .map(|span| Bytes::from(vec![b'a' + span; SMALL + 1]))
        .collect();
    let mut texts = Fragments::default();
    for (index, text) in large.iter().enumerate() {
        texts.insert(2 * index, text.clone());
        texts.insert(2 * index + 1, Bytes::from_static(b"m 1\n"));
    }
    assert!(texts.slices > 0, "small ones were joined");
    for (index, text) in large.iter().enumerate() {
        assert_eq!(texts.get(2 * index).as_ptr(), text.as_ptr());
        assert_eq!(texts.get(2 * index + 1), "m 1\n");
    }
}

#[test]
fn a_few_changes_do_not_move_other_texts() {
    let mut texts = fragments_of((0..100).map(|span| format!("m{span} 0\n")));
    let before = texts.joined().0;
    texts.replace(3, Bytes::from_static(b"m3 1\n"));
    texts.remove(50);
    let pieces = texts.pieces().collect::<Vec<_>>();
    assert!(texts.is_in_few_pieces());
    let inside = |piece: &&Bytes| before.as_ptr_range().contains(&piece.as_ptr());
    assert_eq!((pieces.len(), pieces.iter().filter(inside).count()), (4, 3));
    let expected = std::str::from_utf8(&before).unwrap();
    let expected = expected.replace("m3 0\n", "m3 1\n").replace("m50 0\n", "");
    assert_eq!(pieces.concat(), expected.as_bytes());
    assert_eq!(texts.joined().0, expected);
}

#[test]
fn replaced_texts_are_freed() {
    let mut texts = fragments_of((0..3).map(|span| format!("m{span} 0\n")));
    texts.joined();
    for span in 0..3 {
        texts.replace(span, Bytes::from(format!("m{span} 1\n")));
    }
    assert!(texts.base.is_empty());
    assert_eq!(texts.joined().0, "m0 1\nm1 1\nm2 1\n");
}

#[test]
fn split_pages_share_no_memory() {
    let mut texts = fragments_of((0..100).map(|span| format!("m{span} 0\n")));
    texts.joined();
    let mut rest = texts.split_off(60);
    for (texts, spans) in [(&mut texts, 0..60), (&mut rest, 60..100)] {
        let expected: String = spans.map(|span| format!("m{span} 0\n")).collect();
        assert_eq!(
            (texts.len(), texts.base.len()),
            (expected.len(), expected.len())
        );
        assert_eq!(texts.joined().0, expected);
    }
}

#[test]
fn a_small_slice_does_not_keep_its_large_text() {
    let large = Bytes::from(vec![b'a'; 50_000]);
    let inside = |text: Bytes| large.as_ptr_range().contains(&text.as_ptr());
    let mut texts = Fragments::default();
    texts.insert(0, large.slice(..100));
    texts.insert(1, Bytes::from_static(b"m 1\n"));
    texts.replace(1, large.slice(200..300));
    assert!(!inside(texts.get(0)) && !inside(texts.get(1)));
    texts.joined();
    texts.replace(1, large.slice(200..300));
    assert!(!inside(texts.get(1)));
}

#[test]
fn half_of_a_split_page_does_not_keep_the_other_half() {
    let mut texts = Fragments::default();
    for span in 0..10 {
        texts.insert(span, Bytes::from(vec![b'a' + span as u8; 2 * SMALL]));
    }
    let (before, _) = texts.joined();
    let loose = Bytes::from(vec![b'x'; 2 * SMALL]);
    texts.insert(10, loose.clone());
    let rest = texts.split_off(5);
    for (half, spans) in [(&texts, 0..5), (&rest, 0..5)] {
        for span in spans {
            assert!(!before.as_ptr_range().contains(&half.get(span).as_ptr()));
        }
    }
    assert_eq!(rest.get(5).as_ptr(), loose.as_ptr(), "it is not copied");
    assert_eq!(
        (texts.base.len(), rest.base.len()),
        (10 * SMALL, 10 * SMALL)
    );
    assert_eq!((texts.len(), rest.len()), (10 * SMALL, 12 * SMALL));
}

#[test]
fn a_small_text_keeps_no_large_buffer() {
    let body = Bytes::from(vec![b'a'; 1 << 20]);
    let tail = body.slice(body.len() - SMALL - 20..);
    let mut texts = Fragments::default();
    texts.insert(0, tail);
    let freed = texts.replace(0, Bytes::from(vec![b'b'; SMALL]));
    assert!(body.as_ptr_range().contains(&freed.as_ptr()), "the body");
    drop((body, freed));
    let text = texts.get(0);
    assert_eq!(text, vec![b'b'; SMALL]);
    // Small texts reuse the memory of small ones.
    let index_in_loose = text.as_ptr();
    drop(text);
    texts.replace(0, Bytes::from(vec![b'c'; SMALL - 1]));
    assert_eq!(texts.get(0).as_ptr(), index_in_loose);
}

#[test]
fn rewriting_does_not_change_what_others_read() {
    let mut texts = fragments_of((0..20).map(|span| format!("m{span} 0\n")));
    let mut expected: Vec<String> = (0..20).map(|span| format!("m{span} 0\n")).collect();
    let mut read = Vec::new();
    for round in 0..200 {
        let span = round * 7 % 20;
        let text = format!("m{span} {}\n", "9".repeat(round % 5 + 1));
        texts.rewrite(span, text.as_bytes());
        expected[span] = text;
        assert_eq!(texts.single().unwrap(), expected.concat());
        if round % 3 == 0 {
            read.push((texts.single().unwrap(), expected.concat()));
        }
    }
    assert_eq!(texts.len(), expected.concat().len());
    assert!(read.iter().all(|(held, was)| held == was));
    // Without readers, texts are changed in place.
    drop(read);
    texts.rewrite(3, b"m3 1\n");
    let index_in_loose = texts.single().unwrap().as_ptr();
    texts.rewrite(3, b"m3 2\n");
    assert_eq!(texts.single().unwrap().as_ptr(), index_in_loose);
}
