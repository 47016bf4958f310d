//! The settings of the type `loki`.

use hyper::header::HeaderValue;
use serde::{Serialize, Serializer};

use super::line::Line;
use crate::outputs::sinks::QueueConfig;
use crate::outputs::sinks::http::HttpSettings;
use crate::settings::document::Node;
use crate::settings::reader::Table;
use crate::settings::value::{boolean, choice, text};

/// The settings of a sink for Loki.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The server.
    #[serde(flatten)]
    pub server: HttpSettings,
    /// The value of `X-Scope-OrgID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How requests are encoded.
    pub encoding: Encoding,
    /// Names of the labels that distinguish streams; empty for all.
    pub labels: Vec<String>,
    /// The text of an entry.
    #[serde(serialize_with = "write_line")]
    pub line: Line,
    /// Whether name, value and the labels that are not in [`labels`](Self::labels) become
    /// structured metadata of an entry.
    pub structured_metadata: bool,
}

/// How requests are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Protobuf, compressed with snappy.
    Protobuf,
    /// JSON.
    Json,
}

/// The path of the push API.
const PATH: &str = "/loki/api/v1/push";

/// Reads the table of a sink.
pub fn read(mut table: Table<'_>) -> Option<(Settings, QueueConfig)> {
    let server = HttpSettings::take(&mut table).map(|mut server| {
        if server.url.0.path() == "/" {
            server.url.0.set_path(PATH);
        }
        server
    });
    let encodings = &[("protobuf", Encoding::Protobuf), ("json", Encoding::Json)];
    let tenant = table.take_option("tenant", tenant);
    let encoding = table.take("encoding", Encoding::Protobuf, choice(encodings));
    let labels = table.take_list("labels", text);
    let line = table.take("line", Line::Json, |node| Line::parse(&text(node)?));
    let structured_metadata = table.take("structured_metadata", false, boolean);
    let queue = QueueConfig::take(&mut table, QueueConfig::default());
    table.finish();
    let settings = Settings {
        server: server?,
        tenant,
        encoding,
        labels,
        line,
        structured_metadata,
    };
    Some((settings, queue))
}

fn tenant(node: &Node) -> Result<String, String> {
    let tenant = text(node)?;
    match HeaderValue::from_str(&tenant) {
        Ok(_) if !tenant.is_empty() => Ok(tenant),
        _ => Err(format!(
            "must be a text that is valid in an HTTP header, not {tenant:?}"
        )),
    }
}

fn write_line<S: Serializer>(line: &Line, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(line)
}
