//! The settings of the type `opensearch`.

use serde::Serialize;

use super::index::{IndexPattern, is_index_name};
use crate::outputs::sinks::QueueConfig;
use crate::outputs::sinks::http::HttpSettings;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{integer, text};

/// The settings of a sink for OpenSearch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The server.
    #[serde(flatten)]
    pub server: HttpSettings,
    /// The name of the index of a document.
    pub index: IndexPattern,
    /// The value of `{index}` for documents that name no index.
    pub default_index: String,
    /// The index template to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// An index template: settings and types of the fields of new indices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    /// The name of the template.
    pub name: String,
    /// Patterns of the index names that it applies to; `*` matches any characters.
    pub patterns: Vec<String>,
    /// Shards of an index.
    pub shards: usize,
    /// Copies of each shard.
    pub replicas: usize,
}

/// Reads the table of a sink.
pub fn read(mut table: Table<'_>) -> Option<(Settings, QueueConfig)> {
    let server = HttpSettings::take(&mut table);
    let index = table.take("index", IndexPattern::default(), |node| {
        IndexPattern::parse(&text(node)?)
    });
    let default_index = table.take("default_index", "metric-events".to_owned(), index_name);
    let template = table.optional_table("template").map(|(mut table, _)| {
        let template = Template {
            name: table.take("name", "metric-events".to_owned(), index_name),
            patterns: table.take_list("patterns", text),
            shards: table.take("shards", 9, integer(1, 1024)),
            replicas: table.take("replicas", 2, integer(0, 1024)),
        };
        table.finish();
        Template {
            patterns: match template.patterns.is_empty() {
                true => vec![index.wildcard()],
                false => template.patterns,
            },
            ..template
        }
    });
    let queue = QueueConfig::take(&mut table, QueueConfig::default());
    table.finish();
    let settings = Settings {
        server: server?,
        index,
        default_index,
        template,
    };
    Some((settings, queue))
}

fn index_name(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    match is_index_name(&name) {
        true => Ok(name),
        false => Err(format!(
            "can only have lower-case letters, digits, \"-\", \"_\" and \".\", with a letter or digit \
             first, not {name:?}"
        )),
    }
}
