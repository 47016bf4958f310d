//! The requests of pingpong's own test suite, and of the sample script of its stack: text and JSON
//! of one family with and without a type, in either order.

use crate::harness::{Answer, Proxy};

const QUIET: &str = "[exporter]\nown_metrics = false\n";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
/// The default content type of `curl --data-binary`.
const CURL: &str = "application/x-www-form-urlencoded";

fn post(proxy: &Proxy, path: &str, content_type: &str, body: &str) -> Answer {
    proxy.push_with("POST", path, &[("Content-Type", content_type)], body)
}

#[track_caller]
fn accepted(proxy: &Proxy, path: &str, content_type: &str, body: &str) -> String {
    let answer = post(proxy, path, content_type, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// A family of one series, as `prom2json` writes it.
fn json(name: &str, kind: &str, labels: &str, value: u32) -> String {
    format!(
        r#"[{{"name":"{name}","help":"","type":"{kind}","metrics":[{{"labels":{{{labels}}},"value":"{value}"}}]}}]"#
    )
}

#[test]
fn the_requests_of_its_suite_are_answered_as_it_answers() {
    let proxy = Proxy::start(QUIET);
    let get = |path: &str| {
        let answer = proxy.push("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    };
    assert!(get("/ping").starts_with("PONG"));
    assert!(get("/time").contains("The time is:"));
    assert!(get("/echo").contains("GET /echo"));

    let text = "requests_total{cluster_name=\"frontend\",code=\"503\",job=\"proxy\"} 6\n";
    assert_eq!(
        accepted(&proxy, "/create", CURL, text),
        format!("created metric...\n{text}\n")
    );
    let plain = "test_plain_create{job=\"ci\",env=\"test\"} 10\n";
    assert_eq!(
        accepted(&proxy, "/create", TEXT, plain),
        "created metric...\ntest_plain_create{env=\"test\",job=\"ci\"} 10\n\n"
    );
    let body = json(
        "test_json_metric",
        "COUNTER",
        r#""env":"test","severity":"info""#,
        42,
    );
    assert!(accepted(&proxy, "/create", JSON, &body).contains("created metric"));
    let body = json("metric_with_no_labels", "COUNTER", "", 1);
    assert!(accepted(&proxy, "/create", JSON, &body).contains("metric_with_no_labels{} 1\n"));

    // Updates: known and unknown families, a difference, and 0, which counts as 1.
    let updated = |name: &str, value: u32| {
        let body = json(name, "COUNTER", r#""job":"ci""#, value);
        accepted(&proxy, "/update", JSON, &body)
    };
    assert_eq!(updated("nonexistent_metric", 1), "");
    for (name, first, then, total) in [("delta", 10, 25, 35), ("zero", 5, 0, 6)] {
        let body = json(name, "COUNTER", r#""job":"ci""#, first);
        accepted(&proxy, "/create", JSON, &body);
        assert_eq!(
            updated(name, then),
            format!("{name}{{job=\"ci\"}} {total}\n")
        );
    }
    accepted(&proxy, "/create", TEXT, "plain_update{job=\"ci\"} 5\n");
    let reported = accepted(&proxy, "/update", TEXT, "plain_update{job=\"ci\"} 5\n");
    assert_eq!(reported, "plain_update{job=\"ci\"} 10\n");

    for path in ["/create", "/update"] {
        assert_eq!(proxy.push("GET", path, "").status, 405, "{path}");
        assert_eq!(proxy.push("POST", path, "data").status, 400, "{path}");
        assert_eq!(
            post(&proxy, path, "application/xml", "data").status,
            415,
            "{path}"
        );
    }
    assert_eq!(proxy.push("GET", "/v2/enqueue", "").status, 405);
    assert_eq!(post(&proxy, "/v2/enqueue", TEXT, "data").status, 415);
    let metrics = json("requests_total", "COUNTER", r#""severity":"critical""#, 6);
    assert_eq!(post(&proxy, "/v2/enqueue", JSON, &metrics).status, 200);
    let event = r#"{"event_action":"trigger","payload":{"summary":"down"}}"#;
    assert_eq!(post(&proxy, "/v2/enqueue", JSON, event).status, 202);
}

/// The parameters choose the receivers of an alert, which a page must not be able to do.
#[test]
fn a_ping_with_parameters_counts_itself() {
    let proxy = Proxy::start(QUIET);
    let ping = |method: &str, path: &str, headers: &[(&str, &str)]| {
        proxy.push_with(method, path, headers, "")
    };
    let path = "/ping?path=/tmp/tea&receiver=team%20%22a%22&arg1=x&ttl=unknown";
    for method in ["GET", "POST", "DELETE"] {
        let answer = ping(method, path, &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().starts_with("PONG - "));
    }
    assert_eq!(ping("GET", "/ping?x", &[]).status, 200);
    let metrics = proxy.metrics();
    let samples: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("ping_request_count{"))
        .collect();
    // A label with an empty value does not count as a label.
    let expected = [
        "ping_request_count{app=\"pingpong\",arg1=\"x\",instance=\"pingpong\",\
         path=\"/tmp/tea\",receiver=\"team \\\"a\\\"\"} 3",
        "ping_request_count{app=\"pingpong\",instance=\"pingpong\",\
         path=\"/tmp/cups_of_tea\",receiver=\"default-receiver-god\"} 1",
    ];
    assert_eq!(samples, expected, "{metrics}");
    assert!(metrics.contains("# TYPE ping_request_count counter\n"));

    // A health check on either listener, and a ping from a page, change nothing.
    for plain in ["/ping", "/ping?"] {
        assert_eq!(ping("GET", plain, &[]).status, 200);
    }
    assert_eq!(proxy.get(path).status, 200);
    for page in [
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        assert_eq!(ping("GET", path, &[page]).status, 403, "{page:?}");
        assert_eq!(ping("GET", "/ping", &[page]).status, 200, "{page:?}");
    }
    assert_eq!(proxy.metrics(), metrics);
}

#[test]
fn pings_are_bounded_as_all_aggregated_series_are() {
    let proxy = Proxy::start("[push]\nmax_series_per_family = 2\n");
    let ping = |path: &str| proxy.push("GET", &format!("/ping?path={path}"), "");
    assert_eq!([ping("a").status, ping("b").status], [200, 200]);
    let rejected = ping("c");
    assert_eq!(rejected.status, 503, "{}", rejected.text());
    assert_eq!(ping("a").status, 200);
    let long = "x".repeat(20 << 10);
    assert_eq!(ping(&long).status, 400);
    let counted = |result: &str| {
        let series = format!("exporter_proxy_pushes_total{{method=\"ping\",result=\"{result}\"}}");
        proxy.sample(&series)
    };
    assert_eq!(counted("ok"), Some(3.0));
    assert_eq!(counted("too_many_series"), Some(1.0));
}

/// The script creates a family from one line without a type, in text and in JSON, then from files
/// with types, and updates all of them.
#[test]
fn the_script_of_its_stack_runs_through() {
    let proxy = Proxy::start(QUIET);
    let labels = |cluster: &str| format!("{{cluster_name=\"{cluster}\",job=\"proxy\"}}");
    let line = format!("requests_total{} 6\n", labels("frontend"));
    let as_json = json(
        "requests_total",
        "UNTYPED",
        r#""cluster_name":"frontend","job":"proxy""#,
        6,
    );
    let file = format!(
        "# HELP requests_total request counts per cluster\n# TYPE requests_total counter\n\
         requests_total{} 1042\nrequests_total{} 873\n",
        labels("a"),
        labels("b")
    );
    let several = "# TYPE connections gauge\nconnections{c=\"a\"} 3\nconnections{c=\"b\"} 5\n\
                   # TYPE disk_space gauge\ndisk_space 42\n";

    let reported = format!("created metric...\n{line}\n");
    assert_eq!(accepted(&proxy, "/create", TEXT, &line), reported);
    assert!(
        proxy
            .metrics()
            .starts_with("# TYPE requests_total untyped\n")
    );
    assert_eq!(accepted(&proxy, "/create", JSON, &as_json), reported);
    let answer = accepted(&proxy, "/create", TEXT, &file);
    assert!(
        answer.starts_with("created metric...\nrequests_total{"),
        "{answer}"
    );
    let answer = accepted(&proxy, "/create", CURL, several);
    assert_eq!(answer.matches("created metric...\n").count(), 2, "{answer}");
    accepted(&proxy, "/create", TEXT, "metric_with_no_labels 1\n");
    assert_eq!(proxy.request("HEAD", "/metrics", &[]).status, 200);

    let metrics = proxy.metrics();
    let head = "# HELP requests_total request counts per cluster\n# TYPE requests_total counter\n";
    assert!(metrics.contains(head), "{metrics}");
    assert!(metrics.contains("# TYPE metric_with_no_labels untyped\n"));

    let frontend = format!("requests_total{}", labels("frontend"));
    assert_eq!(
        accepted(&proxy, "/update", TEXT, &line),
        format!("{frontend} 18\n")
    );
    assert_eq!(
        accepted(&proxy, "/update", JSON, &as_json),
        format!("{frontend} 24\n")
    );
    let answer = accepted(&proxy, "/update", TEXT, &file);
    assert!(
        answer.contains(&format!("requests_total{} 2084\n", labels("a"))),
        "{answer}"
    );
    let answer = accepted(&proxy, "/update", TEXT, several);
    assert_eq!(answer.lines().count(), 3, "{answer}");

    let answer = post(&proxy, "/v2/enqueue", JSON, &as_json);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Whichever inputs the type and the values come from.
#[test]
fn a_family_takes_the_type_that_comes_from_any_input() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("o.sock");
    let proxy = Proxy::start(&format!(
        "{QUIET}[operations]\nunix_sockets = [{socket:?}]\n"
    ));
    let operate = |message: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(message.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let add = |body: &str| proxy.push("POST", "/metrics?mode=aggregate", body);

    // Pushed without a type, then counted by an operation, then pushed again.
    assert_eq!(add("hits_total 2\nlevel 5\nbelow -5\n").status, 202);
    assert_eq!(operate("hits_total:1|c\nlevel:3|g\n"), "");
    let answer = operate("below:1|c\n");
    assert!(
        answer.contains("cannot become a counter: 1 of its values"),
        "{answer}"
    );
    assert_eq!(add("hits_total 4\nlevel 8\nbelow -1\n").status, 202);
    assert_eq!(
        proxy.metrics(),
        "# TYPE below untyped\nbelow -6\n# TYPE hits_total counter\nhits_total 7\n\
         # TYPE level gauge\nlevel 8\n"
    );
    // A reader of OpenMetrics sees the current type.
    let accept = ("Accept", "application/openmetrics-text; version=1.0.0");
    let text = proxy.request("GET", "/metrics", &[accept]).text();
    assert!(
        text.contains("# TYPE hits counter\nhits_total 7.0\n")
            || text.contains("# TYPE hits counter\nhits_total 7\n"),
        "{text}"
    );

    // From a push with a type; the family then accepts only that type.
    assert_eq!(add("late 1\n").status, 202);
    assert_eq!(add("# TYPE late gauge\nlate 4\n").status, 202);
    assert_eq!(add("late 2\n").status, 202);
    assert_eq!(proxy.sample("late"), Some(2.0), "a gauge is set");
    let conflict = add("# TYPE late counter\nlate 4\n");
    assert_eq!(conflict.status, 400, "{}", conflict.text());
}
