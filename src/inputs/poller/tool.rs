//! Shows the effect of rules on the labels of targets, for `exporter-proxy relabel`.

use std::io::{self, Write};
use std::sync::Arc;

use super::config::Config;
use super::config::relabel::{RelabelledTarget, target_labels};
use super::discovery::found::{FoundReader, found_labels};
use super::discovery::lists::{self, ListFormat};
use crate::exposition::{SampleLabels, labels_text};
use crate::relabel::tool::{Stage, show_steps, stages};
use crate::relabel::{LabelSet, Rules};

/// What becomes of a target with some name.
#[derive(Debug)]
pub enum ShownTarget {
    /// It is polled, and its samples get these labels.
    Polled(SampleLabels),
    /// The rules drop it.
    Dropped,
    /// No such target is configured.
    Unknown,
}

/// Writes the effect of the rules for all targets on a configured target, step by step. Without
/// rules, or without such a target, writes nothing.
///
/// # Errors
///
/// The rules leave no valid target, or the result cannot be written.
pub fn show_target(config: &Config, name: &str, out: &mut impl Write) -> io::Result<ShownTarget> {
    let rules = &config.rules.all;
    let Some(target) = config.targets.iter().find(|it| it.name == name) else {
        return Ok(ShownTarget::Unknown);
    };
    if !rules.is_empty() {
        show_entry(&target_stages(rules), target_labels(target), out)?;
    }
    match RelabelledTarget::of(target, rules).map_err(io::Error::other)? {
        RelabelledTarget::Dropped => Ok(ShownTarget::Dropped),
        RelabelledTarget::Kept(target) => {
            if !rules.is_empty() {
                writeln!(out, "  polled: {}{}", target.url, in_braces(&target.labels))?;
            }
            Ok(ShownTarget::Polled(target.labels.clone()))
        }
    }
}

/// Writes the effect of a discovery's rules on each entry of a list in the format of
/// `file_sd`, step by step. Returns the number of invalid entries.
///
/// # Errors
///
/// There is no such discovery, the text is not a list, or the result cannot be written.
pub fn show_list(
    config: &Config,
    discovery: &str,
    list: &str,
    out: &mut impl Write,
) -> io::Result<usize> {
    let mut all = config.discoveries.all();
    let (_, found) = all.find(|(name, _)| name == discovery).ok_or_else(|| {
        let names: Vec<String> = config.discoveries.all().map(|(name, _)| name).collect();
        let names = names.join(", ");
        io::Error::other(format!(
            "there is no discovery {discovery:?}; known: {names}"
        ))
    })?;
    let template = found.template();
    let stages = target_stages(&template.rules.all);
    let reader = FoundReader::new(template);
    // JSON is also YAML.
    let groups = lists::parse(list, ListFormat::Yaml).map_err(|problem| {
        io::Error::other(format!("the input is not a list of targets: {problem}"))
    })?;
    let mut wrong = 0;
    for group in groups {
        for address in &group.targets {
            let labels = found_labels(template, address, &group.labels);
            show_entry(&stages, labels, out)?;
            match reader.found(address, &group.labels, &Arc::from(discovery)) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    writeln!(out, "  polled: {}{}", found.url, in_braces(&found.labels))?;
                }
                Err(problem) => {
                    wrong += 1;
                    writeln!(out, "  rejected: {problem}")?;
                }
            }
        }
    }
    Ok(wrong)
}

fn target_stages(rules: &Rules) -> Vec<Stage<'_>> {
    stages(rules, "")
}

fn show_entry(
    stages: &[Stage<'_>],
    mut labels: LabelSet<'_>,
    out: &mut impl Write,
) -> io::Result<bool> {
    labels.sort();
    writeln!(out, "{}", text_of(&labels))?;
    show_steps(stages, "".into(), &mut labels, out, text_of)
}

fn text_of(labels: &LabelSet<'_>) -> String {
    let pairs: Vec<(&str, &str)> = labels.iter().collect();
    format!("{{{}}}", labels_text(&pairs))
}

fn in_braces(labels: &SampleLabels) -> String {
    match labels.is_empty() {
        true => String::new(),
        false => format!(" {{{}}}", labels.labels()),
    }
}
