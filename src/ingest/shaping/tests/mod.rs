mod samples;

use bytes::Bytes;

use super::*;
use crate::exposition::protobuf::DecodedNative;
use crate::exposition::{LabelText, NativeHistogram};
use crate::settings::document;
use crate::settings::reader::{Faults, Table};

/// The entries in TOML, or the errors.
fn parse(text: &str) -> Result<Vec<Shape>, Vec<String>> {
    let mut errors = Vec::new();
    let entries = document::parse_toml("test.toml", text, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    let faults = Faults::default();
    let mut root = Table::root(entries, &faults);
    let shapes = config::take(&mut root);
    let (errors, _) = faults.into_inner();
    match errors.is_empty() {
        true => Ok(shapes),
        false => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

fn shapes(text: &str) -> Vec<Shape> {
    parse(&format!("[[shape]]\n{text}\n")).unwrap()
}

fn shape(
    shapes: &[Shape],
    text: &str,
    format: InputFormat,
    layout: Layout,
) -> Result<String, ShapingProblem> {
    let group = [("job", "j")];
    let labels = SenderLabels::Group(&group);
    let shaping = Shaping::of_input(shapes, Input::Groups, None);
    let shaped = shaping.apply(text, format, labels, (layout, 1 << 20))?;
    Ok(shaped.text.into_owned())
}

const DROP_GO: &str =
    "metric_relabel = [{ action = \"drop\", source_labels = [\"__name__\"], regex = \"go_.*\" }]";

#[test]
fn lines_that_no_rule_touches_stay_as_they_are() {
    let text = "# HELP a  help\n# TYPE a gauge\na  1.50  7\n\n a{ x = \"1\", } 2\nbad line\nlast 1";
    let all = shapes(DROP_GO);
    let shaping = Shaping::of_input(&all, Input::Groups, None);
    let labels = SenderLabels::Group(&[]);
    let limits = (Layout::Compact, 1 << 20);
    let shaped = shaping.apply(text, InputFormat::Text, labels, limits);
    let shaped = shaped.unwrap();
    assert!(!shaped.is_changed());
    assert_eq!(shaped.text, text);
    // Unchanged lines between changed ones are copied.
    let rename =
        "metric_relabel = [{ source_labels = [\"x\"], regex = \"2\", target_label = \"y\" }]";
    let text = "a  1.50  7\n a{ x = \"1\", } 2\nbad line\na{x=\"2\"}\t 3.0\nlast 1";
    let expected = "a  1.50  7\n a{ x = \"1\", } 2\nbad line\na{x=\"2\",y=\"$\"} 3.0\nlast 1\n";
    let rename = rename.replace("target_label", "replacement = \"$$\", target_label");
    let result = shape(&shapes(&rename), text, InputFormat::Text, Layout::Compact);
    assert_eq!(result.unwrap(), expected);
}

#[test]
fn families_that_lose_all_samples_lose_their_metadata() {
    let text = "# TYPE a gauge\na 1\n# HELP go_x help\n# TYPE go_x gauge\n# comment\ngo_x 1\ngo_x{a=\"b\"} 2\n\
                # TYPE b gauge\nb 2\ngo_y 1\n# TYPE go_z gauge\ngo_z 1\n";
    let compact = shape(&shapes(DROP_GO), text, InputFormat::Text, Layout::Compact);
    assert_eq!(
        compact.unwrap(),
        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n"
    );
    let lines = shape(&shapes(DROP_GO), text, InputFormat::Text, Layout::Lines).unwrap();
    assert_eq!(lines.lines().count(), text.lines().count());
    assert_eq!(lines.lines().nth(8), Some("b 2"));
    // Lines outside the family stay: comments after its samples, and lines that cannot be read.
    for (text, expected) in [
        (
            "# TYPE go_x gauge\ngo_x 1\n# about b\n# TYPE b gauge\nb 2\n",
            "# about b\n# TYPE b gauge\nb 2\n",
        ),
        ("# TYPE go_x gauge\ngo_x 1\n# EOF\n", "# EOF\n"),
        (
            "# TYPE go_x gauge\ngo_x 1\n{{ bad\n",
            "# TYPE go_x gauge\n{{ bad\n",
        ),
    ] {
        let result = shape(&shapes(DROP_GO), text, InputFormat::Text, Layout::Compact);
        assert_eq!(result.unwrap(), expected);
    }
    // A family that keeps a sample keeps its metadata.
    let some = "metric_relabel = [{ action = \"drop\", source_labels = [\"x\"], regex = \"1\" }]";
    let text = "# TYPE m gauge\nm{x=\"1\"} 1\nm{x=\"2\"} 2\nm{x=\"1\",y=\"2\"} 2\n";
    let result = shape(&shapes(some), text, InputFormat::Text, Layout::Compact);
    assert_eq!(result.unwrap(), "# TYPE m gauge\nm{x=\"2\"} 2\n");
}

#[test]
fn metadata_follows_renamed_samples() {
    let rename = |rule: &str| shapes(&format!("metric_relabel = [{{ {rule} }}]"));
    let prefix = "source_labels = [\"__name__\"], regex = \"old_(.*)\", target_label = \"__name__\", replacement = \"new_$1\"";
    let histogram = "# HELP old_h is old_h\n# TYPE old_h histogram\nold_h_bucket{le=\"+Inf\"} 1\nold_h_sum 2\nold_h_count 1\nother 1\n";
    let result = shape(&rename(prefix), histogram, InputFormat::Text, Layout::Lines);
    assert_eq!(
        result.unwrap(),
        "# HELP new_h is old_h\n# TYPE new_h histogram\nnew_h_bucket{le=\"+Inf\"} 1\nnew_h_sum 2\nnew_h_count 1\nother 1\n"
    );
    // Quoted names.
    let quoted = "# TYPE old_x gauge\nold_x 1\n";
    let dotted = prefix.replace("new_", "new.");
    let result = shape(&rename(&dotted), quoted, InputFormat::Text, Layout::Lines);
    assert_eq!(result.unwrap(), "# TYPE \"new.x\" gauge\n{\"new.x\"} 1\n");
    let back = "source_labels = [\"__name__\"], regex = \"new.x\", target_label = \"__name__\", replacement = \"E\"";
    let text = "# TYPE \"new.x\" gauge\n{\"new.x\",a=\"b\"} 1\n";
    let result = shape(&rename(back), text, InputFormat::Text, Layout::Lines);
    assert_eq!(result.unwrap(), "# TYPE E gauge\nE{a=\"b\"} 1\n");
    // One name becomes several, and several become one.
    let split = "source_labels = [\"__name__\", \"k\"], separator = \"_\", regex = \"(m_[ab])\", target_label = \"__name__\"";
    let text = "# TYPE m counter\nm{k=\"a\"} 1\nm{k=\"b\"} 2\nm 3\nm{k=\"a\",z=\"1\"} 4\n# TYPE m_b counter\n# HELP m_b own\nm_b 5\n";
    let result = shape(&rename(split), text, InputFormat::Text, Layout::Compact);
    assert_eq!(
        result.unwrap(),
        "# TYPE m_a counter\nm_a{k=\"a\"} 1\n# TYPE m_b counter\nm_b{k=\"b\"} 2\n# TYPE m counter\nm 3\nm_a{k=\"a\",z=\"1\"} 4\nm_b 5\n"
    );
    // A counter of OpenMetrics, whose family has another name than its samples.
    let text = "# TYPE old_seconds counter\n# UNIT old_seconds seconds\nold_seconds_total 1 # {a=\"b\"} 1\n# EOF\n";
    let result = shape(
        &rename(prefix),
        text,
        InputFormat::OpenMetrics,
        Layout::Lines,
    );
    assert_eq!(
        result.unwrap(),
        "# TYPE new_seconds counter\nnew_seconds_total 1 # {a=\"b\"} 1\n# EOF\n"
    );
}

#[test]
fn labels_come_before_rules_and_group_labels_stay() {
    let text = "m{env=\"own\"} 1\nn 2\n";
    let labels = "labels = { env = \"eu\", empty = \"\" }\n";
    let rule = "metric_relabel = [{ source_labels = [\"env\", \"job\"], separator = \"-\", target_label = \"both\" }, \
                { action = \"labeldrop\", regex = \"job\" }]";
    let added = shape(&shapes(labels), text, InputFormat::Text, Layout::Lines);
    let exported = "m{env=\"eu\",exported_env=\"own\"} 1\nn{env=\"eu\"} 2\n";
    assert_eq!(added.unwrap(), exported);
    let honored = [labels, "honor_labels = true\n"].concat();
    let added = shape(&shapes(&honored), text, InputFormat::Text, Layout::Lines);
    assert_eq!(added.unwrap(), "m{env=\"own\"} 1\nn{env=\"eu\"} 2\n");
    // Rules match the group's label, which is neither written nor removed.
    let both = shapes(&[labels, rule].concat());
    let result = shape(&both, text, InputFormat::Text, Layout::Lines);
    assert_eq!(
        result.unwrap(),
        "m{both=\"eu-j\",env=\"eu\",exported_env=\"own\"} 1\nn{both=\"eu-j\",env=\"eu\"} 2\n"
    );
    let open = "m{env=\"own\"} 1 # {a=\"b\"} 2\nn_total 2\n# EOF\n";
    let result = shape(
        &shapes(labels),
        open,
        InputFormat::OpenMetrics,
        Layout::Lines,
    );
    assert_eq!(
        result.unwrap(),
        "m{env=\"eu\",exported_env=\"own\"} 1 # {a=\"b\"} 2\nn_total{env=\"eu\"} 2\n# EOF\n"
    );
}

#[test]
fn families_are_kept_and_dropped_by_pattern() {
    let text = "# TYPE a_h histogram\na_h_bucket{le=\"+Inf\"} 1\na_h_sum 2\na_h_count 1\n# TYPE b gauge\nb 1\na_h_other 1\n";
    for (setting, expected) in [
        (
            "keep = [\"a_h\"]",
            "# TYPE a_h histogram\na_h_bucket{le=\"+Inf\"} 1\na_h_sum 2\na_h_count 1\n",
        ),
        ("drop = [\"a_h\"]", "# TYPE b gauge\nb 1\na_h_other 1\n"),
        (
            "keep = [\"a_*\"]\ndrop = [\"*_h\"]", // Metadata without samples stays before samples without metadata.
            "# TYPE b gauge\na_h_other 1\n",
        ),
        ("keep = [\"none\"]", ""),
    ] {
        let result = shape(&shapes(setting), text, InputFormat::Text, Layout::Compact);
        assert_eq!(result.unwrap(), expected, "{setting}");
    }
}

#[test]
fn families_of_openmetrics_have_the_names_of_both_formats() {
    let counter = "# TYPE req counter\nreq_total 1 # {a=\"b\"} 1\nreq_created 5\n";
    let info = "# TYPE build info\nbuild_info{v=\"1\"} 1\n";
    let histogram =
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 2\nh_created 5\n";
    let quoted = "# TYPE \"r.q\" counter\n{\"r.q_total\"} 1\n";
    let all = [counter, info, histogram, quoted];
    let text = all.concat() + "# EOF\n";
    for (patterns, expected) in [
        ("\"req\"", vec![counter]),
        ("\"req_total\"", vec![counter]),
        (
            "\"req_created\", \"h_total\", \"h_created\", \"build_total\"",
            vec![],
        ),
        ("\"build\"", vec![info]),
        ("\"build_info\"", vec![info]),
        ("\"h\"", vec![histogram]),
        ("\"r.q_total\"", vec![quoted]),
        ("\"*_total\"", vec![counter, quoted]),
    ] {
        let (format, layout) = (InputFormat::OpenMetrics, Layout::Compact);
        let result = |setting| {
            let entry = shapes(&format!("{setting} = [{patterns}]"));
            shape(&entry, &text, format, layout).unwrap()
        };
        let others = all.into_iter().filter(|it| !expected.contains(it));
        let others: String = others.collect();
        assert_eq!(result("keep"), expected.concat() + "# EOF\n", "{patterns}");
        assert_eq!(result("drop"), others + "# EOF\n", "{patterns}");
    }
}

#[test]
fn samples_need_a_name_and_texts_a_limited_size() {
    let rule = "metric_relabel = [{ source_labels = [\"x\"], regex = \"1\", target_label = \"__name__\", replacement = \"\" }]";
    let text = "m 1\nm{x=\"1\",a=\"b\"} 2\n";
    let problem = shape(&shapes(rule), text, InputFormat::Text, Layout::Lines).unwrap_err();
    let rejection = problem.reject(&"group");
    assert_eq!(rejection.line, Some(2));
    assert_eq!(rejection.reason, Reason::BadSeries);
    assert_eq!(
        rejection.message,
        "group, line 2: relabelling leaves m{a=\"b\",x=\"1\"} without a name (shape.metric_relabel)"
    );
    let long = format!("labels = {{ a = \"{}\" }}", "x".repeat(1000));
    let text = "m 1\n".repeat(2000);
    let problem = shape(&shapes(&long), &text, InputFormat::Text, Layout::Lines).unwrap_err();
    assert_eq!(problem.reason, Reason::TooLarge);
}

#[test]
fn entries_concern_what_they_name() {
    let all = parse(
        "[[shape]]\nlenient = true\n[[shape]]\napps = [\"a*\"]\nlenient = true\n\
         [[shape]]\ninputs = [\"apps\"]\ngroups = ['{job=\"x\"}']\nlenient = true\n\
         [[shape]]\ntargets = [\"a*\"]\nlenient = true\n\
         [[shape]]\ninputs = [\"operations\", \"aggregate\"]\ndrop = [\"x\"]\n\
         [[shape]]\nlisteners = [\"*:6556\", \"/run/a.sock\"]\ndrop = [\"x\"]\n",
    )
    .unwrap();
    let places = |shaping: Shaping<'_>| -> Vec<usize> {
        let place = |shape: &&Shape| all.iter().position(|it| std::ptr::eq(it, *shape)).unwrap();
        shaping.shapes.iter().map(place).collect()
    };
    let of = |name, producer| {
        places(Shaping::of_section(
            &all,
            &SectionId::new(name, producer),
            None,
        ))
    };
    assert_eq!(of("ab", Producer::App), [0, 1, 2]);
    assert_eq!(of("b", Producer::App), [0, 2]);
    assert_eq!(of("ab", Producer::Target), [0, 3]);
    let group = |path| Group::from_path(path, false).unwrap();
    let of_group = |path, listener| places(Shaping::of_group(&all, &group(path), listener));
    assert_eq!(of_group("job/x/a/b", None), [0, 2]);
    assert_eq!(of_group("job/y", None), [0]);
    assert_eq!(of_group("job/y", Some("[::]:6556")), [0, 5]);
    assert_eq!(of_group("job/y", Some("[::]:6555")), [0]);
    let app = SectionId::new("b", Producer::App);
    let at = Some("/run/a.sock");
    assert_eq!(places(Shaping::of_section(&all, &app, at)), [0, 2, 5]);
    assert_eq!(
        places(Shaping::of_input(&all, Input::Operations, at)),
        [0, 4, 5]
    );
    assert_eq!(
        places(Shaping::of_input(&all, Input::Operations, None)),
        [0, 4]
    );
    assert_eq!(
        places(Shaping::of_input(&all, Input::Aggregate, None)),
        [0, 4]
    );
}

#[test]
fn updates_are_shaped_like_samples() {
    let all = shapes(
        "labels = { env = \"eu\" }\ndrop = [\"secret_*\"]\nmetric_relabel = [\
         { action = \"drop\", source_labels = [\"path\"], regex = \"/health\" },\
         { source_labels = [\"__name__\"], regex = \"old_(.*)\", target_label = \"__name__\" },\
         { source_labels = [\"gone\"], regex = \"1\", target_label = \"__name__\", replacement = \"\" }]",
    );
    let shaping = Shaping::of_input(&all, Input::Operations, None);
    let mut counts = ShapedCounts::default();
    let mut shaped = |family: &str, labels: &[(&str, &str)]| {
        let mut family = Arc::from(family);
        let mut labels = LabelText::from_plain(labels.iter().copied()).unwrap();
        let mut series = Series {
            family: &mut family,
            labels: &mut labels,
        };
        let kept = shaping.apply_to_series(&mut series, &mut counts)?;
        Ok::<_, String>(kept.then(|| format!("{family}{{{labels}}}")))
    };
    let kept = |series: &str| Ok(Some(series.to_owned()));
    assert_eq!(shaped("m", &[]), kept("m{env=\"eu\"}"));
    assert_eq!(
        shaped("old_m", &[("env", "x")]),
        kept("m{env=\"eu\",exported_env=\"x\"}")
    );
    assert_eq!(shaped("m", &[("path", "/health")]), Ok(None));
    assert_eq!(shaped("secret_m", &[]), Ok(None));
    assert_eq!(
        shaped("m", &[("gone", "1")]),
        Err("relabelling leaves m{gone=\"1\"} without a name (shape.metric_relabel)".to_owned())
    );
    // The message names the series as it is in a text.
    assert_eq!(
        shaped("m.n", &[("gone", "1")]),
        Err(
            "relabelling leaves {\"m.n\",gone=\"1\"} without a name (shape.metric_relabel)"
                .to_owned()
        )
    );
    let expected = ShapedCounts {
        dropped: 2,
        changed: 3,
    };
    assert_eq!(counts, expected, "labels that are added do not count");
}

#[test]
fn native_histograms_are_shaped_like_the_text_of_their_families() {
    let all = parse(
        "[[shape]]\nmetric_relabel = [{ action = \"labeldrop\", regex = \"job|pod\" }]\n\
         [[shape]]\nlabels = { job = \"other\" }\n",
    )
    .unwrap();
    let group = Group::from_path("job/j", false).unwrap();
    let shaping = Shaping::of_group(&all, &group, None);
    for (labels, expected) in [
        ("pod=\"p\"", "job=\"other\""),
        ("job=\"own\"", "exported_job=\"own\",job=\"other\""),
    ] {
        let mut native = DecodedNative {
            family: "h".to_owned(),
            native: NativeHistogram {
                labels: Box::from(labels),
                histogram: Bytes::new(),
                gauge: false,
            },
        };
        assert!(shaping.apply_to_native(&group, &mut native));
        assert_eq!(&*native.native.labels, expected);
        let text = format!("h_sum{{{labels}}} 1\n");
        let text = shape(&all, &text, InputFormat::Text, Layout::Lines);
        assert_eq!(text.unwrap(), format!("h_sum{{{expected}}} 1\n"));
    }
}

#[test]
fn wrong_entries_are_errors() {
    for (entry, expected) in [
        (
            "apps = [\"a\"]",
            "test.toml:1:1: an entry of `shape` needs `labels`, `keep`, `drop`, `metric_relabel`, `metric_relabel_file` or `lenient`",
        ),
        (
            "honor_labels = true\ndrop = [\"x\"]",
            "test.toml:2:16: `shape.honor_labels` requires `shape.labels`",
        ),
        (
            "labels = { le = \"1\" }",
            "test.toml:2:17: `shape.labels`: samples cannot get a label \"le\"",
        ),
        (
            "labels = { \"a.b\" = \"1\" }",
            "test.toml:2:20: `shape.labels`: \"a.b\" is not a label name: letters, digits and underscores, at most 256 bytes",
        ),
        (
            "inputs = [\"operations\"]\nlenient = true",
            "test.toml:3:11: `shape.lenient` is for apps, targets and groups; a message with values that are added up counts as a whole or not at all",
        ),
        (
            "inputs = [\"groups\", \"aggregate\"]\napps = [\"a\"]\nlenient = true",
            "test.toml:4:11: `shape.lenient` is for apps, targets and groups; a message with values that are added up counts as a whole or not at all",
        ),
        (
            "listeners = [\"localhost:6556\"]\nlenient = true",
            "test.toml:2:14: `shape.listeners` must be the address that a listener is bound to, such as \"127.0.0.1:6556\" or \"*:6556\", or the path of a Unix socket, not \"localhost:6556\"",
        ),
        (
            "metric_relabel = [{ action = \"dropp\" }]",
            "test.toml:2:30: `shape.metric_relabel.action` must be one of replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, lowercase, uppercase, not \"dropp\"",
        ),
        (
            "metric_relabel = [{ action = \"hashmod\", target_label = \"a\", modulus = 0 }]",
            "test.toml:2:71: `shape.metric_relabel.modulus` must be a whole number from 1 to 9223372036854775807, not the number 0",
        ),
        (
            "groups = [\"backup\"]\nlenient = true",
            "test.toml:2:11: `shape.groups` must be a selector: groups have labels and no name, such as {job=\"backup\"} in the selector \"backup\"",
        ),
        (
            "groups = ['{job=\"a\"']\nlenient = true",
            "test.toml:2:11: `shape.groups` must be a selector: expected \",\" or \"}\", found the end in the selector \"{job=\\\"a\\\"\"",
        ),
        (
            "drops = [\"a\"]\nlenient = true",
            "test.toml:2:1: unknown key `shape.drops`; did you mean `shape.drop`?",
        ),
    ] {
        let errors = parse(&format!("[[shape]]\n{entry}\n")).unwrap_err();
        assert_eq!(errors, [expected]);
    }
    let many = "[[shape]]\nlenient = true\n".repeat(config::MAX_SHAPES + 1);
    let errors = parse(&many).unwrap_err();
    assert!(
        errors[0].contains("`shape` has 101 entries; the limit is 100"),
        "{errors:?}"
    );
}
