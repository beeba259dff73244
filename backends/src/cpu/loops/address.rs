//! Values of indices, and addresses of elements.
//!
//! Cranelift leaves code in the order in which it is written, so that addresses are taken apart here: accesses of an
//! innermost loop's body that lie at fixed distances from each other share a pointer, which is computed before the loop and
//! moves on with every iteration.

use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;
use edgecc_ir::DType;

use super::{Emitter, body};
use crate::cpu::function::{access, constant, offset, scale};
use crate::kernel::linear::{Linear, reads_any};
use crate::kernel::{Index, Local, Stmt, Value as KernelValue, Var};

/// A pointer of a loop: `base + rest + factor * var`, in bytes.
pub(super) struct Pointer {
    buffer: usize,
    /// In bytes, without the loop's variable.
    rest: Linear,
    factor: i64,
    variable: Variable,
}

/// Largest distance from a pointer that instructions reach with every alignment.
const NEAR: i64 = 256;
/// Largest distance that they reach with the alignment of a vector.
const FAR: i64 = 1 << 15;
const ALIGNMENT: i64 = 16;

impl Pointer {
    /// The distance of an access from the pointer, where instructions reach that far.
    fn distance(&self, buffer: usize, rest: &Linear, factor: i64) -> Option<i64> {
        let distance = rest.constant - self.rest.constant;
        let within = (-NEAR..NEAR).contains(&distance) || (0..FAR).contains(&distance) && distance % ALIGNMENT == 0;
        (within && self.buffer == buffer && self.factor == factor && self.rest.terms == rest.terms).then_some(distance)
    }
}

/// An access of the loop of a variable: the buffer, the position in bytes without the variable, and the bytes per step.
type Access = (usize, Linear, i64);

impl Emitter<'_, '_> {
    /// The pointers of the accesses directly in the body of the loop of `var`, whose first value is `begin`.
    pub(super) fn pointers(&mut self, var: Var, begin: Value, body: &[Stmt]) -> Vec<Pointer> {
        let mut accesses: Vec<Access> = self.accesses(var, body);
        accesses.sort_by_key(|(_, rest, _)| rest.constant);
        let mut pointers: Vec<Pointer> = Vec::new();
        // Operands of one shape lie alike: their positions are computed once.
        let mut sums: Vec<(Linear, i64, Value)> = Vec::new();
        for (buffer, rest, factor) in accesses {
            if pointers.iter().any(|pointer| pointer.distance(buffer, &rest, factor).is_some()) {
                continue;
            }
            let known = sums.iter().find(|(other, by, _)| other.terms == rest.terms && *by == factor);
            let known = known.map(|&(.., sum)| sum);
            let sum = known.unwrap_or_else(|| {
                let moved = scale(self.b, begin, factor);
                self.sum(&rest.terms, Some(moved).filter(|_| factor != 0))
            });
            sums.push((rest.clone(), factor, sum));
            let start = self.b.ins().iadd(self.bases[buffer], sum);
            let start = offset(self.b, start, rest.constant);
            let variable = self.b.declare_var(types::I64);
            self.b.def_var(variable, start);
            pointers.push(Pointer { buffer, rest, factor, variable });
        }
        pointers
    }

    fn accesses(&self, var: Var, body: &[Stmt]) -> Vec<Access> {
        let touched = body::touched(body);
        let place = |statement: &Stmt| match statement {
            Stmt::Set { value: KernelValue::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                // A position that is loaded is only known inside of the loop.
                if reads_any(index, &touched) { None } else { self.access(var, *buffer, index) }
            }
            Stmt::Set { .. } | Stmt::For { .. } => None,
        };
        body.iter().filter_map(place).collect()
    }

    fn access(&self, var: Var, buffer: usize, index: &Index) -> Option<Access> {
        let size = self.kernel.buffers[buffer].dtype.size() as i64;
        let position = Linear::of(index).times(size);
        let factor = position.factor(var)?;
        Some((buffer, position.without(var), factor))
    }

    /// Moves the pointers of a loop by `step` iterations.
    pub(super) fn move_on(&mut self, pointers: &[Pointer], step: i64) {
        for pointer in pointers.iter().filter(|pointer| pointer.factor != 0) {
            let at = self.b.use_var(pointer.variable);
            let next = self.b.ins().iadd_imm_s(at, pointer.factor * step);
            self.b.def_var(pointer.variable, next);
        }
    }

    /// The address of an element as a pointer and a distance in bytes.
    pub(super) fn address(&mut self, buffer: usize, index: &Index) -> (Value, i64) {
        let innermost = self.loops.last();
        let found = innermost.and_then(|(var, pointers)| {
            let (buffer, rest, factor) = self.access(*var, buffer, index)?;
            pointers.iter().find_map(|pointer| Some((pointer.variable, pointer.distance(buffer, &rest, factor)?)))
        });
        if let Some((variable, distance)) = found {
            return (self.b.use_var(variable), distance);
        }
        let size = self.kernel.buffers[buffer].dtype.size() as i64;
        let position = Linear::of(index).times(size);
        let sum = self.sum(&position.terms, None);
        (self.b.ins().iadd(self.bases[buffer], sum), position.constant)
    }

    /// The value of an index, i64.
    pub(super) fn index(&mut self, index: &Index) -> Value {
        let linear = Linear::of(index);
        if linear.terms.is_empty() {
            return constant(self.b, linear.constant);
        }
        let sum = self.sum(&linear.terms, None);
        offset(self.b, sum, linear.constant)
    }

    fn sum(&mut self, terms: &[(Index, i64)], start: Option<Value>) -> Value {
        let mut sum = start;
        for (atom, factor) in terms {
            let value = self.atom(atom);
            let value = scale(self.b, value, *factor);
            sum = Some(match sum {
                Some(sum) => self.b.ins().iadd(sum, value),
                None => value,
            });
        }
        sum.unwrap_or_else(|| constant(self.b, 0))
    }

    fn atom(&mut self, atom: &Index) -> Value {
        match atom {
            Index::Var(var) => match self.vars[var.0 as usize] {
                Some(value) => value,
                None => constant(self.b, 0),
            },
            Index::Argument(n) => {
                let value = self.b.ins().load(types::I32, access(), self.args, Offset32::new(i32::from(*n) * 4));
                self.b.ins().uextend(types::I64, value)
            }
            Index::Clamped { local, low, high } => self.clamped(*local, *low, *high),
            Index::FloorDiv(x, divisor) => {
                let x = self.index(x);
                self.floor_divide(x, *divisor)
            }
            Index::Mod(x, divisor) => {
                let x = self.index(x);
                let quotient = self.floor_divide(x, *divisor);
                let whole = scale(self.b, quotient, *divisor);
                self.b.ins().isub(x, whole)
            }
            Index::Min(x, y) => {
                let (x, y) = (self.index(x), self.index(y));
                self.b.ins().smin(x, y)
            }
            Index::Max(x, y) => {
                let (x, y) = (self.index(x), self.index(y));
                self.b.ins().smax(x, y)
            }
            Index::Constant(_) | Index::Add(..) | Index::Mul(..) => self.index(atom),
        }
    }

    fn clamped(&mut self, local: Local, low: i64, high: i64) -> Value {
        let Some(variable) = self.locals[local.0 as usize].as_ref().map(|state| state.variables[0]) else {
            return constant(self.b, low);
        };
        let value = self.b.use_var(variable);
        let wide = match self.kernel.locals[local.0 as usize] {
            DType::I64 => value,
            _ => self.b.ins().sextend(types::I64, value),
        };
        let (low, high) = (constant(self.b, low), constant(self.b, high));
        let value = self.b.ins().smax(wide, low);
        self.b.ins().smin(value, high)
    }

    /// Rounded down, for a positive divisor.
    fn floor_divide(&mut self, x: Value, divisor: i64) -> Value {
        if divisor & (divisor - 1) == 0 {
            return self.b.ins().sshr_imm_u(x, i64::from(divisor.trailing_zeros()));
        }
        let by = constant(self.b, divisor);
        let truncated = self.b.ins().sdiv(x, by);
        let product = self.b.ins().imul(truncated, by);
        let remainder = self.b.ins().isub(x, product);
        // -1 where the remainder is negative.
        let correction = self.b.ins().sshr_imm_u(remainder, 63);
        self.b.ins().iadd(truncated, correction)
    }
}
