//! Values that are replaced while the program runs.
//!
//! A listener, a connection or the store holds a [`Live`] value and reads it for each
//! request, message or write. A reload of the configuration replaces it. Reading takes no
//! lock, and a value that was read stays as it was until its reader drops it.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// A handle to a value that can be replaced. Clones share the value.
#[derive(Debug)]
pub struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    /// A handle to `value`.
    pub fn new(value: T) -> Self {
        Live::of(Arc::new(value))
    }

    /// A handle to a shared value.
    pub fn of(value: Arc<T>) -> Self {
        Live(Arc::new(ArcSwap::new(value)))
    }

    /// The current value.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Whether `value` is the current one. This costs less than loading it.
    pub fn is_current(&self, value: &Arc<T>) -> bool {
        Arc::ptr_eq(&self.0.load(), value)
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.set_shared(Arc::new(value));
    }

    /// Replaces the value with a shared one.
    pub fn set_shared(&self, value: Arc<T>) {
        self.0.store(value);
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Live::new(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_newest_value() {
        let live = Live::new(1);
        let (before, other) = (live.load(), live.clone());
        assert!(other.is_current(&before));
        live.set(2);
        assert_eq!((*before, *other.load()), (1, 2));
        assert!(!other.is_current(&before));
    }
}
