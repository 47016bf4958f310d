//! The cost of `[[shape]]`: pushes of 1,000 samples to a group with ten rules beside the same
//! pushes without rules, and labels on verbatim texts.
//!
//! Rounds of all variants alternate, and each ratio is of medians of one run.

use std::fmt::Write as _;
use std::hash::RandomState;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use exporter_proxy::clock::Now;
use exporter_proxy::config::{self, Config};
use exporter_proxy::exposition::Text;
use exporter_proxy::ingest::shaping::Shapes;
use exporter_proxy::ingest::{Admission, Body, Group};
use exporter_proxy::inputs::push::{Groups, Method, PushSender};
use exporter_proxy::peer::Origin;
use exporter_proxy::registry::RegistryLimits;
use exporter_proxy::store::{Producer, SectionId, Store, StoreLimits};

use bench::figures::median;

const FAMILIES: usize = 20;
const SERIES: usize = 50;

/// Values of the label that rules look at.
const CODES: [&str; 3] = ["200", "404", "500"];

/// Pushes of one variant in a round.
const PUSHES: usize = 20;

const ROUNDS: usize = 101;

/// Ten rules that match nothing.
const IDLE: &[&str] = &[
    "{action: drop, source_labels: [__name__], regex: go_.*}",
    "{action: drop, source_labels: [__name__], regex: 'process_(cpu|open)_.*'}",
    "{action: drop, source_labels: [__name__], regex: python_info|python_gc_objects}",
    "{action: drop, source_labels: [pod], regex: canary-.+}",
    "{action: labeldrop, regex: pod|container|node}",
    "{action: labeldrop, regex: kubernetes_.*}",
    "{source_labels: [namespace], regex: (.+), target_label: team}",
    "{source_labels: [__name__, le], regex: 'old_bucket;.*', target_label: dropped, replacement: 'yes'}",
    "{source_labels: [__name__], regex: 'old_(.*)', target_label: __name__}",
    "{action: labelmap, regex: label_team, replacement: team}",
];

/// Two of twenty families are dropped, and two are renamed.
const SOME: &[&str] = &[
    "{action: drop, source_labels: [__name__], regex: 'load_00[01]_total'}",
    "{source_labels: [__name__], regex: 'load_01([01])_total', target_label: __name__, replacement: 'renamed_${1}_total'}",
];

/// Each sample loses a label, and two of three samples are renamed.
const ALL: &[&str] = &[
    "{action: labeldrop, regex: zone}",
    "{source_labels: [code], regex: (.)00, target_label: class, replacement: '${1}xx'}",
];

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let rules = |active: &[&str]| -> String {
        let idle = IDLE.iter().take(IDLE.len() - active.len());
        let rules = idle.chain(active).map(|rule| format!("- {rule}"));
        rules.collect::<Vec<_>>().join("\n")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let shape = |name: &str, rules: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, rules).expect("the file is written");
        format!("[[shape]]\nmetric_relabel_file = {path:?}\n")
    };
    let variants = [
        ("without", String::new()),
        ("10 rules, none matches", shape("idle", &rules(&[]))),
        ("10 rules, 4 of 20 families", shape("some", &rules(SOME))),
        ("10 rules, each sample", shape("all", &rules(ALL))),
        (
            "labels",
            "[[shape]]\nlabels = { env = \"eu\", team = \"shop\" }\n".to_owned(),
        ),
        (
            "drop = [\"go_*\", ...]",
            "[[shape]]\ndrop = [\"go_*\", \"process_*\", \"python_*\"]\n".to_owned(),
        ),
    ];
    let mut pushes: Vec<Pushes> = variants.iter().map(|(_, it)| Pushes::new(it)).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for _ in 0..ROUNDS {
        for (pushes, times) in pushes.iter_mut().zip(&mut times) {
            let start = Instant::now();
            pushes.push();
            times.push(start.elapsed().as_secs_f64() * 1e6 / PUSHES as f64);
        }
    }
    let size = pushes[0].bodies[0].len();
    println!(
        "A push of {} samples, {size} bytes, to a group:",
        FAMILIES * SERIES
    );
    println!("| rules | µs | times without |\n| --- | --- | --- |");
    let without = median(times[0].clone());
    for ((what, _), times) in variants.iter().zip(times) {
        let time = median(times);
        println!("| {what} | {time:.1} | {:.3} |", time / without);
    }
    verbatim(&variants[4].1);
}

/// The rate at which verbatim texts get labels.
fn verbatim(settings: &str) {
    let admission = admission(&read(settings));
    let text = Text::new(&text(1).repeat(10));
    let id = SectionId::new("app", Producer::App);
    let rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let content = admission.admit(&id, text.clone(), None);
            black_box(content.expect("nothing is wrong with it"));
            text.len() as f64 / 1e6 / start.elapsed().as_secs_f64()
        })
        .collect();
    let rate = median(rates);
    println!(
        "\nTwo labels on a verbatim text of {} bytes: {rate:.0} MB/s",
        text.len()
    );
}

fn read(settings: &str) -> Config {
    let (config, _) = config::settle("bench", settings, []).expect("the settings are right");
    config
}

fn admission(config: &Config) -> Admission {
    let (exposition, aggregation) = (config.exposition.clone(), config.push.aggregation.clone());
    let shapes = Shapes {
        list: config.shape.clone(),
        ..Shapes::default()
    };
    Admission::new(exposition, aggregation, true, RandomState::new()).with_shapes(shapes)
}

fn text(version: usize) -> String {
    let mut text = String::new();
    for family in 0..FAMILIES {
        let name = format!("load_{family:03}_total");
        let _ = write!(text, "# HELP {name} Requests.\n# TYPE {name} counter\n");
        for series in 0..SERIES {
            let value = version * 1000 + series;
            let code = CODES[series % CODES.len()];
            let _ = writeln!(
                text,
                "{name}{{code=\"{code}\",handler=\"/api/v1/items/{series}\",zone=\"z1\"}} {value}"
            );
        }
    }
    text
}

struct Pushes {
    translation: Groups,
    store: Store,
    group: Group,
    /// Two versions, so that every push is a change.
    bodies: [Bytes; 2],
}

impl Pushes {
    fn new(settings: &str) -> Self {
        let config = read(settings);
        let limits = StoreLimits {
            apps: 1,
            groups: 1,
            bytes: config.exposition.max_total,
            registry: RegistryLimits::default(),
        };
        Pushes {
            translation: Groups {
                admission: Arc::new(admission(&config)),
                config: config.push.groups,
            },
            store: Store::new(limits, false),
            group: Group::from_path("job/load", false).expect("a group's path"),
            bodies: [1, 2].map(|version| Bytes::from(text(version))),
        }
    }

    fn push(&mut self) {
        let sender = PushSender {
            origin: Origin::default(),
            ttl: None,
        };
        for round in 0..PUSHES {
            let body = Body {
                content_type: "",
                bytes: &self.bodies[round % 2],
            };
            let target = (Method::Put, &self.group);
            let pushed = self
                .translation
                .push(&self.store, target, body, &sender, Now::read());
            pushed.expect("nothing is wrong with it");
        }
    }
}
