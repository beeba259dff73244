//! How a program packs its weights, for another program that is to read the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::cpu::contraction::operand::WEIGHTS;
use crate::program::{KernelSource, Program, StorageKind};
use crate::schedule::layer;

/// Channels of a packed panel by the words of the layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packings(BTreeMap<String, i64>);

impl Packings {
    /// Those of a program's constant weights. Layers that also have weights known only at run time are left out.
    pub fn of(program: &Program) -> Packings {
        let mut packings = BTreeMap::new();
        let mut at_run_time = BTreeSet::new();
        for step in &program.steps {
            let KernelSource::Contraction(spec, schedule) = &program.kernels[step.kernel] else { continue };
            let words = layer::of_contraction(spec);
            match program.storages[step.operands[WEIGHTS].storage.0 as usize].kind {
                StorageKind::Constant(_) => _ = packings.insert(words, schedule.panel()),
                StorageKind::Input(_) | StorageKind::Output(_) | StorageKind::Arena => _ = at_run_time.insert(words),
            }
        }
        packings.retain(|words, _| !at_run_time.contains(words));
        Packings(packings)
    }

    /// The panel of a layer.
    pub fn panel(&self, words: &str) -> Option<i64> {
        self.0.get(words).copied()
    }
}
