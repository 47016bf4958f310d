//! Merged and validated output.

use flate2::read::GzDecoder;
use std::io::Read;

use crate::harness::{Answer, Proxy, capnp_message, eventually};

const MERGED: &str = "[exporter]\nown_metrics = false\n[exposition]\nmode = \"merged\"\n";

fn push(proxy: &Proxy, document: &serde_json::Value) -> String {
    proxy.push_tcp(document.to_string().as_bytes())
}

fn with_accept(proxy: &Proxy, accept: &str) -> Answer {
    proxy.request("GET", "/metrics", &[("Accept", accept)])
}

const TWO_APPS: &str = r##"{
    "web": "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\nhttp_requests_total{path=\"/\",code=\"200\"} 5\n# TYPE up_seconds gauge\nup_seconds 7 1500\n",
    "api": "# HELP http_requests_total Other words.\n# TYPE http_requests_total counter\nhttp_requests_total{path=\"/v1\"} 6\n# TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"1\"} 1\nlatency_seconds_bucket{le=\"+Inf\"} 2\nlatency_seconds_sum 3\nlatency_seconds_count 2\n"
}"##;

#[test]
fn families_of_all_apps_are_grouped_with_one_head_each() {
    let proxy = Proxy::start(MERGED);
    assert_eq!(proxy.push_tcp(TWO_APPS.as_bytes()), "");
    let expected = "\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{path=\"/v1\"} 6
http_requests_total{code=\"200\",path=\"/\"} 5
# TYPE latency_seconds histogram
latency_seconds_bucket{le=\"1\"} 1
latency_seconds_bucket{le=\"+Inf\"} 2
latency_seconds_sum 3
latency_seconds_count 2
# TYPE up_seconds gauge
up_seconds 7 1500
";
    assert_eq!(proxy.metrics(), expected);
    let gzip = proxy.request("GET", "/metrics", &[("Accept-Encoding", "gzip")]);
    let mut text = String::new();
    GzDecoder::new(&gzip.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, expected);
    assert_eq!(
        proxy.get("/apps/web/metrics").text(),
        "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\",path=\"/\"} 5\n# TYPE up_seconds gauge\nup_seconds 7 1500\n"
    );
}

#[test]
fn a_label_distinguishes_apps_and_targets() {
    let proxy = Proxy::start(&format!(
        "{MERGED}app_label = \"app\"\ntimestamps = \"strip\"\n"
    ));
    assert_eq!(proxy.push_tcp(TWO_APPS.as_bytes()), "");
    let text = "# TYPE up_seconds gauge\nup_seconds{app=\"own\"} 1";
    proxy.push_tcp(&capnp_message("cap", text));
    let metrics = proxy.metrics();
    for line in [
        "http_requests_total{app=\"web\",code=\"200\",path=\"/\"} 5\n",
        "latency_seconds_bucket{app=\"api\",le=\"+Inf\"} 2\n",
        "up_seconds{app=\"cap\",exported_app=\"own\"} 1\n",
        "up_seconds{app=\"web\"} 7\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn a_series_of_two_apps_in_one_document_names_both() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    let answer = push(
        &proxy,
        &serde_json::json!({ "a": "m 1\n", "b": "n 1\nm 2\n" }),
    );
    assert!(
        answer.starts_with(
            "error: app \"b\", family at line 2: series m is exposed by app \"a\" too"
        ),
        "{answer}"
    );
}

#[test]
fn a_bad_text_is_rejected_and_the_last_good_one_stays() {
    let proxy = Proxy::start("[exposition]\nvalidate = true\n");
    push(&proxy, &serde_json::json!({ "a": "m 1\n" }));
    let answer = push(
        &proxy,
        &serde_json::json!({ "b": "n 1", "a": "m 2\nm{x=\"y\" 3\n" }),
    );
    assert!(
        answer.starts_with("error: app \"a\", line 2, column 9: expected ',' or '}'"),
        "{answer}"
    );
    let metrics = proxy.metrics();
    assert!(metrics.ends_with("\nm 1\n"), "{metrics}");
    assert_eq!(
        proxy.sample("exporter_proxy_received_messages_total{format=\"json\",receiver=\"tcp\",result=\"invalid_text\"}"),
        Some(1.0)
    );
    let app = proxy.get("/apps/a").json();
    assert_eq!(app["state"], "stale");
    let problem = app["last_problem"]["reason"].as_str().unwrap();
    assert!(
        problem.contains("invalid_text: app \"a\", line 2, column 9"),
        "{problem}"
    );
    assert!(
        proxy
            .get("/apps?wide=1")
            .text()
            .contains("line 2, column 9")
    );
    let place = "app \"a\", line 2, column 9: the text breaks the exposition format";
    assert!(proxy.log().contains(place), "{}", proxy.log());
    assert_eq!(proxy.get("/apps/b").status, 404);

    push(&proxy, &serde_json::json!({ "a": "m 4" }));
    assert_eq!(proxy.get("/apps/a").json()["state"], "fresh");
}

#[test]
fn what_does_not_fit_beside_others_is_the_later_senders_error() {
    let proxy = Proxy::start(MERGED);
    push(
        &proxy,
        &serde_json::json!({ "a": "# TYPE m gauge\nm{x=\"1\"} 1\n" }),
    );
    for (text, words) in [
        (
            "# TYPE m counter\nm{x=\"2\"} 1\n",
            "line 2: family m is a counter here, and a gauge in app \"a\"",
        ),
        (
            "# TYPE m gauge\nm{x=\"2\"} 1\nm{x=\"1\"} 2\n",
            "series m{x=\"1\"}",
        ),
        ("# TYPE m gauge\nm{x=\"2\"} 1\nm{x=\"2\"} 2\n", "line 3"),
        ("m{x=\"2\"} 1\r\n", "CR LF"),
    ] {
        let answer = push(&proxy, &serde_json::json!({ "b": text }));
        assert!(
            answer.starts_with("error: ") && answer.contains(words),
            "{answer}"
        );
        assert_eq!(proxy.metrics(), "# TYPE m gauge\nm{x=\"1\"} 1\n");
    }
    // Once the first app exposes something else, the others may do so, too.
    push(&proxy, &serde_json::json!({ "a": "other 1" }));
    assert_eq!(
        push(
            &proxy,
            &serde_json::json!({ "b": "# TYPE m counter\nm{x=\"1\"} 1\n" })
        ),
        ""
    );
}

#[test]
fn a_conflict_within_a_document_names_the_other_app() {
    let proxy = Proxy::start(MERGED);
    let document = serde_json::json!({
        "a": "# TYPE n counter\nn{x=\"1\"} 1\n",
        "b": "# TYPE n gauge\nn{x=\"2\"} 1\n",
    });
    let answer = push(&proxy, &document);
    assert!(
        answer.contains("app \"b\", line 2: family n is a gauge here, and a counter in app \"a\""),
        "{answer}"
    );
}

#[test]
fn limits_are_reported_and_other_senders_continue() {
    let limits = "max_samples = 2\nmax_labels = 2\nmax_label_length = 8\nmax_total = 1000\n";
    let proxy = Proxy::start(&format!("{MERGED}{limits}"));
    for (text, words) in [
        ("a 1\nb 1\nc 1\n", "at most 2 samples in a text"),
        (
            "a{a=\"1\",b=\"2\",c=\"3\"} 1\n",
            "at most 2 labels on a sample",
        ),
        ("a{a=\"123456789\"} 1\n", "at most 8 bytes in a label value"),
        ("a{a23456789=\"1\"} 1\n", "at most 8 bytes in a label name"),
    ] {
        let answer = push(&proxy, &serde_json::json!({ "x": text }));
        assert!(answer.contains(words), "{answer}");
    }
    for app in ["p", "q", "r"] {
        let sample = format!("{app}{{a=\"1234567\"}} 1234567890\n");
        let answer = push(&proxy, &serde_json::json!({ app: sample }));
        assert_eq!(
            answer.contains("exposition.max_total"),
            app == "r",
            "{answer}"
        );
    }
    assert_eq!(proxy.metrics().lines().count(), 4);
}

#[test]
fn openmetrics_is_sent_to_readers_that_prefer_it() {
    let proxy = Proxy::start(MERGED);
    assert_eq!(proxy.push_tcp(TWO_APPS.as_bytes()), "");
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let answer = with_accept(&proxy, prometheus);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8")
    );
    let expected = "\
# HELP http_requests Requests.
# TYPE http_requests counter
http_requests_total{path=\"/v1\"} 6
http_requests_total{code=\"200\",path=\"/\"} 5
# TYPE latency_seconds histogram
latency_seconds_bucket{le=\"1\"} 1
latency_seconds_bucket{le=\"+Inf\"} 2
latency_seconds_sum 3
latency_seconds_count 2
# TYPE up_seconds gauge
up_seconds 7 1.500
# EOF
";
    assert_eq!(answer.text(), expected);
    assert_eq!(
        answer.header("content-length"),
        Some(&*expected.len().to_string())
    );
    let gzip = proxy.request(
        "GET",
        "/metrics",
        &[("Accept", prometheus), ("Accept-Encoding", "gzip")],
    );
    let mut text = String::new();
    GzDecoder::new(&gzip.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, expected);
    assert_eq!(
        with_accept(&proxy, "text/plain").header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );

    // Every reader gets verbatim text as it was sent.
    let verbatim = Proxy::start("");
    verbatim.push_tcp(TWO_APPS.as_bytes());
    assert_eq!(
        with_accept(&verbatim, prometheus).header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
}

#[test]
fn names_of_any_characters_are_shown_on_request() {
    let proxy = Proxy::start(MERGED);
    let text = "# TYPE \"my.requests\" gauge\n{\"my.requests\",\"a b\"=\"1\"} 1\n";
    assert_eq!(push(&proxy, &serde_json::json!({ "a": text })), "");
    let utf8 = "text/plain;version=1.0.0;escaping=allow-utf-8";
    assert_eq!(with_accept(&proxy, utf8).text(), text);
    assert_eq!(
        proxy.metrics(),
        "# TYPE my_requests gauge\nmy_requests{a_b=\"1\"} 1\n"
    );
}

#[test]
fn the_query_chooses_apps_and_families() {
    let merged = Proxy::start(MERGED);
    let verbatim = Proxy::start("[exporter]\nown_metrics = false\n");
    for proxy in [&merged, &verbatim] {
        assert_eq!(proxy.push_tcp(TWO_APPS.as_bytes()), "");
        let get = |query: &str| proxy.get(&format!("/metrics?{query}")).text();
        let web = get("app=web");
        assert!(
            web.contains("up_seconds 7") && !web.contains("latency"),
            "{web}"
        );
        let latency = get("name[]=latency_seconds");
        assert_eq!(latency.lines().count(), 5, "{latency}");
        assert!(latency.contains("latency_seconds_sum 3"), "{latency}");
        let both = get("app=web&name%5B%5D=http_requests_total&name[]=latency_seconds");
        assert!(
            both.contains("path=\"/\"") && !both.contains("latency"),
            "{both}"
        );
        assert_eq!(get("app=nobody"), "");
        assert_eq!(get("name[]=nothing"), "");
    }
    let all = merged.get("/metrics?app=web&app=api").text();
    assert_eq!(all, merged.metrics());
}

#[test]
fn own_metrics_are_merged_with_the_others_and_their_names_are_reserved() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    assert_eq!(
        push(&proxy, &serde_json::json!({ "a": "zzz 1\naaa 1\n" })),
        ""
    );
    let metrics = proxy.metrics();
    assert!(
        metrics.starts_with("# TYPE aaa untyped\naaa 1\n# HELP exporter_proxy_"),
        "{metrics}"
    );
    assert!(
        metrics.ends_with("# TYPE zzz untyped\nzzz 1\n"),
        "{metrics}"
    );
    let mut heads: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let count = heads.len();
    heads.dedup();
    assert!(heads.is_sorted() && heads.len() == count, "{heads:?}");
    let answer = push(&proxy, &serde_json::json!({ "a": "exporter_proxy_apps 1" }));
    assert!(answer.contains("the proxy's own metrics"), "{answer}");
}

#[test]
fn a_target_with_a_bad_text_is_stale_and_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let texts = std::sync::Arc::new(std::sync::Mutex::new("good 1\n"));
    let served = std::sync::Arc::clone(&texts);
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming().take(1000) {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let text = *served.lock().unwrap();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    let config = format!(
        "{MERGED}[poll_external]\npoll_interval = 0.05\nclient_timeout = \"30s\"\n\
         [[poll_external.targets]]\nname = \"t\"\nurl = \"{url}\"\n"
    );
    let proxy = Proxy::start(&config);
    eventually(
        || proxy.metrics(),
        |text| text == "# TYPE good untyped\ngood 1\n",
    );
    *texts.lock().unwrap() = "good 2\nbad{\n";
    let target = eventually(
        || proxy.get("/apps/t").json(),
        |app| app["state"] == "stale",
    );
    let problem = target["last_problem"]["reason"].as_str().unwrap();
    assert!(
        problem.contains("invalid_text") && problem.contains("line 2"),
        "{problem}"
    );
    assert_eq!(proxy.metrics(), "# TYPE good untyped\ngood 1\n");
    *texts.lock().unwrap() = "good 3\n";
    eventually(|| proxy.metrics(), |text| text.ends_with("good 3\n"));
}
