//! Shows what rules do with the series of a text, for `exporter-proxy relabel`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read as _, Write};

use super::{LabelSet, NAME_LABEL, Rule, Rules};
use crate::exposition::{
    FamilyNames, InputFormat, Kind, Labels, ParseError, ParsedLine, Parser, is_component,
    is_plain_name, labels_text, unescape, write_label_value,
};

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Maximum number of families whose kind is remembered.
const MAX_FAMILIES: usize = 1_000_000;

/// What a stage does to a series of a family. Returns whether the series is kept.
pub type Apply<'r> = Box<dyn Fn(FamilyNames<'_>, &mut LabelSet<'_>) -> bool + 'r>;

/// A named step that each series goes through.
pub struct Stage<'r> {
    /// The name.
    pub name: String,
    /// Carries out the step.
    pub apply: Apply<'r>,
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The rules in order, as stages. `prefix` comes before their names.
pub fn stages<'r>(rules: &'r Rules, prefix: &str) -> Vec<Stage<'r>> {
    let stage = |(place, rule): (usize, &'r Rule)| Stage {
        name: format!(
            "{prefix}rule {} ({})",
            place + 1,
            rule.settings().action.as_str()
        ),
        apply: Box::new(move |_, labels| rule.apply(labels)),
    };
    rules.iter().enumerate().map(stage).collect()
}

/// Reads a text, and writes each series with the result of each stage. Stages that change nothing
/// are left out. Returns what is wrong with the lines that cannot be read.
///
/// # Errors
///
/// The text cannot be read, or the result not written.
pub fn show(
    stages: &[Stage<'_>],
    format: InputFormat,
    text: &mut impl BufRead,
    out: &mut impl Write,
) -> io::Result<Vec<ParseError>> {
    let mut problems = Vec::new();
    let mut kinds: HashMap<String, Kind> = HashMap::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if text.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&bytes);
        let mut labels = Labels::new();
        match Parser::new(&line, format).next(&mut labels) {
            Ok(Some(ParsedLine::Sample(sample))) => {
                let pairs = labels.iter().map(|label| (label.name, label.value));
                let pairs = [(NAME_LABEL, sample.name)].into_iter().chain(pairs);
                let pairs = pairs.map(|(name, value)| (unescape(name), unescape(value)));
                writeln!(out, "{}", line.trim_end())?;
                let family = family_of(format, &kinds, sample.name);
                let kind = kinds.get(family).copied();
                let family = unescape(family);
                let family = FamilyNames::new(format, kind, &family);
                let mut labels = pairs.collect();
                show_steps(stages, family, &mut labels, out, series_text)?;
            }
            Ok(Some(ParsedLine::Type { name, kind })) if kinds.len() < MAX_FAMILIES => {
                kinds.insert(name.to_owned(), kind);
            }
            Ok(_) => {}
            Err(problem) => problems.push(ParseError {
                line: number,
                ..problem
            }),
        }
    }
    Ok(problems)
}

/// The family of a sample.
fn family_of<'n>(format: InputFormat, kinds: &HashMap<String, Kind>, name: &'n str) -> &'n str {
    let at = name.rfind('_').unwrap_or_default();
    let (base, suffix) = name.split_at(at);
    let kind = kinds.get(base).filter(|_| !kinds.contains_key(name));
    match kind.is_some_and(|kind| is_component(format, *kind, suffix)) {
        true => base,
        false => name,
    }
}

/// Applies stages to labels, and writes the result of each one that changes something, in the form
/// that `text` returns. Returns whether the labels are kept.
///
/// # Errors
///
/// The result cannot be written.
pub fn show_steps(
    stages: &[Stage<'_>],
    family: FamilyNames<'_>,
    labels: &mut LabelSet<'_>,
    out: &mut impl Write,
    text: impl Fn(&LabelSet<'_>) -> String,
) -> io::Result<bool> {
    labels.sort();
    let sent = labels.get(NAME_LABEL).to_owned();
    for stage in stages {
        let before = labels.clone();
        let kept = (stage.apply)(family.after_renaming(&sent, before.get(NAME_LABEL)), labels);
        labels.sort();
        let result = match kept {
            false => "dropped".to_owned(),
            true if *labels != before => text(labels),
            true => continue,
        };
        writeln!(out, "  {}: {result}", stage.name)?;
        if !kept {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The series as text, with all labels in braces if its name is not a usual one.
fn series_text(labels: &LabelSet<'_>) -> String {
    let name = labels.get(NAME_LABEL);
    let others: Vec<(&str, &str)> = labels.iter().filter(|(it, _)| *it != NAME_LABEL).collect();
    let others = labels_text(&others);
    match (name, others.as_str()) {
        ("", others) => format!("{{{others}}} (without a name)"),
        (name, "") if is_plain_name(name) => name.to_owned(),
        (name, others) if is_plain_name(name) => format!("{name}{{{others}}}"),
        (name, others) => {
            let mut series = String::from("{\"");
            write_label_value(&mut series, name);
            series.push_str(if others.is_empty() { "\"" } else { "\"," });
            series + others + "}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show_text(stages: &[Stage<'_>], text: &str, out: &mut Vec<u8>) -> Vec<ParseError> {
        show(stages, InputFormat::Text, &mut text.as_bytes(), out).unwrap()
    }

    /// The output for a text.
    fn shown(rules: &str, text: &str) -> String {
        let rules = Rules::parse_yaml(rules).unwrap();
        let mut out = Vec::new();
        let problems = show_text(&stages(&rules, ""), text, &mut out);
        assert!(problems.is_empty(), "{problems:?}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn unusual_names_are_shown_as_they_are_exposed() {
        let rules = "- {action: labeldrop, regex: a}\n- {source_labels: [b.c], regex: '2', \
                     target_label: __name__, replacement: \"x\\n\\\"\"}\n";
        assert_eq!(
            shown(rules, "{\"é.x\",a=\"1\"} 5\nm{\"b.c\"=\"2\"} 1\n"),
            "{\"é.x\",a=\"1\"} 5\n  rule 1 (labeldrop): {\"é.x\"}\nm{\"b.c\"=\"2\"} 1\n  \
             rule 2 (replace): {\"x\\n\\\"\",\"b.c\"=\"2\"}\n"
        );
    }

    #[test]
    fn each_rule_that_changes_something_is_shown() {
        let rules = "- {action: labeldrop, regex: a}\n- {action: labeldrop, regex: none}\n\
                     - {source_labels: [__name__], target_label: b, replacement: 'x \"$1\"'}\n\
                     - {action: drop, source_labels: [__name__], regex: gone}\n\
                     - {target_label: __name__, replacement: ''}\n";
        let rules = Rules::parse_yaml(rules).unwrap();
        let text = "# TYPE m gauge\nm{a=\"1\",c=\"2\"} 1\n\nbad line here\ngone 5 7\n";
        let mut out = Vec::new();
        let problems = show_text(&stages(&rules, ""), text, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "m{a=\"1\",c=\"2\"} 1\n  rule 1 (labeldrop): m{c=\"2\"}\n  rule 3 (replace): m{b=\"x \\\"m\\\"\",c=\"2\"}\n  \
             rule 5 (replace): {b=\"x \\\"m\\\"\",c=\"2\"} (without a name)\n\
             gone 5 7\n  rule 3 (replace): gone{b=\"x \\\"gone\\\"\"}\n  rule 4 (drop): dropped\n"
        );
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("line 4, column 5: expected "),
            "{problems:?}"
        );
    }
}
