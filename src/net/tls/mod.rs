//! TLS on TCP listeners.
//!
//! - [`settings`]: the `tls` tables, with the keys of exporter-toolkit.
//! - [`load`] builds the configuration of a server from them and their [`files`], with
//!   [`client_auth`] for client certificates. A [`source`] is such a file, or its text in
//!   the settings.
//! - [`TlsServer`] keeps that configuration, and replaces it when files change.
//! - [`Handshake`] secures a connection, in its task.
//! - [`certificate`] reads the names and the expiry of a certificate.

mod certificate;
mod client_auth;
mod error;
mod files;
mod handshake;
mod load;
mod server;
pub mod settings;
mod source;

pub use error::TlsError;
pub use handshake::Handshake;
pub use load::{Loaded, Protocols, load};
pub use server::TlsServer;
pub use settings::TlsSettings;
