//! The permissions of a sender of operations.

use super::rejection::Rejection;
use crate::event::Draft;
use crate::exposition::{LabelText, unescape};
use crate::reason::Reason;
use crate::security::{Access, Caller, Denial, Role, Scope};

/// The permissions of a sender of operations.
#[derive(Debug, Clone)]
pub(super) struct Permission {
    /// The series that it may change.
    scope: Scope,
    /// Whether it may stop the program.
    may_stop: bool,
}

impl Permission {
    /// Permission for everything, if nobody needs a role.
    pub(super) const ALL: Permission = Permission {
        scope: Scope::ALL,
        may_stop: true,
    };

    /// The permissions of a caller.
    ///
    /// # Errors
    ///
    /// The caller may not write.
    pub(super) fn of(access: &Access, caller: &Caller) -> Result<Self, Denial> {
        Ok(Permission {
            scope: access.authorize_connection(Role::Write, caller)?,
            may_stop: access.has_role(Role::Admin, caller),
        })
    }

    /// Checks that a series may be changed.
    pub(super) fn check_series(&self, family: &str, labels: &LabelText) -> Result<(), Rejection> {
        let value = |name: &str| {
            let found = labels.iter().find(|label| unescape(label.name) == name);
            found.map(|label| unescape(label.value).into_owned())
        };
        let what = || format!("the series {family}{{{labels}}}");
        let checked = self.scope.check_labels(value, what);
        checked.map_err(|problem| Rejection::new(Reason::Forbidden, problem.to_string()))
    }

    /// Checks that an event may be sent.
    pub(super) fn check_event(&self, draft: &Draft) -> Result<(), Rejection> {
        let value = |name: &str| {
            let content = draft.content()?;
            let found = content.labels.iter().find(|(label, _)| *label == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let what = || format!("this {}", draft.kind.as_str());
        let checked = self.scope.check_labels(value, what);
        checked.map_err(|problem| Rejection::new(Reason::Forbidden, problem.to_string()))
    }

    /// Checks that the sender may stop the program.
    pub(super) fn check_stop(&self) -> Result<(), Rejection> {
        match self.may_stop {
            true => Ok(()),
            false => {
                let problem = "op shutdown needs the role admin (web.access)";
                Err(Rejection::new(Reason::Forbidden, problem))
            }
        }
    }
}
