//! Operations: programs that keep no state send what to count, and the values
//! are kept here. The messages are metrics-server's and StatsD's.
//!
//! Bytes take these steps, of which all but the first and the last are pure:
//!
//! 1. [`listener`] binds the sockets; [`stream`] and [`datagrams`] read them;
//! 2. [`framing`] cuts what was read into JSON objects and StatsD lines;
//! 3. [`message`] and [`statsd`] parse one of them;
//! 4. [`translate`] makes changes of aggregated families out of it, with the
//!    labels that [`labels`] puts together, the bounds from [`buckets`], and for
//!    StatsD lines what the rules of [`mapping`] say;
//! 5. [`known_lines`] spares most StatsD lines the steps 3 and 4;
//! 6. [`batcher`] applies the changes in batches. If a batch is rejected, it
//!    applies each message alone, so that one bad message does not affect the
//!    others.
//!
//! [`permission`] is what a sender may do. [`processor`] holds what all sockets share: settings, counters, the labels
//! of [`extra_labels`], and the distinct values of StatsD's sets in [`sets`].
//! With `operations.forward_to`, changes are encoded by [`sink`] and handed on
//! instead of applied. [`mapping_tool`] shows what the rules make of lines.

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
