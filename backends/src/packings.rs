//! How a program packs its weights, for another program that is to read the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::block_product::Order;
use crate::cpu::contraction::operand::WEIGHTS;
use crate::program::{KernelSource, Program, StorageKind};
use crate::schedule::layer;

/// How weights are packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packings {
    /// Channels of a packed panel by the words of the layer.
    panels: BTreeMap<String, i64>,
    /// The order of weights in blocks, where there are such.
    blocks: Option<Order>,
}

impl Packings {
    /// Those of a program's constant weights. Layers that also have weights known only at run time are left out.
    pub fn of(program: &Program) -> Packings {
        let mut panels = BTreeMap::new();
        let mut at_run_time = BTreeSet::new();
        for step in &program.steps {
            let KernelSource::Contraction(spec, schedule) = &program.kernels[step.kernel] else { continue };
            let words = layer::of_contraction(spec);
            match program.storages[step.operands[WEIGHTS].storage.0 as usize].kind {
                StorageKind::Constant(_) => _ = panels.insert(words, schedule.panel()),
                StorageKind::Input(_) | StorageKind::Output(_) | StorageKind::Arena => _ = at_run_time.insert(words),
            }
        }
        panels.retain(|words, _| !at_run_time.contains(words));
        let order = |kernel: &KernelSource| match kernel {
            KernelSource::BlockProduct(spec) => Some(spec.order),
            _ => None,
        };
        Packings { panels, blocks: program.kernels.iter().find_map(order) }
    }

    /// The order of weights in blocks.
    pub fn order_of_blocks(&self) -> Option<Order> {
        self.blocks
    }

    /// The panel of a layer.
    pub fn panel(&self, words: &str) -> Option<i64> {
        self.panels.get(words).copied()
    }
}
