//! How metrics come in. Each input turns bytes into a
//! [`Write`](crate::store::Write), and knows nothing of how they go out.
//!
//! - [`sockets`]: apps push over TCP and Unix sockets.
//! - [`poller`]: the proxy scrapes other exporters.

pub mod aggregate;
pub mod operations;
pub mod poller;
pub mod push;
pub mod sockets;
pub mod values;
pub mod webhooks;
