//! Stores the messages of one listener.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::{Message, MessageError};
use crate::clock::Now;
use crate::ingest::{Admission, Rejection};
use crate::net::{BlockingPool, MemoryBudget};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::security::{Access, Scope};
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::MessageStats;

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    pub config: Arc<Config>,
    pub admission: Arc<Admission>,
    pub store: Arc<Store>,
    pub access: Arc<Access>,
    pub stats: Arc<MessageStats>,
    /// Memory for incomplete messages of all listeners.
    pub budget: Arc<MemoryBudget>,
    /// Threads for large messages of all listeners.
    pub pool: BlockingPool,
    /// The listener's address, which is the source of its messages.
    pub source: Arc<str>,
    pub stop: CancellationToken,
}

impl Service {
    /// Stores a message completely, or not at all.
    /// `scope` is what the sender may write.
    pub fn store(&self, message: Message, peer: Peer, scope: &Scope) -> Result<(), MessageError> {
        let now = Now::read();
        let mut changes = Vec::with_capacity(message.apps.len());
        let mut budget = self.admission.message_budget();
        for (name, text) in message.apps {
            check_name(&name, self.config.max_app_name)?;
            scope
                .check_app(&name)
                .map_err(|problem| MessageError::new(Reason::Forbidden, problem.to_string()))?;
            let id = SectionId::new(&name, Producer::App);
            let admitted = self.admission.admit(&id, text, None);
            match admitted.and_then(|content| budget.take(&id, content)) {
                Ok(content) => changes.push(Change::Replace {
                    id,
                    content,
                    origin: self.origin(peer),
                    lifetime: self.config.app_ttl,
                }),
                Err(rejection) => return Err(self.rejected(id, peer, rejection, now)),
            }
        }
        self.store.apply(Write { changes }, now).map_err(|error| {
            let id = error.section().clone();
            self.rejected(id, peer, Rejection::from(error), now)
        })
    }

    /// Records with the app why its text was rejected, and returns the error.
    fn rejected(&self, id: SectionId, peer: Peer, rejection: Rejection, now: Now) -> MessageError {
        let fail = Change::Fail {
            id,
            origin: self.origin(peer),
            problem: format!("{}: {}", rejection.reason, rejection.message),
            keep: None,
        };
        // The store never rejects a failure.
        let _ = self.store.apply(Write::one(fail), now);
        MessageError::new(rejection.reason, rejection.message)
    }

    fn origin(&self, peer: Peer) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer,
        }
    }
}

/// Checks the name of an app, of at most `max` bytes.
fn check_name(name: &str, max: usize) -> Result<(), MessageError> {
    let problem = if name.is_empty() {
        "an app's name may not be empty".to_owned()
    } else if name.len() > max {
        format!(
            "an app's name of {} bytes exceeds the limit of {max} bytes (receiver.max_app_name)",
            name.len()
        )
    } else if name.chars().any(char::is_control) {
        format!("an app's name may not have control characters: {name:?}")
    } else {
        return Ok(());
    };
    Err(MessageError::new(Reason::BadName, problem))
}
