//! `POST /create` and `/update`: requests that pingpong accepts, and those that broke it.

use std::io::Write as _;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Answer, Proxy};
use crate::support::Sender;

const QUIET: &str = "[exporter]\nown_metrics = false\n";

const JSON: (&str, &str) = ("Content-Type", "application/json");
const TEXT: (&str, &str) = ("Content-Type", "text/plain; version=0.0.4");
/// The default content type of `curl --data-binary`.
const CURL: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

const HITS: &str = r#"[{"name":"hits_total","help":"Pages shown.","type":"COUNTER",
    "metrics":[{"labels":{"path":"/x","code":"200"},"timestamp_ms":"1395066363000","value":"1.5"}]}]"#;

fn post(proxy: &Proxy, path: &str, content_type: (&str, &str), body: &str) -> Answer {
    proxy.push_with("POST", path, &[content_type], body)
}

#[track_caller]
fn accepted(proxy: &Proxy, path: &str, content_type: (&str, &str), body: &str) -> String {
    let answer = post(proxy, path, content_type, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    answer.text()
}

#[track_caller]
fn rejected(proxy: &Proxy, answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains(words), "{}", answer.text());
    assert_eq!(proxy.metrics(), "", "nothing is there");
}

#[test]
fn counters_are_created_added_to_and_updated() {
    let proxy = Proxy::start(QUIET);
    assert_eq!(
        accepted(&proxy, "/update", JSON, HITS),
        "",
        "nobody knows it"
    );
    assert_eq!(proxy.metrics(), "");

    let reported = "created metric...\nhits_total{code=\"200\",path=\"/x\"} 1.5\n\n";
    assert_eq!(accepted(&proxy, "/create", JSON, HITS), reported);
    assert_eq!(accepted(&proxy, "/create/", JSON, HITS), reported);
    let body = HITS.replace("\"1.5\"", "4");
    assert_eq!(
        accepted(&proxy, "/update", JSON, &body),
        "hits_total{code=\"200\",path=\"/x\"} 7\n"
    );
    let body = HITS.replace("\"1.5\"", "\"0\"");
    assert_eq!(
        accepted(&proxy, "/update", JSON, &body),
        "hits_total{code=\"200\",path=\"/x\"} 8\n"
    );
    let reported = accepted(&proxy, "/update", CURL, "hits_total 2\nnobody_knows 1\n");
    assert_eq!(reported, "hits_total{} 2\n");
    assert_eq!(
        proxy.metrics(),
        "# HELP hits_total Pages shown.\n# TYPE hits_total counter\n\
         hits_total{code=\"200\",path=\"/x\"} 8\nhits_total 2\n"
    );
}

#[test]
fn text_and_json_make_the_same_families_of_every_type() {
    const BY_TEXT: &str = "# HELP c_total A \"c\".\n# TYPE c_total counter\nc_total{a=\"1\"} 3 1395066363000\n\
        # TYPE g gauge\ng -2.5\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n\
        # TYPE s summary\ns{quantile=\"0.5\"} 7\ns_sum 1\ns_count 1\nu 4\n";
    const BY_JSON: &str = r#"[
        {"name":"c_total","help":"A \"c\".","type":"COUNTER","metrics":[{"labels":{"a":"1"},"value":3}]},
        {"name":"g","help":"","type":"GAUGE","metrics":[{"value":"-2.5"}]},
        {"name":"h","type":"HISTOGRAM","metrics":[{"buckets":{"0.1":"1","+Inf":"2"},"count":"2","sum":"0.5"}]},
        {"name":"s","type":"SUMMARY","metrics":[{"quantiles":{"0.5":"7"},"count":"1","sum":"1"}]},
        {"name":"u","type":"UNTYPED","metrics":[{"value":4}]}]"#;
    let expected = |times: u32| {
        format!(
            "# HELP c_total A \"c\".\n# TYPE c_total counter\nc_total{{a=\"1\"}} {}\n# TYPE g gauge\ng -2.5\n\
             # TYPE h histogram\nh_bucket{{le=\"0.1\"}} {times}\nh_bucket{{le=\"+Inf\"}} {}\nh_sum {}\nh_count {}\n\
             # TYPE s summary\ns_sum {times}\ns_count {times}\n# TYPE u untyped\nu {}\n",
            3 * times,
            2 * times,
            0.5 * f64::from(times),
            2 * times,
            4 * times
        )
    };
    for (content_type, body) in [(JSON, BY_JSON), (TEXT, BY_TEXT), (CURL, BY_TEXT)] {
        let proxy = Proxy::start(QUIET);
        let rows = "created metric...\nc_total{a=\"1\"} 3\n\ncreated metric...\ng";
        let reported = accepted(&proxy, "/create", content_type, body);
        assert!(reported.starts_with(rows), "{reported}");
        assert!(reported.contains("\nh_count{} 2\n"), "{reported}");
        assert_eq!(proxy.metrics(), expected(1));
        let reported = accepted(&proxy, "/create", content_type, body);
        assert!(reported.starts_with(rows), "{reported}");
        assert_eq!(proxy.metrics(), expected(2), "as twice as much");
    }
}

#[test]
fn one_object_is_taken_and_series_may_have_any_labels() {
    let proxy = Proxy::start(QUIET);
    let one = r#"{"name":"m_total","type":"counter","metrics":[{"labels":{"a":"1"},"value":1}]}"#;
    let other =
        r#"{"name":"m_total","metrics":[{"labels":{"b":"2","c":"3"},"value":2},{"value":4}]}"#;
    accepted(&proxy, "/create", JSON, one);
    let reported = accepted(&proxy, "/create", JSON, other);
    assert_eq!(
        reported,
        "created metric...\nm_total{b=\"2\",c=\"3\"} 2\nm_total{} 4\n\n"
    );
    let text = proxy.metrics();
    for series in [
        "m_total{a=\"1\"} 1\n",
        "m_total{b=\"2\",c=\"3\"} 2\n",
        "m_total 4\n",
    ] {
        assert!(text.contains(series), "{text}");
    }
}

#[test]
fn errors_are_reported_and_change_nothing() {
    let proxy = Proxy::start(QUIET);
    let with = |metric: &str| {
        format!(
            "[{{\"name\":\"ok\",\"metrics\":[{{\"value\":1}}]}},{{\"name\":\"m_total\",\"type\":\"COUNTER\",\"metrics\":[{{\"value\":1}},{metric}]}}]"
        )
    };
    for (metric, words) in [
        (
            r#"{"value":-1}"#,
            "[1].metrics[1] of m_total: its value is -1",
        ),
        (
            r#"{"value":"NaN"}"#,
            "[1].metrics[1] of m_total: its value is not a number",
        ),
        (
            r#"{"value":"+Inf"}"#,
            "[1].metrics[1] of m_total: its value is infinite",
        ),
        (r#"{"value":"one"}"#, "expected: \"one\" is not a number"),
        (r#"{"value":{}}"#, "expected a number, or a string with one"),
        (
            r#"{"labels":{}}"#,
            "[1].metrics[1] of m_total: it has no value",
        ),
        (
            r#"{"value":1,"labels":{"__name__":"x"}}"#,
            "[1].metrics[1] of m_total",
        ),
        (r#"{"value":1,"labels":{"a":7}}"#, "expected a string"),
    ] {
        let answer = post(&proxy, "/create", JSON, &with(metric));
        rejected(&proxy, &answer, 400, words);
    }
    for (body, words) in [
        ("", "JSON of families expected"),
        ("hits 1\n", "JSON of families expected"),
        ("[{\"metrics\":[]}]", "missing field `name`"),
        (
            r#"[{"name":"ok","metrics":[{"value":1}]}] [{"name":"m","metrics":[]}]"#,
            "the body, line 1, column 41: JSON of families expected: trailing characters",
        ),
        (
            r#"[{"name":"m","type":"GAUGE","metrics":[{"value":1}]},{"name":"m","type":"COUNTER","metrics":[]}]"#,
            "a counter here, and a gauge before",
        ),
        (
            r#"[{"name":"h","type":"GAUGE","metrics":[{"value":1}]},{"name":"h_x\n","type":"FLAG","metrics":[]}]"#,
            "\"FLAG\" is none of COUNTER",
        ),
    ] {
        let answer = post(&proxy, "/create", JSON, body);
        rejected(&proxy, &answer, 400, words);
    }
    for (body, words) in [
        ("ok 1\nbad{ 1\n", "line 2, column"),
        ("ok 1\n# TYPE m_total counter\nm_total -1\n", "line 3"),
        ("ok 1\nm NaN\n", "line 2"),
        ("ok 1\nok 2\n", "line 2"),
    ] {
        let answer = post(&proxy, "/create", CURL, body);
        rejected(&proxy, &answer, 400, words);
    }
}

#[test]
fn another_type_or_a_family_of_others_is_a_conflict() {
    let proxy = Proxy::start(QUIET);
    accepted(&proxy, "/create", JSON, HITS);
    proxy.push("PUT", "/metrics/job/j", "# TYPE theirs gauge\ntheirs 1\n");
    let before = proxy.metrics();
    for (path, body, words) in [
        (
            "/create",
            "# TYPE hits_total gauge\nhits_total 1\n",
            "a gauge here, and a counter already",
        ),
        (
            "/update",
            "# TYPE hits_total gauge\nhits_total 1\n",
            "a gauge here, and a counter already",
        ),
        (
            "/create",
            "# TYPE theirs counter\ntheirs 1\n",
            "a counter here, and a gauge in group {job=\"j\"}",
        ),
    ] {
        let answer = post(&proxy, path, TEXT, &format!("fine 1\n{body}"));
        assert_eq!(answer.status, 400, "as with other pushes");
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(proxy.metrics(), before);
    }
    assert_eq!(accepted(&proxy, "/update", TEXT, "theirs 1\n"), "");
}

#[test]
fn the_gate_is_pingpong_s() {
    let proxy = Proxy::start(QUIET);
    for path in ["/create", "/update"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
            let answer = proxy.push_with(method, path, &[JSON], HITS);
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("POST"));
        }
        let answer = proxy.push("POST", path, HITS);
        rejected(&proxy, &answer, 400, "there is no Content-Type");
        for other in [
            "text/html",
            "application/jsonp",
            "application/json, text/plain",
        ] {
            let answer = post(&proxy, path, ("Content-Type", other), HITS);
            rejected(&proxy, &answer, 415, "must be application/json");
        }
        let brotli = [JSON, ("Content-Encoding", "br")];
        let answer = proxy.push_with("POST", path, &brotli, HITS);
        rejected(&proxy, &answer, 415, "br");
    }
    // The listener for scrapes has no such path.
    assert_eq!(proxy.request("POST", "/create", &[JSON]).status, 404);
}

#[test]
fn bodies_are_bounded_and_may_be_compressed() {
    let proxy = Proxy::start(&format!(
        "{QUIET}[push]\nmax_body = 1000\nmax_buffered = 2000\n"
    ));
    let packed = |text: &str| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let large = format!("{HITS}{}", " ".repeat(1000));
    let answer = post(&proxy, "/create", JSON, &large);
    rejected(&proxy, &answer, 413, "more than 1000 bytes (push.max_body)");
    let gzip = [JSON, ("Content-Encoding", "gzip")];
    let answer = proxy.push_with("POST", "/create", &gzip, packed(&large));
    rejected(&proxy, &answer, 413, "max_body");
    let answer = proxy.push_with("POST", "/create", &gzip, HITS);
    rejected(&proxy, &answer, 400, "gzip");

    let mut half = Sender::to(&proxy.push);
    half.send(b"POST /create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n[");
    half.half_close();
    half.read_to_end();
    assert_eq!(proxy.metrics(), "", "half a body is none");

    let answer = proxy.push_with("POST", "/create", &gzip, packed(HITS));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        proxy
            .metrics()
            .contains("hits_total{code=\"200\",path=\"/x\"} 1.5\n")
    );
}

#[test]
fn results_are_counted_and_what_has_a_key_counts_once() {
    let proxy = Proxy::start("");
    let key = [JSON, ("Idempotency-Key", "k")];
    let first = proxy.push_with("POST", "/create", &key, HITS);
    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (200, None)
    );
    let again = proxy.push_with("POST", "/create", &key, HITS);
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (200, Some("true"))
    );
    assert_eq!(proxy.push_with("POST", "/update", &key, HITS).status, 422);
    assert_eq!(
        proxy.sample("hits_total{code=\"200\",path=\"/x\"}"),
        Some(1.5)
    );
    post(&proxy, "/create", JSON, "{");
    post(&proxy, "/create", ("Content-Type", "a/b"), HITS);
    post(&proxy, "/create", TEXT, "# TYPE a counter\na -1\n");
    post(&proxy, "/update", JSON, HITS);
    for (method, result, count) in [
        // The repeated request succeeded, too.
        ("create", "ok", 2.0),
        ("create", "malformed", 1.0),
        ("create", "unsupported_media", 1.0),
        ("create", "bad_value", 1.0),
        ("update", "ok", 1.0),
        ("update", "key_reused", 1.0),
    ] {
        let series =
            format!("exporter_proxy_pushes_total{{method=\"{method}\",result=\"{result}\"}}");
        assert_eq!(proxy.sample(&series), Some(count), "{series}");
    }
    let requests = "exporter_proxy_http_requests_total{code=\"400\",handler=\"create\"}";
    assert_eq!(proxy.sample(requests), Some(2.0), "{}", proxy.metrics());
}

#[test]
fn pages_of_other_origins_may_ask() {
    let proxy = Proxy::start(&format!(
        "{QUIET}[push]\ncors_origins = [\"https://a.example\"]\n"
    ));
    let origin = ("Origin", "https://a.example");
    let asks = [origin, ("Access-Control-Request-Method", "POST")];
    assert_eq!(proxy.push_with("OPTIONS", "/create", &asks, "").status, 204);
    let answer = proxy.push_with("POST", "/create", &[origin, JSON], HITS);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.example")
    );
}

#[test]
fn requests_at_once_lose_nothing() {
    const EACH: usize = 50;
    let proxy = Proxy::start(QUIET);
    let threads = ["/create", "/create", "/create", "/update"].map(|path| {
        let address = proxy.push.clone();
        thread::spawn(move || {
            for turn in 0..EACH {
                // Families are created and updated at the same time.
                let body = format!(
                    "# TYPE all_total counter\nall_total 1\n# TYPE own_{turn} counter\nown_{turn} 1\n"
                );
                let answer =
                    crate::harness::http_send(&address, "POST", path, &[TEXT], body.as_bytes());
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let all = proxy.sample("all_total").unwrap();
    assert!((150.0..=200.0).contains(&all), "{all}");
    for turn in 0..EACH {
        let own = proxy.sample(&format!("own_{turn}")).unwrap();
        assert!((3.0..=4.0).contains(&own), "{own}");
    }
}

#[test]
fn a_large_body_is_taken_compressed_or_not() {
    let proxy = Proxy::start(QUIET);
    let mut body = String::from("[");
    for n in 0..20_000 {
        let comma = if n == 0 { "" } else { "," };
        body.push_str(&format!(
            "{comma}{{\"name\":\"m_{}\",\"type\":\"GAUGE\",\"metrics\":[{{\"labels\":{{\"n\":\"{n}\"}},\"value\":\"{n}\"}}]}}",
            n % 100
        ));
    }
    body.push(']');
    assert!(body.len() > 1 << 20);
    let reported = accepted(&proxy, "/create", JSON, &body);
    assert_eq!(reported.matches("created metric...\n").count(), 100);
    assert_eq!(proxy.sample("m_99{n=\"19999\"}"), Some(19_999.0));

    let headers = [JSON, ("Content-Encoding", "gzip")];
    let answer = proxy.push_with("POST", "/update", &headers, gzip(&body));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text().lines().count(), 20_000);
}

#[test]
fn few_bytes_make_no_large_answer() {
    let proxy = Proxy::start(QUIET);
    let headers = [JSON, ("Content-Encoding", "gzip")];
    let items = vec!["{\"value\":1}"; 2000].join(",");
    let body = |name: &str| format!("{{\"name\":\"{name}\",\"metrics\":[{items}]}}");
    for (length, words) in [(16 << 10, "several parts"), (17 << 10, "max_label_length")] {
        let body = gzip(&body(&"n".repeat(length)));
        assert!(body.len() < 1000, "{}", body.len());
        let answer = proxy.push_with("POST", "/create", &headers, body);
        let status = if length > 16 << 10 { 400 } else { 413 };
        rejected(&proxy, &answer, status, words);
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}
