use super::*;
use crate::ingest::config::Aggregation;
use crate::store::Producer;

fn app(name: &str) -> SectionId {
    SectionId::new(name, Producer::App)
}

fn admission(mode: Mode, change: impl FnOnce(&mut Exposition)) -> Admission {
    let mut exposition = Exposition {
        mode,
        ..Exposition::default()
    };
    change(&mut exposition);
    let hash = std::hash::RandomState::new();
    Admission::new(exposition, Aggregation::default(), true, hash)
}

const BAD: &str = "ok 1\nm{a=\"b\" 1\n";

#[test]
fn verbatim_text_is_not_checked() {
    let admission = admission(Mode::Verbatim, |_| {});
    let Ok(Content::Verbatim(text)) = admission.admit(&app("a"), Text::new(BAD), None) else {
        panic!("it is rejected");
    };
    assert_eq!(text.bytes(), BAD);
}

#[test]
fn validation_rejects_what_prometheus_rejects() {
    let admission = admission(Mode::Verbatim, |config| config.validate = true);
    let rejection = admission
        .admit(&app("a"), Text::new(BAD), None)
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::InvalidText);
    assert!(
        rejection.message.starts_with("app \"a\", line 2, column "),
        "{}",
        rejection.message
    );
    let duplicate = admission
        .admit(&app("a"), Text::new("m 1\nm 2\n"), None)
        .unwrap_err();
    assert_eq!(duplicate.reason, Reason::DuplicateSeries);
    assert!(matches!(
        admission.admit(&app("a"), Text::new("m 1\n"), None),
        Ok(Content::Verbatim(_))
    ));
}

#[test]
fn merged_text_is_parsed_and_labelled() {
    let admission = admission(Mode::Merged, |config| config.app_label = "app".to_owned());
    let Ok(Content::Families(families)) = admission.admit(&app("x\"y"), Text::new("m 1"), None)
    else {
        panic!("it is rejected");
    };
    assert_eq!(families[0].samples.bytes(), "m{app=\"x\\\"y\"} 1\n");
    let own = admission
        .admit(&app("a"), Text::new("exporter_proxy_apps 1"), None)
        .unwrap_err();
    assert_eq!(own.reason, Reason::ReservedName);
}

#[test]
fn texts_of_one_message_share_a_budget() {
    let admission = admission(Mode::Merged, |config| config.max_text = 30);
    let mut budget = admission.message_budget();
    let text = || {
        admission
            .admit(&app("a"), Text::new("m{a=\"1\"} 1\n"), None)
            .unwrap()
    };
    budget.take(&app("a"), text()).unwrap();
    budget.take(&app("b"), text()).unwrap();
    let rejection = budget.take(&app("c"), text()).unwrap_err();
    assert_eq!(rejection.reason, Reason::TooLarge);
    let words = "more than 30 bytes of text with all labels (exposition.max_text)";
    assert!(rejection.message.contains(words), "{}", rejection.message);
}

#[test]
fn families_are_limited_in_merged_and_validated_mode() {
    for mode in [Mode::Merged, Mode::Verbatim] {
        let admission = admission(mode, |config| {
            config.max_families = 2;
            config.validate = true;
        });
        let rejection = admission
            .admit(&app("a"), Text::new("m 1\nn 1\no 1\n"), None)
            .unwrap_err();
        assert_eq!(rejection.reason, Reason::TooManySamples);
        let words =
            "line 3, column 1: expected at most 2 families in a text (exposition.max_families)";
        assert!(rejection.message.contains(words), "{}", rejection.message);
        assert!(
            admission
                .admit(&app("a"), Text::new("m 1\nn 1\n"), None)
                .is_ok()
        );
    }
}

#[test]
fn rejections_name_the_limit() {
    let admission = admission(Mode::Merged, |config| config.max_samples = 1);
    let rejection = admission
        .admit(&app("a"), Text::new("m 1\nn 1\n"), None)
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::TooManySamples);
    assert!(
        rejection.message.contains("at most 1 sample in a text"),
        "{}",
        rejection.message
    );
}

const OPEN_METRICS: &str = "# TYPE a counter\n# HELP a h\na_total 1 # {t=\"x\"} 1\na_created 5\n\
    # TYPE v stateset\nv{v=\"on\"} 1\nv{v=\"off\"} 0\n# EOF\n";

#[test]
fn open_metrics_is_converted_to_text_in_verbatim_mode() {
    let target = SectionId::new("t", Producer::Target);
    for validate in [false, true] {
        let admission = admission(Mode::Verbatim, |config| config.validate = validate);
        let sent = Text::new(OPEN_METRICS);
        let Ok(Content::Verbatim(text)) =
            admission.admit(&target, sent, Some(InputFormat::OpenMetrics))
        else {
            panic!("it is rejected");
        };
        assert_eq!(
            text.bytes(),
            "# HELP a_total h\n# TYPE a_total counter\na_total 1\n\
             # TYPE v gauge\nv{v=\"on\"} 1\nv{v=\"off\"} 0\n"
        );
        let cut = Text::new(OPEN_METRICS.strip_suffix("# EOF\n").unwrap());
        let rejection = admission
            .admit(&target, cut, Some(InputFormat::OpenMetrics))
            .unwrap_err();
        assert_eq!(rejection.reason, Reason::InvalidText);
        assert!(
            rejection.message.starts_with("target \"t\", line "),
            "{}",
            rejection.message
        );
    }
}

#[test]
fn a_declared_format_is_not_detected() {
    let admission = admission(Mode::Merged, |_| {});
    let text = || Text::new("# TYPE a untyped\na 1\n# EOF\n");
    assert!(
        admission
            .admit(&app("a"), text(), Some(InputFormat::Text))
            .is_ok()
    );
    assert!(admission.admit(&app("a"), text(), None).is_err());
}
