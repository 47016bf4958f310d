//! Checks that a sender writes only what it may (`web.access`).

use super::{Group, Rejection};
use crate::exposition::unescape;
use crate::reason::Reason;
use crate::registry::Batch;
use crate::security::{OutOfScope, Scope};

/// Checks the labels of a group.
///
/// # Errors
///
/// The sender is bound to other labels.
pub fn check_group(scope: &Scope, group: &Group) -> Result<(), Rejection> {
    let value = |name: &str| group.labels().get(name).cloned();
    Ok(scope.check_labels(value, || group.to_string())?)
}

/// Checks each series that a batch changes. A batch can also replace all series of a
/// family (`clearmode`), which a bound sender may not.
///
/// # Errors
///
/// The sender is bound to other labels.
pub fn check_batch(scope: &Scope, batch: &Batch) -> Result<(), Rejection> {
    if !scope.is_bound() {
        return Ok(());
    }
    if let Some(family) = batch.replace.first() {
        let message = format!(
            "this sender may not replace all series of {family} (web.access.labels): clearmode \
             \"family\" and \"info\" need a sender without bounds"
        );
        return Err(Rejection::new(Reason::Forbidden, &message));
    }
    for update in &batch.updates {
        let value = |name: &str| {
            let found = update.labels.iter().find(|it| unescape(it.name) == name);
            found.map(|label| unescape(label.value).into_owned())
        };
        let what = || format!("the series {}{{{}}}", update.family, update.labels);
        scope.check_labels(value, what)?;
    }
    Ok(())
}

impl From<OutOfScope> for Rejection {
    fn from(problem: OutOfScope) -> Self {
        Rejection::new(Reason::Forbidden, &problem.to_string())
    }
}
