//! Lines of StatsD, compared with etsy's own server.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::gateway::Page;
use crate::harness::PATIENCE;
use crate::operations::Counting;
use crate::tools::{self, Tool, command, root, run_with};

/// How the proxy should read a line.
#[derive(Debug, Clone, Copy)]
enum Here {
    /// As etsy's server does: the same values, and the same number of rejected lines.
    Same,
    /// The same, except that a name has the type of its first value only: this many values have
    /// another type.
    OneType(usize),
    /// Differently: these series, by what follows the name, and the number of rejected lines.
    /// `docs/operations.md` and `docs/migrating.md` list these.
    Other(&'static [(&'static str, f64)], usize),
}

use Here::{OneType, Other, Same};

/// `N` stands for a name that only this line uses.
const LINES: [(&str, Here); 84] = [
    // Counters.
    ("N:1|c", Same),
    ("N:0|c", Same),
    ("N:0.5|c", Same),
    ("N:1e3|c", Same),
    ("N:+5|c", Same),
    ("N:.5|c", Same),
    ("N:5.|c", Same),
    ("N: 1|c", Same),
    ("N:1|c ", Same),
    ("N:1|c:2|c", Same),
    ("N:1|c:2|c:3|c:4|c:5|c", Same),
    ("N:2|c|@0.1", Same),
    ("N:2|c|@0.5", Same),
    ("N:3|c|@1", Same),
    ("N:1|c|@.5", Same),
    ("N:1|c|@0.1:2|c|@0.5", Same),
    ("N:1|c|@0.25:1|c", Same),
    // A wrong value does not affect the others.
    ("N:x|c", Same),
    ("N:|c", Same),
    ("N:NaN|c", Same),
    ("N:1|c:x|c:3|c", Same),
    ("N:1|c:|c:3|c", Same),
    ("N:x|c:3|c", Same),
    ("N:1|c:2|c|@x", Same),
    ("N:1|c|@x:2|c", Same),
    ("N:1|c|@:2|c", Same),
    ("N:1|c|q:2|c", Same),
    ("N:1|c:2", Same),
    ("N:1|c:", Same),
    ("N:1", Same),
    ("N:", Same),
    // Gauges.
    ("N:5|g", Same),
    ("N:5|g:7|g", Same),
    ("N:5|g:+3|g", Same),
    ("N:5|g:-3|g", Same),
    ("N:+3|g", Same),
    ("N:-3|g", Same),
    ("N:0|g:-3|g", Same),
    ("N:5|g:x|g:+1|g", Same),
    ("N:1.5|g|@0.1", Same),
    // Timers.
    ("N:320|ms", Same),
    ("N:320|ms ", Same),
    ("N:0|ms", Same),
    ("N:200|ms:300|ms", Same),
    ("N:-5|ms", Same),
    ("N:100|ms:-1|ms:200|ms", Same),
    ("N:100|ms|@0.1", Same),
    ("N:100|ms|@0.5:200|ms|@0.5", Same),
    ("N:500|ms|@0.3", Same),
    ("N:500|ms|@0.3:500|ms|@0.3:500|ms|@0.3", Same),
    // Sets.
    ("N:a|s", Same),
    ("N:a|s:b|s", Same),
    ("N:a|s:a|s:b|s", Same),
    ("N:12|s:12.0|s", Same),
    ("N:a b|s:a c|s", Same),
    // Several types.
    ("N:200|ms:300|ms:5|c|@0.1:6|g", OneType(2)),
    ("N:1|c:2|ms", OneType(1)),
    ("N:1|g:2|c:3|g", OneType(1)),
    ("N:a|s:2|ms", OneType(1)),
    // Tags.
    ("N:1|c|#env:prod", Same),
    ("N:1|c|#env:prod,canary:x", Same),
    ("N:1|c:2|c|#env:prod", Same),
    ("N:1|c|@0.5|#env:prod", Same),
    ("N:100|c|#tag1:bar,#tag2:baz", Same),
    // Names.
    ("N.hits:1|c", Same),
    ("N.hits-total:1|c", Same),
    ("N/hits:1|c", Same),
    ("N hits:1|c", Same),
    ("Né:1|c", Other(&[("_", 1.0)], 0)),
    // DogStatsD: packed values, sections after the type, types of its own.
    ("N:1:2|c", Other(&[("", 3.0)], 0)),
    ("N:1|c::2|c", Other(&[("", 1.0)], 1)),
    ("N:a:b|s", Other(&[("", 1.0)], 0)),
    ("N:1|c|c:ci-1", Other(&[("", 1.0)], 0)),
    ("N:1|c|T1656581400", Other(&[("", 1.0)], 0)),
    ("N:1|c|#a:b|@0.5", Other(&[("{a=\"b\"}", 2.0)], 0)),
    ("N:3|h", Other(&[("_sum", 3.0), ("_count", 1.0)], 0)),
    // Values that etsy's server accepts, and that a Prometheus counter cannot hold.
    ("N:-1|c", Other(&[], 1)),
    ("N:5|c:-2|c", Other(&[("", 5.0)], 1)),
    ("N:1|c|@0", Other(&[], 1)),
    ("N:1|c|@2", Other(&[], 1)),
    ("N:Infinity|c", Other(&[], 1)),
    // Lines that etsy's server misreads.
    ("N:1|x", Other(&[], 1)),
    ("N", Same),
    ("N:|s", Other(&[], 1)),
];

/// The values of a line in etsy's server, by series with the proxy's names.
#[derive(Debug, Default)]
struct There {
    rejected: usize,
    /// By the type that the proxy gives them.
    values: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

impl There {
    fn of(told: &Value, line: usize) -> Self {
        let name = format!("m{line}");
        let mut there = There {
            rejected: told["bad"][line].as_u64().expect("a number") as usize,
            ..There::default()
        };
        let sorts = ["counters", "gauges", "sets", "timer_counters"];
        for (sort, kind) in sorts
            .into_iter()
            .zip(["counter", "gauge", "gauge", "histogram"])
        {
            for (key, value) in told[sort].as_object().expect("an object") {
                let rest = key.strip_prefix(&name);
                if rest.is_none_or(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                    continue;
                }
                let values = there.values.entry(kind).or_default();
                let value = value.as_f64().unwrap_or(f64::INFINITY);
                if kind != "histogram" {
                    values.insert(series(key, ""), value);
                    continue;
                }
                values.insert(series(key, "_count"), value.round());
                let timers = told["timers"][key].as_array().expect("a list");
                // If nothing was sampled, the sum is known, too.
                if timers.len() as f64 == value {
                    let sum: f64 = timers.iter().filter_map(Value::as_f64).sum();
                    values.insert(series(key, "_sum"), sum / 1000.0);
                }
            }
        }
        there
    }
}

/// A key of etsy's server, `name;tag=value`, as a series of the proxy.
fn series(key: &str, suffix: &str) -> String {
    let mut parts = key.split(';');
    let name: String = parts
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let mut labels: Vec<String> = parts
        .map(|tag| tag.split_once('=').unwrap_or((tag, "true")))
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    labels.sort();
    match labels.is_empty() {
        true => format!("{name}{suffix}"),
        false => format!("{name}{suffix}{{{}}}", labels.join(",")),
    }
}

/// Sends a line on a new connection, and returns the answer.
fn answered(counting: &Counting, line: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(&counting.tcp).expect("the socket is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(line.as_bytes()).expect("it is taken");
    stream.shutdown(Shutdown::Write).expect("it is closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().map(str::to_owned).collect()
}

#[test]
fn lines_are_read_as_etsys_statsd_reads_them() {
    if !tools::here(&[Tool::EtsyStatsd]) {
        return;
    }
    let named =
        |(number, (line, _)): (usize, &(&str, Here))| line.replacen('N', &format!("m{number}"), 1);
    let lines: Vec<String> = LINES.iter().enumerate().map(named).collect();
    let mut etsy = command(Tool::EtsyStatsd);
    etsy.arg(root().join("tests/clients/node/etsy_statsd.js"));
    let told = run_with(&mut etsy, json!(lines).to_string().as_bytes()).stdout;
    let told: Value = serde_json::from_str(&told).expect("JSON");

    let counting = Counting::start("");
    let answers: Vec<Vec<String>> = lines.iter().map(|line| answered(&counting, line)).collect();
    let page = Page::parse(&counting.proxy.metrics());
    for (number, (line, here)) in LINES.iter().enumerate() {
        let there = There::of(&told, number);
        let name = format!("m{number}");
        let own = |family: &&String| {
            let rest = family.strip_prefix(&name);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let families: Vec<&String> = page.families.keys().filter(own).collect();
        let rejected = answers[number].len();
        let told = format!("{line}: {there:?}, here {families:?} {:?}", answers[number]);
        let same = |others: usize| {
            let kind = families
                .first()
                .map(|family| page.families[*family].kind.as_str());
            let expected = kind.and_then(|kind| there.values.get(kind));
            let kinds = there.values.len();
            rejected == there.rejected + others
                && families.len() == kinds.min(1)
                && (others > 0 || kinds < 2)
                && kind.is_none() == expected.is_none()
                && expected.is_none_or(|expected| {
                    let near = |(series, value): (&String, &f64)| {
                        page.value(series)
                            .is_some_and(|own| (own - value).abs() < 1e-9)
                    };
                    expected.iter().all(near)
                })
        };
        match here {
            Same => assert!(same(0), "{told}"),
            OneType(others) => {
                assert!(same(*others), "{told}");
                let conflicts = answers[number]
                    .iter()
                    .filter(|answer| answer.contains("already"));
                assert_eq!(conflicts.count(), *others, "{told}");
            }
            Other(values, expected) => {
                assert!(!same(0), "there is no difference: {told}");
                assert_eq!(rejected, *expected, "{told}");
                assert_eq!(families.is_empty(), values.is_empty(), "{told}");
                for (rest, value) in *values {
                    let series = format!("{name}{rest}");
                    assert_eq!(page.value(&series), Some(*value), "{series} of {told}");
                }
            }
        }
    }
}

/// Reads a page as OpenMetrics, and prints the samples of a family.
const STRICT: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        if sample.name.startswith('samp'):
            print(sample.name, sample.labels.get('le', ''), sample.value)
";

/// The parser accepts only whole counts; a fraction makes it reject the whole page.
#[test]
fn sampled_timers_pass_the_strict_parser_of_openmetrics() {
    if !tools::here(&[Tool::PrometheusClient]) {
        return;
    }
    let counting = Counting::start("");
    let headers = [("Accept", "application/openmetrics-text; version=1.0.0")];
    for sent in 1..=7_u32 {
        assert_eq!(
            answered(
                &counting,
                "samp:500|ms|@0.3\nsamp:20|ms|@0.7\nsamp_h:2|h|@0.3"
            ),
            [""; 0]
        );
        let page = counting.proxy.request("GET", "/metrics", &headers).text();
        assert!(page.ends_with("# EOF\n"), "{page}");
        let mut parser = command(Tool::PrometheusClient);
        let printed = run_with(parser.args(["-c", STRICT]), page.as_bytes()).stdout;
        let low = (f64::from(sent) / 0.7).round();
        let all = (f64::from(sent) / 0.7 + f64::from(sent) / 0.3).round();
        for line in [
            format!("samp_bucket 0.025 {low}\n"),
            format!("samp_bucket +Inf {all}\n"),
            format!("samp_count  {all}\n"),
        ] {
            assert!(printed.contains(&line), "{line}{printed}");
        }
    }
}
