//! Stores the messages of one listener.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::{Message, MessageError};
use crate::clock::Now;
use crate::fairness::{Account, Excess, Fairness};
use crate::ingest::{Admission, Rejection};
use crate::net::{BlockingPool, MemoryBudget};
use crate::peer::{Origin, Peer};
use crate::reason::Reason;
use crate::security::{Access, Scope};
use crate::store::{Change, Producer, SectionId, Store, Write};
use crate::telemetry::MessageStats;

/// The state that all connections of one listener share.
#[derive(Debug)]
pub struct Service {
    pub config: Arc<Config>,
    pub admission: Arc<Admission>,
    pub store: Arc<Store>,
    pub access: Arc<Access>,
    pub fairness: Arc<Fairness>,
    pub stats: Arc<MessageStats>,
    /// Memory for incomplete messages of all listeners.
    pub budget: Arc<MemoryBudget>,
    /// Threads for large messages of all listeners.
    pub pool: BlockingPool,
    /// The listener's address, recorded as the source of its messages.
    pub source: Arc<str>,
    pub stop: CancellationToken,
}

/// The sender of a connection.
#[derive(Debug, Clone)]
pub struct Author {
    pub peer: Peer,
    /// The user by connection: the name in the client certificate.
    pub user: Option<Arc<str>>,
    /// The apps that it may write.
    pub scope: Scope,
}

impl Service {
    /// Stores a message completely or not at all. Returns the account of an app that must
    /// then wait.
    pub fn store(
        &self,
        message: Message,
        author: &Author,
    ) -> Result<Option<Account>, MessageError> {
        let now = Now::read();
        let mut overdrawn = None;
        let mut changes = Vec::with_capacity(message.apps.len());
        let mut budget = self.admission.message_budget();
        for (name, text) in message.apps {
            check_name(&name, self.config.max_app_name)?;
            author.scope.check_app(&name).map_err(|problem| {
                MessageError::new(Reason::Forbidden, problem.to_string()).of_app(&Arc::from(&*name))
            })?;
            if let Some(app) = self.fairness.app(&name) {
                app.check(now.tick)
                    .map_err(|excess| self.over_limit(&excess).of_app(&Arc::from(&*name)))?;
                app.charge(1, text.len(), now.tick);
                if app.check(now.tick).is_err() {
                    overdrawn = Some(app);
                }
            }
            let id = SectionId::new(&name, Producer::App);
            let admitted = self.admission.admit_from(&self.source, &id, text);
            match admitted.and_then(|content| budget.take(&id, content)) {
                Ok(content) => changes.push(Change::Replace {
                    id,
                    content,
                    origin: self.origin(author),
                    lifetime: self.config.app_ttl,
                }),
                Err(rejection) => return Err(self.rejected(id, author, &rejection, now)),
            }
        }
        let applied = self.store.apply(Write { changes }, now);
        applied.map_err(|error| {
            let id = error.section().clone();
            self.rejected(id, author, &Rejection::from(error), now)
        })?;
        Ok(overdrawn)
    }

    /// Counts an exceeded rate, and returns the error.
    pub fn over_limit(&self, excess: &Excess) -> MessageError {
        self.fairness.count(excess);
        MessageError::new(Reason::RateLimited, excess.to_string())
    }

    /// Records the rejection with the app, and returns the error.
    fn rejected(
        &self,
        id: SectionId,
        author: &Author,
        rejection: &Rejection,
        now: Now,
    ) -> MessageError {
        let error = MessageError::new(rejection.reason, &rejection.message).of_app(&id.name);
        let fail = Change::Fail {
            id,
            origin: self.origin(author),
            problem: format!("{}: {}", rejection.reason, rejection.message),
            keep: None,
        };
        // The store never rejects a failure.
        let _ = self.store.apply(Write::one(fail), now);
        error
    }

    fn origin(&self, author: &Author) -> Origin {
        Origin {
            source: Arc::clone(&self.source),
            peer: author.peer,
            user: author.user.clone(),
        }
    }
}

/// Checks an app's name, which may have at most `max` bytes.
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
