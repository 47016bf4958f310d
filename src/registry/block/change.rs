//! Changes values in place.

use std::sync::Arc;

use super::{Block, BlockValues, bit};
use crate::registry::batch::{Change, QuantileSpec};
use crate::registry::known::ValueChange;
use crate::registry::series::{ChangeContext, changed_number};
use crate::registry::time::{NEVER, Nanos};

impl Block {
    /// Changes the value of the series in a slot, and returns when it next changes without an
    /// update. `None` if nothing was changed, because the series would take other lines or more
    /// memory, or because the change is not valid.
    pub fn change(
        &mut self,
        slot: usize,
        change: ValueChange,
        spec: Option<&Arc<QuantileSpec>>,
        context: ChangeContext<'_>,
        deadline: Nanos,
    ) -> Option<Nanos> {
        debug_assert!(self.occupied & bit(slot) != 0, "a series without a value");
        let mut step = NEVER;
        let is_other = match (&mut self.values, change) {
            (BlockValues::Numbers(_), _) if self.windows.contains_key(&(slot as u8)) => {
                return None;
            }
            (BlockValues::Numbers(numbers), change) => {
                let change = match change {
                    ValueChange::Add(value) => Change::Add(value),
                    ValueChange::Set(value) => Change::Set(value),
                    ValueChange::Observe { .. } => return None,
                };
                let number = numbers.get_mut(slot)?;
                let after = changed_number(Some(*number), &change, context).ok()?;
                let is_other = number.to_bits() != after.to_bits();
                *number = after;
                is_other
            }
            (BlockValues::Histograms(histograms), ValueChange::Observe { value, times }) => {
                let histogram = histograms.get_mut(slot)?;
                let fits = histogram.bounds.len() <= context.max_bounds;
                fits.then(|| histogram.observe_in_place(value, times, context.series))??;
                true
            }
            (BlockValues::Summaries(summaries), ValueChange::Observe { value, times }) => {
                let summary = summaries.get_mut(slot)?;
                summary.observe_in_place((value, times), spec?, context.now, context.series)?;
                step = summary.next_step();
                true
            }
            _ => return None,
        };
        self.set_deadline(slot, deadline);
        // A number that stays the same need not be rendered.
        if is_other {
            self.dirty.add(slot);
        }
        Some(step)
    }
}
