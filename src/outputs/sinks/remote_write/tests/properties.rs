use proptest::prelude::*;

use super::*;

/// A step: the series and values that an app exposes from now on, and whether the queue has
/// room.
type Step = (u8, Vec<(u8, u8)>, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let series = prop::collection::btree_map(0..30_u8, 0..4_u8, 0..20);
    let series = series.prop_map(|it| it.into_iter().collect());
    prop::collection::vec((0..4_u8, series, prop::bool::weighted(0.9)), 1..20)
}

/// A server's view: the value of each series, or none after a marker.
type Held = BTreeMap<String, Option<u64>>;

fn apply(held: &mut Held, times: &mut BTreeMap<String, i64>, sent: &[Sent]) {
    for series in sent {
        for sample in &series.samples {
            let before = times.insert(series.series.clone(), sample.timestamp);
            assert!(
                before.is_none_or(|before| before < sample.timestamp),
                "{series:?}"
            );
            let bits = sample.value.to_bits();
            held.insert(series.series.clone(), (bits != STALE).then_some(bits));
        }
    }
}

proptest! {
    /// After each collection that found room, a server has the values of all series that are
    /// exposed, and a marker for all others.
    #[test]
    fn a_server_has_what_is_exposed(steps in steps(), settings in 0..4_usize) {
        let settings = [
            "protocol = \"1.0\"\n",
            "protocol = \"2.0\"\n",
            "protocol = \"1.0\"\nresend_unchanged = \"60s\"\nbatch_items = 7\n",
            "protocol = \"2.0\"\nresend_unchanged = \"60s\"\nbatch_bytes = 300\n",
        ][settings];
        let mut bench = Bench::new(settings);
        let (mut held, mut times) = (Held::new(), BTreeMap::new());
        let mut exposed: BTreeMap<u8, Vec<(u8, u8)>> = BTreeMap::new();
        for (app, series, room) in steps {
            let text: String = series
                .iter()
                .map(|(n, value)| format!("m{}{{app=\"{app}\",n=\"{n}\"}} {value}\n", n % 5))
                .collect();
            // Whole families one after the other.
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            bench.set(&app.to_string(), &format!("{}\n", lines.join("\n")));
            exposed.insert(app, series);
            bench.full.store(!room, Ordering::Relaxed);
            let sent = bench.collect(1000);
            apply(&mut held, &mut times, &sent);
            if room {
                let expected: Held = exposed
                    .iter()
                    .flat_map(|(app, series)| series.iter().map(move |it| (app, it)))
                    .map(|(app, (n, value))| {
                        let series = format!("m{}{{app=\"{app}\",n=\"{n}\"}}", n % 5);
                        (series, Some(f64::from(*value).to_bits()))
                    })
                    .collect();
                let live: Held = held.clone().into_iter().filter(|(_, it)| it.is_some()).collect();
                prop_assert_eq!(&live, &expected);
                prop_assert_eq!(bench.collector.stats().series(), expected.len());
            }
        }
    }
}
