//! Conversions between element types.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use edgecc_ir::DType;

use super::{Emission, Width, machine_type};
use crate::cpu::function::{EmitError, lanes as lane_flags};

impl Emission<'_, '_> {
    pub(super) fn cast(&mut self, from: DType, to: DType, a: &[Value]) -> Result<Vec<Value>, EmitError> {
        if to == DType::Bool {
            return Ok(self.is_not_zero(from, a));
        }
        if self.width == Width::Four {
            return self.cast_lanes(from, to, a);
        }
        Ok(match (from.is_float(), to.is_float()) {
            (true, true) => self.float_to_float(from, to, a),
            (true, false) => a.iter().map(|&a| self.float_to_integer(to, a)).collect(),
            (false, true) => self.integer_to_float(from, to, a),
            (false, false) => a
                .iter()
                .map(|&a| {
                    let wide = self.extend(from, a);
                    self.reduce(to, wide)
                })
                .collect(),
        })
    }

    fn cast_lanes(&mut self, from: DType, to: DType, a: &[Value]) -> Result<Vec<Value>, EmitError> {
        let narrow = |dtype| matches!(dtype, DType::F16 | DType::BF16);
        // Rounded once, which the way over f32 does not do for large numbers.
        if narrow(to) && matches!(from, DType::I32 | DType::U32) {
            return self.per_lane(&[(from, a)], to, |one, arguments| one.cast(from, to, &arguments[0]));
        }
        Ok(match (from.is_float(), to.is_float()) {
            (true, true) => self.rounded(to, a.to_vec()),
            (true, false) => self.float_lanes_to_integer(to, a),
            (false, true) => {
                let values = self.integer_lanes_to_float(from, a);
                self.rounded(to, values)
            }
            (false, false) => {
                let values = if from == DType::Bool { self.map(a, |b, a| b.ins().ineg(a)) } else { a.to_vec() };
                self.wrapped(to, values)
            }
        })
    }

    fn integer_lanes_to_float(&mut self, from: DType, a: &[Value]) -> Vec<Value> {
        match from {
            DType::U32 => self.map(a, |b, a| b.ins().fcvt_from_uint(types::F32X4, a)),
            DType::Bool => {
                let one = self.integer(types::I32X4, i64::from(1f32.to_bits()));
                self.map(a, |b, a| {
                    let bits = b.ins().band(a, one);
                    b.ins().bitcast(types::F32X4, lane_flags(), bits)
                })
            }
            _ => self.map(a, |b, a| b.ins().fcvt_from_sint(types::F32X4, a)),
        }
    }

    fn float_lanes_to_integer(&mut self, to: DType, a: &[Value]) -> Vec<Value> {
        if to == DType::U32 {
            return self.map(a, |b, a| b.ins().fcvt_to_uint_sat(types::I32X4, a));
        }
        let wide = self.map(a, |b, a| b.ins().fcvt_to_sint_sat(types::I32X4, a));
        let Some((low, high)) = limits(to).filter(|_| to != DType::I32) else { return wide };
        let (low, high) = (self.integer(types::I32X4, low), self.integer(types::I32X4, high));
        self.map(&wide, |b, wide| {
            let above = b.ins().smax(wide, low);
            b.ins().smin(above, high)
        })
    }

    fn float_to_float(&mut self, from: DType, to: DType, a: &[Value]) -> Vec<Value> {
        let values = match (from, to) {
            (DType::F64, DType::F64) => a.to_vec(),
            (DType::F64, DType::F32) => self.map(a, |b, a| b.ins().fdemote(types::F32, a)),
            (DType::F64, _) => a.iter().map(|&a| self.demote_to_odd(a)).collect(),
            (_, DType::F64) => self.map(a, |b, a| b.ins().fpromote(types::F64, a)),
            _ => a.to_vec(),
        };
        self.rounded(to, values)
    }

    /// As [`edgecc_ir::Scalar::cast`] does it: over binary64.
    fn integer_to_float(&mut self, from: DType, to: DType, a: &[Value]) -> Vec<Value> {
        let doubles = a
            .iter()
            .map(|&a| {
                let wide = self.extend(from, a);
                match from {
                    DType::U64 => self.b.ins().fcvt_from_uint(types::F64, wide),
                    _ => self.b.ins().fcvt_from_sint(types::F64, wide),
                }
            })
            .collect::<Vec<_>>();
        self.float_to_float(DType::F64, to, &doubles)
    }

    /// Binary64 to f32 rounded to odd: towards zero, with the last bit set where anything is lost. Rounding that once more
    /// to a narrower type is as rounding the original (Boldo and Melquiond 2008).
    fn demote_to_odd(&mut self, a: Value) -> Value {
        let near = self.b.ins().fdemote(types::F32, a);
        let back = self.b.ins().fpromote(types::F64, near);
        let (size, size_back) = (self.b.ins().fabs(a), self.b.ins().fabs(back));
        let away = self.b.ins().fcmp(FloatCC::GreaterThan, size_back, size);
        let exact = self.b.ins().fcmp(FloatCC::Equal, size_back, size);
        let ordered = self.b.ins().fcmp(FloatCC::Ordered, a, a);
        let bits = self.b.ins().bitcast(types::I32, lane_flags(), near);
        let away = self.b.ins().uextend(types::I32, away);
        let towards_zero = self.b.ins().isub(bits, away);
        let odd = self.b.ins().bor_imm_u(towards_zero, 1);
        let inexact = self.b.ins().select(exact, bits, odd);
        let chosen = self.b.ins().select(ordered, inexact, bits);
        self.b.ins().bitcast(types::F32, lane_flags(), chosen)
    }

    fn float_to_integer(&mut self, to: DType, a: Value) -> Value {
        if to == DType::U64 {
            return self.b.ins().fcvt_to_uint_sat(types::I64, a);
        }
        let wide = self.b.ins().fcvt_to_sint_sat(types::I64, a);
        let Some((low, high)) = limits(to) else { return wide };
        let (low, high) = (self.integer(types::I64, low), self.integer(types::I64, high));
        let clamped = self.b.ins().smax(wide, low);
        let clamped = self.b.ins().smin(clamped, high);
        self.b.ins().ireduce(machine_type(to, Width::One), clamped)
    }
}

/// The smallest and the largest number of an integer type below 64 bits.
fn limits(dtype: DType) -> Option<(i64, i64)> {
    let bits = dtype.size() as u32 * 8;
    match (bits, dtype.is_signed_integer()) {
        (64, _) => None,
        (_, true) => Some((-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1)),
        (_, false) => Some((0, (1i64 << bits) - 1)),
    }
}
