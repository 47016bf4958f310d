//! The scope of writes: which apps and series a sender may write.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::settings::pattern::Pattern;

/// The apps and series that a sender may write and delete: all, or those within the bounds
/// of an entry of `web.access`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// `None` means no bounds. With several, one that allows the write is enough.
    bounds: Option<Arc<[Arc<Bounds>]>>,
}

/// The bounds of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Patterns for app names, one of which must match. Empty: no apps.
    pub apps: Vec<Pattern>,
    /// Patterns for the labels of a group or series, all of which must match. Empty: no
    /// groups or series.
    pub labels: BTreeMap<String, Pattern>,
}

/// A write outside of the sender's bounds, with a message for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutOfScope(String);

impl Scope {
    /// All apps and series.
    pub const ALL: Scope = Scope { bounds: None };

    /// Everything within one of the bounds.
    pub fn within(bounds: impl IntoIterator<Item = Arc<Bounds>>) -> Self {
        Scope {
            bounds: Some(bounds.into_iter().collect()),
        }
    }

    /// Nothing.
    pub fn nothing() -> Self {
        Scope::within([])
    }

    /// Whether the scope has bounds.
    pub fn is_bound(&self) -> bool {
        self.bounds.is_some()
    }

    /// Checks that an app may be written.
    ///
    /// # Errors
    ///
    /// No pattern matches its name.
    pub fn check_app(&self, name: &str) -> Result<(), OutOfScope> {
        let Some(bounds) = &self.bounds else {
            return Ok(());
        };
        if bounds.is_empty() {
            return Err(no_role());
        }
        let mut patterns = bounds.iter().flat_map(|bounds| &bounds.apps);
        match patterns.any(|pattern| pattern.matches(name)) {
            true => Ok(()),
            false => Err(OutOfScope(format!(
                "this sender may not write the app {name:?} (web.access.apps)"
            ))),
        }
    }

    /// Checks that a group or series may be written. `value` returns the value of one of
    /// its labels; `what` names it in the message.
    ///
    /// # Errors
    ///
    /// A label is missing, or its value does not match.
    pub fn check_labels(
        &self,
        value: impl Fn(&str) -> Option<String>,
        what: impl FnOnce() -> String,
    ) -> Result<(), OutOfScope> {
        let Some(bounds) = &self.bounds else {
            return Ok(());
        };
        let matches = |(name, pattern): (&String, &Pattern)| {
            // An empty value is that of a missing label.
            value(name).is_some_and(|value| !value.is_empty() && pattern.matches(&value))
        };
        let within =
            |bounds: &Arc<Bounds>| !bounds.labels.is_empty() && bounds.labels.iter().all(matches);
        match bounds.iter().any(within) {
            true => Ok(()),
            false => Err(OutOfScope(format!(
                "this sender may not write {} (web.access.labels)",
                what()
            ))),
        }
    }
}

/// The error of a sender that may write nothing.
fn no_role() -> OutOfScope {
    OutOfScope("this sender does not have the role write (web.access)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(apps: &[&str], labels: &[(&str, &str)]) -> Arc<Bounds> {
        let label = |(name, value): &(&str, &str)| ((*name).to_owned(), Pattern::new(*value));
        Arc::new(Bounds {
            apps: apps.iter().map(|app| Pattern::new(*app)).collect(),
            labels: labels.iter().map(label).collect(),
        })
    }

    fn allows(scope: &Scope, labels: &[(&str, &str)]) -> bool {
        let value = |name: &str| {
            let found = labels.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        scope.check_labels(value, || "it".to_owned()).is_ok()
    }

    #[test]
    fn bounds_allow_matching_apps_and_series_with_all_labels() {
        let scope = Scope::within([bounds(&["shop-*"], &[("job", "backup"), ("site", "z*")])]);
        assert!(scope.check_app("shop-a").is_ok());
        let problem = scope.check_app("bank").unwrap_err().to_string();
        assert!(problem.contains("app \"bank\""), "{problem}");
        assert!(allows(
            &scope,
            &[("job", "backup"), ("site", "zrh"), ("x", "y")]
        ));
        assert!(!allows(&scope, &[("job", "backup")]));
        assert!(!allows(&scope, &[("job", "other"), ("site", "zrh")]));
    }

    #[test]
    fn writes_without_a_pattern_are_not_allowed() {
        let apps = Scope::within([bounds(&["*"], &[])]);
        assert!(!allows(&apps, &[("job", "x")]));
        let labels = Scope::within([bounds(&[], &[("job", "*")])]);
        assert!(labels.check_app("x").is_err());
        let both = Scope::within([bounds(&["*"], &[]), bounds(&[], &[("job", "*")])]);
        assert!(both.check_app("x").is_ok() && allows(&both, &[("job", "x")]));
        assert!(Scope::ALL.check_app("x").is_ok() && allows(&Scope::ALL, &[]));
    }
}
