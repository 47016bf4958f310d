//! Webhooks: `/webhook`, `/slack`, `/pagerduty`, `/v2/enqueue`, and the list of received ones.

use serde_json::{Value, json};

use crate::harness::{Answer, Proxy};
use crate::support::logged;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn send(proxy: &Proxy, path: &str, body: &Value) -> Answer {
    proxy.push_with("POST", path, &[JSON], body.to_string())
}

/// The webhooks in `GET /webhooks`.
fn listed(proxy: &Proxy, query: &str) -> Vec<Value> {
    let path = format!("/webhooks?format=json{query}");
    let answer = proxy.push_with("GET", &path, &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()["webhooks"].as_array().unwrap().clone()
}

fn accepted(
    proxy: &Proxy,
    alertname: &str,
    kind: &str,
    receiver: &str,
    status: &str,
) -> Option<f64> {
    proxy.sample(&format!(
        "exporter_proxy_webhooks_total{{alertname=\"{alertname}\",kind=\"{kind}\",receiver=\"{receiver}\",status=\"{status}\"}}"
    ))
}

fn rejected(proxy: &Proxy, kind: &str, reason: &str) -> Option<f64> {
    proxy.sample(&format!(
        "exporter_proxy_webhooks_refused_total{{kind=\"{kind}\",result=\"{reason}\"}}"
    ))
}

fn notice(status: &str, alertname: &str) -> Value {
    json!({
        "version": "4", "receiver": "team", "status": status,
        "alerts": [{"status": status, "labels": {"alertname": alertname}}],
    })
}

#[test]
fn each_path_answers_as_the_service_whose_place_it_takes() {
    let proxy = Proxy::start("");
    for path in ["/webhook", "/webhook/", "/slack"] {
        let answer = send(&proxy, path, &json!({"text": "hello"}));
        // Exactly this text: Alertmanager compares it.
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{path}");
        let content_type = answer.header("content-type").unwrap();
        assert!(content_type.starts_with("text/plain"), "{content_type}");
    }
    for path in ["/pagerduty", "/v2/enqueue"] {
        let event = json!({"event_action": "trigger", "dedup_key": "mine"});
        let answer = send(&proxy, path, &event);
        assert_eq!(answer.status, 202, "{path}");
        let said = json!({
            "status": "success", "message": "Event processed", "dedup_key": "mine",
        });
        assert_eq!(answer.json(), said);
        let key = |answer: Answer| answer.json()["dedup_key"].as_str().unwrap().to_owned();
        let made = [(); 2].map(|()| key(send(&proxy, path, &json!({}))));
        assert!(made[0].len() == 32 && made[0] != made[1], "{made:?}");
    }
    // Other listeners have no such path.
    assert_eq!(proxy.get("/webhooks").status, 404);
    let proxy = Proxy::start("[push]\nlisten = \"\"\n");
    assert_eq!(proxy.request("POST", "/webhook", &[JSON]).status, 404);
}

#[test]
fn what_came_is_listed_and_counted() {
    let proxy = Proxy::start("");
    assert!(listed(&proxy, "").is_empty());
    let several = json!({
        "receiver": "team", "status": "firing",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "Disk \"C:\\\""}},
            {"status": "resolved", "labels": {"alertname": "Slow"}},
            {"status": "firing", "labels": {"alertname": "Slow"}},
        ],
    });
    let slack = json!({"channel": "#ops", "attachments": [{
        "title": "[RESOLVED] Slow (a)", "title_link": "http://am/#/alerts?receiver=chat",
    }]});
    let event = json!({"event_action": "acknowledge", "payload": {
        "summary": "x", "custom_details": {"firing": "Labels:\n - alertname = Slow\n"},
    }});
    let strange = json!([{"hello": ["world", 1.50]}]);
    for (path, body) in [
        ("/webhook", &several),
        ("/slack", &slack),
        // The path for all kinds of webhooks.
        ("/webhook", &slack),
        ("/v2/enqueue", &event),
        ("/webhook", &strange),
    ] {
        assert!(send(&proxy, path, body).status < 300, "{path}");
    }

    let all = listed(&proxy, "");
    let column = |name: &str| all.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
    let kinds = ["webhook", "pagerduty", "slack", "slack", "webhook"];
    assert_eq!(column("kind"), kinds);
    let statuses = ["unknown", "acknowledged", "resolved", "resolved", "firing"];
    assert_eq!(column("status"), statuses);
    assert_eq!(column("receiver"), ["", "", "chat", "chat", "team"]);
    assert_eq!(
        column("body"),
        [strange, event, slack.clone(), slack, several.clone()]
    );
    assert_eq!(all[4]["path"], "/webhook");
    assert_eq!(all[4]["bytes"], several.to_string().len());
    assert_eq!(
        all[4]["alerts"][1],
        json!({"name": "Slow", "status": "resolved"})
    );
    assert!(all[4]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));

    for (query, count) in [
        ("&kind=slack", 2),
        ("&kind=slack&receiver=team", 0),
        ("&alertname=Slow", 4),
        ("&alertname=Slow&status=resolved", 3),
        ("&alertname=Disk+%22C%3A%5C%22", 1),
        ("&status=resolved", 3),
        ("&receiver=", 2),
    ] {
        assert_eq!(listed(&proxy, query).len(), count, "{query}");
    }
    let answer = proxy.push_with("GET", "/webhooks?kind=mail", &[], "");
    assert_eq!(answer.status, 400);
    let problem = "kind must be one of webhook, slack, pagerduty, not \"mail\"\n";
    assert_eq!(answer.text(), problem);
    let answer = proxy.push_with("GET", "/webhooks?status=bogus", &[], "");
    assert_eq!(answer.status, 400);
    let problem = "status must be one of firing, acknowledged, resolved, unknown, not \"bogus\"\n";
    assert_eq!(answer.text(), problem);

    let table = proxy.push_with("GET", "/webhooks", &[], "").text();
    let rows: Vec<&str> = table.lines().filter(|line| line.contains(" UTC")).collect();
    assert_eq!(rows.len(), 5, "{table}");
    assert!(
        rows[0].contains("| webhook   | -        | unknown      | -"),
        "{table}"
    );
    assert!(
        rows[4].contains("| team     | firing       | Disk \"C:\\\", Slow "),
        "{table}"
    );
    let accepts = [("Accept", "application/json")];
    let answer = proxy.push_with("GET", "/webhooks", &accepts, "");
    assert_eq!(answer.json()["webhooks"].as_array().unwrap().len(), 5);

    for (alertname, kind, receiver, status, count) in [
        ("Disk \\\"C:\\\\\\\"", "webhook", "team", "firing", 1.0),
        ("Slow", "webhook", "team", "firing", 1.0),
        ("Slow", "webhook", "team", "resolved", 1.0),
        ("Slow", "slack", "chat", "resolved", 2.0),
        ("Slow", "pagerduty", "", "firing", 1.0),
        ("", "webhook", "", "unknown", 1.0),
    ] {
        let found = accepted(&proxy, alertname, kind, receiver, status);
        assert_eq!(found, Some(count), "{alertname} {kind} {status}");
    }
}

#[test]
fn no_secret_is_seen_anywhere() {
    let proxy = Proxy::launch("", &[], |command| command.env("RUST_LOG", "debug"));
    let event = json!({
        "routing_key": "S3CR3T", "event_action": "trigger", "dedup_key": "mine",
        "client_url": "http://me:S3CR3T@am/#/alerts?receiver=pager&token=S3CR3T",
        "payload": {"summary": "at https://hooks.slack.com/services/S3CR3T/S3CR3T now"},
    });
    assert_eq!(send(&proxy, "/v2/enqueue", &event).status, 202);
    let slack = json!({
        "attachments": [{"title": "[FIRING:1] https://hooks.slack.com/services/S3CR3T"}],
        "fields": [{"title": "password", "value": "S3CR3T"}],
    });
    assert_eq!(send(&proxy, "/slack", &slack).status, 200);
    let text = "{\"password\": \"S3CR3T\", nothing";
    let answer = proxy.push_with("POST", "/webhook", &[JSON], text);
    assert_eq!(answer.status, 400);

    let log = logged(&proxy, "rejected (malformed)", 1);
    assert!(
        log.contains("pagerduty, firing, receiver \"pager\""),
        "{log}"
    );
    assert!(log.contains("\"dedup_key\":\"mine\","), "{log}");
    let all = listed(&proxy, "");
    assert_eq!(all[1]["body"]["routing_key"], "***");
    let table = proxy.push_with("GET", "/webhooks", &[], "").text();
    let shown = [
        log,
        json!(all).to_string(),
        table,
        answer.text(),
        proxy.metrics(),
    ];
    for text in shown {
        assert!(!text.contains("S3CR3T"), "{text}");
    }
}

#[test]
fn other_requests_are_rejected_with_a_reason_and_not_kept() {
    let proxy = Proxy::start("[push]\nmax_body = 1000\n");
    for (body, problem) in [
        (
            "",
            "line 1, column 0: JSON expected: EOF while parsing a value",
        ),
        (
            "{\"a\":\n 1,}",
            "line 2, column 4: JSON expected: trailing comma",
        ),
        ("{\"a\" 1}", "line 1, column 6: JSON expected: expected `:`"),
        (
            "receiver=team",
            "line 1, column 1: JSON expected: expected value",
        ),
        (
            "{} {}",
            "line 1, column 4: JSON expected: trailing characters",
        ),
        (
            &"[".repeat(500),
            "line 1, column 128: JSON expected: recursion limit exceeded",
        ),
    ] {
        let answer = proxy.push_with("POST", "/webhook", &[JSON], body);
        assert_eq!(answer.status, 400, "{body}");
        let expected = format!("the body, {problem}\n");
        assert_eq!(answer.text(), expected, "{body}");
    }
    let answer = proxy.push_with("POST", "/slack", &[JSON], b"\"\xff\"");
    assert_eq!(answer.status, 400);
    let answer = proxy.push_with("POST", "/v2/enqueue", &[JSON], "{");
    assert_eq!(answer.status, 400);
    let errors = json!(["the body, line 1, column 1: JSON expected: EOF while parsing an object"]);
    assert_eq!(answer.json()["errors"], errors);
    assert_eq!(answer.json()["status"], "invalid event");

    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let headers: Vec<_> = content_type
            .map(|it| ("Content-Type", it))
            .into_iter()
            .collect();
        let answer = proxy.push_with("POST", "/slack", &headers, "{}");
        assert_eq!(answer.status, 415, "{content_type:?}");
        assert!(
            answer.text().contains("must be application/json"),
            "{}",
            answer.text()
        );
    }
    let large = format!("\"{}\"", "x".repeat(1000));
    let answer = proxy.push_with("POST", "/webhook", &[JSON], &large);
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("(push.max_body)"),
        "{}",
        answer.text()
    );

    for (method, path, allowed) in [
        ("GET", "/webhook", "POST, OPTIONS"),
        ("PUT", "/slack", "POST, OPTIONS"),
        ("DELETE", "/pagerduty", "POST, OPTIONS"),
        ("HEAD", "/v2/enqueue", "POST, OPTIONS"),
        ("POST", "/webhooks", "GET, HEAD, OPTIONS"),
    ] {
        let answer = proxy.push_with(method, path, &[JSON], "{}");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{path}"
        );
    }
    assert!(listed(&proxy, "").is_empty());
    assert!(!proxy.metrics().contains("exporter_proxy_webhooks_total"));
    for (kind, reason, count) in [
        ("webhook", "malformed", 6.0),
        ("slack", "malformed", 1.0),
        ("pagerduty", "malformed", 1.0),
        ("slack", "unsupported_media", 3.0),
        ("webhook", "too_large", 1.0),
    ] {
        assert_eq!(
            rejected(&proxy, kind, reason),
            Some(count),
            "{kind} {reason}"
        );
    }
}

#[test]
fn what_is_kept_logged_and_counted_is_bounded() {
    let config = "[push]\nmax_webhooks = 3\nmax_webhook_bytes = \"64KiB\"\n";
    let proxy = Proxy::launch(config, &[], |command| command.env("RUST_LOG", "debug"));
    for n in 0..5 {
        send(&proxy, "/webhook", &notice("firing", &format!("A{n}")));
    }
    let names = |proxy: &Proxy| {
        let name = |it: &Value| it["alerts"][0]["name"].as_str().unwrap_or("?").to_owned();
        listed(proxy, "").iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&proxy), ["A4", "A3", "A2"]);
    // A long webhook is listed without its body.
    let mut long = notice("firing", "Long");
    long["text"] = json!("x".repeat(20_000));
    assert_eq!(send(&proxy, "/webhook", &long).status, 200);
    assert_eq!(names(&proxy), ["Long", "A4", "A3"]);
    assert_eq!(listed(&proxy, "")[0]["body"], Value::Null);
    let log = logged(&proxy, "(cut)", 1);
    let longest = log.lines().map(str::len).max();
    assert!(longest < Some(17_000), "{longest:?}");

    // Names past the limit are counted together.
    for batch in 0..12 {
        let alerts: Vec<Value> = (0..99)
            .map(|n| json!({"labels": {"alertname": format!("B{batch}-{n}")}}))
            .collect();
        let body = json!({"receiver": "team", "status": "resolved", "alerts": alerts});
        assert_eq!(send(&proxy, "/webhook", &body).status, 200);
    }
    // 6 from above, and as many of these as fit.
    let others = accepted(&proxy, "(other)", "webhook", "(other)", "resolved");
    assert_eq!(others, Some(12.0 * 99.0 - (1000.0 - 6.0)));
    assert_eq!(
        accepted(&proxy, "A0", "webhook", "team", "firing"),
        Some(1.0)
    );

    // A short text may take much memory.
    let values = format!("[{}0]", "{},".repeat(100_000));
    let answer = proxy.push_with("POST", "/webhook", &[JSON], values);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("more than 100000 values"));

    let body = format!("\"{}\"", "x".repeat(8 << 20));
    let answer = proxy.push_with("POST", "/webhook", &[JSON], body);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.text(), "a webhook has at most 8388608 bytes\n");

    let proxy = Proxy::start("[push]\nmax_webhooks = 0\n");
    assert_eq!(send(&proxy, "/webhook", &notice("firing", "A")).status, 200);
    assert!(listed(&proxy, "").is_empty());
    assert_eq!(
        accepted(&proxy, "A", "webhook", "team", "firing"),
        Some(1.0)
    );
}

#[test]
fn large_and_compressed_bodies_are_accepted() {
    use std::io::Write;

    let proxy = Proxy::start("");
    let mut large = notice("firing", "Large");
    large["text"] = json!("x y ".repeat(500_000));
    assert_eq!(send(&proxy, "/webhook", &large).status, 200);
    assert_eq!(listed(&proxy, "")[0]["bytes"], large.to_string().len());

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(notice("firing", "Small").to_string().as_bytes())
        .unwrap();
    let headers = [JSON, ("Content-Encoding", "gzip")];
    let answer = proxy.push_with("POST", "/webhook", &headers, gzip.finish().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(listed(&proxy, "")[0]["alerts"][0]["name"], "Small");
}

#[test]
fn pages_send_webhooks_where_their_origin_may_push() {
    const ORIGIN: &str = "https://app.example";
    let proxy = Proxy::start(&format!("[push]\ncors_origins = [\"{ORIGIN}\"]\n"));
    let ask = [
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let answer = proxy.push_with("OPTIONS", "/webhook", &ask, "");
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some(ORIGIN));
    let headers = [JSON, ("Origin", ORIGIN)];
    let answer = proxy.push_with("POST", "/webhook", &headers, "{}");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    // Unlike Pushgateway's groups, the list is not open to all pages.
    let proxy = Proxy::start("");
    let answer = proxy.push_with("GET", "/webhooks", &[("Origin", ORIGIN)], "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(proxy.push("OPTIONS", "/webhook", "").status, 200);
}
