use proptest::prelude::*;

use super::*;
use crate::inputs::operations::fuzzing::frames;

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    for piece in [1, 2, 3, 7, 1000] {
        let found = frames(text.as_bytes(), piece, 100);
        assert_eq!(found, expected, "{text:?} in pieces of {piece}");
    }
}

#[test]
fn objects_are_found_in_every_layout() {
    let two = ["O {\"a\":1}", "O {\"b\":2}"];
    for text in [
        "{\"a\":1}\n{\"b\":2}\n",
        "{\"a\":1}{\"b\":2}",
        "  {\"a\":1} \r\n\r\n{\"b\":2}\r\n",
        "[{\"a\":1},{\"b\":2}]",
        "[ {\"a\":1}\n,\n{\"b\":2} ]\n",
        "[{\"a\":1}][{\"b\":2}][]",
    ] {
        check(text, &two);
    }
    check(
        "{\n  \"a\": {\n    \"b\": [1, {\"c\": null}]\n  }\n}\n",
        &["O {\n  \"a\": {\n    \"b\": [1, {\"c\": null}]\n  }\n}"],
    );
}

#[test]
fn brackets_in_strings_are_text() {
    for object in [
        r#"{"a":"{"}"#,
        r#"{"a":"}]{["}"#,
        r#"{"a":"\"}"}"#,
        r#"{"a\\":"\\"}"#,
    ] {
        check(
            &format!("{object}{object}"),
            &[&format!("O {object}"), &format!("O {object}")],
        );
    }
}

#[test]
fn lines_and_objects_can_be_mixed() {
    check(
        "a:1|c\r\n{\"b\":2}c:3|g\n\nd:4|ms",
        &["L a:1|c", "O {\"b\":2}", "L c:3|g", "L d:4|ms"],
    );
}

#[test]
fn a_broken_message_ends_with_its_line() {
    check("{\"a\":1\n{\"b\":2}\n", &["! malformed", "O {\"b\":2}"]);
    check("{\"a\":\"x\n{\"b\":2}\n", &["! malformed", "O {\"b\":2}"]);
    check("{\"a\":]}\n{\"b\":2}", &["! malformed", "O {\"b\":2}"]);
    check("{\"a\" \"b\"}\nc:1|c", &["! malformed", "L c:1|c"]);
    check(
        "[{\"a\":1} {\"b\":2}]\n{\"c\":3}",
        &["O {\"a\":1}", "! malformed", "O {\"c\":3}"],
    );
    check("[1,2]\n{\"c\":3}", &["! malformed", "O {\"c\":3}"]);
    check("[{\"a\":1},", &["O {\"a\":1}", "! truncated"]);
    check("{\"a\":1", &["! truncated"]);
    check("{\"a\":\n{\"b\":2}", &["! truncated", "O {\"b\":2}"]);
}

#[test]
fn a_message_that_is_too_long_ends_with_its_line() {
    let long = "x".repeat(200);
    check(&format!("{long}\na:1|c"), &["! too_large", "L a:1|c"]);
    check(
        &format!("{{\"a\":\"{long}\"}}\n{{\"b\":2}}"),
        &["! too_large", "O {\"b\":2}"],
    );
    let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(92));
    check(&format!("{exact}{exact}"), &[&*format!("O {exact}"); 2]);
    let list = format!("[{}]", vec!["{\"a\":1}"; 100].join(","));
    check(&list, &["O {\"a\":1}"; 100]);
}

#[test]
fn unfinished_objects_are_not_scanned_again_and_again() {
    let text = "{\"a\":\n".repeat(50_000);
    let mut framer = Framer::new(1 << 20);
    let mut broken = 0;
    framer.feed(text.as_bytes(), true, |_| broken += 1);
    assert_eq!(broken, 50_000);
}

proptest! {
    /// The frames do not depend on how the bytes arrive, and nothing panics.
    #[test]
    fn frames_do_not_depend_on_how_the_bytes_arrive(
        text in proptest::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just("\""), Just("\\"),
                Just("\n"), Just(","), Just(":"), Just("a"), Just("1"), Just(" "),
                Just("{\"a\":1}"), Just("a:1|c\n"), Just("\u{e9}"),
            ],
            0..60,
        ),
        piece in 1_usize..20,
    ) {
        let text = text.concat();
        let whole = frames(text.as_bytes(), text.len().max(1), 30);
        prop_assert_eq!(frames(text.as_bytes(), piece, 30), whole);
    }
}
