//! The skeleton of a loop.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Inst, InstBuilder, Value, types};

use super::{Emitter, body};
use crate::cpu::expr::Shared;
use crate::cpu::function::{EmitError, constant};
use crate::kernel::{Stmt, Var};

/// The values that a loop's variable runs through.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub begin: Value,
    pub end: Value,
    pub step: i64,
    /// The number of iterations, where it is known.
    pub count: Option<i64>,
}

impl Emitter<'_, '_> {
    /// `count` iterations from the number `begin` on.
    pub(super) fn known_extent(&mut self, begin: i64, count: i64, step: i64) -> Extent {
        let end = begin + count * step;
        Extent { begin: constant(self.b, begin), end: constant(self.b, end), step, count: Some(count) }
    }

    /// `for var in (begin..end).step_by(step)`.
    pub(super) fn counted(&mut self, var: Var, extent: Extent, body: &[Stmt]) -> Result<(), EmitError> {
        match extent.count {
            Some(count) if count <= 0 => Ok(()),
            Some(1) => self.once(var, extent, body),
            Some(_) => self.repeated(var, extent, body),
            None => {
                let (inside, exit) = (self.b.create_block(), self.b.create_block());
                let any = self.b.ins().icmp(IntCC::SignedLessThan, extent.begin, extent.end);
                self.b.ins().brif(any, inside, &[], exit, &[]);
                self.b.switch_to_block(inside);
                self.repeated(var, extent, body)?;
                self.b.ins().jump(exit, &[]);
                self.b.switch_to_block(exit);
                Ok(())
            }
        }
    }

    fn once(&mut self, var: Var, extent: Extent, body: &[Stmt]) -> Result<(), EmitError> {
        let pointers = if body::is_innermost(body) { self.pointers(var, extent.begin, body) } else { Vec::new() };
        self.loops.push((var, pointers));
        let outer = self.vars[var.0 as usize].replace(extent.begin);
        self.statements(body)?;
        self.vars[var.0 as usize] = outer;
        self.loops.pop();
        Ok(())
    }

    /// Runs at least once; the test is at the end.
    fn repeated(&mut self, var: Var, extent: Extent, body: &[Stmt]) -> Result<(), EmitError> {
        let is_innermost = body::is_innermost(body);
        let pointers = if is_innermost { self.pointers(var, extent.begin, body) } else { Vec::new() };
        let counter = self.b.declare_var(types::I64);
        self.b.def_var(counter, extent.begin);
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let entry = self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let outer_shared = self.share_within(entry, is_innermost);
        let at = self.b.use_var(counter);
        let outer = self.vars[var.0 as usize].replace(at);
        self.loops.push((var, pointers));
        self.statements(body)?;
        if let Some((_, pointers)) = self.loops.pop() {
            self.move_on(&pointers, extent.step);
        }
        let next = self.b.ins().iadd_imm_s(at, extent.step);
        self.b.def_var(counter, next);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, extent.end);
        self.b.ins().brif(more, head, &[], exit, &[]);
        self.b.switch_to_block(exit);
        self.vars[var.0 as usize] = outer;
        self.shared = outer_shared;
        Ok(())
    }

    /// Opens a place for the constants of a loop: before it, unless they have a place before a loop around it already. Loops
    /// around the innermost ones make theirs in place, so that they take no registers inside.
    fn share_within(&mut self, entry: Inst, is_innermost: bool) -> Shared {
        let shared = if self.shared.has_anchor() {
            self.shared.clone()
        } else if is_innermost || self.lanes.is_some() {
            Shared::before(self.architecture, entry)
        } else {
            Shared::here(self.architecture)
        };
        std::mem::replace(&mut self.shared, shared)
    }
}
