use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn key(path: &str) -> Result<String, String> {
    let group = Group::of_path(path, false);
    group
        .map(|group| group.key())
        .map_err(|fault| fault.to_string())
}

#[test]
fn paths_name_groups_by_pushgateways_rules() {
    for (path, expected) in [
        ("job/x", r#"{job="x"}"#),
        ("job/x/", r#"{job="x"}"#),
        ("job/x/a/b", r#"{a="b",job="x"}"#),
        ("job/x/z/1/a/2", r#"{a="2",job="x",z="1"}"#),
        ("job/x/a/", r#"{a="",job="x"}"#),
        ("job/x/a@base64/", r#"{a="",job="x"}"#),
        ("job/x/a@base64/=", r#"{a="",job="x"}"#),
        ("job/x/a@base64/=/b/1", r#"{a="",b="1",job="x"}"#),
        ("job@base64/eA", r#"{job="x"}"#),
        ("job@base64/eA==", r#"{job="x"}"#),
        (
            "job/x/path@base64/L3Zhci90bXA=",
            r#"{job="x",path="/var/tmp"}"#,
        ),
        // Split before it is decoded.
        ("job/a%2Fb", r#"{job="a/b"}"#),
        ("job/x/a/b%2Fc", r#"{a="b/c",job="x"}"#),
        ("job/x/%61%40base64/eA", r#"{a="x",job="x"}"#),
        ("job/a%20b+c", r#"{job="a b+c"}"#),
        ("job/%22%5C%0A", r#"{job="\"\\\n"}"#),
        ("job/é", r#"{job="é"}"#),
        // Of the same label twice the last holds, but the first job does.
        ("job/x/a/1/a/2", r#"{a="2",job="x"}"#),
        ("job/x/job/y", r#"{job="x"}"#),
        ("job/x/instance/i", r#"{instance="i",job="x"}"#),
    ] {
        assert_eq!(key(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn base64_values_need_neither_padding_nor_zero_leftover_bits() {
    for (written, decoded) in [
        ("eA", "x"),
        ("eA==", "x"),
        ("eA===", "x"),
        ("eB", "x"),
        ("YWI=", "ab"),
        ("YWJj", "abc"),
        ("w78", "ÿ"),
        ("4oC_", "\u{203f}"),
    ] {
        let path = format!("job@base64/{written}");
        let expected = format!(r#"{{job="{decoded}"}}"#);
        assert_eq!(key(&path), Ok(expected), "{written}");
    }
    for written in ["e", "e=", "YWJjZ", "e*A", "+%2F", "eA=A", "eA%20"] {
        let fault = key(&format!("job@base64/{written}")).unwrap_err();
        assert!(fault.contains("is not base64"), "{written}: {fault}");
    }
}

#[test]
fn what_names_no_group_is_told() {
    for (path, words) in [
        ("", "a push goes to"),
        ("job", "a push goes to"),
        ("foo/bar", "a push goes to"),
        ("job@foo/x", "a push goes to"),
        ("job/", "names no job"),
        ("job//a/b", "names no job"),
        ("job@base64/=", "names no job"),
        ("job@base64/e*A", "the value of job@base64 is not base64"),
        ("job@base64/_w==", "the value of job@base64 is not UTF-8"),
        ("job/%ff", "not UTF-8"),
        ("job/x/a/%ff", "not UTF-8"),
        (
            "job/%zz",
            "not followed by two digits of base 16, in \"%zz\"",
        ),
        ("job/x%2", "in \"x%2\""),
        ("job/x/a/100%", "in \"100%\""),
        ("job/x/%%41/1", "the character itself is %25"),
        ("job/x/a/%2é", "in \"%2é\""),
        ("job/x/a", "no value for the label \"a\""),
        ("job/x/a/b/c", "no value for the label \"c\""),
        ("job/x/a/b/", "ends in a label without a name"),
        ("job/x/a//b/c", "an empty one is a@base64/="),
        ("job/x//a/b", "\"\" is no name"),
        ("job/x/__a/b", "\"__a\" is no name"),
        ("job/x/a-b/c", "\"a-b\" is no name"),
        ("job/x/1a/c", "\"1a\" is no name"),
        ("job/x/@base64/eA", "\"\" is no name"),
        ("job/x/a%2Fb/c", "\"a/b\" is no name"),
    ] {
        let fault = key(path).unwrap_err();
        assert!(fault.contains(words), "{path}: {fault}");
    }
    let many: String = (0..65).map(|n| format!("/l{n}/v")).collect();
    assert!(
        key(&format!("job/x{many}"))
            .unwrap_err()
            .contains("more than 64")
    );
}

#[test]
fn names_may_be_escaped_where_that_is_asked_for() {
    let key = |path: &str| Group::of_path(path, true).map(|group| group.key());
    assert_eq!(
        key("job/x/U__my_2e_label/1").as_deref(),
        Ok(r#"{job="x","my.label"="1"}"#)
    );
    assert_eq!(
        key("job/x/U__a__b/1").as_deref(),
        Ok(r#"{a_b="1",job="x"}"#)
    );
    // What is no escape is a name as it stands.
    assert_eq!(
        key("job/x/U__a_zz_/1").as_deref(),
        Ok(r#"{U__a_zz_="1",job="x"}"#)
    );
    assert!(key("job/x/U______a/1").is_err());
    assert!(key("job/x/U__a_0_/1").is_err(), "NUL ends a reader's text");
    assert_eq!(
        Group::of_path("job/x/U__my_2e_label/1", false)
            .unwrap()
            .key(),
        r#"{U__my_2e_label="1",job="x"}"#
    );
}

#[test]
fn labels_of_batches_are_held_to_the_same_rules() {
    let of = |pairs: &[(&str, &str)]| {
        let labels = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Group::of_labels(labels.collect(), false)
    };
    assert_eq!(
        of(&[("job", "x"), ("a", "")]).unwrap().key(),
        r#"{a="",job="x"}"#
    );
    for wrong in [
        &[("a", "b")][..],
        &[("job", "")],
        &[("job", "x"), ("__a", "b")],
    ] {
        assert!(of(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    /// Whatever a path is, it is taken or refused, and what is taken has a
    /// key that reads back.
    #[test]
    fn no_path_is_too_strange(path in "(job|job@base64|a)?(/[a-c_@%=-]{0,4}(@base64)?|/\\PC{0,3}){0,6}/?") {
        for utf8 in [false, true] {
            if let Ok(group) = Group::of_path(&path, utf8) {
                prop_assert!(!group.labels()["job"].is_empty());
                prop_assert_eq!(Group::of_key(&group.key()), Some(group));
            }
        }
    }

    #[test]
    fn a_key_reads_back_whatever_the_labels(labels in btree_map("\\PC{1,4}|[a\"\\\\\n,={}]{1,4}", "\\PC{0,4}|[a\"\\\\\n,={}]{0,4}", 0..5)) {
        let group = Group {
            labels,
            instance: true,
        };
        prop_assert_eq!(Group::of_key(&group.key()), Some(group));
    }

    #[test]
    fn no_text_is_too_strange_for_a_key(text in "\\PC{0,12}|[{}a=\",\\\\]{0,12}") {
        let _ = Group::of_key(&text);
    }
}
