//! Limits on pushes and batches.

use super::*;
use crate::security::Scope;

/// A body of 1 MB that would become 250 MB of text.
fn labels_times_buckets() -> Bytes {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }
    let value = "v".repeat(16 << 10);
    let labels = (0..62).flat_map(|n| {
        let label = [
            field(1, format!("l{n}").as_bytes()),
            field(2, value.as_bytes()),
        ];
        field(1, &label.concat())
    });
    let buckets: Vec<u8> = (0..250_u32)
        .flat_map(|at| {
            let mut bucket = vec![8, 1, 2 << 3 | 1];
            bucket.extend_from_slice(&f64::from(at).to_le_bytes());
            field(3, &bucket)
        })
        .collect();
    let metric: Vec<u8> = labels.chain(field(7, &buckets)).collect();
    let family = [field(1, b"h"), vec![3 << 3, 4], field(4, &metric)].concat();
    let delimited = field(0, &family);
    Bytes::from(delimited[1..].to_vec())
}

#[test]
fn a_body_that_becomes_too_much_text_is_rejected_early() {
    let mut fixture = Fixture::new();
    let bytes = labels_times_buckets();
    let body = Body {
        content_type: "application/vnd.google.protobuf",
        bytes: &bytes,
    };
    let push = |fixture: &Fixture| {
        let group = group("job/x");
        let pushed = (Method::Put, &group);
        let pushed = fixture
            .groups
            .push(&fixture.store, pushed, body, &sender(), fixture.now);
        pushed.unwrap_err()
    };
    let group = group("job/x");
    assert!(fixture.groups.admission.text_size(&group, body, 1 << 20) > 250_000_000);
    let rejection = push(&fixture);
    assert_eq!(
        (rejection.reason, rejection.is_recorded),
        (Reason::TooLarge, false)
    );
    for words in [
        "the push becomes at least 25",
        "the limit is 134217728 (exposition.max_text)",
    ] {
        assert!(rejection.message.contains(words), "{rejection}");
    }
    // The limit on one text allows it, but the memory budget does not.
    fixture.groups = groups(|config| config.exposition.max_text = usize::MAX);
    let rejection = push(&fixture);
    assert_eq!(rejection.reason, Reason::TooManyBytes);
    assert!(
        rejection
            .message
            .contains("of 1048576 bytes are left (exposition.max_total)"),
        "{rejection}"
    );
    assert_eq!(fixture.store.totals().groups, 0);
}

#[test]
fn labels_of_a_group_count_for_each_of_its_samples() {
    let mut fixture = Fixture::new();
    fixture.groups = groups(|config| config.exposition.max_text = 12_000);
    let labels = format!("job/x/long/{}", "v".repeat(100));
    let samples = |count| {
        let lines = (0..count).map(|n| format!("m{n} 1\n"));
        format!("# a comment is no sample\n\n{}", lines.collect::<String>())
    };
    fixture.push(Method::Put, &labels, &samples(85)).unwrap();
    let rejection = fixture
        .push(Method::Put, &labels, &samples(200))
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::TooLarge);
    assert!(
        rejection.message.contains("(exposition.max_text)"),
        "{rejection}"
    );
    // A size near the limit is known only after the text is parsed.
    let rejection = fixture
        .push(Method::Put, &labels, &samples(95))
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::TooLarge);
    let words = "expected at most 12000 bytes of text with the labels added to its samples (exposition.max_text), found ";
    assert!(rejection.message.contains(words), "{rejection}");
}

#[test]
fn families_of_a_push_are_limited_in_every_format() {
    let mut fixture = Fixture::new();
    fixture.groups = groups(|config| config.exposition.max_families = 10);
    let text = |families| {
        (0..families)
            .map(|n| format!("m{n} 1\n"))
            .collect::<String>()
    };
    fixture.push(Method::Put, "job/x", &text(10)).unwrap();
    for ending in ["", "# EOF\n"] {
        let text = format!("{}{ending}", text(11));
        let rejection = fixture.push(Method::Put, "job/x", &text).unwrap_err();
        assert_eq!(
            (rejection.reason, rejection.line),
            (Reason::TooManySamples, Some(11))
        );
        let words = "expected at most 10 families in a text (exposition.max_families), found more";
        assert!(rejection.message.contains(words), "{rejection}");
    }
    // Families without samples count too.
    let heads: String = (0..11).map(|n| format!("# TYPE m{n} gauge\n")).collect();
    let rejection = fixture.push(Method::Put, "job/x", &heads).unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.line),
        (Reason::TooManySamples, Some(11))
    );
}

#[test]
fn the_groups_of_a_batch_share_a_budget() {
    let mut fixture = Fixture::new();
    let batch = |fixture: &Fixture, groups: usize, text: &str| {
        let groups: Vec<String> = (0..groups)
            .map(|n| format!("{{\"labels\":{{\"job\":\"j{n}\"}},\"metrics\":\"{text}\"}}"))
            .collect();
        let json = format!("{{\"groups\":[{}]}}", groups.join(","));
        let read = fixture.groups.batch(
            &fixture.store,
            json.as_bytes(),
            (&Origin::default(), &Scope::ALL),
            fixture.now,
        );
        read.map(|(_, groups)| groups)
    };
    fixture.groups = groups(|config| config.exposition.max_families = 10);
    assert_eq!(batch(&fixture, 4, "m0 1\\n"), Ok(4));
    let ten: String = (0..10).map(|n| format!("m{n} 1\\n")).collect();
    assert_eq!(batch(&fixture, 4, &ten), Ok(4));
    let rejection = batch(&fixture, 5, &ten).unwrap_err();
    assert_eq!(rejection.reason, Reason::TooManySamples);
    let words = "groups[4]: with this group the batch has more than 40 families (4 times exposition.max_families)";
    assert!(rejection.message.contains(words), "{rejection}");
    fixture.groups = groups(|config| config.exposition.max_text = 1000);
    let rejection = batch(&fixture, 20, &ten).unwrap_err();
    assert_eq!(rejection.reason, Reason::TooLarge);
    assert!(
        rejection
            .message
            .contains("more than 1000 bytes of text (exposition.max_text)"),
        "{rejection}"
    );
}

#[test]
fn a_batch_is_one_write_and_rejections_name_the_group() {
    let fixture = Fixture::new();
    let read = |json: &str| {
        fixture.groups.batch(
            &fixture.store,
            json.as_bytes(),
            (&Origin::default(), &Scope::ALL),
            fixture.now,
        )
    };
    let (write, count) = read(
        r#"{"groups":[{"labels":{"job":"x"},"metrics":"m 1\n"},{"labels":{"job":"y"},"method":"post","metrics":"m 2","ttl":"10m"},
            {"labels":{"job":"z"},"method":"DELETE"}]}"#,
    )
    .unwrap();
    assert_eq!(count, 3);
    fixture.store.apply(write, fixture.now).unwrap();
    assert_eq!(fixture.store.totals().groups, 2);
    for (json, words) in [
        ("", "JSON of a batch expected"),
        (r#"{"group":[]}"#, "unknown field"),
        (
            r#"{"groups":[{"labels":{"a":"x"}}]}"#,
            "groups[0]: a group needs a label \"job\"",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"}},{"labels":{"job":"x"}}]}"#,
            "groups[1]: group {job=\"x\"} is given twice",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"},"method":"GET"}]}"#,
            "groups[0]: the method must be",
        ),
        (
            r#"{"groups":[{"labels":{"job":"x"},"ttl":"soon"}]}"#,
            "groups[0]: ttl must be",
        ),
        (
            r#"{"groups":[{"labels":{"job":"w"}},{"labels":{"job":"x"},"metrics":"m{"}]}"#,
            "groups[1]: group {job=\"x\"}, line 1, column 3",
        ),
    ] {
        let rejection = read(json).unwrap_err();
        assert!(rejection.message.contains(words), "{rejection}");
    }
}
