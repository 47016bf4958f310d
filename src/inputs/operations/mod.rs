//! Operations: programs that keep no state themselves send changes, and the proxy keeps the
//! values. The messages are those of metrics-server and StatsD.
//!
//! Bytes take these steps. All but the first and the last are pure:
//!
//! 1. [`listener`] binds the sockets; [`stream`] and [`datagrams`] read them;
//! 2. [`framing`] cuts the bytes into JSON objects and StatsD lines;
//! 3. [`message`] and [`statsd`] parse one of these;
//! 4. [`translate`] turns it into changes of aggregated families, with labels from
//!    [`labels`], bucket bounds from [`buckets`], and the rules of [`mapping`] for
//!    StatsD lines;
//! 5. [`known_lines`] lets most StatsD lines skip steps 3 and 4;
//! 6. [`batcher`] applies the changes in batches. If a batch is rejected, it applies
//!    each message alone, so that a bad message does not affect the others.
//!
//! [`permission`] limits what a sender may do. [`processor`] holds the state that all
//! sockets share: settings, counters, the labels of [`extra_labels`], and the distinct
//! values of StatsD sets in [`sets`]. With `operations.forward_to`, [`sink`] encodes the
//! changes and hands them on instead of applying them. [`mapping_tool`] shows the effect of
//! the rules on lines.

mod batcher;
mod buckets;
pub mod config;
mod datagrams;
mod extra_labels;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod known_lines;
mod labels;
mod listener;
pub mod mapping;
pub mod mapping_tool;
mod message;
mod permission;
mod processor;
mod rejection;
mod sets;
mod sets_stored;
pub mod sink;
mod statsd;
mod stream;
mod translate;

#[cfg(test)]
mod tests;

pub use framing::{Frame, Framer};
pub use listener::{Operations, ReadyOperations, SocketOptions};
pub use rejection::Rejection;
pub use sets_stored::READABLE as READABLE_SETS;
