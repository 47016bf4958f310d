//! The identity of a section.

use std::fmt;
use std::sync::Arc;

/// Identifies a section. Sections are exposed in the order of their ids: by name, and
/// of one name an app before a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId {
    /// The app's or target's name, or the group's labels in canonical form.
    pub name: Arc<str>,
    /// The kind of producer.
    pub producer: Producer,
}

impl SectionId {
    /// The id of a producer's section.
    pub fn new(name: &str, producer: Producer) -> Self {
        SectionId {
            name: Arc::from(name),
            producer,
        }
    }

    /// The section of the proxy's own metrics.
    pub fn own() -> Self {
        SectionId::new("", Producer::Own)
    }
}

impl fmt::Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.producer {
            // A group's name has quotes of its own.
            Producer::Group => write!(f, "group {}", self.name),
            Producer::Target => write!(f, "target {:?}", self.name),
            Producer::App | Producer::Own => write!(f, "app {:?}", self.name),
        }
    }
}

/// The kind of producer that a section belongs to. An app and a target of the same name
/// have a section each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// A sender that pushes its text.
    App,
    /// An upstream exporter that is polled.
    Target,
    /// A group of series that is pushed over HTTP. Its name is the canonical text of its
    /// labels.
    Group,
    /// The proxy itself.
    Own,
}

impl Producer {
    /// Whether storage keeps its sections. Targets are polled again, and the proxy
    /// writes its own metrics again.
    pub fn is_kept(self) -> bool {
        matches!(self, Producer::App | Producer::Group)
    }

    /// The word for this kind, as the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Producer::App => "app",
            Producer::Target => "target",
            Producer::Group => "group",
            Producer::Own => "own",
        }
    }
}
