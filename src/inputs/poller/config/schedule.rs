//! When a target is polled.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::settings::document::{Node, Value};
use crate::settings::value::{positive_duration, write_duration};

/// The word for [`Schedule::Scrapes`].
const SCRAPE: &str = "scrape";

/// When a target is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// At an interval, from the start of one poll to the start of the next.
    Every(Duration),
    /// When the proxy is scraped.
    Scrapes,
}

impl Schedule {
    /// Reads `interval`.
    pub fn read(node: &Node) -> Result<Self, String> {
        match &node.value {
            Value::Text(text) | Value::Variable(text) if text.trim() == SCRAPE => {
                Ok(Schedule::Scrapes)
            }
            _ => positive_duration(node)
                .map(Schedule::Every)
                .map_err(|problem| format!("{problem}; \"{SCRAPE}\" is accepted, too")),
        }
    }

    /// The interval between polls; `None` if there is none.
    pub fn every(self) -> Option<Duration> {
        match self {
            Schedule::Every(interval) => Some(interval),
            Schedule::Scrapes => None,
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Schedule::Every(interval) => write_duration(interval, to),
            Schedule::Scrapes => to.serialize_str(SCRAPE),
        }
    }
}
