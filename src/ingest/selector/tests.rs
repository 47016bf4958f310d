use super::*;

fn group(path: &str) -> Group {
    Group::from_path(path, false).unwrap()
}

fn parse(text: &str) -> Result<Selectors, String> {
    Selectors::for_groups(&[text.to_owned()])
}

#[test]
fn the_selectors_of_a_request_share_its_limits() {
    let x = group("job/x");
    let many = |text: &str, count: usize| Selectors::for_groups(&vec![text.to_owned(); count]);
    let two = [r#"{job="y"}"#, r#"{job=~"x|z"}"#].map(str::to_owned);
    assert!(Selectors::for_groups(&two).unwrap().matches(&x));
    assert!(!Selectors::for_groups(&two[..1]).unwrap().matches(&x));
    assert!(many("{}", 64).unwrap().matches(&x));
    assert!(many(r#"{job=~"x.*"}"#, 64).unwrap().matches(&x));
    let fine = r#"{job=~"(?:.?){20}-\\w{1,10}|x"}"#;
    assert!(many(fine, 1).unwrap().matches(&x));
    let long = format!("{{job=\"{}\"}}", "x".repeat(1000));
    for (text, count, words) in [
        ("{}", 65, "at most 64 selectors"),
        (r#"{job="x",zone="y",a="b"}"#, 22, "at most 64 matchers"),
        (&long, 17, "at most 16384 bytes"),
        (fine, 64, "too much memory"),
    ] {
        let error = many(text, count).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn selectors_match_as_in_prometheus() {
    let x = group("job/x/instance/a.1");
    for (selector, expected) in [
        ("{}", true),
        (" { job = \"x\" , } ", true),
        ("{job='x'}", true),
        ("{job=`x`}", true),
        ("{\"job\"=\"x\"}", true),
        ("{job=\"y\"}", false),
        ("{job!=\"y\"}", true),
        ("{job=\"x\",instance=~\"a.*\"}", true),
        // The whole value must match.
        ("{instance=~\"a\"}", false),
        ("{instance=~\"a|a.1\"}", true),
        ("{instance!~\"a.+\"}", false),
        ("{instance=\"a\\\\.1\"}", false),
        ("{instance=~\"a\\\\.1\"}", true),
        // A missing label has an empty value.
        ("{zone=\"\"}", true),
        ("{zone!=\"\"}", false),
        ("{zone=~\".*\"}", true),
        ("{zone=~\".+\"}", false),
    ] {
        assert_eq!(parse(selector).unwrap().matches(&x), expected, "{selector}");
    }
}

#[test]
fn selectors_for_series_can_begin_with_a_name() {
    let series = |label: &str| match label {
        "__name__" => "my.hits".into(),
        "job" => "x".into(),
        _ => "".into(),
    };
    let plain = |label: &str| match label {
        "__name__" => "hits:total_2".into(),
        _ => "".into(),
    };
    let of = |text: &str| Selectors::for_series(&[text.to_owned()]);
    for (text, dotted, other) in [
        ("{}", true, true),
        ("hits:total_2", false, true),
        ("hits:total_2{}", false, true),
        ("hits:total_2 { job=\"\" }", false, true),
        ("hits:total_2{job=\"x\"}", false, false),
        ("{\"my.hits\"}", true, false),
        ("{\"my.hits\", job=\"x\"}", true, false),
        ("{\"my.hits\", job=\"y\"}", false, false),
        ("{\"job\"=\"x\"}", true, false),
        ("{__name__=~\"my.*|hits.*\"}", true, true),
        ("{job!=\"\"}", true, false),
    ] {
        let selectors = of(text).unwrap();
        assert_eq!(selectors.match_values(series), dotted, "{text}");
        assert_eq!(selectors.match_values(plain), other, "{text}");
    }
    for text in [
        "",
        "my.hits",
        "hits total",
        "hits{",
        "{\"a\",\"b\"}",
        "hits{}x",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
}

#[test]
fn invalid_selectors_are_reported() {
    for (text, words) in [
        ("", "found no \"{\""),
        ("job=\"x\"", "found no \"{\""),
        ("up{job=\"x\"}", "groups have labels and no name"),
        ("backup", "groups have labels and no name"),
        ("{\"up\"}", "groups have labels and no name"),
        ("{__name__=\"up\"}", "groups have labels and no name"),
        (
            "{job}",
            "expected \"=\", \"!=\", \"=~\" or \"!~\" after \"job\", found \"}\"",
        ),
        ("{job", "or \"!~\" after \"job\", found the end"),
        ("{", "expected a label name, found the end"),
        ("{job=", "expected text in quotes, found the end"),
        ("{job=x}", "expected text in quotes"),
        ("{job=\"x}", "expected \" at the end"),
        (
            "{job=\"x\"",
            "expected \",\" or \"}\", found the end in the selector",
        ),
        ("{job=\"x\"} or", "expected the end"),
        ("{=\"x\"}", "expected a label name"),
        ("{job=\"\\x\"}", "expected an escape"),
        ("{job=~\"(\"}", "is not a valid regular expression"),
        ("{job=~\"a)|(b\"}", "is not a valid regular expression"),
        ("{job=~\"(a{1000}){1000}\"}", "takes too much memory"),
        ("{job=~\"(.?){1000}y.*\"}", "too much memory"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

use proptest::prelude::*;

proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "\\PC{0,20}|[{}a=~!\"'`\\\\, (é]{0,20}") {
        if let Ok(selector) = parse(&text) {
            selector.matches(&group("job/x"));
        }
    }
}
