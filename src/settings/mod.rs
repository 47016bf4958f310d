//! Reads settings. A TOML file and the environment become one [document], and each part
//! of the program takes its settings out of a [`Table`] by key and type. Errors carry
//! `file:line:column`.

pub mod destination;
pub mod document;
pub mod environment;
pub mod error;
pub mod listen;
pub mod network;
pub mod pattern;
pub mod places;
pub mod reader;
pub mod value;

pub use destination::Destination;
pub use document::{Node, Place};
pub use error::{ConfigError, Diagnostic, Warning};
pub use places::Places;
pub use reader::Table;
pub use value::{Address, Secret, duration_of};
