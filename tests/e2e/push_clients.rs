//! Jobs that push with the client libraries of their languages, to the proxy and to the real
//! Pushgateway: every test must hold for both.
//!
//! The jobs are the programs of `tests/clients`, which take the same
//! arguments and push the same metrics.

use std::process::{Command, Output};

use crate::gateway::Gateway;
use crate::harness::eventually;
use crate::readers::{expect_values, scraping_at, scraping_natives};
use crate::tools::{self, Tool, command, root};

/// A job, by its language.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Job {
    Go,
    Node,
    Python,
}

impl Job {
    fn tool(self) -> Tool {
        match self {
            Job::Go => Tool::PushClient,
            Job::Node => Tool::PromClient,
            Job::Python => Tool::PrometheusClient,
        }
    }

    /// The default format of its library.
    fn coding(self) -> &'static str {
        if self == Job::Go { "protobuf" } else { "plain" }
    }

    fn program(self) -> Command {
        let clients = root().join("tests/clients");
        let mut job = command(self.tool());
        match self {
            Job::Go => {}
            Job::Node => {
                job.arg(clients.join("node/push.js"));
            }
            Job::Python => {
                job.arg(clients.join("python/push.py"));
            }
        }
        job
    }

    /// Runs the job to its end, whether it succeeds or not:
    /// `push|add|delete METRICS CODING JOB [NAME=VALUE ...]`.
    fn ends(self, gateway: &Gateway, arguments: &str) -> Output {
        self.program()
            .arg(&gateway.push)
            .args(arguments.split(' '))
            .output()
            .expect("the job starts")
    }

    #[track_caller]
    fn runs(self, gateway: &Gateway, arguments: &str) {
        let output = self.ends(gateway, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {arguments}: {said}");
    }
}

/// A test against the real Pushgateway, and against the proxy.
macro_rules! on_both {
    ($(#[$attribute:meta])* $name:ident, $job:expr, $body:expr $(, needs $tool:expr)?) => {
        mod $name {
            use super::*;

            #[test]
            fn against_pushgateway() {
                if tools::here(&[Tool::Pushgateway, $job.tool() $(, $tool)?]) {
                    $body($job, &Gateway::pushgateway(&[]));
                }
            }

            #[test]
            fn against_the_proxy() {
                if tools::here(&[$job.tool() $(, $tool)?]) {
                    $body($job, &Gateway::proxy(""));
                }
            }
        }
    };
}

on_both!(go_pushes_adds_and_deletes, Job::Go, push_add_delete);
on_both!(node_pushes_adds_and_deletes, Job::Node, push_add_delete);
on_both!(python_pushes_adds_and_deletes, Job::Python, push_add_delete);

/// Replaced groups, replaced families, and a deleted group.
fn push_add_delete(job: Job, gateway: &Gateway) {
    let coding = job.coding();
    // A group that must stay unchanged.
    gateway.put("/metrics/job/other/instance/db1", "other 1\n");
    job.runs(
        gateway,
        &format!("push batch {coding} nightly instance=db1"),
    );
    let page = gateway.page();
    page.expect(&batch("nightly"));
    let kinds = [
        ("batch_jobs_total", "counter", "Jobs done."),
        ("batch_last_success_seconds", "gauge", "Last success."),
        ("batch_duration_seconds", "histogram", "Time taken."),
        ("batch_size_bytes", "summary", "Size of a job."),
    ];
    for (name, kind, help) in kinds {
        let family = &page.families[name];
        assert_eq!(family.kind, kind, "{name}");
        assert_eq!(family.help.as_deref(), Some(help), "{name}");
    }
    let times = [
        ("push_time_seconds{instance=\"db1\",job=\"nightly\"}", 1.0),
        (
            "push_failure_time_seconds{instance=\"db1\",job=\"nightly\"}",
            0.0,
        ),
    ];
    page.expect(&times);

    // Other families of the group stay.
    job.runs(gateway, &format!("add rows {coding} nightly instance=db1"));
    let page = gateway.page();
    page.expect(&batch("nightly"));
    page.expect(&[(ROWS, 7.25)]);
    let help = page.families["batch_rows"].help.as_deref();
    assert_eq!(help, Some(r#"Rows, "as\\they"\nare."#));

    // Only what is pushed now remains of the group.
    job.runs(gateway, &format!("push rows {coding} nightly instance=db1"));
    let page = gateway.page();
    page.expect(&[(ROWS, 7.25), OTHER]);
    page.expect(&times);
    assert!(!page.families.contains_key("batch_jobs_total"), "{page:?}");

    job.runs(
        gateway,
        &format!("delete none {coding} nightly instance=db1"),
    );
    // The deletion is accepted, and done soon.
    let page = eventually(
        || gateway.page(),
        |page| page.clone().without("job=\"nightly\"") == *page,
    );
    page.expect(&[OTHER]);
}

const ROWS: &str =
    r#"batch_rows{instance="db1",job="nightly",table="ü \"quoted\" \\ and\na line"}"#;
const OTHER: (&str, f64) = ("other{instance=\"db1\",job=\"other\"}", 1.0);

/// The samples of `push batch … JOB instance=db1`.
fn batch(job: &str) -> Vec<(&'static str, f64)> {
    let samples = [
        ("batch_jobs_total", ",outcome=\"done\"", 41.0),
        ("batch_jobs_total", ",outcome=\"failed\"", 1.0),
        ("batch_last_success_seconds", "", 1_700_000_000.0),
        ("batch_duration_seconds_bucket", ",le=\"0.5\"", 1.0),
        ("batch_duration_seconds_bucket", ",le=\"1\"", 1.0),
        ("batch_duration_seconds_bucket", ",le=\"5\"", 2.0),
        ("batch_duration_seconds_bucket", ",le=\"+Inf\"", 3.0),
        ("batch_duration_seconds_sum", "", 12.5),
        ("batch_duration_seconds_count", "", 3.0),
        ("batch_size_bytes_sum", "", 400.0),
        ("batch_size_bytes_count", "", 2.0),
    ];
    let named = samples.map(|(name, more, value)| {
        let series = format!("{name}{{instance=\"db1\",job=\"{job}\"{more}}}");
        (&*series.leak(), value)
    });
    named.to_vec()
}

on_both!(go_pushes_text, Job::Go, |job, gateway| coded(
    job, gateway, "text"
));
/// The library never writes "# EOF", and a body without metrics is empty. Pushgateway reads
/// OpenMetrics as text 0.0.4, so it is not compared here.
#[test]
fn go_pushes_openmetrics_without_its_end() {
    if !tools::here(&[Tool::PushClient]) {
        return;
    }
    let gateway = Gateway::proxy("");
    coded(Job::Go, &gateway, "openmetrics");
    let page = gateway.page();
    for (name, kind) in [
        ("batch_jobs_total", "counter"),
        ("batch_last_success_seconds", "gauge"),
        ("batch_duration_seconds", "histogram"),
        ("batch_size_bytes", "summary"),
    ] {
        assert_eq!(page.families[name].kind, kind, "{name}");
    }
    Job::Go.runs(&gateway, "add nothing openmetrics nightly instance=db1");
    gateway.page().expect(&batch("nightly"));
    Job::Go.runs(&gateway, "push nothing openmetrics nightly instance=db1");
    let page = gateway.page();
    assert!(!page.families.contains_key("batch_jobs_total"), "{page:?}");
}

on_both!(node_pushes_gzip, Job::Node, |job, gateway| coded(
    job, gateway, "gzip"
));
on_both!(python_pushes_gzip, Job::Python, |job, gateway| coded(
    job, gateway, "gzip"
));

/// Pushes in another format than the library's default.
fn coded(job: Job, gateway: &Gateway, coding: &str) {
    job.runs(
        gateway,
        &format!("push batch {coding} nightly instance=db1"),
    );
    job.runs(gateway, &format!("add rows {coding} nightly instance=db1"));
    let page = gateway.page();
    page.expect(&batch("nightly"));
    page.expect(&[(ROWS, 7.25)]);
}

on_both!(go_is_told_of_a_conflict, Job::Go, conflict);
on_both!(node_is_told_of_a_conflict, Job::Node, conflict);
on_both!(python_is_told_of_a_conflict, Job::Python, conflict);

/// Pushes a gauge with the name of a counter in another group.
fn conflict(job: Job, gateway: &Gateway) {
    let coding = job.coding();
    job.runs(
        gateway,
        &format!("push batch {coding} nightly instance=db1"),
    );
    let output = job.ends(gateway, &format!("push wrong {coding} weekly"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("400"), "{said}");
    let page = gateway.page();
    page.expect(&batch("nightly"));
    page.expect(&[
        ("push_time_seconds{instance=\"\",job=\"weekly\"}", 0.0),
        (
            "push_failure_time_seconds{instance=\"\",job=\"weekly\"}",
            1.0,
        ),
    ]);
    assert_eq!(page.families["batch_jobs_total"].samples.len(), 2);
}

const TABLE: &str = r#"table="ü \"quoted\" \\ and\na line""#;

on_both!(go_groups_by_odd_values, Job::Go, |job, gateway| {
    grouped(
        job,
        gateway,
        r#"empty="",instance="",job="a/b",path="/srv/x+y/",uni="grün50%""#,
        &["path=/srv/x+y/", "empty=", "uni=grün50%"],
    );
});
on_both!(python_groups_by_odd_values, Job::Python, |job, gateway| {
    grouped(
        job,
        gateway,
        r#"empty="",instance="",job="a/b",path="/srv/x y/",uni="grün50%""#,
        &["path=/srv/x y/", "empty=", "uni=grün50%"],
    );
});

/// Values that a path cannot contain: the libraries write them in base64, or escape them.
fn grouped(job: Job, gateway: &Gateway, labels: &str, key: &[&str]) {
    let act = |verb: &str| {
        let output = job
            .program()
            .args([gateway.push.as_str(), verb, "rows", job.coding(), "a/b"])
            .args(key)
            .output()
            .expect("the job starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    };
    act("push");
    let page = gateway.page();
    page.expect(&[
        (&format!("batch_rows{{{TABLE},{labels}}}"), 7.25),
        (&format!("push_time_seconds{{{labels}}}"), 1.0),
    ]);
    // The same key again finds the group.
    act("delete");
    eventually(|| gateway.page(), |page| page.families.is_empty());
}

// An empty value can only come last: the library leaves its place empty.
on_both!(node_groups_by_odd_values, Job::Node, |job: Job, gateway| {
    job.runs(gateway, "push rows plain grün50% plus=a+b empty=");
    gateway.page().expect(&[(
        &format!("batch_rows{{{TABLE},empty=\"\",instance=\"\",job=\"grün50%\",plus=\"a+b\"}}"),
        7.25,
    )]);
});

/// Pushgateway unescapes a path before it splits it, so this library cannot push to such a group
/// there; to the proxy it can.
#[test]
fn node_groups_by_values_with_a_slash() {
    if !tools::here(&[Job::Node.tool()]) {
        return;
    }
    let gateway = Gateway::proxy("");
    Job::Node.runs(&gateway, "push rows plain nightly path=/srv/x/");
    gateway.page().expect(&[(
        &format!("batch_rows{{{TABLE},instance=\"\",job=\"nightly\",path=\"/srv/x/\"}}"),
        7.25,
    )]);
    Job::Node.runs(&gateway, "delete none plain nightly path=/srv/x/");
    eventually(|| gateway.page(), |page| page.families.is_empty());
}

on_both!(
    python_groups_by_the_hosts_address,
    Job::Python,
    |job: Job, gateway| {
        job.runs(gateway, "push batch plain nightly ip");
        gateway.page().expect(&[(
            "batch_last_success_seconds{instance=\"127.0.0.1\",job=\"nightly\"}",
            1_700_000_000.0,
        )]);
    }
);

on_both!(
    prometheus_reads_what_go_pushed,
    Job::Go,
    scraped,
    needs Tool::Prometheus
);
on_both!(
    prometheus_reads_what_node_pushed,
    Job::Node,
    scraped,
    needs Tool::Prometheus
);
on_both!(
    prometheus_reads_what_python_pushed,
    Job::Python,
    scraped,
    needs Tool::Prometheus
);

/// Prometheus' query API returns the values, with the labels of the push.
fn scraped(job: Job, gateway: &Gateway) {
    let coding = job.coding();
    job.runs(
        gateway,
        &format!("push batch {coding} nightly instance=db1"),
    );
    job.runs(gateway, &format!("push rows {coding} hourly zone=eu"));
    let prometheus = scraping_at(&gateway.scrape);
    let of = |family: &str| format!("{family}{{job=\"nightly\",instance=\"db1\"}}");
    let values = [
        (
            "batch_jobs_total{job=\"nightly\",instance=\"db1\",outcome=\"done\"}".to_owned(),
            "41",
        ),
        (of("batch_last_success_seconds"), "1700000000"),
        (of("batch_duration_seconds_count"), "3"),
        (of("batch_duration_seconds_sum"), "12.5"),
        (of("batch_size_bytes_sum"), "400"),
        (
            format!(
                "histogram_quantile(0.5, {})",
                of("batch_duration_seconds_bucket")
            ),
            "3",
        ),
        (format!("{} > bool 0", of("push_time_seconds")), "1"),
        (of("push_failure_time_seconds"), "0"),
        // A group without an instance has an empty one, not the target's.
        (
            "batch_rows{job=\"hourly\",zone=\"eu\",instance=\"\"}".to_owned(),
            "7.25",
        ),
        ("count(batch_rows)".to_owned(), "1"),
        ("up{job=\"exporter-proxy\"}".to_owned(), "1"),
    ];
    let values = values
        .each_ref()
        .map(|(expression, value)| (expression.as_str(), *value));
    expect_values(&prometheus, &values);
}

on_both!(
    prometheus_reads_native_histograms_that_go_pushed,
    Job::Go,
    native,
    needs Tool::Prometheus
);

/// A histogram with both kinds of buckets: text has the classic ones, and a Prometheus that asks
/// for protobuf gets the native ones.
fn native(job: Job, gateway: &Gateway) {
    job.runs(gateway, "push native protobuf nightly");
    gateway.page().expect(&[
        (
            "batch_native_seconds_bucket{instance=\"\",job=\"nightly\",le=\"1\"}",
            1.0,
        ),
        (
            "batch_native_seconds_count{instance=\"\",job=\"nightly\"}",
            3.0,
        ),
        (
            "batch_native_seconds_sum{instance=\"\",job=\"nightly\"}",
            12.5,
        ),
    ]);
    let prometheus = scraping_natives(&gateway.scrape);
    expect_values(
        &prometheus,
        &[
            (
                "histogram_count(batch_native_seconds{job=\"nightly\"})",
                "3",
            ),
            (
                "histogram_sum(batch_native_seconds{job=\"nightly\"})",
                "12.5",
            ),
            (
                "histogram_fraction(0, 1, batch_native_seconds) > bool 0.3",
                "1",
            ),
            (
                "histogram_fraction(0, 1, batch_native_seconds) < bool 0.4",
                "1",
            ),
        ],
    );
}
