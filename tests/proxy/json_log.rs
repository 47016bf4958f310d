//! The log as JSON, for programs that read it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::harness::{Proxy, eventually};

const JSON_LOG: &str = "[log]\nformat = \"json\"\n";

/// The complete lines of the log.
fn lines(proxy: &Proxy) -> Vec<Value> {
    let log = proxy.log();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    whole.lines().map(parse).collect()
}

/// The first line with this logger whose message contains `words`.
fn line(proxy: &Proxy, logger: &str, words: &str) -> Value {
    let found = eventually(
        || {
            lines(proxy).into_iter().find(|line| {
                line["logger"] == logger && line["message"].as_str().unwrap().contains(words)
            })
        },
        Option::is_some,
    );
    found.unwrap()
}

fn keys(line: &Value) -> Vec<&str> {
    line.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn what_senders_cause_has_fields() {
    let config = format!(
        "{JSON_LOG}[exposition]\nvalidate = true\n[operations]\ntcp = \"127.0.0.1:0\"\n\
         [poll_external]\npoll_other_scrape_endpoints = true\n\
         [[poll_external.targets]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1/\"\n"
    );
    let proxy = Proxy::start(&config);
    for line in lines(&proxy) {
        let time = chrono::DateTime::parse_from_rfc3339(line["time"].as_str().unwrap()).unwrap();
        assert!(SystemTime::from(time) <= SystemTime::now(), "{line}");
        assert!(
            ["info", "warn"].contains(&line["level"].as_str().unwrap()),
            "{line}"
        );
    }

    proxy.push_tcp(b"{\"my app\":\"m{ 1\"}");
    let rejected = line(
        &proxy,
        "exporter_proxy::receiver",
        "rejected (invalid_text)",
    );
    assert_eq!(rejected["level"], "warn");
    assert_eq!(
        (&rejected["app"], &rejected["reason"]),
        (&json!("my app"), &json!("invalid_text"))
    );
    assert!(
        rejected["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{rejected}"
    );

    assert_eq!(proxy.push("PUT", "/metrics/job/x", "bad{").status, 400);
    let rejected = line(&proxy, "exporter_proxy::http", "rejected (invalid_text)");
    assert_eq!(
        (&rejected["path"], &rejected["reason"]),
        (&json!("/metrics/job/x"), &json!("invalid_text"))
    );
    assert!(
        rejected["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{rejected}"
    );

    let target = line(&proxy, "exporter_proxy::poller", "target gone");
    assert_eq!(
        (&target["target"], &target["level"]),
        (&json!("gone"), &json!("warn"))
    );
    assert!(
        target["reason"].is_string() && target["peer"].is_null(),
        "{target}"
    );

    let log = lines(&proxy);
    let bound = |line: &&Value| {
        line["message"]
            .as_str()
            .unwrap()
            .starts_with("operations on TCP")
    };
    let bound = log.iter().find(bound).unwrap();
    assert_eq!(keys(bound), ["level", "logger", "message", "time"]);
    let address = bound["message"]
        .as_str()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"not an operation\n").unwrap();
    let rejected = line(&proxy, "exporter_proxy::operations", "rejected (");
    assert_eq!(rejected["peer"], stream.local_addr().unwrap().to_string());
    assert!(rejected["reason"].is_string(), "{rejected}");
}

#[test]
fn lines_that_are_left_out_are_counted_in_a_field() {
    const TIMES: u64 = 100;
    let proxy = Proxy::start(JSON_LOG);
    for _ in 0..TIMES {
        proxy.push("PUT", "/metrics/job/x", "bad{");
    }
    let counted = || -> (u64, u64) {
        let log = lines(&proxy);
        let of_http = log.iter().filter(|line| line["level"] == "warn");
        let of_http = of_http.filter(|line| line["logger"] == "exporter_proxy::http");
        of_http.fold((0, 0), |(written, suppressed), line| {
            (
                written + u64::from(line["reason"] == "invalid_text"),
                suppressed + line["suppressed"].as_u64().unwrap_or_default(),
            )
        })
    };
    let (written, suppressed) = eventually(counted, |(a, b)| a + b == TIMES);
    assert!(written >= 20 && suppressed > 0, "{written} {suppressed}");
}

#[test]
fn hidden_characters_and_line_ends_of_senders_stay_within_a_line() {
    const APP: &str = "a\u{202e}b";
    let proxy = Proxy::start(&format!("{JSON_LOG}[exposition]\nvalidate = true\n"));
    proxy.push_tcp(json!({ APP: "m{ 1" }).to_string().as_bytes());
    let rejected = line(&proxy, "exporter_proxy::receiver", "rejected");
    assert_eq!(rejected["app"], APP);
    assert!(!proxy.log().contains('\u{202e}'));
}

#[test]
fn the_level_is_that_of_the_settings_unless_the_environment_has_one() {
    const QUIET: &str = "[log]\nlevel = \"info,exporter_proxy::http=off\"\n";
    let logs = |variable: Option<&str>| {
        let proxy = Proxy::launch(QUIET, &[], |command| match variable {
            Some(level) => command.env("RUST_LOG", level),
            None => command,
        });
        assert_eq!(proxy.push("PUT", "/metrics/job/x", "bad{").status, 400);
        proxy.push_tcp(b"{");
        eventually(
            || proxy.log(),
            |log| log.contains("exporter_proxy::receiver]"),
        );
        proxy.log().contains("exporter_proxy::http]")
    };
    assert!(!logs(None));
    assert!(logs(Some("info")));
}

#[test]
fn commands_for_people_log_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    let config = "[log]\nformat = \"json\"\nlevel = \"off\"\n[push]\nlisten = \"0.0.0.0:6556\"\n";
    std::fs::write(&file, config).unwrap();
    let output = crate::harness::program()
        .args(["check-config", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with(": ok\n"), "{printed}");
}
