use super::*;
use crate::settings::document;
use crate::settings::reader::{Faults, Table};

/// Labels as `name=value`, separated by blanks.
fn labels(text: &str) -> LabelSet<'_> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .collect()
}

/// One of 32 series of two metrics, with up to three labels.
pub fn series(number: usize) -> LabelSet<'static> {
    let mut labels = LabelSet::new();
    labels.set(NAME_LABEL, if number & 1 == 0 { "m" } else { "n" });
    for (bit, name) in [(2, "a"), (4, "b"), (8, "c")] {
        if number & bit != 0 {
            labels.set(name, if number & 16 == 0 { "1" } else { "A" });
        }
    }
    labels
}

/// What the rules in YAML make of labels; `None` if they drop the series.
fn relabelled(rules: &str, before: &LabelSet<'_>) -> Option<Vec<(String, String)>> {
    let rules = Rules::parse_yaml(rules).unwrap();
    let mut after = before.clone();
    let kept = rules.apply(&mut after);
    after.sort();
    let pairs = after
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    kept.then(|| pairs.collect())
}

/// Compares what rules make of labels; `-` for a series that is dropped.
#[track_caller]
fn check(rules: &str, before: &str, expected: &str) {
    let expected = (expected != "-").then(|| {
        let mut expected = labels(expected);
        expected.sort();
        let pairs = expected.iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    });
    assert_eq!(relabelled(rules, &labels(before)), expected, "{rules}");
}

/// The cases of Prometheus' own tests.
#[test]
fn rules_do_what_they_do_in_prometheus() {
    for (rules, before, after) in [
        (
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            "a=foo b=bar c=baz",
            "a=foo b=bar c=baz d=choo-choo",
        ),
        (
            "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'},
              {source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: '$1$2$2$3'}]",
            "a=foo b=bar c=baz",
            "a=boobam b=bar c=baz d=boooom",
        ),
        (
            "[{source_labels: [a], regex: '.*o.*', action: drop},
              {source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch$1-ch$1'}]",
            "a=foo",
            "-",
        ),
        ("[{source_labels: [a], regex: '.*(b).*', target_label: d}]", "a=abc", "a=abc d=b"),
        ("[{source_labels: [a], regex: no-match, action: drop}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: 'f|o', action: drop}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: 'foo|bar', action: drop}]", "a=foo", "-"),
        ("[{source_labels: [a], regex: no-match, action: keep}]", "a=foo", "-"),
        ("[{source_labels: [a], regex: 'f.*', action: keep}]", "a=foo", "a=foo"),
        ("[{source_labels: [a], regex: f, target_label: b, replacement: bar}]", "a=boo", "a=boo"),
        // An empty replacement removes the label.
        (
            "[{source_labels: [a], regex: '(f).*', target_label: $1, replacement: $2}]",
            "a=foo f=baz",
            "a=foo",
        ),
        (
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            "a=foo b=bar c=baz",
            "a=foo b=bar c=baz d=976",
        ),
        (
            "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
            "a=foo b1=bar b2=baz",
            "a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz",
        ),
        (
            "[{regex: '__meta_(my.*)', replacement: '${1}', action: labelmap}]",
            "a=foo __meta_my_bar=aaa __meta_my_baz=bbb __meta_other=ccc",
            "a=foo __meta_my_bar=aaa __meta_my_baz=bbb __meta_other=ccc my_bar=aaa my_baz=bbb",
        ),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', replacement: '${2}', target_label: '${1}'}]",
            "a=some-name-value",
            "a=some-name-value name=value",
        ),
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', replacement: '${3}', target_label: '${1}'}]",
            "a=some-name-value",
            "a=some-name-value",
        ),
        // A target without a name changes nothing.
        (
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', replacement: '${1}', target_label: '${3}'}]",
            "a=some-name-0",
            "a=some-name-0",
        ),
        (
            "[{source_labels: [tags], regex: '(?:.+,|^)path:(/[^,]+).*', target_label: path},
              {source_labels: [tags], regex: '(?:.+,|^)job:([^,]+).*', target_label: job},
              {source_labels: [tags], regex: '(?:.+,|^)label:([^=]+)=([^,]+).*', target_label: '${1}', replacement: '${2}'}]",
            "tags=path:/secret,job:some-job,label:foo=bar",
            "tags=path:/secret,job:some-job,label:foo=bar path=/secret job=some-job foo=bar",
        ),
        // A label that was removed can be set again.
        (
            "[{regex: '^port_name$', action: labeldrop},
              {source_labels: [port], regex: '(.+)', replacement: metrics, target_label: port_name},
              {source_labels: [port_name], regex: '^metrics$', action: keep}]",
            "port_name=foo port=9091",
            "port=9091 port_name=metrics",
        ),
        ("[{regex: '(b.*)', action: labelkeep}]", "a=foo b1=bar b2=baz", "b1=bar b2=baz"),
        ("[{regex: '(b.*)', action: labeldrop}]", "a=foo b1=bar b2=baz", "a=foo"),
        (
            "[{source_labels: [foo], target_label: up, action: uppercase},
              {source_labels: [foo], target_label: low, action: Lowercase}]",
            "foo=bAr123Foo",
            "foo=bAr123Foo low=bar123foo up=BAR123FOO",
        ),
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1 b=1", "a=1 b=1"),
        ("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1 b=2", "-"),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1 b=1", "-"),
        ("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1 b=2", "a=1 b=2"),
        // Names with any characters.
        (
            "[{source_labels: [utf-8.label], regex: 'x.*', target_label: 'é.${1}', replacement: 'match${1}'}]",
            "utf-8.label=xy",
            "utf-8.label=xy é.=match",
        ),
        (
            "[{source_labels: [a], regex: '(line1).*(?<second>line2)', target_label: 'label1_${1}', replacement: 'val_${second}'},
              {source_labels: [a], regex: '(line1).*(?P<second>line2)', target_label: label2_$1, replacement: val_$second}]",
            "a=line1line2",
            "a=line1line2 label1_line1=val_line2 label2_line1=val_line2",
        ),
        (
            "[{source_labels: [__name__], regex: '.*_total$', target_label: __type__, replacement: counter}]",
            "__name__=http_requests_total",
            "__name__=http_requests_total __type__=counter",
        ),
        // Without source labels, the default expression matches the empty value.
        ("[{target_label: cluster, replacement: dev}]", "a=1", "a=1 cluster=dev"),
        ("[{target_label: a, replacement: ''}]", "a=1 b=2", "b=2"),
        ("[{source_labels: [missing], target_label: a}]", "a=1 b=2", "b=2"),
        // An empty expression matches the empty value only.
        ("[{source_labels: [a], regex: '', action: drop}]", "b=1", "-"),
        ("[{source_labels: [a], regex: '', action: drop}]", "a=1", "a=1"),
        ("[{source_labels: [a], regex: , target_label: b, replacement: x}]", "c=1", "c=1 b=x"),
        ("[{source_labels: [a], regex: , target_label: b, replacement: x}]", "a=1", "a=1"),
        ("[{source_labels: [a, b], separator: '', regex: xy, action: keep}]", "a=x b=y", "a=x b=y"),
        // Plain scalars of other types are texts.
        ("[{source_labels: [a], regex: false, action: drop}]", "a=false", "-"),
        ("[{source_labels: [a], regex: 1, target_label: b, replacement: 2}]", "a=1", "a=1 b=2"),
    ] {
        check(rules, before, after);
    }
}

#[test]
fn expressions_match_across_lines() {
    let before: LabelSet<'_> = [("a", "line1\nline2")].into_iter().collect();
    let rules =
        "[{source_labels: [a], regex: 'line1.*line2', target_label: d, replacement: 'match${1}'}]";
    let after = relabelled(rules, &before).unwrap();
    assert_eq!(after[1], ("d".to_owned(), "match".to_owned()));
    let before: LabelSet<'_> = [("a", "foo\nbar")].into_iter().collect();
    let rules = "[{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}]";
    let after = relabelled(rules, &before).unwrap();
    assert_eq!(after[1], ("b".to_owned(), "734".to_owned()));
}

#[test]
fn references_are_read_as_go_reads_them() {
    for (replacement, expected) in [
        ("$1", "x"),
        ("${1}y", "xy"),
        // The longest name counts.
        ("a$1y", "a"),
        ("a$$1", "a$1"),
        ("a$", "a$"),
        ("a${", "a${"),
        ("a${}", "a${}"),
        ("a$-", "a$-"),
        ("a${1", "a${1"),
        ("a$9", "a"),
        ("$0", "x-n"),
        ("${name}", "n"),
        ("$name-$01", "n-"),
        ("a$99999999999999999999", "a"),
    ] {
        let rules = format!(
            "[{{source_labels: [a], regex: '(x)-(?P<name>n)', target_label: b, replacement: '{replacement}'}}]"
        );
        check(&rules, "a=x-n", &format!("a=x-n b={expected}"));
    }
}

#[test]
fn errors_in_yaml_have_a_position_and_name_the_field() {
    for (rules, at, problem) in [
        (
            "- action: keepp\n",
            (1, 11),
            "action must be one of replace, keep, ",
        ),
        (
            "- regex: a\n- source_labels: [a]\n",
            (1, 3),
            "target_label must be set for the action \"replace\"",
        ),
        (
            "- action: hashmod\n  target_label: a\n",
            (1, 3),
            "modulus must be set",
        ),
        (
            "- action: drop\n  regex: 'a('\n",
            (2, 10),
            "regex \"a(\" is not a valid regular expression: unclosed group",
        ),
        (
            "- action: drop\n  regex: 'a)|(b'\n",
            (2, 10),
            "regex \"a)|(b\" is not a valid regular expression",
        ),
        (
            "- action: lowercase\n  target_label: a\n  replacement: b\n",
            (3, 16),
            "replacement is not used by the action \"lowercase\"",
        ),
        (
            "- action: labeldrop\n  source_labels: [a]\n",
            (2, 18),
            "source_labels is not used",
        ),
        (
            "- action: keepequal\n  target_label: a\n  regex: b\n",
            (3, 10),
            "regex is not used",
        ),
        (
            "- action: labelmap\n  replacement: ''\n",
            (2, 16),
            "replacement must not be empty",
        ),
        ("- target: a\n", (1, 3), "unknown field `target`"),
    ] {
        let errors = Rules::parse_yaml(rules).unwrap_err();
        assert!(errors[0].message.starts_with(problem), "{rules} {errors:?}");
        assert_eq!(errors[0].at, Some(at), "{rules} {errors:?}");
    }
    let both = Rules::parse_yaml("- regex: a\n- regex: b\n").unwrap_err();
    assert_eq!((both.len(), both[1].at), (2, Some((2, 3))));
    let many = "- target_label: a\n".repeat(MAX_RULES + 1);
    let errors = Rules::parse_yaml(&many).unwrap_err();
    assert_eq!(errors[0].message, "has 1001 rules; the limit is 1000");
    assert_eq!(Rules::parse_yaml("\n# none\n").unwrap(), Rules::default());
}

/// The rules in TOML, or the errors.
fn parse_toml(text: &str) -> Result<Rules, Vec<String>> {
    let mut errors = Vec::new();
    let entries = document::parse_toml("test.toml", text, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    let faults = Faults::default();
    let mut root = Table::root(entries, &faults);
    let rules = take(&mut root.table("poll"), "relabel");
    let (errors, _) = faults.into_inner();
    match errors.is_empty() {
        true => Ok(rules),
        false => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn toml_and_yaml_give_the_same_rules() {
    let toml = "[[poll.relabel]]\nsource_labels = [\"a\", \"b\"]\nseparator = \"-\"\nregex = \"(x).*\"\n\
                target_label = \"c\"\nreplacement = \"$1\"\n\
                [[poll.relabel]]\naction = \"HashMod\"\nsource_labels = [\"a\"]\nmodulus = 8\ntarget_label = \"d\"\n\
                [[poll.relabel]]\naction = \"labeldrop\"\nregex = \"e\"\n";
    let yaml = "- {source_labels: [a, b], separator: '-', regex: '(x).*', target_label: c}\n\
                - {action: hashmod, source_labels: [a], modulus: 8, target_label: d}\n\
                - {action: labeldrop, regex: e}\n";
    let rules = parse_toml(toml).unwrap();
    assert_eq!(rules, Rules::parse_yaml(yaml).unwrap());
    // Printed rules can be read again.
    let printed = toml::to_string(&std::collections::BTreeMap::from([(
        "poll",
        std::collections::BTreeMap::from([("relabel", &rules)]),
    )]));
    assert_eq!(parse_toml(&printed.unwrap()).unwrap(), rules);
}

#[test]
fn errors_in_toml_have_a_position_and_name_the_setting() {
    for (rule, expected) in [
        (
            "action = \"drop\"\nregex = \"(\"",
            "test.toml:3:9: `poll.relabel.regex` \"(\" is not a valid regular expression: unclosed group",
        ),
        (
            "action = \"lower\"\ntarget_label = \"a\"",
            "test.toml:2:10: `poll.relabel.action` must be one of replace, keep, drop, keepequal, dropequal, \
             hashmod, labelmap, labeldrop, labelkeep, lowercase, uppercase, not \"lower\"",
        ),
        (
            "regex = \"a\"",
            "test.toml:1:1: `poll.relabel.target_label` must be set for the action \"replace\"",
        ),
        (
            "target_lable = \"a\"\ntarget_label = \"b\"",
            "test.toml:2:1: unknown key `poll.relabel.target_lable`; did you mean `poll.relabel.target_label`?",
        ),
    ] {
        let errors = parse_toml(&format!("[[poll.relabel]]\n{rule}\n")).unwrap_err();
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn rules_are_read_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    let file = file.to_str().unwrap();
    let read = |content: &str| {
        std::fs::write(file, content).unwrap();
        let mut errors = Vec::new();
        let entries = document::parse_toml("test.toml", &format!("file = {file:?}\n"), &mut errors);
        let faults = Faults::default();
        let read = take_file(&mut Table::root(entries, &faults), "file");
        let (errors, _) = faults.into_inner();
        match errors.first() {
            Some(error) => Err(error.to_string()),
            None => Ok(read.unwrap()),
        }
    };
    let rules = read("- {action: labeldrop, regex: a}\n").unwrap();
    assert_eq!(toml::Value::try_from(&rules).unwrap().as_str(), Some(file));
    let other = Rules::parse_yaml("- {action: labeldrop, regex: b}\n").unwrap();
    let both = rules.rules.followed_by(&other);
    let mut labels = labels("a=1 b=2 c=3");
    assert!(both.apply(&mut labels));
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("c", "3")]);
    let error = read("- action: drop\n- action: labeldrop\n  modulus: 2\n").unwrap_err();
    assert_eq!(
        error,
        format!("{file}:3:12: modulus is not used by the action \"labeldrop\"")
    );
}
