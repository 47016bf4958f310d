//! Receivers: apps push over TCP and Unix sockets, as JSON or Cap'n Proto.
//!
//! Bytes flow through three steps, the first two of them pure:
//!
//! 1. [`inbox`] takes bytes as they arrive, finds out the format, and cuts
//!    complete messages out of the stream with [`json`] or [`capnp`];
//! 2. a [`Message`] is checked and becomes one [`Write`];
//! 3. [`connection`] does the reading, the waiting and the answering.

mod capnp;
pub mod config;
mod connection;
mod failure;
mod inbox;
mod json;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::exposition::Text;
use crate::ingest::{Admission, Rejection};
use crate::net::{BlockingPool, MemoryBudget};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::MessageStats;

pub use connection::serve;
pub use failure::Failure;
pub use inbox::{Inbox, Limits};

/// Everything the connections of one receiver share.
#[derive(Debug)]
pub struct Receiver {
    pub config: config::Config,
    pub admission: Arc<Admission>,
    pub store: Arc<Store>,
    pub received: Arc<MessageStats>,
    /// Memory for unfinished messages, shared by all receivers.
    pub budget: Arc<MemoryBudget>,
    /// Places for large messages whose texts are read, shared likewise.
    pub turns: BlockingPool,
    /// The listener's address: the source of what comes in here.
    pub source: Arc<str>,
    pub stop: CancellationToken,
}

/// A message, decoded: what each named app exposes from now on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub apps: Vec<(String, Text)>,
}

impl Receiver {
    /// Stores all of a message, or nothing.
    fn store(&self, message: Message, peer: Peer) -> Result<(), Failure> {
        let now = Now::read();
        let mut changes = Vec::with_capacity(message.apps.len());
        let mut left = self.admission.left();
        for (name, text) in message.apps {
            check_name(&name, self.config.max_app_name)?;
            let id = SectionId::new(&name, Producer::App);
            let admitted = self.admission.admit(&id, text, None);
            match admitted.and_then(|content| left.take(&id, content)) {
                Ok(content) => changes.push(Change::Replace {
                    id,
                    content,
                    origin: self.origin(peer),
                    lifetime: self.config.app_ttl,
                }),
                Err(rejection) => return Err(self.note(id, peer, rejection, now)),
            }
        }
        self.store.apply(Write { changes }, now).map_err(|refused| {
            let id = refused.section().clone();
            self.note(id, peer, Rejection::from(refused), now)
        })
    }

    /// Notes with the app at fault why its push was refused.
    fn note(&self, id: SectionId, peer: Peer, rejection: Rejection, now: Now) -> Failure {
        let fail = Change::Fail {
            id,
            origin: self.origin(peer),
            problem: format!("{}: {}", rejection.reason, rejection.message),
            keep: None,
        };
        // Nothing that only fails is refused.
        let _ = self.store.apply(Write::one(fail), now);
        Failure::new(rejection.reason, rejection.message)
    }

    fn origin(&self, peer: Peer) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer,
        }
    }
}

fn check_name(name: &str, longest: usize) -> Result<(), Failure> {
    let problem = if name.is_empty() {
        "an app's name may not be empty".to_owned()
    } else if name.len() > longest {
        format!(
            "an app's name may have {longest} bytes (receiver.max_app_name), and this one has {}",
            name.len()
        )
    } else if name.chars().any(char::is_control) {
        format!("an app's name may not have control characters: {name:?}")
    } else {
        return Ok(());
    };
    Err(Failure::new(Reason::BadName, problem))
}
