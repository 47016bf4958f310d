//! The caller: who is at the other end of a connection.

use std::sync::Arc;

use super::config::ListenerKind;
use crate::peer::{ClientIdentity, Peer};

/// The other end of a connection, as far as the connection itself shows.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The kind of listener.
    pub listener: ListenerKind,
    /// The address or process.
    pub peer: Peer,
    /// The group that the process runs as; `None` unless this is a Unix socket.
    pub gid: Option<u32>,
    /// The names in its client certificate, if it was verified.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl Caller {
    /// The user by connection: the name in the client certificate.
    pub fn user(&self) -> Option<Arc<str>> {
        let identity = self.identity.as_ref()?;
        Some(Arc::from(format!("certificate {identity}")))
    }
}
