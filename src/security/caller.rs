//! Who is at the other end of a connection.

use std::sync::Arc;

use super::config::Door;
use crate::peer::{ClientIdentity, Peer};

/// The other end of a connection, as far as the connection tells.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The kind of listener.
    pub door: Door,
    /// The address, or the process.
    pub peer: Peer,
    /// The group that the process runs as; `None` unless this is a Unix socket.
    pub gid: Option<u32>,
    /// The names in its certificate, if it has one that was verified.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl Caller {
    /// The user that the connection tells: the name in its certificate.
    pub fn user(&self) -> Option<Arc<str>> {
        let identity = self.identity.as_ref()?;
        Some(Arc::from(format!("certificate {identity}")))
    }
}
