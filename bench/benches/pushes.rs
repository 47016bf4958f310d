//! A push over HTTP without the HTTP: from the bytes of the body to the store. `cargo bench -p
//! bench --bench pushes` prints Markdown.
//!
//! Every push changes the values of series that its group already has, as most pushes do. One core,
//! no sockets, no scrapes.
//!
//! `-- one 20` and `-- many 20` push one shape 20 times to all groups and print nothing, for
//! counters such as `perf stat -e instructions:u`.

use std::fmt::Write;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use exporter_proxy::clock::Now;
use exporter_proxy::config::Config;
use exporter_proxy::ingest::{Admission, Body, Group};
use exporter_proxy::inputs::push::{Groups, Method, PushSender};
use exporter_proxy::peer::Origin;
use exporter_proxy::registry;
use exporter_proxy::store::{Store, StoreLimits};

use bench::figures::median;
use bench::payload::{FIRST_VALUE, app_text};

const GROUPS: usize = 1_000;
const SERIES: usize = 100;

/// Rounds; each pushes to every group once.
const ROUNDS: usize = 21;

/// Makes the body of a job, in a version.
type Shape = fn(usize, u64) -> String;

const SHAPES: [(&str, &str, Shape); 2] = [
    ("one", "100 series of one family", one_family),
    ("many", "a series each of 100 families", many_families),
];

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let mut arguments = std::env::args().skip(1);
    let word = arguments.next().unwrap_or_default();
    if let Some((.., shape)) = SHAPES.iter().find(|(name, ..)| *name == word) {
        let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
        let mut groups = Pushes::new(*shape);
        (0..rounds.unwrap_or(ROUNDS)).for_each(|_| groups.push());
        return;
    }
    println!("| `PUT` | µs a push, best | median |\n| --- | ---: | ---: |");
    for (_, what, shape) in SHAPES {
        let mut groups = Pushes::new(shape);
        // The first round creates the series.
        groups.push();
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                groups.push();
                start.elapsed().as_secs_f64() * 1e6 / GROUPS as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let best = times[0];
        println!("| {what} | {best:.1} | {:.1} |", median(times));
    }
}

fn one_family(job: usize, version: u64) -> String {
    app_text(&format!("load_{job:05}"), SERIES, version)
}

fn many_families(_: usize, version: u64) -> String {
    let mut text = String::new();
    for family in 0..SERIES {
        let name = format!("load_{family:03}_total");
        let value = FIRST_VALUE + version + family as u64;
        let _ = write!(
            text,
            "# HELP {name} Requests handled.\n# TYPE {name} counter\n\
             {name}{{code=\"200\",handler=\"/api/v1/items\",zone=\"z1\"}} {value}\n"
        );
    }
    text
}

/// Bodies to push, and the store that they are pushed to.
struct Pushes {
    translation: Groups,
    store: Store,
    groups: Vec<Group>,
    /// Two versions, so that every push is a change.
    bodies: [Vec<Bytes>; 2],
    round: usize,
}

impl Pushes {
    fn new(shape: Shape) -> Self {
        let config = Config::default();
        let limits = StoreLimits {
            apps: 1,
            groups: GROUPS,
            bytes: config.exposition.max_total,
            registry: registry::RegistryLimits::default(),
        };
        let job = |job| Group::from_path(&format!("job/load_{job:05}"), false);
        let hash = RandomState::new();
        let admission = Admission::new(config.exposition, config.push.aggregation, true, hash);
        Pushes {
            translation: Groups {
                admission: Arc::new(admission),
                config: config.push.groups,
            },
            store: Store::new(limits, false),
            groups: (0..GROUPS)
                .map(|number| job(number).expect("a group's path"))
                .collect(),
            bodies: [1_000, 2_000].map(|version| {
                let bodies = (0..GROUPS).map(|job| Bytes::from(shape(job, version)));
                bodies.collect()
            }),
            round: 0,
        }
    }

    /// Pushes to every group once.
    fn push(&mut self) {
        let sender = PushSender {
            origin: Origin::default(),
            ttl: None,
        };
        for (group, bytes) in self.groups.iter().zip(&self.bodies[self.round % 2]) {
            let body = Body {
                content_type: "",
                bytes,
            };
            self.translation
                .push(
                    &self.store,
                    (Method::Put, group),
                    body,
                    &sender,
                    Now::read(),
                )
                .expect("nothing is wrong with it");
        }
        self.round += 1;
    }
}
