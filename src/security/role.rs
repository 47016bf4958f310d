//! Roles.

use serde::Serialize;

/// A permission of a sender or reader. The route table names the role that each route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read metrics and lists.
    Read,
    /// Change the metrics of one sender.
    Write,
    /// Change the metrics of many senders, or stop the program. Includes the other roles.
    Admin,
}

impl Role {
    /// All roles, in order of their discriminants.
    pub const ALL: [Role; 3] = [Role::Read, Role::Write, Role::Admin];

    /// The word for settings, messages and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Admin => "admin",
        }
    }
}
