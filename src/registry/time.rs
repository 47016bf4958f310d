//! Time as the registry counts it.

/// Nanoseconds since the first time the registry was given.
pub type Nanos = u64;

/// A time that never comes.
pub const NEVER: Nanos = u64::MAX;
