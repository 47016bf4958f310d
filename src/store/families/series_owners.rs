//! The owner of each series: the section that exposes it.

use hashbrown::HashTable;

/// The owner of series that the registry exposes. Sections have other serial
/// numbers.
pub const REGISTRY_SERIAL: u32 = u32::MAX;

/// Owners of series, by the series' hashes. Each series in the store has an entry, so
/// entries are small.
#[derive(Debug, Default)]
pub struct SeriesOwners(HashTable<Owner>);

/// The two halves of a series' hash, and the serial number of its owner. These are 12
/// bytes; a `u64` would make them 16.
#[derive(Debug, Clone, Copy)]
struct Owner([u32; 3]);

impl Owner {
    fn new(series: u64, section: u32) -> Self {
        Owner([(series >> 32) as u32, series as u32, section])
    }

    fn series(&self) -> u64 {
        u64::from(self.0[0]) << 32 | u64::from(self.0[1])
    }
}

impl SeriesOwners {
    pub fn get(&self, series: u64) -> Option<u32> {
        let owner = self.0.find(series, |owner| owner.series() == series);
        owner.map(|owner| owner.0[2])
    }

    pub fn set(&mut self, series: u64, section: u32) {
        let is_it = |owner: &Owner| owner.series() == series;
        // The key is a hash already.
        let entry = self.0.entry(series, is_it, Owner::series);
        *entry.or_insert(Owner::new(series, section)).get_mut() = Owner::new(series, section);
    }

    pub fn remove(&mut self, series: u64) {
        let found = self.0.find_entry(series, |owner| owner.series() == series);
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_belongs_to_its_last_owner() {
        let mut owners = SeriesOwners::default();
        let series = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for round in 1..=2 {
            for n in 0..10_000 {
                owners.set(series(n), round * n as u32);
            }
        }
        assert_eq!(owners.len(), 10_000);
        for n in (0..10_000).step_by(2) {
            owners.remove(series(n));
            owners.remove(series(n));
        }
        assert_eq!(owners.len(), 5_000);
        for n in 0..10_000 {
            let expected = (n % 2 == 1).then_some(2 * n as u32);
            assert_eq!(owners.get(series(n)), expected);
        }
        // Hashes that differ in one half only.
        owners.set(7, 1);
        owners.set(7 | 1 << 40, 2);
        assert_eq!((owners.get(7), owners.get(7 | 1 << 40)), (Some(1), Some(2)));
    }
}
