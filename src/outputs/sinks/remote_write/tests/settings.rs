use super::*;

#[test]
fn settings_have_defaults_and_are_printed_as_they_are_read() {
    let (settings, queue) = parse("").unwrap();
    assert_eq!(settings.protocol, Protocol::V1);
    assert_eq!(settings.interval, Duration::from_secs(15));
    assert_eq!((queue.batch_items, queue.batch_bytes), (10_000, 4 << 20));
    assert!(!settings.sends_natives(Protocol::V1) && settings.sends_natives(Protocol::V2));
    let text = "protocol = \"2.0\"\ninterval = \"30s\"\nmatch = [\"a\", \"{b=\\\"c\\\"}\"]\n\
                external_labels = { a = \"b\" }\nmetadata = false\nnative_histograms = true\n\
                resend_unchanged = \"1m\"\nrelabel = [{ action = \"drop\", regex = \"x\" }]\n";
    let (settings, _) = parse(text).unwrap();
    let printed = toml::to_string(&settings).unwrap();
    let printed = printed.replace("url = \"http://receiver/write\"\n", "");
    let printed = printed.replace("[external_labels]", "[sink.to.external_labels]");
    let printed = printed.replace("[[relabel]]", "[[sink.to.relabel]]");
    assert_eq!(parse(&printed).unwrap().0, settings, "{printed}");
}

#[test]
fn errors_name_the_setting() {
    for (text, problem) in [
        (
            "protocol = \"3.0\"",
            "test:3:12: `sink.to.protocol` must be one of \"1.0\", \"2.0\", not \"3.0\"",
        ),
        (
            "interval = 0",
            "test:3:12: `sink.to.interval` must be longer than zero",
        ),
        (
            "match = [\"{a=}\"]",
            "test:3:10: `sink.to.match` must be a selector: expected text in quotes, found \"}\"",
        ),
        (
            "match = [\"{a=~\\\"(\\\"}\"]",
            "test:3:10: `sink.to.match` must be a selector: \"(\" is not a valid regular expression",
        ),
        (
            "resend_unchanged = \"5m\"",
            "test:3:20: `sink.to.resend_unchanged` must be at most 120s, not 300s",
        ),
        (
            "resend_unchanged = \"5s\"",
            "test:3:20: `sink.to.resend_unchanged` (5s) is shorter than `sink.to.interval` (15s)",
        ),
        (
            "external_labels = { __name__ = \"a\" }",
            "test:3:32: `sink.to.external_labels`: \"__name__\" is the name of the metric",
        ),
        (
            "external_labels = { a = \"\" }",
            "test:3:25: `sink.to.external_labels`: \"a\" has no value",
        ),
        (
            "headers = { Content-encoding = \"gzip\" }",
            "test:3:11: `sink.to` cannot set the header Content-encoding: the protocol does",
        ),
        (
            "relabel = [{ action = \"drop\", regex = \"(\" }]",
            "test:3:39: `sink.to.relabel.regex` \"(\" is not a valid",
        ),
        (
            "relabel_file = \"/does/not/exist\"",
            "test:3:16: `sink.to.relabel_file` /does/not/exist cannot be read: ",
        ),
        (
            "relabels = []",
            "test:3:1: unknown key `sink.to.relabels`; did you mean `sink.to.relabel`?",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(problem), "{text}: {error}");
    }
    let many = format!("match = [{}]", "\"a\",".repeat(65));
    assert_eq!(
        parse(&many).unwrap_err(),
        "test:3:9: `sink.to.match` has 65 selectors; the limit is 64"
    );
}
