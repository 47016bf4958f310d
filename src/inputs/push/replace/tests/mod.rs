mod limits;

use bytes::Bytes;

use super::*;
use crate::config::Config;
use crate::exposition::Content;
use crate::store::StoreLimits;

fn groups(change: impl FnOnce(&mut Config)) -> Groups {
    let mut config = Config::default();
    change(&mut config);
    let admission = Admission::new(
        config.exposition,
        config.push.aggregation,
        true,
        std::hash::RandomState::new(),
    );
    Groups {
        admission: Arc::new(admission),
        config: config.push.groups,
    }
}

fn store() -> Store {
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: crate::registry::RegistryLimits::default(),
    };
    Store::new(limits, false)
}

fn group(path: &str) -> Group {
    Group::from_path(path, false).unwrap()
}

fn sender() -> PushSender {
    PushSender {
        origin: Origin::default(),
        ttl: None,
    }
}

fn text_body(bytes: &Bytes) -> Body<'_> {
    Body {
        content_type: "",
        bytes,
    }
}

struct Fixture {
    groups: Groups,
    store: Store,
    now: Now,
}

impl Fixture {
    fn new() -> Self {
        Fixture {
            groups: groups(|_| {}),
            store: store(),
            now: Now::read(),
        }
    }

    fn push(&self, method: Method, path: &str, text: &str) -> Result<(), Rejection> {
        let bytes = Bytes::from(text.to_owned());
        let body = text_body(&bytes);
        self.groups.push(
            &self.store,
            (method, &group(path)),
            body,
            &sender(),
            self.now,
        )
    }

    /// The exposed text, without the families of push times.
    fn text(&self) -> String {
        let all = String::from_utf8(self.store.snapshot().text()).unwrap();
        let mine = |line: &&str| !PUSH_TIME_FAMILIES.iter().any(|name| line.contains(name));
        all.lines()
            .filter(mine)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn time(&self, family: &str) -> Option<f64> {
        let all = String::from_utf8(self.store.snapshot().text()).unwrap();
        let line = all
            .lines()
            .find(|line| line.starts_with(&format!("{family}{{")))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

#[test]
fn put_replaces_all_and_post_the_families_it_names() {
    let fixture = Fixture::new();
    fixture
        .push(Method::Put, "job/x", "a{z=\"1\",job=\"mine\"} 1\nb 1")
        .unwrap();
    assert_eq!(
        fixture.text(),
        "# TYPE a untyped\na{instance=\"\",job=\"x\",z=\"1\"} 1\n# TYPE b untyped\nb{instance=\"\",job=\"x\"} 1\n"
    );
    fixture.push(Method::Post, "job/x", "a 2\n").unwrap();
    assert_eq!(
        fixture.text(),
        "# TYPE a untyped\na{instance=\"\",job=\"x\"} 2\n# TYPE b untyped\nb{instance=\"\",job=\"x\"} 1\n"
    );
    fixture.push(Method::Post, "job/x", "").unwrap();
    assert_eq!(fixture.text().lines().count(), 4);
    fixture
        .push(Method::Put, "job/x", "c{instance=\"i\"} 3\n")
        .unwrap();
    assert_eq!(
        fixture.text(),
        "# TYPE c untyped\nc{instance=\"i\",job=\"x\"} 3\n"
    );
    fixture.push(Method::Put, "job/x", "").unwrap();
    assert_eq!(fixture.text(), "");
    assert_eq!(
        fixture.time("push_time_seconds"),
        Some(fixture.now.unix_seconds())
    );
    assert_eq!(fixture.store.totals().groups, 1);
    fixture
        .push(Method::Delete, "job/x", "not even read")
        .unwrap();
    assert_eq!(fixture.store.totals().groups, 0);
    assert_eq!(fixture.time("push_time_seconds"), None);
    fixture.push(Method::Delete, "job/x", "").unwrap();
}

#[test]
fn push_times_cannot_be_pushed_and_survive_pushes() {
    let mut fixture = Fixture::new();
    fixture
        .push(
            Method::Put,
            "job/x/instance/i",
            "push_time_seconds 5\npush_failure_time_seconds 6\nm 1\n",
        )
        .unwrap();
    let all = String::from_utf8(fixture.store.snapshot().text()).unwrap();
    assert!(
        all.contains("push_failure_time_seconds{instance=\"i\",job=\"x\"} 0\n"),
        "{all}"
    );
    let first = fixture.now;
    assert_eq!(
        fixture.time("push_time_seconds"),
        Some(first.unix_seconds())
    );

    fixture.now = first.after(Duration::from_secs(1));
    let rejection = fixture
        .push(Method::Put, "job/x/instance/i", "m 1 5\n")
        .unwrap_err();
    assert!(rejection.is_recorded);
    assert_eq!(
        fixture.time("push_time_seconds"),
        Some(first.unix_seconds())
    );
    assert_eq!(
        fixture.time("push_failure_time_seconds"),
        Some(fixture.now.unix_seconds())
    );
    let failed = fixture.now;
    fixture.now = failed.after(Duration::from_secs(1));
    fixture
        .push(Method::Put, "job/x/instance/i", "m 2\n")
        .unwrap();
    assert_eq!(
        fixture.time("push_failure_time_seconds"),
        Some(failed.unix_seconds())
    );
    assert_eq!(
        fixture.time("push_time_seconds"),
        Some(fixture.now.unix_seconds())
    );
}

#[test]
fn rejections_are_reported_and_recorded_with_the_group() {
    for (text, reason, words) in [
        (
            "m 1\nn 1 123\n",
            Reason::Timestamp,
            "group {job=\"x\"}, line 2, column 5: expected no timestamp, found 123",
        ),
        (
            "m 1\nm 1\n",
            Reason::DuplicateSeries,
            "line 2, column 1: expected each series once",
        ),
        (
            "m{job=\"a\"} 1\nm{job=\"b\"} 1\n",
            Reason::DuplicateSeries,
            "line 2, column 1: expected each series once, found that of line 1",
        ),
        (
            "exporter_proxy_x 1\n",
            Reason::ReservedName,
            "line 1: exporter_proxy_x is reserved for the proxy's own",
        ),
        (
            "# TYPE taken counter\ntaken 1\n",
            Reason::KindConflict,
            "family taken is a counter here, and a gauge in group {job=\"y\"}",
        ),
        (
            "# TYPE taken_h gauge\ntaken_h_sum 1\n",
            Reason::NameCollision,
            "taken_h_sum cannot be exposed beside family taken_h",
        ),
        ("taken{job=\"y\"} 1\n", Reason::KindConflict, "untyped here"),
    ] {
        let fixture = Fixture::new();
        fixture
            .push(
                Method::Put,
                "job/y",
                "# TYPE taken gauge\ntaken 1\n# TYPE taken_h histogram\ntaken_h_sum 1\n",
            )
            .unwrap();
        let before = fixture.text();
        let rejection = fixture.push(Method::Put, "job/x", text).unwrap_err();
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.message.contains(words), "{rejection}");
        assert!(
            rejection.is_recorded && rejection.line.is_some(),
            "{rejection:?}"
        );
        assert_eq!(fixture.text(), before);
        let id = SectionId::new("{job=\"x\"}", Producer::Group);
        let section = fixture.store.section_of(&id).unwrap();
        assert!(section.updated.is_none());
        let told = format!("{reason}: {}", rejection.message);
        assert_eq!(section.problem.unwrap().reason, told);
    }
}

#[test]
fn a_group_cannot_have_the_label_of_its_components() {
    let fixture = Fixture::new();
    let summary = "# TYPE s summary\ns_sum 1\ns_count 1\n";
    let rejection = fixture
        .push(Method::Put, "job/x/quantile/5", summary)
        .unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.is_recorded),
        (Reason::BadLabels, true)
    );
    let histogram = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
    let rejection = fixture
        .push(Method::Put, "job/x/le/5", histogram)
        .unwrap_err();
    assert!(
        rejection.message.contains("le is a label of the group"),
        "{rejection}"
    );
    fixture
        .push(Method::Put, "job/x/quantile/5", histogram)
        .unwrap();
    fixture.push(Method::Put, "job/x/le/5", "m 1\n").unwrap();
}

#[test]
fn unparsable_bodies_are_not_recorded() {
    for text in [
        "m{a=\"1\",a=\"2\"} 1\n",
        "m{ 1\n",
        "# TYPE m gauge\n# TYPE m gauge\nm 1\n",
    ] {
        let fixture = Fixture::new();
        let rejection = fixture.push(Method::Put, "job/x", text).unwrap_err();
        assert_eq!(
            (rejection.reason, rejection.is_recorded),
            (Reason::InvalidText, false),
            "{rejection}"
        );
        assert_eq!(fixture.store.totals().groups, 0);
    }
    let fixture = Fixture::new();
    let bytes = Bytes::from_static(b"m 1\nn{a=\"\xff\"} 1\n");
    let rejection = fixture
        .groups
        .push(
            &fixture.store,
            (Method::Put, &group("job/x")),
            text_body(&bytes),
            &sender(),
            fixture.now,
        )
        .unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.line),
        (Reason::InvalidUtf8, Some(2))
    );
}

#[test]
fn an_empty_instance_is_the_same_as_none() {
    let fixture = Fixture::new();
    let families = fixture
        .groups
        .admission
        .families(&group("job/x"), text_body(&Bytes::from("m 1\n")), None)
        .unwrap();
    let app = Change::Replace {
        id: SectionId::new("app", Producer::App),
        content: Content::Families(families),
        origin: Origin::default(),
        lifetime: None,
    };
    fixture.store.apply(Write::one(app), fixture.now).unwrap();
    let rejection = fixture.push(Method::Put, "job/x", "m 1\n").unwrap_err();
    assert_eq!(rejection.reason, Reason::DuplicateSeries);
    fixture
        .push(Method::Put, "job/x/instance/i", "m 1\n")
        .unwrap();
}

#[test]
fn the_content_type_decides_the_format() {
    let fixture = Fixture::new();
    let families = |content_type: &str, text: &str| {
        let bytes = Bytes::from(text.to_owned());
        let body = Body {
            content_type,
            bytes: &bytes,
        };
        fixture
            .groups
            .admission
            .families(&group("job/x"), body, None)
    };
    let open = "# TYPE c counter\nc_total 1\n# EOF\n";
    assert_eq!(&*families("", open).unwrap()[0].name, "c_total");
    let typed = "application/openmetrics-text; version=1.0.0";
    assert_eq!(&*families(typed, open).unwrap()[0].name, "c_total");
    let without_end = "# TYPE c counter\nc_total 1\n";
    assert_eq!(&*families(typed, without_end).unwrap()[0].name, "c_total");
    assert_eq!(families(typed, "").unwrap(), []);
    for more in ["# EOF\nm 1\n", "m 1\n# EOF\n# EOF\n", "m 1\n# EOF\n\n"] {
        let rejection = families(typed, more).unwrap_err();
        assert!(rejection.message.contains("after \"# EOF\""), "{rejection}");
        assert!(
            rejection.message.ends_with("(read as OpenMetrics)"),
            "{rejection}"
        );
    }
    let comment = "# TYPE a untyped\na 1\n# EOF\n";
    let versioned = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(families(versioned, comment).unwrap().len(), 1);
    let rejection = families("text/plain", comment).unwrap_err();
    assert!(
        rejection.message.contains("(read as OpenMetrics, since"),
        "{rejection}"
    );
    let rejection = families("", "# TYPE a unknown\na 1\n").unwrap_err();
    assert!(
        rejection.message.ends_with("(read as text 0.0.4)"),
        "{rejection}"
    );
    for wrong in [
        "application/vnd.google.protobuf; encoding=text",
        "application/vnd.google.protobuf; proto=other; encoding=delimited",
    ] {
        assert_eq!(
            families(wrong, "").unwrap_err().reason,
            Reason::UnsupportedMedia
        );
    }
    let delimited = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!(families(delimited, "").unwrap().len(), 0);
    assert_eq!(
        families(delimited, "m 1\n").unwrap_err().reason,
        Reason::Malformed
    );
    // Families without samples are dropped.
    assert_eq!(
        families("text/plain", "# TYPE m gauge\n# HELP n h\n")
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn validation_reports_as_a_push_and_changes_nothing() {
    let fixture = Fixture::new();
    fixture
        .push(Method::Put, "job/y", "# TYPE m gauge\nm 1\n")
        .unwrap();
    let before = fixture.text();
    let check = |text: &str| {
        let bytes = Bytes::from(text.to_owned());
        fixture.groups.validate(
            &fixture.store,
            &group("job/x"),
            text_body(&bytes),
            &sender(),
            fixture.now,
        )
    };
    assert_eq!(
        check("# TYPE m gauge\nm{a=\"1\"} 1\nm 2\nn 1\n"),
        Ok((2, 3))
    );
    assert_eq!(check("m 1\n").unwrap_err().reason, Reason::KindConflict);
    assert_eq!(check("m{\n").unwrap_err().reason, Reason::InvalidText);
    assert_eq!(fixture.text(), before);
    assert_eq!(fixture.store.totals().groups, 1);
}

#[test]
fn labels_of_groups_have_the_limits_of_samples() {
    let mut fixture = Fixture::new();
    fixture.groups = groups(|config| {
        config.exposition.max_labels = 2;
        config.exposition.max_label_length = 5;
    });
    for (path, words) in [
        ("job/x/a/1/b/2", "more than 2 labels"),
        ("job/123456", "more than 5 bytes"),
    ] {
        let rejection = fixture.push(Method::Put, path, "").unwrap_err();
        assert_eq!(rejection.reason, Reason::BadLabels);
        assert!(rejection.message.contains(words), "{rejection}");
    }
    assert_eq!(fixture.store.totals().groups, 0);
}
