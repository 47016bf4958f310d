//! How metrics come in. Each input is a folder with its configuration, its listener
//! or endpoints, its translation into a [`Write`](crate::store::Write) or a
//! [`Batch`](crate::registry::Batch), and its tests. Inputs know neither one another
//! nor the outputs.
//!
//! - [`sockets`]: apps push to TCP and Unix sockets, as JSON or Cap'n Proto.
//! - [`poller`]: the proxy scrapes other exporters.
//! - [`push`]: Pushgateway's protocol; a push replaces what its group exposed.
//! - [`aggregate`]: a push is added to aggregated families.
//! - [`operations`]: JSON operations and StatsD, over TCP, UDP and Unix sockets.
//! - [`values`]: `/create` and `/update`, as with pingpong.
//! - [`webhooks`]: notifications of Alertmanager, Slack and PagerDuty.

pub mod aggregate;
pub mod operations;
pub mod parameters;
pub mod poller;
pub mod push;
pub mod sockets;
pub mod values;
pub mod webhooks;
