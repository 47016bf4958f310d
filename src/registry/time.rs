//! Time as the registry counts it.

/// Nanoseconds since the first time the registry was given, or the one that it
/// continues; see [`Registry::restore_clock`](super::Registry::restore_clock).
pub type Nanos = u64;

/// A time that never comes.
pub const NEVER: Nanos = u64::MAX;
