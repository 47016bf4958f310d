//! Shows what rules do with the series of a text, for `exporter-proxy relabel`.

use std::io::{self, BufRead, Read as _, Write};

use super::{LabelSet, NAME_LABEL, Rules};
use crate::exposition::{InputFormat, Labels, ParsedLine, Parser, labels_text, unescape};

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Reads a text of Prometheus' format, and writes each series with what each rule makes of it.
/// Rules that change nothing are left out. Returns the lines that cannot be read: their
/// numbers, and what is wrong.
///
/// # Errors
///
/// The text cannot be read, or the result not written.
pub fn show(
    rules: &Rules,
    text: &mut impl BufRead,
    out: &mut impl Write,
) -> io::Result<Vec<(usize, String)>> {
    let mut problems = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if text.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&bytes);
        let mut labels = Labels::new();
        match Parser::new(&line, InputFormat::Text).next(&mut labels) {
            Ok(Some(ParsedLine::Sample(sample))) => {
                let pairs = labels.iter().map(|label| (label.name, label.value));
                let pairs = [(NAME_LABEL, sample.name)].into_iter().chain(pairs);
                let pairs = pairs.map(|(name, value)| (unescape(name), unescape(value)));
                writeln!(out, "{}", line.trim_end())?;
                show_series(rules, pairs.collect(), out)?;
            }
            Ok(_) => {}
            Err(problem) => problems.push((number, problem.to_string())),
        }
    }
    Ok(problems)
}

fn show_series(rules: &Rules, mut labels: LabelSet<'_>, out: &mut impl Write) -> io::Result<()> {
    labels.sort();
    for (place, rule) in rules.iter().enumerate() {
        let before = labels.clone();
        let kept = rule.apply(&mut labels);
        labels.sort();
        let result = match kept {
            false => "dropped".to_owned(),
            true if labels != before => shown(&labels),
            true => continue,
        };
        let action = rule.settings().action.as_str();
        writeln!(out, "  rule {} ({action}): {result}", place + 1)?;
        if !kept {
            break;
        }
    }
    Ok(())
}

/// The series as text, with all labels in braces if its name is not a usual one.
fn shown(labels: &LabelSet<'_>) -> String {
    let name = labels.get(NAME_LABEL);
    let others: Vec<(&str, &str)> = labels.iter().filter(|(it, _)| *it != NAME_LABEL).collect();
    let others = labels_text(&others);
    match (name, others.as_str()) {
        ("", others) => format!("{{{others}}} (without a name)"),
        (name, "") => name.to_owned(),
        (name, others) => format!("{name}{{{others}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_that_changes_something_is_shown() {
        let rules = "- {action: labeldrop, regex: a}\n- {action: labeldrop, regex: none}\n\
                     - {source_labels: [__name__], target_label: b, replacement: 'x \"$1\"'}\n\
                     - {action: drop, source_labels: [__name__], regex: gone}\n\
                     - {target_label: __name__, replacement: ''}\n";
        let rules = Rules::parse_yaml(rules).unwrap();
        let text = "# TYPE m gauge\nm{a=\"1\",c=\"2\"} 1\n\nbad line here\ngone 5 7\n";
        let mut out = Vec::new();
        let problems = show(&rules, &mut text.as_bytes(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "m{a=\"1\",c=\"2\"} 1\n  rule 1 (labeldrop): m{c=\"2\"}\n  rule 3 (replace): m{b=\"x \\\"m\\\"\",c=\"2\"}\n  \
             rule 5 (replace): {b=\"x \\\"m\\\"\",c=\"2\"} (without a name)\n\
             gone 5 7\n  rule 3 (replace): gone{b=\"x \\\"gone\\\"\"}\n  rule 4 (drop): dropped\n"
        );
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, 4);
    }
}
