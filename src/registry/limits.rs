//! Limits of the registry.

/// Limits of a registry. A batch that would exceed one is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Families.
    pub families: usize,
    /// Series in all families together.
    pub series: usize,
    /// Series in one family.
    pub series_per_family: usize,
    /// Bytes of a series' labels, written as one text, and of a family's name.
    pub label_bytes: usize,
    /// Bucket bounds of a histogram, without `+Inf`.
    pub bounds: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        RegistryLimits {
            families: 100_000,
            series: 2_000_000,
            series_per_family: 1_000_000,
            label_bytes: 64 << 10,
            bounds: 1_000,
        }
    }
}
