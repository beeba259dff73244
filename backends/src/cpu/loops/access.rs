//! Indices, addresses, loads and stores.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use edgecc_ir::DType;

use super::memory::Memory;
use super::{Emitter, body};
use crate::cpu::expr::{Shared, Width};
use crate::cpu::function::{EmitError, access as flags, constant, offset, scale};
use crate::kernel::{Index, Local, Stmt, Value as KernelValue, Var};
use cranelift_codegen::ir::immediates::Offset32;

/// An access whose address is `pointer + var * stride` in the loop of `var`.
pub(super) struct Hoisted {
    buffer: usize,
    index: Index,
    var: Var,
    pointer: Value,
    /// Bytes from one iteration to the next.
    stride: i64,
}

/// An index as `rest + factor * var`, where `rest` does not mention `var`.
fn linear(index: &Index, var: Var) -> Option<(Index, i64)> {
    match index {
        Index::Var(other) if *other == var => Some((Index::Constant(0), 1)),
        Index::Add(x, y) => {
            let ((x, factor_x), (y, factor_y)) = (linear(x, var)?, linear(y, var)?);
            Some((x.plus(y), factor_x + factor_y))
        }
        Index::Mul(x, n) => linear(x, var).map(|(x, factor)| (x.times(*n), factor * n)),
        other if mentions(other, var) => None,
        other => Some((other.clone(), 0)),
    }
}

/// Whether an index depends on a variable.
pub(super) fn mentions(index: &Index, var: Var) -> bool {
    any(index, &mut |part| *part == Index::Var(var))
}

/// Whether an index depends on a loaded position.
pub(super) fn reads_local(index: &Index) -> bool {
    any(index, &mut |part| matches!(part, Index::Clamped { .. }))
}

/// Whether an index depends on a position in one of `locals`.
pub(super) fn reads_any(index: &Index, locals: &[Local]) -> bool {
    any(index, &mut |part| matches!(part, Index::Clamped { local, .. } if locals.contains(local)))
}

/// Whether lanes of `var` lie at a fixed distance, in a body that touches `touched`.
pub(super) fn is_lane_linear(index: &Index, var: Var, touched: &[Local]) -> bool {
    linear(index, var).is_some() && !reads_any(index, touched)
}

fn any(index: &Index, test: &mut impl FnMut(&Index) -> bool) -> bool {
    test(index)
        || match index {
            Index::Constant(_) | Index::Var(_) | Index::Argument(_) | Index::Clamped { .. } => false,
            Index::Add(x, y) | Index::Min(x, y) | Index::Max(x, y) => any(x, test) || any(y, test),
            Index::Mul(x, _) | Index::FloorDiv(x, _) | Index::Mod(x, _) => any(x, test),
        }
}

impl<'b> Emitter<'_, 'b> {
    /// Computes, before the loop of `var`, the pointers of the accesses in its body.
    pub(super) fn hoist(&mut self, var: Var, body: &[Stmt]) {
        let touched = body::touched(body);
        for statement in body {
            let (buffer, index) = match statement {
                Stmt::Set { value: KernelValue::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                    (*buffer, index)
                }
                Stmt::Set { .. } | Stmt::For { .. } => continue,
            };
            let known =
                self.hoisted.iter().any(|other| other.buffer == buffer && other.index == *index && other.var == var);
            // A position that the loop loads is only known inside of it.
            if let (false, false, Some((rest, factor))) = (known, reads_any(index, &touched), linear(index, var)) {
                let size = self.kernel.buffers[buffer].dtype.size() as i64;
                let pointer = self.pointer(buffer, &rest);
                self.hoisted.push(Hoisted { buffer, index: index.clone(), var, pointer, stride: factor * size });
            }
        }
    }

    /// The address of an element.
    fn address(&mut self, buffer: usize, index: &Index) -> Value {
        let found = self.hoisted.iter().rev().find(|other| other.buffer == buffer && other.index == *index);
        let Some((pointer, var, stride)) = found.map(|hoisted| (hoisted.pointer, hoisted.var, hoisted.stride)) else {
            return self.pointer(buffer, index);
        };
        match (stride, self.vars[var.0 as usize]) {
            (0, _) | (_, None) => pointer,
            (_, Some(at)) => {
                let distance = scale(self.b, at, stride);
                self.b.ins().iadd(pointer, distance)
            }
        }
    }

    fn pointer(&mut self, buffer: usize, index: &Index) -> Value {
        let size = self.kernel.buffers[buffer].dtype.size() as i64;
        let at = self.index(&index.clone().times(size));
        self.b.ins().iadd(self.bases[buffer], at)
    }

    /// The value of an index, i64.
    pub(super) fn index(&mut self, index: &Index) -> Value {
        match index {
            Index::Constant(number) => constant(self.b, *number),
            Index::Var(var) => match self.vars[var.0 as usize] {
                Some(value) => value,
                None => constant(self.b, 0),
            },
            Index::Argument(n) => {
                let value = self.b.ins().load(types::I32, flags(), self.args, Offset32::new(*n as i32 * 4));
                self.b.ins().uextend(types::I64, value)
            }
            Index::Clamped { local, low, high } => self.clamped(*local, *low, *high),
            Index::Add(x, y) => match (x.as_ref(), y.as_ref()) {
                (x, Index::Constant(number)) | (Index::Constant(number), x) => {
                    let x = self.index(x);
                    offset(self.b, x, *number)
                }
                (x, y) => {
                    let (x, y) = (self.index(x), self.index(y));
                    self.b.ins().iadd(x, y)
                }
            },
            Index::Mul(x, factor) => {
                let x = self.index(x);
                scale(self.b, x, *factor)
            }
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
        }
    }

    fn clamped(&mut self, local: Local, low: i64, high: i64) -> Value {
        let Some(state) = self.locals[local.0 as usize] else { return constant(self.b, low) };
        let value = self.b.use_var(state.variable);
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
            return self.b.ins().sshr_imm_u(x, divisor.trailing_zeros() as i64);
        }
        let by = constant(self.b, divisor);
        let truncated = self.b.ins().sdiv(x, by);
        let product = self.b.ins().imul(truncated, by);
        let remainder = self.b.ins().isub(x, product);
        // -1 where the remainder is negative.
        let correction = self.b.ins().sshr_imm_u(remainder, 63);
        self.b.ins().iadd(truncated, correction)
    }

    /// Elements between neighbouring lanes.
    fn lane_distance(&self, index: &Index) -> i64 {
        self.lane_var.and_then(|var| linear(index, var)).map_or(0, |(_, factor)| factor)
    }

    fn memory<'e>(&'e mut self, shared: &'e mut Shared, buffer: usize) -> Memory<'e, 'b> {
        Memory { b: self.b, shared, dtype: self.kernel.buffers[buffer].dtype }
    }

    /// Loads an element, or four of them.
    pub(super) fn load(&mut self, buffer: usize, index: &Index) -> Value {
        let address = self.address(buffer, index);
        let mut shared = Shared::here(self.architecture);
        let (width, distance) = (self.width(), self.lane_distance(index));
        let mut memory = self.memory(&mut shared, buffer);
        match width {
            Width::One => memory.load(address, 0),
            Width::Four => memory.load_lanes(address, 0, distance),
        }
    }

    /// Stores a local.
    pub(super) fn store(&mut self, buffer: usize, index: &Index, local: Local) -> Result<(), EmitError> {
        let value = self.read(local)?;
        let address = self.address(buffer, index);
        let mut shared = Shared::here(self.architecture);
        let (width, distance) = (self.width(), self.lane_distance(index));
        let mut memory = self.memory(&mut shared, buffer);
        match width {
            Width::One => memory.store(value, address, 0),
            Width::Four => memory.store_lanes(value, address, 0, distance),
        }
        Ok(())
    }
}
