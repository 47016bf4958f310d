//! Operations: programs that keep no state say what to count, and the values
//! are kept here.

mod buckets;
mod elsewhere;
mod fault;
mod framing;
mod labels;
mod message;
mod operation;
mod sets;
mod statsd;

pub use fault::Fault;
use framing::Found;
