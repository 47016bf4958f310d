//! Formats and escaping of names, in pushes and in scrapes.

use crate::harness::{Answer, Proxy};

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

const UTF8: &str = "# TYPE \"disk.free\" gauge\n{\"disk.free\",\"é x\"=\"1\"} 7\n\
                    # TYPE \"my.h_x\" histogram\n{\"my.h_x_bucket\",le=\"+Inf\"} 1\n{\"my.h_x_sum\"} 1\n{\"my.h_x_count\"} 1\n\
                    # TYPE plain_total counter\nplain_total 1\n";

fn accepting(proxy: &Proxy, accept: &str) -> Answer {
    let answer = proxy.request("GET", "/metrics", &[("Accept", accept)]);
    assert_eq!(answer.status, 200);
    answer
}

/// The lines of pushed families, without push times.
fn pushed(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("push_"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn names_are_escaped_by_the_scheme_of_the_scraper() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    assert_eq!(proxy.push("PUT", "/metrics/job/a", UTF8).status, 200);
    let expected = |disk: &str, label: &str, histogram: &str| {
        let group = "instance=\"\",job=\"a\"";
        format!(
            "# TYPE {disk} gauge\n{disk}{{{label}=\"1\",{group}}} 7\n\
             # TYPE {histogram} histogram\n{histogram}_bucket{{{group},le=\"+Inf\"}} 1\n\
             {histogram}_sum{{{group}}} 1\n{histogram}_count{{{group}}} 1\n\
             # TYPE plain_total counter\nplain_total{{{group}}} 1\n"
        )
    };
    for (escaping, disk, label, histogram) in [
        ("underscores", "disk_free", "__x", "my_h_x"),
        ("dots", "disk_dot_free", "____x", "my_dot_h__x"),
        ("values", "U__disk_2e_free", "U___e9__20_x", "U__my_2e_h__x"),
        // An unknown scheme is ignored.
        ("camels", "disk_free", "__x", "my_h_x"),
    ] {
        let text = expected(disk, label, histogram);
        let answer = accepting(
            &proxy,
            &format!("text/plain;version=0.0.4;escaping={escaping}"),
        );
        assert_eq!(pushed(&answer.text()), text, "{escaping}");
        let content_type = answer.header("content-type").expect("a type");
        assert!(
            content_type.starts_with("text/plain; version=0.0.4"),
            "{content_type}"
        );
        if ["dots", "values"].contains(&escaping) {
            assert!(
                content_type.ends_with(&format!("; escaping={escaping}")),
                "{content_type}"
            );
        }
        let accept = format!("application/openmetrics-text;version=1.0.0;escaping={escaping}");
        let answer = accepting(&proxy, &accept);
        let open = text.replace("# TYPE plain_total", "# TYPE plain") + "# EOF\n";
        assert_eq!(pushed(&answer.text()), open, "{escaping}");
        let answer = accepting(&proxy, &format!("{PROTOBUF};escaping={escaping}"));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        for name in [disk, label, histogram] {
            assert!(body.contains(name), "{escaping}: no {name} in {body:?}");
        }
        assert!(
            !body.contains("disk.free") && !body.contains("my.h"),
            "{escaping}: {body:?}"
        );
    }
}

#[test]
fn names_that_collide_when_escaped_are_rejected() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    assert_eq!(
        proxy
            .push("PUT", "/metrics/job/a", "{\"disk.free\"} 1\n")
            .status,
        200
    );
    for name in ["disk_free", "disk_dot_free", "U__disk_2e_free"] {
        let answer = proxy.push("PUT", "/metrics/job/b", format!("{name} 1\n"));
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert!(answer.text().contains(name), "{}", answer.text());
    }
    for twice in ["a_b", "a_dot_b", "U__a_2e_b"] {
        let body = format!("m{{\"a.b\"=\"1\",{twice}=\"2\"}} 1\n");
        let answer = proxy.push("PUT", "/metrics/job/c", body);
        assert_eq!(answer.status, 400, "{twice}: {}", answer.text());
    }
}

#[test]
fn pushed_names_are_escaped_beside_verbatim_text() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    assert_eq!(proxy.push("PUT", "/metrics/job/a", UTF8).status, 200);
    let added = "# TYPE \"all.hits\" counter\n{\"all.hits\"} 3\n";
    let answer = proxy.push("POST", "/metrics/job/a?mode=aggregate", added);
    assert!([200, 202].contains(&answer.status), "{}", answer.text());
    let verbatim = "own_text 1\n# a comment\n{\"sent.as.it.is\"} 1\n";
    proxy.push_tcp(format!("{{\"v\": {}}}", serde_json::json!(verbatim)).as_bytes());

    for (accept, disk, hits) in [
        ("*/*", "disk_free", "all_hits"),
        (
            "application/openmetrics-text;version=1.0.0",
            "disk_free",
            "all_hits",
        ),
        (PROTOBUF, "disk_free", "all_hits"),
        ("text/plain;escaping=dots", "disk_dot_free", "all_dot_hits"),
        (
            "text/plain;escaping=values",
            "U__disk_2e_free",
            "U__all_2e_hits",
        ),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "\"disk.free\"",
            "\"all.hits\"",
        ),
    ] {
        let answer = accepting(&proxy, accept);
        if !answer
            .header("content-type")
            .is_some_and(|it| it.starts_with("text/plain"))
        {
            // Names in verbatim text are escaped, too, if it is served in another format.
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                body.contains(disk) && body.contains(hits),
                "{accept}: {body:?}"
            );
            assert!(!body.contains("disk.free"), "{accept}: {body:?}");
            continue;
        }
        let text = answer.text();
        assert!(
            text.contains(&format!("# TYPE {disk} gauge\n")),
            "{accept}:\n{text}"
        );
        assert!(
            text.contains(&format!("# TYPE {hits} counter\n")),
            "{accept}:\n{text}"
        );
        assert!(text.ends_with(verbatim), "{accept}:\n{text}");
        let quoted = text.contains("\"disk.free\"");
        assert_eq!(quoted, accept.contains("allow-utf-8"), "{accept}:\n{text}");
        let one = proxy.request("GET", "/metrics?name[]=disk.free", &[("Accept", accept)]);
        let body = String::from_utf8_lossy(&one.body).into_owned();
        assert!(body.contains(disk), "{accept}: {body:?}");
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Pushes with a `Content-Type`, once to replace and once to aggregate.
fn push_typed(proxy: &Proxy, content_type: &str, body: &str) -> Vec<(u16, String)> {
    let header = [("Content-Type", content_type)];
    let headers = if content_type.is_empty() {
        &header[..0]
    } else {
        &header[..]
    };
    ["/metrics/job/typed", "/metrics/zone/z?mode=aggregate"]
        .map(|path| proxy.push_with("POST", path, headers, body))
        .map(|answer| (answer.status, answer.text()))
        .into()
}

#[test]
fn an_explicit_version_of_text_overrides_the_last_line() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let comment = "# TYPE a untyped\na 1\n# EOF\n";
    for reported in [
        "text/plain; version=0.0.4",
        "text/plain; version=0.0.4; charset=utf-8",
    ] {
        for (status, answer) in push_typed(&proxy, reported, comment) {
            assert!([200, 202].contains(&status), "{reported}: {answer}");
        }
    }
    for guessed in ["", "text/plain", "application/x-www-form-urlencoded"] {
        for (status, answer) in push_typed(&proxy, guessed, comment) {
            assert_eq!(status, 400, "{guessed}: {answer}");
            assert!(
                answer.contains("read as OpenMetrics, since its last line is"),
                "{answer}"
            );
        }
        for (status, answer) in push_typed(&proxy, guessed, "# TYPE b counter\nb_total 1\n# EOF\n")
        {
            assert!([200, 202].contains(&status), "{guessed}: {answer}");
        }
        for (status, answer) in push_typed(&proxy, guessed, "# TYPE b unknown\nb 1\n") {
            assert_eq!(status, 400, "{guessed}: {answer}");
            assert!(answer.contains("(read as text 0.0.4)"), "{answer}");
        }
    }
    for (status, answer) in push_typed(&proxy, OPEN_METRICS, "# TYPE b untyped\nb 1\n") {
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("(read as OpenMetrics)"), "{answer}");
    }
}

#[test]
fn pushed_open_metrics_needs_no_eof_and_can_be_empty() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    for body in [
        "",
        "# TYPE c counter\nc_total 1\n",
        "# TYPE c counter\nc_total 1",
        "# TYPE c counter\nc_total 1\n# EOF",
        "# TYPE c counter\nc_total 1\n# EOF\n",
    ] {
        for (status, answer) in push_typed(&proxy, OPEN_METRICS, body) {
            assert!([200, 202].contains(&status), "{body:?}: {status} {answer}");
        }
    }
    assert!(
        proxy.metrics().contains("\nc_total{"),
        "{}",
        proxy.metrics()
    );
    for body in ["# EOF\nm 1\n", "m 1\n# EOF\n# EOF\n", "# EOF\n# EOF"] {
        for (status, answer) in push_typed(&proxy, OPEN_METRICS, body) {
            assert_eq!(status, 400, "{body:?}: {answer}");
            assert!(answer.contains("after \"# EOF\""), "{answer}");
        }
    }
}

/// Families with units and types that only OpenMetrics has.
const OPEN: &str = "# TYPE build info\nbuild_info{version=\"1\"} 1\n\
    # HELP c_seconds Say \\\"hi\\\".\n# TYPE c_seconds counter\n# UNIT c_seconds seconds\nc_seconds_total 5\n\
    # TYPE g_volts gaugehistogram\n# UNIT g_volts volts\ng_volts_bucket{le=\"1.0\"} 1\ng_volts_bucket{le=\"+Inf\"} 3\ng_volts_gcount 3\ng_volts_gsum -2\n\
    # TYPE s stateset\ns{s=\"off\"} 0\ns{s=\"on\"} 1\n# TYPE u_bytes unknown\n# UNIT u_bytes bytes\nu_bytes 1\n# EOF\n";

const OPEN_AS_TEXT: &str = "# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
    # HELP c_seconds_total Say \"hi\".\n# TYPE c_seconds_total counter\nc_seconds_total 5\n\
    # TYPE g_volts untyped\ng_volts_bucket{le=\"1.0\"} 1\ng_volts_bucket{le=\"+Inf\"} 3\ng_volts_gcount 3\ng_volts_gsum -2\n\
    # TYPE s gauge\ns{s=\"off\"} 0\ns{s=\"on\"} 1\n# TYPE u_bytes untyped\nu_bytes 1\n";

const MERGED: &str = "[exporter]\nown_metrics = false\n[exposition]\nmode = \"merged\"\n";

fn push_app(proxy: &Proxy, name: &str, text: &str) -> String {
    let document = serde_json::json!({ name: text });
    proxy.push_tcp(document.to_string().as_bytes())
}

#[test]
fn units_and_types_of_open_metrics_are_served_in_open_metrics() {
    let proxy = Proxy::start(MERGED);
    assert_eq!(push_app(&proxy, "app", OPEN), "");
    let open = "application/openmetrics-text;version=1.0.0";
    assert_eq!(accepting(&proxy, open).text(), OPEN);
    assert_eq!(proxy.metrics(), OPEN_AS_TEXT);
    let utf8 = "text/plain;version=1.0.0;escaping=allow-utf-8";
    assert_eq!(accepting(&proxy, utf8).text(), OPEN_AS_TEXT);
    let one = proxy.request("GET", "/apps/app/metrics", &[("Accept", open)]);
    assert_eq!(one.text(), OPEN);
    assert_eq!(proxy.get("/apps/app/metrics").text(), OPEN_AS_TEXT);
    let one = proxy.request("GET", "/metrics?name[]=g_volts", &[("Accept", open)]);
    assert!(
        OPEN.contains(one.text().trim_end_matches("# EOF\n")),
        "{}",
        one.text()
    );
    assert!(one.text().contains("g_volts_gsum -2\n"), "{}", one.text());

    // The same in a group, with its labels.
    assert_eq!(push_app(&proxy, "app", ""), "");
    for (status, answer) in &push_typed(&proxy, OPEN_METRICS, OPEN)[..1] {
        assert_eq!(*status, 200, "{answer}");
    }
    let shown = accepting(&proxy, open).text();
    for line in OPEN.lines().filter(|line| line.starts_with("# ")) {
        assert!(
            shown.contains(&format!("{line}\n")),
            "no {line} in\n{shown}"
        );
    }
    assert!(!shown.contains("OpenMetrics"), "{shown}");
}

#[test]
fn aggregated_families_have_the_types_of_text() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    let push = |body: &str| {
        let path = "/metrics/zone/z?mode=aggregate";
        proxy.push_with("POST", path, &[("Content-Type", OPEN_METRICS)], body)
    };
    // Counts of a gauge histogram can fall, so they cannot be summed.
    let rejected = push(OPEN);
    assert_eq!(rejected.status, 400);
    let expected = "family g_volts, line 9: gauge histograms are not aggregated";
    assert!(rejected.text().contains(expected), "{}", rejected.text());
    let (before, rest) = OPEN.split_once("# TYPE g_volts").unwrap();
    let (_, after) = rest.split_once("g_volts_gsum -2\n").unwrap();
    for _ in 0..2 {
        let answer = push(&format!("{before}{after}"));
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let text = proxy.metrics();
    assert!(!text.contains("g_volts"), "{text}");
    assert!(text.contains("# TYPE s gauge\n"), "{text}");
    assert!(text.contains("c_seconds_total{zone=\"z\"} 10\n"), "{text}");
}

#[test]
fn points_of_one_series_are_kept_in_order_of_time() {
    let proxy = Proxy::start(MERGED);
    let text = "m{a=\"1\"} 3 3000\nm{a=\"2\"} 9 1000\nm{a=\"1\"} 1 1000\nm{a=\"1\"} 2 2000\n";
    assert_eq!(push_app(&proxy, "text", text), "");
    let open = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 1\nh_count 1 1\nh_sum 1 1\n\
                h_bucket{le=\"+Inf\"} 2 2.5\nh_count 2 2.5\nh_sum 7 2.5\n# EOF\n";
    assert_eq!(push_app(&proxy, "open", open), "");
    let expected = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 1000\nh_bucket{le=\"+Inf\"} 2 2500\n\
                    h_count 1 1000\nh_count 2 2500\nh_sum 1 1000\nh_sum 7 2500\n\
                    # TYPE m untyped\nm{a=\"1\"} 1 1000\nm{a=\"1\"} 2 2000\nm{a=\"1\"} 3 3000\nm{a=\"2\"} 9 1000\n";
    assert_eq!(proxy.metrics(), expected);
    let answer = accepting(&proxy, "application/openmetrics-text").text();
    assert!(
        answer.contains("m{a=\"1\"} 1 1.000\nm{a=\"1\"} 2 2.000\nm{a=\"1\"} 3 3.000\n"),
        "{answer}"
    );
    // Pushing the same text again changes nothing.
    assert_eq!(push_app(&proxy, "text", text), "");
    assert_eq!(proxy.metrics(), expected);
    for rejected in [
        "m{a=\"3\"} 1 5\nm{a=\"3\"} 2 5\n",
        "n 1\nn 2\n",
        "n 1 5\nn 2\n",
    ] {
        assert!(
            push_app(&proxy, "other", rejected).contains("expected each series once"),
            "{rejected}"
        );
    }
    assert!(push_app(&proxy, "other", "m{a=\"1\"} 1 9\n").contains("elsewhere"));
    assert_eq!(proxy.metrics(), expected);

    let proxy = Proxy::start(&format!("{MERGED}timestamps = \"strip\"\n"));
    assert_eq!(push_app(&proxy, "text", text), "");
    assert_eq!(
        proxy.metrics(),
        "# TYPE m untyped\nm{a=\"1\"} 3\nm{a=\"2\"} 9\n"
    );
}

/// `docs/compliance.md` describes this.
#[test]
fn duplicate_series_are_rejected_by_line_or_by_name() {
    let proxy = Proxy::start(MERGED);
    for (text, expected) in [
        (
            "m 1\nm 2\n",
            "line 2, column 1: expected each series once, found that of line 1",
        ),
        (
            "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 1\n",
            "found that of line 1",
        ),
        ("m 1 5\nm 2 5\n", "found that of line 1"),
        ("m{a=\"\"} 1\nm 1\n", "found that of line 1"),
        ("m{a=\"\"} 1 5\nm 1 5\n", "found that of line 1"),
    ] {
        let answer = push_app(&proxy, "app", text);
        assert!(answer.contains(expected), "{text:?}: {answer}");
        if !text.contains(" 5\n") {
            let answer = proxy.push("PUT", "/metrics/job/j", text);
            assert_eq!(answer.status, 400, "{text:?}: {}", answer.text());
        }
    }
    let bounds = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\n";
    let answer = proxy.push("PUT", "/metrics/job/j", bounds);
    assert!(
        answer.text().contains("1 and 1.0 are one number"),
        "{}",
        answer.text()
    );
}

/// `docs/compliance.md` describes this.
#[test]
fn escapes_of_open_metrics_are_those_of_text() {
    let proxy = Proxy::start(MERGED);
    for rejected in [
        "m{a=\"b\\x\"} 1\n# EOF\n",
        "{\"m\\x\"} 1\n# EOF\n",
        "# HELP m a\\x\nm 1\n# EOF\n",
        "m 1 # {a=\"b\\x\"} 1\n# EOF\n",
    ] {
        let answer = push_app(&proxy, "app", rejected);
        assert!(answer.contains("expected"), "{rejected:?}: {answer}");
    }
    let taken = "# HELP m a\\\\x\nm{a=\"b\\\\x \\\"q\\\" \\n\"} 1\n# EOF\n";
    assert_eq!(push_app(&proxy, "app", taken), "");
    assert_eq!(
        proxy.metrics(),
        "# HELP m a\\\\x\n# TYPE m untyped\nm{a=\"b\\\\x \\\"q\\\" \\n\"} 1\n"
    );
}

/// One of Prometheus' parsers reads these lines as comments. They are served only in
/// verbatim text.
#[test]
fn a_type_line_without_a_type_is_a_comment_in_merged_text() {
    let text = "# TYPE v\nv 1\n# TYPE \n";
    let proxy = Proxy::start(MERGED);
    assert_eq!(push_app(&proxy, "app", text), "");
    assert_eq!(
        proxy
            .push("PUT", "/metrics/job/j", text.replace('v', "w"))
            .status,
        200
    );
    assert!(
        proxy.metrics().contains("# TYPE v untyped\nv 1\n"),
        "{}",
        proxy.metrics()
    );
    let validated = "[exporter]\nown_metrics = false\n[exposition]\nvalidate = true\n";
    let proxy = Proxy::start(validated);
    let answer = push_app(&proxy, "app", text);
    assert!(answer.contains("line 1"), "{answer}");
    assert!(answer.contains("\"counter\", \"gauge\""), "{answer}");
    let twice = "# HELP a \n# HELP a \na 1\n# EOF\n";
    let merged = Proxy::start(MERGED);
    assert!(
        push_app(&merged, "app", twice).contains("one HELP"),
        "{twice}"
    );
}
