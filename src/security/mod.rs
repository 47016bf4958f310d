//! Who may read, write and administer.
//!
//! - [`config`]: the settings of `[web]`; [`web_file`]: the file that they name, in the
//!   format of exporter-toolkit.
//! - [`Access`] decides, by [`rules`] made from both: a [`Caller`] has a [`Role`] or is
//!   turned away, and a [`Scope`] limits what it may write.
//! - [`passwords`] and [`attempts`] keep passwords from being guessed.
//!
//! Enforcement happens elsewhere: [`http::dispatch`](crate::http::dispatch) asks for the
//! role of the route, and sockets ask for `write` when a connection begins.

mod access;
mod attempts;
mod caller;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod passwords;
mod role;
mod rules;
mod scope;
#[cfg(test)]
mod tests;
mod web_file;

pub use access::{Access, AccessError, Denial, Grant};
pub use caller::Caller;
pub use config::{ListenerKind, Web};
pub use passwords::{HashError, hash_password};
pub use role::Role;
pub use rules::{FileProblem, Rules, named_files};
pub use scope::{Bounds, OutOfScope, Scope};
