//! Where a new configuration comes from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Loaded;
use crate::settings::ConfigError;
use crate::watched::FileState;

/// Reads the configuration.
type Load = Arc<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>;

/// Called when a reload begins or has ended.
type Notify = Box<dyn Fn() + Send + Sync>;

/// Where a reload takes the configuration from.
pub struct Source {
    pub(super) load: Load,
    /// The watched file, and its state before it was read at the start.
    pub(super) watched: Option<(PathBuf, FileState)>,
    pub(super) on_begin: Notify,
    pub(super) on_end: Notify,
}

impl Source {
    /// A source that reads the configuration with `load`, which can block.
    pub fn new(load: impl Fn() -> Result<Loaded, ConfigError> + Send + Sync + 'static) -> Self {
        Source {
            load: Arc::new(load),
            watched: None,
            on_begin: Box::new(|| {}),
            on_end: Box::new(|| {}),
        }
    }

    /// Also reloads when this file changes. `state` is its state before it was read at the start.
    #[must_use]
    pub fn watching(self, file: PathBuf, state: FileState) -> Self {
        Source {
            watched: Some((file, state)),
            ..self
        }
    }

    /// Calls `on_begin` before each reload, and `on_end` after it.
    #[must_use]
    pub fn notifying(
        self,
        on_begin: impl Fn() + Send + Sync + 'static,
        on_end: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Source {
            on_begin: Box::new(on_begin),
            on_end: Box::new(on_end),
            ..self
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}
