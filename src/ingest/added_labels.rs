//! Labels that settings of targets and of `[[shape]]` add to samples.

use std::collections::BTreeMap;

use serde::Serializer;

use crate::exposition::{LabelText, SampleLabels, unescape};
use crate::settings::reader::Table;

/// Maximum number of labels in one setting.
const MAX_LABELS: usize = 64;

/// The longest value of a label, in bytes.
const MAX_LABEL_VALUE: usize = 1024;

/// The longest name of a label, in bytes.
const MAX_LABEL_NAME: usize = 256;

/// Takes the table `labels`.
pub fn take(table: &mut Table<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let name = format!("{}.labels", table.name());
    for (label, value, place) in table.take_texts("labels") {
        match check(&label, &value) {
            Ok(()) if labels.len() == MAX_LABELS => {
                table.fault(place, format!("`{name}` has more than {MAX_LABELS} labels"));
                break;
            }
            Ok(()) => drop(labels.insert(label, value)),
            Err(problem) => table.fault(place, format!("`{name}`: {problem}")),
        }
    }
    labels
}

/// Checks a label that a setting adds to samples.
///
/// # Errors
///
/// What is wrong.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(begins)
        && name.chars().all(|c| begins(c) || c.is_ascii_digit())
        && name.len() <= MAX_LABEL_NAME;
    if !is_name {
        return Err(format!(
            "{name:?} is not a label name: letters, digits and underscores, at most \
             {MAX_LABEL_NAME} bytes"
        ));
    }
    if ["le", "quantile"].contains(&name) || name.starts_with("__") {
        return Err(format!("samples cannot get a label {name:?}"));
    }
    if value.len() > MAX_LABEL_VALUE {
        return Err(format!(
            "the value of label {name:?} has more than {MAX_LABEL_VALUE} bytes"
        ));
    }
    Ok(())
}

/// The labels to add to samples. Those with an empty value are left out.
///
/// # Errors
///
/// There are too many.
pub fn sample_labels(
    labels: &BTreeMap<String, String>,
    honor: bool,
) -> Result<SampleLabels, String> {
    let labels = labels.iter().filter(|(_, value)| !value.is_empty());
    if labels.clone().count() > MAX_LABELS {
        return Err(format!("more than {MAX_LABELS} labels"));
    }
    let labels = labels.map(|(name, value)| (&**name, &**value));
    let labels = LabelText::from_plain(labels).map_err(|problem| problem.to_string())?;
    Ok(SampleLabels::new(labels, honor))
}

/// Writes labels as a table.
///
/// # Errors
///
/// An error of the serializer.
pub fn write<S: Serializer>(labels: &SampleLabels, to: S) -> Result<S::Ok, S::Error> {
    let plain = |text: &str| unescape(text).into_owned();
    to.collect_map(
        labels
            .labels()
            .iter()
            .map(|label| (plain(label.name), plain(label.value))),
    )
}
