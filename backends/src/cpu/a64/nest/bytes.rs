//! Bytes: numbers where they are read, bytes where they are results.

use edgecc_ir::DType;

use crate::cpu::a64::bytes::widened;
use crate::cpu::a64::instruction::{Access, Arrangement, Instruction, V, Width, X};
use crate::cpu::a64::vector::move_register;
use crate::kernel::{Local, LoopKernel, Stmt, Value};

use super::{Nest, Step, reads};

/// Whether the bytes that a kernel loads are computed with, and those that it computes are stored, and nothing else.
pub(super) fn are_known(kernel: &LoopKernel) -> bool {
    let is_byte = |local: &Local| kernel.locals[local.0 as usize].size() == 1;
    let bytes = (0..kernel.locals.len() as u16).map(Local).filter(is_byte);
    bytes.into_iter().all(|local| {
        let mut uses = Uses::default();
        kernel.body.iter().for_each(|statement| uses.add(statement, local));
        !(uses.folds || uses.loads && uses.stores || uses.computes && uses.is_computed_with)
    })
}

/// What is done with a local.
#[derive(Default)]
struct Uses {
    loads: bool,
    computes: bool,
    stores: bool,
    is_computed_with: bool,
    folds: bool,
}

impl Uses {
    fn add(&mut self, statement: &Stmt, local: Local) {
        match statement {
            Stmt::Set { local: set, value } => {
                let is_set = *set == local;
                match value {
                    Value::Load { .. } => self.loads |= is_set,
                    Value::Apply { .. } | Value::Index(_) => self.computes |= is_set,
                }
                self.is_computed_with |= reads(statement, local);
            }
            Stmt::Store { local: stored, .. } => self.stores |= *stored == local,
            Stmt::For { body, .. } => {
                let reads_within = body.iter().any(|statement| reads(statement, local));
                self.folds |= reads(statement, local) && !reads_within;
                body.iter().for_each(|statement| self.add(statement, local));
            }
        }
    }
}

impl Nest<'_> {
    /// Loads bytes as numbers: those of eight lanes into two registers, or one for all lanes.
    pub(super) fn load_bytes(&mut self, dtype: DType, registers: &[V], place: (X, Step), is_along: bool) {
        let first = registers[0];
        if is_along {
            self.part(Access::Load, Width::D, first, place);
            return widened(self.a, dtype, first, registers.len() as i64);
        }
        self.part(Access::Load, Width::B, first, place);
        widened(self.a, dtype, first, 1);
        self.a.push(Instruction::Spread(Arrangement::S4, first, first, 0));
        registers[1..].iter().for_each(|&register| move_register(self.a, register, first));
    }
}
