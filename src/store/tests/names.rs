//! Tests of names under escaping schemes, and of OpenMetrics metadata.

use super::*;
use crate::clock::Now;
use crate::exposition::Kind;
use crate::store::rejection::Rejection;
use crate::store::write::change::Write;

#[test]
fn names_that_collide_when_escaped_clash_in_any_order() {
    let now = Now::read();
    let quoted = || family("disk.free", Kind::Gauge, &["{\"disk.free\"} 1"]);
    let histogram = || family("my.h", Kind::Histogram, &["{\"my.h_count\"} 1"]);
    for (first, second) in [
        (
            quoted(),
            family("disk_dot_free", Kind::Gauge, &["disk_dot_free 1"]),
        ),
        (
            quoted(),
            family("U__disk_2e_free", Kind::Gauge, &["U__disk_2e_free 1"]),
        ),
        (
            histogram(),
            family("my_dot_h_count", Kind::Gauge, &["my_dot_h_count 1"]),
        ),
    ] {
        for pair in [[&first, &second], [&second, &first]] {
            let [one, other] = pair.map(Clone::clone);
            let store = store(10);
            let both = Write::one(families("a", vec![one.clone(), other.clone()]));
            let refused = store.apply(both, now).unwrap_err();
            assert!(
                matches!(refused, Rejection::NameCollision { .. }),
                "{refused}"
            );
            store
                .apply(Write::one(families("a", vec![one])), now)
                .unwrap();
            let other = || Write::one(families("b", vec![other.clone()]));
            let refused = store.apply(other(), now).unwrap_err();
            assert!(
                matches!(refused, Rejection::NameCollision { .. }),
                "{refused}"
            );
            // One may replace the other.
            store
                .apply(Write::one(families("a", Vec::new())), now)
                .unwrap();
            store.apply(other(), now).unwrap();
        }
    }
}

#[test]
fn families_across_pages_are_escaped_whole() {
    let store = store(1000);
    let now = Now::read();
    let lines = |app: usize, value: usize| {
        let line = |name: &str| format!("{{\"my.h_x{name}\",app=\"{app}\"}} {value}");
        ["_bucket", "_sum", "_count"].map(line)
    };
    let push = |app: usize, value: usize| {
        let lines = lines(app, value);
        let lines = lines.each_ref().map(String::as_str);
        let family = family("my.h_x", Kind::Histogram, &lines);
        let write = Write::one(families(&format!("app{app:03}"), vec![family]));
        store.apply(write, now).unwrap();
    };
    let check = |values: &[usize]| {
        for (escaping, name) in [
            (Escaping::Underscores, "my_h_x"),
            (Escaping::Dots, "my_dot_h__x"),
            (Escaping::Values, "U__my_2e_h__x"),
        ] {
            let mut expected = format!("# TYPE {name} histogram\n");
            for (app, value) in values.iter().enumerate() {
                for suffix in ["_bucket", "_sum", "_count"] {
                    expected += &format!("{name}{suffix}{{app=\"{app}\"}} {value}\n");
                }
            }
            let shown = store.snapshot().in_format(OutputFormat::Text(escaping));
            assert_eq!(String::from_utf8(shown.text()).unwrap(), expected);
            let shown = store
                .snapshot()
                .in_format(OutputFormat::OpenMetrics(escaping));
            let shown = String::from_utf8(shown.text()).unwrap();
            assert_eq!(shown, expected + "# EOF\n");
        }
    };
    let mut values = vec![1; 1000];
    (0..values.len()).for_each(|app| push(app, 1));
    assert!(store.snapshot().pages().len() > 2);
    check(&values);
    for app in [0, 499, 500, 501, 999] {
        push(app, 22);
        values[app] = 22;
        check(&values);
    }
}

#[test]
fn escaping_leaves_verbatim_text_unchanged() {
    let store = store(100);
    let now = Now::read();
    let verbatim = "# TYPE \"v.m\" gauge\n{\"v.m\"} 1\n";
    push(&store, "b", verbatim, now);
    let dotted = |value| {
        let family = family("my.m", Kind::Gauge, &[value]);
        Write::one(families("a", vec![family]))
    };
    store.apply(dotted("{\"my.m\"} 1"), now).unwrap();
    push(&store, "a2", "x 1\n", now);
    let shown = |format| {
        let snapshot = store.snapshot().in_format(format);
        assert!(!snapshot.is_merged());
        let text = String::from_utf8(snapshot.text()).unwrap();
        assert_eq!(text.len(), snapshot.len());
        text
    };
    let rest = format!("x 1\n{verbatim}");
    assert_eq!(
        shown(OutputFormat::Canonical),
        format!("# TYPE \"my.m\" gauge\n{{\"my.m\"}} 1\n{rest}")
    );
    assert_eq!(
        shown(OutputFormat::UNDERSCORES),
        format!("# TYPE my_m gauge\nmy_m 1\n{rest}")
    );
    store.apply(dotted("{\"my.m\"} 2"), now).unwrap();
    let dots = OutputFormat::Text(Escaping::Dots);
    assert_eq!(
        shown(dots),
        format!("# TYPE my_dot_m gauge\nmy_dot_m 2\n{rest}")
    );
}

#[test]
fn openmetrics_metadata_is_exposed_if_all_sections_agree() {
    let store = store(10);
    let now = Now::read();
    let push = |app: &str, open: Option<(Option<Kind>, Option<&str>)>| {
        let line = format!("s_bytes{{app=\"{app}\"}} 1");
        let mut family = family("s_bytes", Kind::Gauge, &[&line]);
        family.open = open.map(|(kind, unit)| {
            let unit = unit.map(Box::from);
            Box::new(OpenMetricsHead { kind, unit })
        });
        let write = Write::one(families(app, vec![family]));
        store.apply(write, now).unwrap();
    };
    let head = || {
        let shown = store
            .snapshot()
            .in_format(OutputFormat::OpenMetrics(Escaping::AllowUtf8));
        let shown = String::from_utf8(shown.text()).unwrap();
        let lines = shown
            .lines()
            .filter(|line| line.starts_with("# ") && *line != "# EOF");
        lines.collect::<Vec<_>>().join("; ")
    };
    let state_set = Some((Some(Kind::StateSet), None));
    push("a", state_set);
    assert_eq!(head(), "# TYPE s_bytes stateset");
    push("b", state_set);
    assert_eq!(head(), "# TYPE s_bytes stateset");
    push("c", None);
    assert_eq!(head(), "# TYPE s_bytes gauge");
    push("b", Some((None, Some("bytes"))));
    assert_eq!(head(), "# TYPE s_bytes gauge; # UNIT s_bytes bytes");
    assert_eq!(text(&store).matches("# TYPE").count(), 1);
    for app in ["b", "c"] {
        let gone = Write::one(families(app, Vec::new()));
        store.apply(gone, now).unwrap();
    }
    push("a", state_set);
    assert_eq!(head(), "# TYPE s_bytes stateset");
    push("a", None);
    assert_eq!(head(), "# TYPE s_bytes gauge");
}

#[test]
fn series_of_a_gauge_histogram_clash_with_other_families() {
    let store = store(10);
    let now = Now::read();
    let whole = || {
        family(
            "g",
            Kind::GaugeHistogram,
            &["g_bucket{le=\"+Inf\"} 1", "g_gsum 1"],
        )
    };
    for suffix in ["_bucket", "_gsum", "_gcount"] {
        let name = format!("g{suffix}");
        let part = || family(&name, Kind::Gauge, &[&format!("{name} 1")]);
        for (first, second) in [(whole(), part()), (part(), whole())] {
            store
                .apply(Write::one(families("a", vec![first])), now)
                .unwrap();
            let refused = store.apply(Write::one(families("b", vec![second])), now);
            assert!(
                matches!(refused, Err(Rejection::NameCollision { .. })),
                "{name}"
            );
        }
    }
}
