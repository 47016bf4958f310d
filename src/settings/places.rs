//! Where settings are written.

use std::collections::HashMap;
use std::sync::Arc;

use super::document::Place;

/// Where each setting is written, by its name, such as `push.listen`. Items of lists are
/// left out. Configurations are equal wherever their settings are written.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<HashMap<String, Place>>);

impl Places {
    /// Places by setting.
    pub fn new(places: HashMap<String, Place>) -> Self {
        Places(Arc::new(places))
    }

    /// Where a setting is written; `None` if it has its default.
    pub fn of(&self, setting: &str) -> Option<&Place> {
        self.0.get(setting)
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}
