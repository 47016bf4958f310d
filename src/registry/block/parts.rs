//! The exact state of a block, apart from the registry.

use std::collections::BTreeMap;

use super::{Block, BlockValues, Dirty, bit};
use crate::exposition::Kind;
use crate::registry::labels::LabelTexts;
use crate::registry::series::window::Window;
use crate::registry::time::{NEVER, Nanos};

/// Everything needed to make a block again. Labels are shared with the block, not copied.
#[derive(Debug, Clone)]
pub struct BlockParts {
    pub(in crate::registry) labels: LabelTexts,
    /// By slot. Values of free slots mean nothing.
    pub(in crate::registry) values: BlockValues,
    /// Windows by slot.
    pub(in crate::registry) windows: BTreeMap<u8, Box<Window>>,
    /// When each series expires, by slot. Slots past the end never do.
    pub(in crate::registry) deadlines: Vec<Nanos>,
}

impl BlockParts {
    /// When the series in a slot expires.
    pub(in crate::registry) fn deadline(&self, slot: usize) -> Nanos {
        self.deadlines.get(slot).copied().unwrap_or(NEVER)
    }
}

impl Block {
    /// A copy of the block's state.
    pub fn parts(&self) -> BlockParts {
        BlockParts {
            labels: self.labels.clone(),
            values: self.values.clone(),
            windows: self.windows.clone(),
            deadlines: self.deadlines.clone(),
        }
    }

    /// The block with this state. `values` are of the type that `kind` has, one for each slot that
    /// has labels.
    pub fn of_parts(kind: Kind, parts: BlockParts) -> Self {
        let mut block = Block::new(kind);
        block.labels = parts.labels;
        block.values = parts.values;
        block.windows = parts.windows;
        block.deadlines = parts.deadlines;
        for (slot, _) in block.labels.iter() {
            block.occupied |= bit(slot);
        }
        let slots = super::slots_of(block.occupied);
        block.lines = slots.map(|slot| block.lines_of(slot)).sum();
        if let BlockValues::Numbers(numbers) = &mut block.values {
            for (slot, window) in &block.windows {
                numbers[usize::from(*slot)] = window.value();
            }
        }
        if let BlockValues::Histograms(histograms) = &block.values {
            let natives =
                super::slots_of(block.occupied).filter(|slot| histograms[*slot].native.is_some());
            block.native_slots = natives.map(bit).sum();
        }
        block.dirty = Dirty::Whole;
        block
    }
}
