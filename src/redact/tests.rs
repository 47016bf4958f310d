//! What is redacted, and what is not.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn secret_names_are_recognized() {
    for name in [
        "password",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Api-Key",
        "api_key",
        "apikey",
        "routing_key",
        "slackToken",
        "credentials",
        "client-secret",
        "X-Auth",
        "db.pass",
        "X-Amz-Signature",
        "dbPass",
        "smtpPwd",
        "DBPass",
        "passcode",
        "AccountKey",
        "signing_key",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in [
        "",
        "host",
        "compass",
        "Compass",
        "COMPASS",
        "éPassage",
        "author",
        "dedup_key",
        "key",
        "design",
    ] {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn only_secrets_of_a_text_are_redacted() {
    for (text, redacted) in [
        ("/echo?a=1&token=x%20y&b=2", "/echo?a=1&token=***&b=2"),
        ("?api%5Fkey=x#y&a=1", "?api%5Fkey=***&a=1"),
        ("(password=p[4](s;s,)", "(password=***,)"),
        (
            "{\"credentials\": {\"a\": 1}, \"token\":5,\"b\":2}",
            "{\"credentials\": {\"a\": 1}, \"token\":***,\"b\":2}",
        ),
        ("user=me&password=a=b", "user=me&password=***"),
        ("see http://me:p@w@h:1/a?b", "see http://***@h:1/a?b"),
        ("redis://:pw@h", "redis://***@h"),
        ("Authorization: Basic YTpi", "Authorization: ***"),
        ("cookie: a=b; c=d\r\nHost: h", "cookie: ***\r\nHost: h"),
        ("sent Bearer abc.def to x", "sent Bearer *** to x"),
        ("x-token: Bearer abc, then", "x-token: Bearer ***, then"),
        (
            "{\"secret\": \"a\\\"b\", \"c\": 1",
            "{\"secret\": \"***\", \"c\": 1",
        ),
        ("{'pwd' : 'a b'}", "{'pwd' : '***'}"),
        (
            "\\\"token\\\":\\\"x\\\",\\\"a\\\":1",
            "\\\"token\\\":\\\"***\\\",\\\"a\\\":1",
        ),
        (
            "https://hooks.slack.com/services/T0/B0/XX now",
            "https://hooks.slack.com/services/*** now",
        ),
        ("pw: \"token\":\"x\"", "pw: \"***\":\"***\""),
        ("password=", "password="),
        ("secret=\"open", "secret=\"***"),
        ("password=//x", "password=***"),
        ("?token=//x&a=1", "?token=***&a=1"),
        ("*Password:* x", "*Password:* ***"),
        ("Password: *x*, y", "Password: ***, y"),
        ("`password`: x", "`password`: ***"),
        ("**pass** = `x y` z", "**pass** = `***` z"),
        ("_password_: x", "_password_: ***"),
        ("<b>password</b>: x", "<b>password</b>: ***"),
        (
            "<b class=\"n\">password:</b>&nbsp;<code>x</code>",
            "<b class=\"n\">password:</b>&nbsp;<code>***</code>",
        ),
        ("password=<x>", "password=<***>"),
        ("password: \u{a0}x y", "password: \u{a0}*** y"),
        ("a dbPass=x compass=y", "a dbPass=*** compass=y"),
        (
            "?url=https%3A%2F%2Fu%3Ax%40h%2F&b=c@d",
            "?url=https%3A%2F%2F***%40h%2F&b=c@d",
        ),
        (
            "?u=a%253a%252f%252fu%2Fx%2540h",
            "?u=a%253a%252f%252f***%2540h",
        ),
        ("http://u:p%2Fw@h", "http://***@h"),
        ("?a=token%3Dx%26b&c=1", "?a=token%3D***&c=1"),
        ("?a=Bearer%20x&c=1", "?a=Bearer%20***&c=1"),
        ("\"https:\\/\\/u:x@h\\/p\"", "\"https:\\/\\/***@h\\/p\""),
        ("HOOKS.slack.com/services/x", "HOOKS.slack.com/services/***"),
        (
            "https://u:p@hooks.slack.com:443/Services/x y",
            "https://***@hooks.slack.com:443/Services/*** y",
        ),
        (
            "https%3A%2F%2Fhooks.slack.com%3A443%2Fservices%2Fx",
            "https%3A%2F%2Fhooks.slack.com%3A443%2Fservices%2F***",
        ),
        (
            "https:\\/\\/hooks.slack.com\\/services\\/x",
            "https:\\/\\/hooks.slack.com\\/services\\/***",
        ),
        ("Bearer  x", "Bearer  ***"),
        ("token: Bearer \t x y", "token: Bearer \t *** y"),
        ("Token\t:\tx", "Token\t:\t***"),
        ("password:\n  x\nb: c", "password:\n  ***\nb: c"),
        ("*Password:*\r\n\r\nYTo=\r\n", "*Password:*\r\n\r\n***\r\n"),
        ("password: |-\n  x", "password: |-\n  ***"),
        ("tokens:\n- x\n", "tokens:\n- ***\n"),
        ("\"token\":\n \"x y\"", "\"token\":\n \"***\""),
        (
            "{\"tokens\": [\"x]\", \"y\"], \"a\": 1}",
            "{\"tokens\": [***], \"a\": 1}",
        ),
        (
            "{\\\"tokens\\\":[\\\"x]\\\"],\\\"a\\\":1}",
            "{\\\"tokens\\\":[***],\\\"a\\\":1}",
        ),
        ("password=[x]y z", "password=*** z"),
        ("tokens: [x, [y], z", "tokens: [***"),
    ] {
        assert_eq!(redact_text(text), redacted);
    }
    for text in [
        "",
        "a=b",
        "http://h:9090/metrics?a=1@2",
        "at 10:20: é=ü",
        ": = ://",
        "Your new token:\nIt was made today.",
        "PASSWORD=\nHOST=h",
        "token:\nhost=h",
        "token:\nname:\n",
        "token:\n\n\nx",
        "the forms hooks.slack.com/help and %, %2, %zz, %3é",
        "*Password:*",
        "Compass: north",
    ] {
        assert!(matches!(redact_text(text), Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn redacted_json_keeps_its_shape() {
    let mut value = json!({
        "routing_key": "x", "password": 123, "token": null, "ok": true,
        "credentials": {"user": "a", "more": ["b", 1, false]},
        "alerts": [{"labels": {"alertname": "TokenGone"}, "url": "http://a:b@h/?sig=1"}],
        "fields": [{"title": "API key", "value": "x"}, {"title": "Host", "value": "h"}],
        "pairs": [
            {"Key": "Password", "Value": "x"}, {"Name": "password", "value": "x"},
            {"name": "password", "values": ["x"]}, {"field": "password", "value": "x"},
            {"name": "Password", "text": "was changed"},
        ],
        "http://u:x@h": 1, "http://u:y@h": 2, "tokens": {"http://u:x@h": null},
    });
    redact_json(&mut value);
    let redacted = json!({
        "routing_key": "***", "password": "***", "token": null, "ok": true,
        "credentials": {"user": "***", "more": ["***", "***", false]},
        "alerts": [{"labels": {"alertname": "TokenGone"}, "url": "http://***@h/?sig=***"}],
        "fields": [{"title": "API key", "value": "***"}, {"title": "Host", "value": "h"}],
        "pairs": [
            {"Key": "Password", "Value": "***"}, {"Name": "password", "value": "***"},
            {"name": "password", "values": ["***"]}, {"field": "password", "value": "***"},
            {"name": "Password", "text": "was changed"},
        ],
        "http://***@h": 1, "http://***@h (4)": 2, "tokens": {"http://***@h": null},
    });
    assert_eq!(value, redacted);
}

proptest! {
    #[test]
    fn random_text_stays_within_bounds(text in "([a-z]|token|bearer|[=: \\\\\"'&@/é]|://){0,40}") {
        let redacted = redact_text(&text);
        prop_assert!(redacted.len() <= text.len() + 3 * text.len());
    }

    #[test]
    fn secrets_are_redacted_in_any_context(
        before in "[a-z =&\"{:<>*`\\\\%/\\[\\n]{0,20}",
        after in "[ &a-z\"}*`<>\\]\\n]{0,20}",
    ) {
        for spelling in SPELLINGS {
            let text = format!("{before} {spelling}{after}");
            prop_assert!(!redact_text(&text).contains("S3CR3T"), "{}", text);
            let mut value = json!({ "a": [text.as_str()], text.as_str(): 1 });
            redact_json(&mut value);
            prop_assert!(!value.to_string().contains("S3CR3T"), "{}", text);
        }
    }
}

/// Each recognized way to write a secret.
const SPELLINGS: [&str; 40] = [
    "&password=S3CR3T",
    " \"token\":\"S3CR3T\"",
    " http://u:S3CR3T@h/",
    "password=//S3CR3T",
    "?token=//S3CR3T&a=1",
    "*Password:* S3CR3T",
    "*Password*: *S3CR3T*",
    "`password`: S3CR3T",
    "_password_: S3CR3T",
    "<b>password</b>: S3CR3T",
    "<b>password:</b> <i>S3CR3T</i>",
    "password=<S3CR3T>",
    "dbPass=S3CR3T",
    "smtpPwd: S3CR3T",
    "passcode: S3CR3T",
    "AccountKey=S3CR3T",
    "signing_key=S3CR3T",
    "?url=https%3A%2F%2Fu%3AS3CR3T%40h",
    "?url=https%253A%252F%252Fu%253AS3CR3T%2540h",
    "?a=%22token%22%3A%22S3CR3T%22",
    "https:\\/\\/u:S3CR3T@h",
    "HOOKS.slack.com/services/S3CR3T",
    "https://hooks.slack.com:443/services/S3CR3T",
    "https://u@Discord.com:443/api/webhooks/S3CR3T",
    "https:\\/\\/hooks.slack.com\\/services\\/S3CR3T",
    "https%3A%2F%2Fhooks.slack.com%3A443%2Fservices%2FS3CR3T",
    "Bearer  S3CR3T",
    "Bearer\tS3CR3T",
    "Bearer%20S3CR3T",
    "token: Bearer  S3CR3T",
    "Authorization:\tBasic  S3CR3T",
    "Token\t:\tS3CR3T",
    "password: \u{a0}S3CR3T",
    "password:\n  \"S3CR3T\"",
    "password: |\n  'S3CR3T'",
    "\"tokens\": [\"S3CR3T\"]",
    "\"tokens\": [\"a]\", [1], \"S3CR3T\"]",
    "{\\\"tokens\\\": [\\\"a]\\\", \\\"S3CR3T\\\"]}",
    "password=[a]S3CR3T",
    "tokens: [a, S3CR3T",
];

/// The processor time of this thread, which other programs do not change.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// The time grows with the length of a text, not with its square.
#[test]
fn long_texts_take_linear_time() {
    const SHORT: usize = 1 << 10;
    const TIMES: u32 = 16;
    let fastest = |text: &str| {
        let time = |_| {
            let begun = cpu_time();
            let _ = redact_text(text);
            cpu_time() - begun
        };
        (0..3).map(time).min().unwrap()
    };
    for part in [
        ":",
        "token:",
        "token: ",
        "token=\n",
        "token:\n",
        "token:\nx y ",
        "token:*",
        "* token:* ",
        "token:<b>",
        "<b></b>",
        "</b>:",
        "&quot;:",
        "token:[",
        "\\",
        "%25",
        "%3A",
        "%3A//",
        "://",
        ":\\/\\/",
        "bearer ",
        "bearer \n",
        "hooks.slack.com/",
        "1/",
        "\"",
        "password:'\\",
        "token=<",
        "a",
        " ",
        "\u{a0}:",
        "[",
        "`:",
    ] {
        let short = part.repeat(SHORT / part.len());
        let long = short.repeat(TIMES as usize);
        let with_secret = |text: &str| format!("{text}token: {text}");
        for (short, long) in [(with_secret(&short), with_secret(&long)), (short, long)] {
            // Quadratic time would be 256 times that of the short text.
            let is_linear = |_| fastest(&long) < 4 * TIMES * fastest(&short);
            assert!((0..5).any(is_linear), "{}", part.escape_debug());
        }
    }
}

#[test]
fn urls_lose_users_and_secret_parameters() {
    for (url, shown) in [
        ("http://a:1/m?x=1", "http://a:1/m?x=1"),
        ("http://a:1/m?token=abc&x=1", "http://a:1/m?token=***&x=1"),
        (
            "http://a:1/m?x=1&API_Key=a=b",
            "http://a:1/m?x=1&API_Key=***",
        ),
        ("http://a:1/m?%74oken=abc", "http://a:1/m?%74oken=***"),
        (
            "http://a:1/m?token&sig=&module=pass",
            "http://a:1/m?token&sig=&module=pass",
        ),
        (
            "http://a:1/m?password='x%20y'z#top",
            "http://a:1/m?password=***",
        ),
        ("http://ada:pw@a:1/m", "http://***@a:1/m"),
        ("http://ada@a:1/m", "http://***@a:1/m"),
        ("http://:pw@a:1/m?auth[]=1", "http://***@a:1/m?auth[]=***"),
        ("http://a:1/m?KEY=1&keys=2", "http://a:1/m?KEY=***&keys=2"),
    ] {
        assert_eq!(redact_url(&Url::parse(url).unwrap()), shown);
    }
}
