//! Locals in registers.

use edgecc_ir::DType;

use crate::cpu::a64::instruction::V;
use crate::kernel::Local;

use super::Nest;

/// A local: a register of halves, or one or two of singles. One of singles holds the same number in every lane. Bytes that are loaded
/// are held as singles, those that are computed in the lower half of the first register.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub registers: Vec<V>,
}

impl Nest<'_> {
    /// Registers that a local of this type takes: in lanes, eight of them.
    pub(super) fn width_of(&self, dtype: DType) -> usize {
        if dtype != DType::F16 && self.lanes.is_some() { 2 } else { 1 }
    }

    /// The registers of a local that is set: those it has, or new ones.
    pub(super) fn hold(&mut self, local: Local, count: usize) -> Option<Vec<V>> {
        if let Some(held) = &self.locals[local.0 as usize]
            && held.registers.len() == count
        {
            return Some(held.registers.clone());
        }
        if self.locals[local.0 as usize].is_some() {
            return None;
        }
        let first = self.registers.take_run(count as u8)?;
        let registers: Vec<V> = (0..count as u8).map(|n| V(first.0 + n)).collect();
        self.locals[local.0 as usize] = Some(Held { registers: registers.clone() });
        Some(registers)
    }
}
