//! How metrics come in. Each input turns bytes into a
//! [`Write`](crate::store::Write), and knows nothing of how they go out.
//!
//! - [`door`]: what every text goes through before it is stored.
//! - [`receiver`]: apps push over TCP and Unix sockets.
//! - [`poller`]: the proxy scrapes other exporters.

pub mod door;
pub mod operations;
pub mod poller;
pub mod receiver;
