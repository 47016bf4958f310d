//! Helpers for the tests of several sinks.

use super::QueueConfig;
use crate::settings::document;
use crate::settings::reader::{Faults, Table};

/// The settings in the table of a sink, or the first error.
pub fn parse<S>(read: fn(Table<'_>) -> Option<(S, QueueConfig)>, text: &str) -> Result<S, String> {
    let mut errors = Vec::new();
    let entries = document::parse_toml("test", text, &mut errors);
    assert!(errors.is_empty(), "{text}");
    let faults = Faults::default();
    let settings = read(Table::root(entries, &faults));
    let (errors, _) = faults.into_inner();
    match errors.first() {
        Some(error) => Err(error.to_string()),
        None => Ok(settings.expect("settings without errors").0),
    }
}
