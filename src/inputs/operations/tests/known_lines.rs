//! Known lines have the same effect as lines that are parsed.

use proptest::prelude::*;

use super::*;
use crate::inputs::operations::config::MappingFile;
use crate::inputs::operations::known_lines::{Found, KnownLines};
use crate::inputs::operations::mapping::Mapping;
use crate::registry::ValueChange;
use crate::telemetry::Counter;

const MAPPING: &str = r"
defaults: {observer_type: histogram, histogram_options: {buckets: [0.01, 1]}}
mappings:
- {match: shop.*.orders, name: shop_orders, labels: {shop: $1}, help: Orders., ttl: 90m}
- {match: 'web\.(\w+)', match_type: regex, name: web_seconds, labels: {page: $1}, observer_type: summary, scale: 2}
- {match: load.*, name: load, labels: {cpu: $1}, scale: 0.5}
- {match: debug.*, action: drop}
";

/// Lines in which `{}` stands for a value.
const LINES: [&str; 19] = [
    "hits:{}|c",
    "hits:{}|c|@0.3",
    "hits:{}|g",
    "hits:{}|c|#k:v",
    "temp:{}|g",
    "temp:{}|g|#k:v,host:b",
    "shop.paris.orders:{}|c",
    "shop.rome.orders:{}|c|@0.5",
    "web.cart:{}|ms",
    "web.cart:{}|h|@0.3",
    "took:{}|ms",
    "took:{}|ms|@0.3",
    "load.1:{}|g",
    "debug.x:{}|c",
    "people:{}|s",
    "hits:{}:2|c",
    "hits:{}|c:1|g",
    "took:{}|x",
    r#"{"name":"hits","op":"del"}"#,
];

const VALUES: [&str; 14] = [
    "1", "2", "3", "0", "-0", "0.5", "-1", "+2", " 4 ", "1e308", "-1e308", "1e15", "x", "",
];

#[derive(Debug, Clone)]
enum Step {
    /// Lines read at once.
    Lines(Vec<(usize, usize)>),
    /// Series with a time to live expire.
    Expiry,
    Scrape,
}

fn any_step() -> impl Strategy<Value = Step> {
    let line = (0..LINES.len(), 0..VALUES.len());
    prop_oneof![
        6 => proptest::collection::vec(line, 1..80).prop_map(Step::Lines),
        1 => Just(Step::Expiry),
        1 => Just(Step::Scrape),
    ]
}

fn mapped_bench() -> Bench {
    bench(Transport::Udp, |config| {
        config.statsd_mapping = Some(MappingFile {
            path: "mapping.yml".into(),
            mapping: Arc::new(Mapping::parse(MAPPING).unwrap()),
        });
    })
}

fn text(lines: &[(usize, usize)]) -> Vec<u8> {
    let lines = lines
        .iter()
        .map(|(line, value)| LINES[*line].replace("{}", VALUES[*value]));
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// Lines are rejected during translation or when applied, so not in order.
fn sorted(mut rejected: Vec<(u64, Reason)>) -> Vec<(u64, Reason)> {
    rejected.sort_unstable_by_key(|(number, _)| *number);
    rejected
}

/// The order of new series in a family depends on which were added together.
fn samples(bench: &Bench) -> Vec<String> {
    let mut samples = bench.samples();
    samples.sort_unstable();
    samples
}

proptest! {
    /// The same lines are rejected, the exposed text is the same, and the counts are the same.
    #[test]
    fn known_lines_act_like_parsed_ones(steps in proptest::collection::vec(any_step(), 1..40)) {
        let (short, long) = (mapped_bench(), mapped_bench());
        // While they are locked, batchers work without known lines.
        let _held = long.source.known_lines().unwrap();
        for step in &steps {
            match step {
                Step::Lines(lines) => {
                    let lines = text(lines);
                    prop_assert_eq!(sorted(short.process(&lines)), sorted(long.process(&lines)));
                }
                Step::Expiry => {
                    let later = Now::read().after(Duration::from_secs(90 * 60));
                    let removed = short.store.expire_series(later);
                    prop_assert_eq!(removed, long.store.expire_series(later));
                }
                Step::Scrape => prop_assert_eq!(samples(&short), samples(&long)),
            }
        }
        prop_assert_eq!(samples(&short), samples(&long));
        let results = |bench: &Bench| bench.processor.stats.results();
        prop_assert_eq!(results(&short), results(&long));
        let lines = |bench: &Bench| {
            let stats = bench.processor.stats.mapping();
            [&stats.mapped, &stats.dropped, &stats.unmapped].map(Counter::value)
        };
        prop_assert_eq!(lines(&short), lines(&long));
    }
}

fn found(bench: &Bench, line: &str) -> Option<Found> {
    find(&bench.source.known_lines().unwrap(), line)
}

/// A line is found whether or not it was prefetched.
fn find(known: &KnownLines, line: &str) -> Option<Found> {
    let mut lookups = [known.lookup(line.as_bytes())];
    let alone = known.find(&lookups[0]);
    known.prefetch(&mut lookups);
    assert_eq!(known.find(&lookups[0]), alone);
    alone
}

#[test]
fn a_line_with_one_value_is_known_from_the_second_time_on() {
    let bench = mapped_bench();
    for line in LINES {
        bench.process(line.replace("{}", "1").as_bytes());
    }
    let known = |line: &str| match found(&bench, line) {
        Some(Found::Change(_, change)) => Some(change),
        _ => None,
    };
    assert_eq!(known("hits:3|c|@0.5"), None);
    assert_eq!(known("hits:3|c"), Some(ValueChange::Add(3.0)));
    assert_eq!(known("load.1:3|g"), Some(ValueChange::Set(1.5)));
    assert_eq!(known("load.1:-3|g"), Some(ValueChange::Add(-1.5)));
    let observation = ValueChange::Observe {
        value: 0.004,
        times: 1.0,
    };
    assert_eq!(known("web.cart:2|ms"), Some(observation));
    assert!(matches!(
        found(&bench, "debug.x:3|c"),
        Some(Found::Dropped(_))
    ));
    for other in [
        "hits:3:2|c",
        "hits:x|c",
        "hits:-3|c",
        "people:3|s",
        "took:3|x",
        "hits",
    ] {
        assert_eq!(found(&bench, other), None, "{other}");
    }
}

#[test]
fn known_lines_are_forgotten_with_the_labels_they_were_learned_with() {
    let bench = mapped_bench();
    bench.process(b"hits:1|c");
    assert!(found(&bench, "hits:1|c").is_some());
    let other = vec![("site".to_owned(), "a".to_owned())];
    bench
        .source
        .known_lines()
        .unwrap()
        .expect_labels(&Arc::new(other));
    assert_eq!(found(&bench, "hits:1|c"), None);
}

#[test]
fn known_lines_are_bounded() {
    let bench = mapped_bench();
    let mut known = bench.source.known_lines().unwrap();
    for number in 0..70_000 {
        known.learn(format!("a.{number}:1|c").as_bytes(), None, None);
        assert!(known.len() <= 32 << 10);
    }
    assert!(find(&known, "a.69999:1|c").is_some());
    assert!(find(&known, "a.0:1|c").is_none());
    let long = format!("{}:1|c", "a".repeat(300));
    known.learn(long.as_bytes(), None, None);
    assert!(find(&known, &long).is_none());
    // A line may be forgotten between its look-up and `find`.
    let mut before = [known.lookup(b"a.69999:1|c")];
    known.prefetch(&mut before);
    known.expect_labels(&Arc::new(vec![("site".to_owned(), "a".to_owned())]));
    assert!(known.find(&before[0]).is_none());
    known.learn(b"b:1|c", None, None);
    assert!(known.find(&before[0]).is_none());
}
