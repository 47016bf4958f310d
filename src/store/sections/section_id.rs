//! The name of a section.

use std::fmt;
use std::sync::Arc;

/// NameCache a section. Sections are exposed in the order of their ids: by name,
/// an app before a target of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId {
    pub name: Arc<str>,
    pub producer: Producer,
}

impl SectionId {
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
            // Its name has quotes of its own.
            Producer::Group => write!(f, "group {}", self.name),
            Producer::Target => write!(f, "target {:?}", self.name),
            Producer::App | Producer::Own => write!(f, "app {:?}", self.name),
        }
    }
}

/// What sort of producer a section is of. An app and a target may have the
/// same name, and still cannot replace one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// A sender that pushes its text.
    App,
    /// An upstream exporter that is polled.
    Target,
    /// A group of series that is pushed over HTTP. Its name is the canonical
    /// text of its labels.
    Group,
    /// The proxy itself.
    Own,
}

impl Producer {
    pub fn as_str(self) -> &'static str {
        match self {
            Producer::App => "app",
            Producer::Target => "target",
            Producer::Group => "group",
            Producer::Own => "own",
        }
    }
}
