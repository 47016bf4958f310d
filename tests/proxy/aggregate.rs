//! Aggregating pushes over HTTP.

use crate::harness::{Proxy, eventually, http_send};

const ADDING: &str = "[exporter]\nown_metrics = false\n[push]\nmode = \"aggregate\"\n";

const COUNTER: &str = "# TYPE hits_total counter\nhits_total{page=\"a\"} 2\n";

#[track_caller]
fn add(proxy: &Proxy, path: &str, body: &str) {
    let answer = proxy.push("POST", path, body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.text(), "");
}

#[track_caller]
fn rejected(proxy: &Proxy, path: &str, body: &str, status: u16) -> String {
    let before = proxy.metrics();
    let answer = proxy.push("POST", path, body);
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(proxy.metrics(), before, "nothing has changed");
    answer.text()
}

#[test]
fn pushes_are_added_by_kind() {
    let proxy = Proxy::start(ADDING);
    let body = |n: u32| {
        format!(
            "# HELP hits_total Pages shown.\n# TYPE hits_total counter\nhits_total{{page=\"a\",b=\"1\"}} {n}\n\
             # TYPE size gauge\nsize {n}\n# TYPE s summary\ns{{quantile=\"0.5\"}} 9\ns_sum {n}\ns_count 1\n\
             # TYPE t histogram\nt_bucket{{le=\"1\"}} 1\nt_bucket{{le=\"+Inf\"}} {n}\nt_sum {n}\nt_count {n}\nu {n}\n"
        )
    };
    add(&proxy, "/metrics", &body(2));
    let answer = proxy.push("PUT", "/metrics/", body(3));
    assert_eq!(answer.status, 202);
    assert_eq!(
        proxy.metrics(),
        "# HELP hits_total Pages shown.\n# TYPE hits_total counter\nhits_total{b=\"1\",page=\"a\"} 5\n\
         # TYPE s summary\ns_sum 5\ns_count 2\n# TYPE size gauge\nsize 3\n\
         # TYPE t histogram\nt_bucket{le=\"1\"} 2\nt_bucket{le=\"+Inf\"} 5\nt_sum 5\nt_count 5\n\
         # TYPE u untyped\nu 5\n"
    );
}

#[test]
fn a_push_says_itself_what_it_does() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    add(&proxy, "/metrics/zone/z?mode=aggregate", COUNTER);
    add(&proxy, "/metrics/job/j/zone/z?mode=aggregate", COUNTER);
    assert_eq!(proxy.push("PUT", "/metrics/job/k", "gone 1\n").status, 200);
    let text = proxy.metrics();
    for series in [
        "hits_total{page=\"a\",zone=\"z\"} 2\n",
        "hits_total{job=\"j\",page=\"a\",zone=\"z\"} 2\n",
        "gone{instance=\"\",job=\"k\"} 1\n",
    ] {
        assert!(text.contains(series), "{text}");
    }
    assert_eq!(proxy.push("POST", "/metrics", COUNTER).status, 405);
    let reported = rejected(&proxy, "/metrics/job/x?mode=both", COUNTER, 400);
    assert!(
        reported.contains("\"replace\" or \"aggregate\""),
        "{reported}"
    );
}

#[test]
fn paths_and_bodies_are_those_of_all_pushes() {
    let proxy = Proxy::start(ADDING);
    add(&proxy, "/metrics/path/a%2Fb/page@base64/eg", COUNTER);
    add(
        &proxy,
        "/metrics/path/a%2Fb/page/z/",
        "# TYPE hits_total counter\nhits_total 1",
    );
    assert!(
        proxy
            .metrics()
            .contains("hits_total{page=\"z\",path=\"a/b\"} 3\n")
    );
    for (path, reported) in [
        ("/metrics/zone", "no value for the label \"zone\""),
        ("/metrics/1a/b", "\"1a\" is not a valid name for a label"),
        (
            "/metrics/__name__/b",
            "\"__name__\" is not a valid name for a label",
        ),
    ] {
        let answer = rejected(&proxy, path, COUNTER, 400);
        assert!(answer.contains(reported), "{answer}");
    }
    let answer = rejected(&proxy, "/metrics", "m 1 1700000000000\n", 400);
    assert!(answer.contains("line 1"), "{answer}");
}

#[test]
fn nothing_of_a_wrong_push_is_added() {
    let proxy = Proxy::start(ADDING);
    add(&proxy, "/metrics", COUNTER);
    for (body, reported) in [
        (
            "# TYPE hits_total gauge\nhits_total{page=\"b\"} 1\n",
            "hits_total is a",
        ),
        ("hits_total{page=\"b\"} -1\n", "must be"),
        (
            "# TYPE hits_total counter\nhits_total{page=\"b\"} 1\nhits_total{page=\"a\"} -1\n",
            "must be",
        ),
        ("# TYPE n_total counter\nn_total NaN\n", "must be"),
        (
            "# TYPE hits_total counter\nhits_total{page=\"b\"} 1\nx{clearmode=\"often\"} 1\n",
            "clearmode \"often\" is not known",
        ),
        (
            "ok 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
            "h",
        ),
        ("ok 1\nbad{a=\"1\" 2\n", "line 2, column"),
    ] {
        let answer = rejected(&proxy, "/metrics", body, 400);
        assert!(answer.contains(reported), "{answer}");
    }
}

#[test]
fn differing_buckets_give_a_monotone_histogram_or_a_rejection() {
    const A: &str = "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 6\nh_bucket{le=\"+Inf\"} 7\nh_sum 8\nh_count 7\n";
    const B: &str = "# TYPE h histogram\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"4\"} 4\nh_bucket{le=\"+Inf\"} 4\nh_sum 8\nh_count 4\n";
    let shown = |conflict: &str| {
        let proxy = Proxy::start(&format!("{ADDING}bucket_conflict = \"{conflict}\"\n"));
        add(&proxy, "/metrics", A);
        let status = proxy.push("POST", "/metrics", B).status;
        (status, proxy.metrics())
    };
    let head = "# TYPE h histogram\n";
    assert_eq!(
        shown("common"),
        (
            202,
            format!(
                "{head}h_bucket{{le=\"2\"}} 9\nh_bucket{{le=\"+Inf\"}} 11\nh_sum 16\nh_count 11\n"
            )
        )
    );
    assert_eq!(
        shown("union"),
        (
            202,
            format!(
                "{head}h_bucket{{le=\"1\"}} 5\nh_bucket{{le=\"2\"}} 9\nh_bucket{{le=\"4\"}} 10\nh_bucket{{le=\"+Inf\"}} 11\nh_sum 16\nh_count 11\n"
            )
        )
    );
    assert_eq!(shown("refuse"), (400, A.to_owned()));
}

#[test]
fn a_missing_sum_count_or_last_bucket_does_no_harm() {
    let proxy = Proxy::start(ADDING);
    for body in [
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 2\n",
        "# TYPE s summary\ns_count 1\n",
        "# TYPE s summary\ns_sum 2\n",
    ] {
        add(&proxy, "/metrics", body);
        add(&proxy, "/metrics", body);
    }
    let text = proxy.metrics();
    for series in [
        "h_bucket{le=\"1\"} 4\n",
        "h_bucket{le=\"+Inf\"} 8\n",
        "h_count 8\n",
        "s_sum 4\n",
        "s_count 2\n",
    ] {
        assert!(text.contains(series), "{text}");
    }
}

#[test]
fn a_push_with_a_key_counts_once() {
    let proxy = Proxy::start(ADDING);
    let send = |key: &str, body: &str| {
        proxy.push_with("POST", "/metrics", &[("Idempotency-Key", key)], body)
    };
    let first = send("k1", COUNTER);
    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (202, None)
    );
    let again = send("k1", COUNTER);
    assert_eq!(again.status, 202);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(send("k2", COUNTER).status, 202);
    assert!(proxy.metrics().contains("hits_total{page=\"a\"} 4\n"));

    let other = send(
        "k1",
        "# TYPE hits_total counter\nhits_total{page=\"a\"} 7\n",
    );
    assert_eq!(other.status, 422, "{}", other.text());
    assert!(
        other.text().contains("a different push used"),
        "{}",
        other.text()
    );
    // A failed push may be corrected and sent again.
    assert_eq!(send("k3", "hits_total -1\n").status, 400);
    assert_eq!(send("k3", COUNTER).status, 202);
    assert!(proxy.metrics().contains("hits_total{page=\"a\"} 6\n"));
    assert_eq!(send(&"k".repeat(257), COUNTER).status, 400);
}

#[test]
fn rules_say_what_becomes_of_single_families() {
    let proxy = Proxy::start(&format!(
        "{ADDING}gauges = \"sum\"\n[[push.rules]]\nmatch = \"top_*\"\npolicy = \"max\"\n\
         [[push.rules]]\nmatch = \"*_total\"\ndrop_labels = [\"pod\"]\n"
    ));
    let body = |pod: &str, value: u32| {
        format!(
            "# TYPE top_speed gauge\ntop_speed {value}\n# TYPE used gauge\nused {value}\n\
             # TYPE c_total counter\nc_total{{pod=\"{pod}\"}} {value}\n"
        )
    };
    add(&proxy, "/metrics", &body("a", 5));
    add(&proxy, "/metrics", &body("b", 3));
    assert_eq!(
        proxy.metrics(),
        "# TYPE c_total counter\nc_total 8\n# TYPE top_speed gauge\ntop_speed 5\n# TYPE used gauge\nused 8\n"
    );
}

#[test]
fn clearmode_is_honoured_and_removed() {
    let proxy = Proxy::start(ADDING);
    for version in ["1", "2"] {
        let body = format!(
            "# TYPE build_info gauge\nbuild_info{{clearmode=\"info\",version=\"{version}\"}} 1\n\
             # TYPE g gauge\ng{{clearmode=\"aggregate\"}} 2\n# TYPE w gauge\nw{{clearmode=\"sum1h\"}} 4\n\
             # TYPE m gauge\nm{{clearmode=\"mean1h\"}} {version}\n\
             # TYPE c_total counter\nc_total{{clearmode=\"replace\"}} 3\n"
        );
        add(&proxy, "/metrics/job/j", &body);
    }
    assert_eq!(
        proxy.metrics(),
        "# TYPE build_info gauge\nbuild_info{job=\"j\",version=\"2\"} 1\n\
         # TYPE c_total counter\nc_total{job=\"j\"} 3\n# TYPE g gauge\ng{job=\"j\"} 4\n\
         # TYPE m gauge\nm{job=\"j\"} 1.5\n# TYPE w gauge\nw{job=\"j\"} 8\n"
    );
}

#[test]
fn aggregated_families_and_groups_are_checked_against_each_other() {
    let proxy = Proxy::start("[exporter]\nown_metrics = false\n");
    add(&proxy, "/metrics?mode=aggregate", COUNTER);
    let gauge = proxy.push(
        "PUT",
        "/metrics/job/x",
        "# TYPE hits_total gauge\nhits_total 1\n",
    );
    assert_eq!(gauge.status, 400, "{}", gauge.text());
    let same = proxy.push(
        "PUT",
        "/metrics/job/x",
        "# TYPE hits_total counter\nhits_total 1\n",
    );
    assert_eq!(same.status, 200, "{}", same.text());
    // The group has this series, so nobody else can.
    let reported = rejected(
        &proxy,
        "/metrics/job/x?mode=aggregate",
        "# TYPE hits_total counter\nhits_total{instance=\"\"} 1\n",
        400,
    );
    assert!(
        reported.contains("is exposed elsewhere already"),
        "{reported}"
    );
    let text = proxy.metrics();
    assert_eq!(text.matches("# TYPE hits_total").count(), 1, "{text}");
}

#[test]
fn series_are_bounded() {
    let proxy = Proxy::start(&format!("{ADDING}max_series_per_family = 2\n"));
    add(&proxy, "/metrics", "b{n=\"1\"} 1\nb{n=\"2\"} 1\n");
    let reported = rejected(&proxy, "/metrics", "b{n=\"1\"} 1\nb{n=\"3\"} 1\n", 503);
    assert!(
        reported.contains(
            "the limit of 2 series of one family is reached (push.max_series_per_family)"
        ),
        "{reported}"
    );
}

#[test]
fn series_go_when_nobody_pushed_them_for_their_time() {
    let proxy = Proxy::start(&format!("{ADDING}series_ttl = \"1h\"\n"));
    add(&proxy, "/metrics", "a{n=\"1\"} 1\n");
    add(&proxy, "/metrics?ttl=100ms", "a{n=\"2\"} 1\nb 1\n");
    let text = eventually(
        || proxy.metrics(),
        |text| !text.contains("n=\"2\"") && !text.contains('b'),
    );
    assert_eq!(text, "# TYPE a untyped\na{n=\"1\"} 1\n");
    // The name is free again, for another type.
    add(&proxy, "/metrics", "# TYPE b gauge\nb 1\n");
}

#[test]
fn health_is_reported_as_prom_aggregation_gateway_reports_it() {
    let proxy = Proxy::start(ADDING);
    for path in ["/healthy", "/ready"] {
        let answer = http_send(&proxy.push, "GET", path, &[], b"");
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("\"alive\":true"),
            "{}",
            answer.text()
        );
    }
}
