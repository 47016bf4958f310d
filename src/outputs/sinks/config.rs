//! The settings of sinks: a table `[sinks.NAME]` for each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::queue::QueueConfig;
use super::{cql, loki, opensearch, operations, remote_write};
use crate::relabel::Rules;
use crate::settings::reader::Table;
use crate::settings::value::choice;

/// The sinks by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, SinkConfig>);

/// The settings of one sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkConfig {
    /// The settings of the type.
    #[serde(flatten)]
    pub settings: SinkSettings,
    /// The queue.
    #[serde(flatten)]
    pub queue: QueueConfig,
}

/// The settings of a type of sink. This is the list of types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SinkSettings {
    /// Operations to another proxy.
    Operations(operations::Settings),
    /// Events as log entries to Loki.
    Loki(loki::Settings),
    /// Events as documents to OpenSearch or Elasticsearch.
    #[serde(rename = "opensearch")]
    OpenSearch(opensearch::Settings),
    /// Events as rows to Cassandra or ScyllaDB.
    Cql(cql::Settings),
    /// All series to Prometheus' remote write receivers.
    RemoteWrite(Box<remote_write::Settings>),
}

impl Config {
    /// The relabelling rules of the named sink, or of the only sink that has rules.
    ///
    /// # Errors
    ///
    /// There is no such sink, or several have rules.
    pub fn rules_of(&self, name: Option<&str>) -> Result<Rules, String> {
        let all = self.0.iter().filter_map(|(name, sink)| {
            let rules = sink.settings.rules()?;
            (!rules.is_empty()).then_some((name.as_str(), rules))
        });
        let mut all: Vec<(&str, Rules)> = all.collect();
        if let Some(name) = name {
            all.retain(|(other, _)| *other == name);
        }
        match (all.len(), name) {
            (0, Some(name)) => Err(format!("the sink {name:?} has no relabelling rules")),
            (0, None) => Err(
                "no sink has relabelling rules; name a file with --rules, or use --app, \
                              --target or --group for [[shape]]"
                    .to_owned(),
            ),
            (1, _) => Ok(all.remove(0).1),
            _ => {
                let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                Err(format!(
                    "several sinks have rules: {names}; choose one with --sink"
                ))
            }
        }
    }
}

impl SinkSettings {
    /// The relabelling rules, if the type has them.
    fn rules(&self) -> Option<Rules> {
        match self {
            SinkSettings::RemoteWrite(settings) => Some(settings.rules()),
            _ => None,
        }
    }

    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            SinkSettings::Operations(_) => "operations",
            SinkSettings::Loki(_) => "loki",
            SinkSettings::OpenSearch(_) => "opensearch",
            SinkSettings::Cql(_) => "cql",
            SinkSettings::RemoteWrite(_) => "remote_write",
        }
    }
}

/// Reads the settings of one type of sink.
type Read = fn(Table<'_>) -> Option<SinkConfig>;

/// The types, and how the settings of each are read.
const TYPES: [(&str, Read); 5] = [
    ("operations", |table| {
        let (settings, queue) = operations::read(table)?;
        let settings = SinkSettings::Operations(settings);
        Some(SinkConfig { settings, queue })
    }),
    ("loki", |table| {
        let (settings, queue) = loki::read(table)?;
        let settings = SinkSettings::Loki(settings);
        Some(SinkConfig { settings, queue })
    }),
    ("opensearch", |table| {
        let (settings, queue) = opensearch::read(table)?;
        let settings = SinkSettings::OpenSearch(settings);
        Some(SinkConfig { settings, queue })
    }),
    ("cql", |table| {
        let (settings, queue) = cql::read(table)?;
        let settings = SinkSettings::Cql(settings);
        Some(SinkConfig { settings, queue })
    }),
    ("remote_write", |table| {
        let (settings, queue) = remote_write::read(table)?;
        let settings = SinkSettings::RemoteWrite(Box::new(settings));
        Some(SinkConfig { settings, queue })
    }),
];

/// Limit on the number of sinks: each has its own task and metrics.
const MAX_SINKS: usize = 100;

/// Limit of the length of a name in bytes. Names are values of labels.
const MAX_NAME: usize = 64;

/// Takes the sinks out of the table of all settings.
pub fn take(root: &mut Table<'_>) -> Config {
    let mut sinks = BTreeMap::new();
    root.take_named_tables("sinks", |name, mut table| {
        if let Some(problem) = problem(name, sinks.len())
            && let Some(place) = table.own_place()
        {
            table.fault(place.clone(), problem);
        }
        let read = table.take_required("type", choice(&TYPES))?;
        let sink = read(table)?;
        sinks.insert(name.to_owned(), sink);
        Some(())
    });
    Config(sinks)
}

/// The problem with the name of a sink, or with their number.
fn problem(name: &str, before: usize) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Some(format!(
            "the name of a sink must have 1 to {MAX_NAME} letters, digits, \"_\" and \"-\", not \
             {name:?}"
        ));
    }
    (before >= MAX_SINKS).then(|| format!("there are more than {MAX_SINKS} sinks"))
}
