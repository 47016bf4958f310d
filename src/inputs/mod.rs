//! Inputs: how metrics come in. Each is a folder with its configuration, its listener or
//! endpoints, its translation into a [`Write`](crate::store::Write) or a
//! [`Batch`](crate::registry::Batch), and its tests. Inputs know neither one another nor
//! the outputs.
//!
//! - [`sockets`]: apps push to TCP and Unix sockets, as JSON or Cap'n Proto.
//! - [`poller`]: the proxy scrapes other exporters.
//! - [`push`]: Pushgateway's protocol; a push replaces what its group exposed.
//! - [`aggregate`]: a push is added to aggregated families.
//! - [`operations`]: JSON operations and StatsD, over TCP, UDP and Unix sockets.
//! - [`values`]: `/create` and `/update`, compatible with pingpong.
//! - [`webhooks`]: notifications of Alertmanager, Slack and PagerDuty.

pub mod aggregate;
pub mod operations;
pub mod parameters;
pub mod poller;
pub mod push;
pub mod sockets;
pub mod values;
pub mod webhooks;

use std::fmt;

use crate::context::Context;

/// A built input: its listeners are bound, but nothing is served yet. Stream listeners are
/// served by [`accept::serve`](crate::net::accept::serve), which counts connections by
/// [`ListenerName`](crate::telemetry::ListenerName); a new listener needs a variant there.
pub trait Input: fmt::Debug + Send {
    /// Logs its addresses, with the ports that the system chose for port 0.
    fn announce(&self);

    /// The number of connections it can have at once, for the file descriptor limit.
    fn connections(&self) -> usize {
        0
    }

    /// Starts its tasks, which end when `context.stop` is cancelled.
    fn start(self: Box<Self>, context: &Context);
}
