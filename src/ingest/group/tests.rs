use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn key(path: &str) -> Result<String, String> {
    let group = Group::from_path(path, false);
    group
        .map(|group| group.key())
        .map_err(|rejection| rejection.to_string())
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
        // The path is split before it is decoded.
        ("job/a%2Fb", r#"{job="a/b"}"#),
        ("job/x/a/b%2Fc", r#"{a="b/c",job="x"}"#),
        ("job/x/%61%40base64/eA", r#"{a="x",job="x"}"#),
        ("job/a%20b+c", r#"{job="a b+c"}"#),
        ("job/%22%5C%0A", r#"{job="\"\\\n"}"#),
        ("job/é", r#"{job="é"}"#),
        // The last of two equal labels wins, but the first job does.
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
        let rejection = key(&format!("job@base64/{written}")).unwrap_err();
        assert!(
            rejection.contains("is not base64"),
            "{written}: {rejection}"
        );
    }
}

#[test]
fn invalid_paths_are_reported() {
    for (path, words) in [
        ("", "a push goes to"),
        ("job", "a push goes to"),
        ("foo/bar", "a push goes to"),
        ("job@foo/x", "a push goes to"),
        ("job/", "the job in the path is empty"),
        ("job//a/b", "the job in the path is empty"),
        ("job@base64/=", "the job in the path is empty"),
        ("job@base64/e*A", "the value of job@base64 is not base64"),
        (
            "job@base64/_w==",
            "the decoded value of job@base64 is not UTF-8",
        ),
        ("job/%ff", "not UTF-8"),
        ("job/x/a/%ff", "not UTF-8"),
        (
            "job/%zz",
            "not followed by two hexadecimal digits, in \"%zz\"",
        ),
        ("job/x%2", "in \"x%2\""),
        ("job/x/a/100%", "in \"100%\""),
        ("job/x/%%41/1", "write the character itself as %25"),
        ("job/x/a/%2é", "in \"%2é\""),
        ("job/x/a", "no value for the label \"a\""),
        ("job/x/a/b/c", "no value for the label \"c\""),
        ("job/x/a/b/", "ends in a label without a name"),
        ("job/x/a//b/c", "an empty one is a@base64/="),
        ("job/x//a/b", "\"\" is not a valid name"),
        ("job/x/__a/b", "\"__a\" is not a valid name"),
        ("job/x/a-b/c", "\"a-b\" is not a valid name"),
        ("job/x/1a/c", "\"1a\" is not a valid name"),
        ("job/x/@base64/eA", "\"\" is not a valid name"),
        ("job/x/a%2Fb/c", "\"a/b\" is not a valid name"),
    ] {
        let rejection = key(path).unwrap_err();
        assert!(rejection.contains(words), "{path}: {rejection}");
    }
    let many: String = (0..65).map(|n| format!("/l{n}/v")).collect();
    assert!(
        key(&format!("job/x{many}"))
            .unwrap_err()
            .contains("more than 64")
    );
}

#[test]
fn names_can_be_escaped_if_that_is_enabled() {
    let key = |path: &str| Group::from_path(path, true).map(|group| group.key());
    assert_eq!(
        key("job/x/U__my_2e_label/1").as_deref(),
        Ok(r#"{job="x","my.label"="1"}"#)
    );
    assert_eq!(
        key("job/x/U__a__b/1").as_deref(),
        Ok(r#"{a_b="1",job="x"}"#)
    );
    // A name with an invalid escape is kept as written.
    assert_eq!(
        key("job/x/U__a_zz_/1").as_deref(),
        Ok(r#"{U__a_zz_="1",job="x"}"#)
    );
    assert!(key("job/x/U______a/1").is_err());
    assert!(
        key("job/x/U__a_0_/1").is_err(),
        "C clients end a text at NUL"
    );
    assert_eq!(
        Group::from_path("job/x/U__my_2e_label/1", false)
            .unwrap()
            .key(),
        r#"{U__my_2e_label="1",job="x"}"#
    );
}

#[test]
fn labels_of_batches_follow_the_same_rules() {
    let of = |pairs: &[(&str, &str)]| {
        let labels = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Group::from_labels(labels.collect(), false)
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
    /// No path causes a panic, and the key of every valid one can be read back.
    #[test]
    fn keys_of_valid_paths_read_back(path in "(job|job@base64|a)?(/[a-c_@%=-]{0,4}(@base64)?|/\\PC{0,3}){0,6}/?") {
        for utf8 in [false, true] {
            if let Ok(group) = Group::from_path(&path, utf8) {
                prop_assert!(!group.labels()["job"].is_empty());
                prop_assert_eq!(Group::from_key(&group.key()), Some(group));
            }
        }
    }

    #[test]
    fn keys_of_any_labels_read_back(labels in btree_map("\\PC{1,4}|[a\"\\\\\n,={}]{1,4}", "\\PC{0,4}|[a\"\\\\\n,={}]{0,4}", 0..5)) {
        let group = Group {
            labels,
            instance: true,
        };
        prop_assert_eq!(Group::from_key(&group.key()), Some(group));
    }

    #[test]
    fn no_key_causes_a_panic(text in "\\PC{0,12}|[{}a=\",\\\\]{0,12}") {
        let _ = Group::from_key(&text);
    }
}
