//! HTTP requests to other systems: the parts that the poller and the sinks share.
//!
//! - [`tls`]: the `tls` table of a server; [`trust`]: how its certificate is verified;
//! - [`credentials`]: users, tokens and headers, with secrets from files;
//! - [`proxy`]: the HTTP proxy in between;
//! - [`files`]: reads files that settings name;
//! - [`failure`]: why a request failed, in one short line.

pub mod credentials;
mod failure;
mod files;
mod proxy;
pub mod tls;
pub mod trust;

use std::hash::{BuildHasher as _, RandomState};
use std::process;
use std::sync::LazyLock;

pub use credentials::{CredentialError, Credentials};
pub use failure::{causes, explain, explain_http, explain_io, is_end};
pub use files::{CaFile, ca_file};
pub use proxy::{ProxyChoice, ProxyUrl, proxy_url};
pub use tls::ClientTls;

/// The `User-Agent` of requests.
pub const AGENT: &str = concat!("exporter-proxy/", env!("CARGO_PKG_VERSION"));

/// The header with the [`instance`] that requests a list of targets.
pub const INSTANCE_HEADER: &str = "x-exporter-proxy-instance";

/// A random name of this process, by which it recognizes its own requests.
pub fn instance() -> &'static str {
    static INSTANCE: LazyLock<String> =
        LazyLock::new(|| format!("{:016x}", RandomState::new().hash_one(process::id())));
    &INSTANCE
}
