//! Operators of integers and truth values.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};
use edgecc_ir::{BinaryOp, DType, UnaryOp};

use super::{Emission, Width, machine_type, unsupported};
use crate::cpu::function::EmitError;

impl Emission<'_, '_> {
    pub(super) fn integer_unary(&mut self, op: UnaryOp, dtype: DType, a: &[Value]) -> Result<Vec<Value>, EmitError> {
        let signed = dtype.is_signed_integer();
        let values = match op {
            UnaryOp::Neg => self.map(a, |b, a| b.ins().ineg(a)),
            UnaryOp::Abs if signed => self.map(a, |b, a| b.ins().iabs(a)),
            UnaryOp::Not => self.map(a, |b, a| b.ins().bnot(a)),
            UnaryOp::Sign => self.integer_sign(dtype, a),
            UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => a.to_vec(),
            _ => return Err(unsupported(format!("{op:?} of {dtype}"))),
        };
        Ok(self.wrapped(dtype, values))
    }

    /// The sign: `min(max(a, -1), 1)`.
    fn integer_sign(&mut self, dtype: DType, a: &[Value]) -> Vec<Value> {
        let kind = self.kind(dtype);
        let (minus, one) = (self.integer(kind, -1), self.integer(kind, 1));
        if !dtype.is_signed_integer() {
            return self.map(a, |b, a| b.ins().umin(a, one));
        }
        self.map(a, |b, a| {
            let above = b.ins().smax(a, minus);
            b.ins().smin(above, one)
        })
    }

    pub(super) fn integer_binary(
        &mut self,
        op: BinaryOp,
        dtype: DType,
        x: &[Value],
        y: &[Value],
    ) -> Result<Vec<Value>, EmitError> {
        use BinaryOp::*;
        let signed = dtype.is_signed_integer();
        if dtype == DType::Bool && matches!(op, Add | Sub | Mul | Div | Rem | Mod | Pow | ShiftLeft | ShiftRight) {
            return Err(unsupported(format!("{op:?} of bool")));
        }
        if self.width == Width::Four && matches!(op, Div | Rem | Mod | Pow | ShiftLeft | ShiftRight) {
            return self.per_lane(&[(dtype, x), (dtype, y)], dtype, |one, arguments| {
                one.integer_binary(op, dtype, &arguments[0], &arguments[1])
            });
        }
        let values = match op {
            Add => self.zip(x, y, |b, x, y| b.ins().iadd(x, y)),
            Sub => self.zip(x, y, |b, x, y| b.ins().isub(x, y)),
            Mul => self.zip(x, y, |b, x, y| b.ins().imul(x, y)),
            Max if signed => self.zip(x, y, |b, x, y| b.ins().smax(x, y)),
            Max => self.zip(x, y, |b, x, y| b.ins().umax(x, y)),
            Min if signed => self.zip(x, y, |b, x, y| b.ins().smin(x, y)),
            Min => self.zip(x, y, |b, x, y| b.ins().umin(x, y)),
            And => self.zip(x, y, |b, x, y| b.ins().band(x, y)),
            Or => self.zip(x, y, |b, x, y| b.ins().bor(x, y)),
            Xor => self.zip(x, y, |b, x, y| b.ins().bxor(x, y)),
            Equal | Less | LessEqual => return Ok(self.integer_compare(op, signed, x, y)),
            Div | Rem | Mod => self.each(x, y, |one, x, y| one.divide(op, dtype, x, y)),
            ShiftLeft | ShiftRight => self.each(x, y, |one, x, y| one.shift(op, dtype, x, y)),
            Pow => self.each(x, y, |one, x, y| one.integer_power(dtype, x, y)),
        };
        Ok(self.wrapped(dtype, values))
    }

    fn each(&mut self, x: &[Value], y: &[Value], mut one: impl FnMut(&mut Self, Value, Value) -> Value) -> Vec<Value> {
        x.iter().zip(y).map(|(&x, &y)| one(self, x, y)).collect()
    }

    fn integer_compare(&mut self, op: BinaryOp, signed: bool, x: &[Value], y: &[Value]) -> Vec<Value> {
        let condition = match (op, signed) {
            (BinaryOp::Less, true) => IntCC::SignedLessThan,
            (BinaryOp::Less, false) => IntCC::UnsignedLessThan,
            (BinaryOp::LessEqual, true) => IntCC::SignedLessThanOrEqual,
            (BinaryOp::LessEqual, false) => IntCC::UnsignedLessThanOrEqual,
            _ => IntCC::Equal,
        };
        self.zip(x, y, |b, x, y| b.ins().icmp(condition, x, y))
    }

    /// Lanes of narrow integers wrap as their type does: they are extended anew.
    pub(super) fn wrapped(&mut self, dtype: DType, values: Vec<Value>) -> Vec<Value> {
        if self.width == Width::One || dtype.size() == 4 || dtype == DType::Bool {
            return values;
        }
        let distance = 32 - 8 * dtype.size() as i64;
        self.map(&values, |b, value| {
            let by = b.ins().iconst(types::I32, distance);
            let high = b.ins().ishl(value, by);
            if dtype.is_signed_integer() { b.ins().sshr(high, by) } else { b.ins().ushr(high, by) }
        })
    }

    /// Division that cannot trap: by 0 it gives 0, and the smallest number by -1 wraps. Computed in 64 bits.
    fn divide(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Value {
        let signed = dtype.is_signed_integer();
        let (wide_x, wide_y) = (self.extend(dtype, x), self.extend(dtype, y));
        let zero = self.b.ins().icmp_imm_u(IntCC::Equal, wide_y, 0);
        let one = self.integer(types::I64, 1);
        let safe = self.b.ins().select(zero, one, wide_y);
        let quotient = if signed { self.signed_quotient(wide_x, safe) } else { self.b.ins().udiv(wide_x, safe) };
        let result = if op == BinaryOp::Div {
            quotient
        } else {
            let product = self.b.ins().imul(quotient, safe);
            let remainder = self.b.ins().isub(wide_x, product);
            if op == BinaryOp::Mod && signed { self.with_sign_of(remainder, safe) } else { remainder }
        };
        let none = self.integer(types::I64, 0);
        let result = self.b.ins().select(zero, none, result);
        self.reduce(dtype, result)
    }

    /// By -1 it negates, which wraps where the quotient would not fit.
    fn signed_quotient(&mut self, x: Value, y: Value) -> Value {
        let one = self.integer(types::I64, 1);
        let minus = self.b.ins().icmp_imm_s(IntCC::Equal, y, -1);
        let divisor = self.b.ins().select(minus, one, y);
        let plain = self.b.ins().sdiv(x, divisor);
        let negated = self.b.ins().ineg(x);
        self.b.ins().select(minus, negated, plain)
    }

    /// A remainder moved by the divisor where their signs differ.
    fn with_sign_of(&mut self, remainder: Value, divisor: Value) -> Value {
        let signs = self.b.ins().bxor(remainder, divisor);
        let differ = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, remainder, 0);
        let moved = self.b.ins().iadd(remainder, divisor);
        let both = self.b.ins().band(differ, some);
        self.b.ins().select(both, moved, remainder)
    }

    /// Distances are read as unsigned: a negative one is beyond the width.
    fn shift(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Value {
        let wide_y = self.extend(dtype, y);
        let kind = machine_type(dtype, Width::One);
        let bits = match kind {
            types::I64 => x,
            _ => self.b.ins().uextend(types::I64, x),
        };
        let shifted = match op {
            BinaryOp::ShiftLeft => self.b.ins().ishl(bits, wide_y),
            _ => self.b.ins().ushr(bits, wide_y),
        };
        let width = dtype.size() as i64 * 8;
        let within = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, wide_y, width);
        let none = self.integer(types::I64, 0);
        let result = self.b.ins().select(within, shifted, none);
        self.reduce(dtype, result)
    }

    /// Products of squares for a positive exponent, which wrap. `x^-n` is truncated: 1 and -1 keep their size, 0 gives the
    /// largest number, all others 0.
    fn integer_power(&mut self, dtype: DType, x: Value, y: Value) -> Value {
        let (x, y) = (self.extend(dtype, x), self.extend(dtype, y));
        let (one, zero) = (self.integer(types::I64, 1), self.integer(types::I64, 0));
        if !dtype.is_signed_integer() {
            let power = self.power_loop(x, y);
            return self.reduce(dtype, power);
        }
        let bits = dtype.size() as i64 * 8;
        let largest = self.integer(types::I64, i64::MAX >> (64 - bits));
        let negative = self.b.ins().icmp(IntCC::SignedLessThan, y, zero);
        let is_unit = {
            let shifted = self.b.ins().iadd(x, one);
            self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, shifted, 2)
        };
        // 1 and -1 to the power -n are what they are to the power of the lowest bit.
        let low_bit = self.b.ins().band(y, one);
        let short = self.b.ins().select(is_unit, low_bit, one);
        let exponent = self.b.ins().select(negative, short, y);
        let power = self.power_loop(x, exponent);
        let is_zero = self.b.ins().icmp(IntCC::Equal, x, zero);
        let unit_or_none = self.b.ins().select(is_unit, power, zero);
        let inverse = self.b.ins().select(is_zero, largest, unit_or_none);
        let result = self.b.ins().select(negative, inverse, power);
        self.reduce(dtype, result)
    }

    /// `x` to an unsigned power, modulo 2^64.
    fn power_loop(&mut self, x: Value, exponent: Value) -> Value {
        let one = self.integer(types::I64, 1);
        let b = &mut *self.b;
        let (head, body, exit) = (b.create_block(), b.create_block(), b.create_block());
        let [result, square, left] = [(); 3].map(|()| b.append_block_param(head, types::I64));
        b.ins().jump(head, &[one, x, exponent].map(BlockArg::Value));
        b.switch_to_block(head);
        b.ins().brif(left, body, &[], exit, &[]);
        b.switch_to_block(body);
        let product = b.ins().imul(result, square);
        let odd = b.ins().band_imm_u(left, 1);
        let next = b.ins().select(odd, product, result);
        let squared = b.ins().imul(square, square);
        let rest = b.ins().ushr_imm_u(left, 1);
        b.ins().jump(head, &[next, squared, rest].map(BlockArg::Value));
        b.switch_to_block(exit);
        result
    }

    /// To 64 bits.
    pub(super) fn extend(&mut self, dtype: DType, x: Value) -> Value {
        match dtype.size() {
            8 => x,
            _ if dtype.is_signed_integer() => self.b.ins().sextend(types::I64, x),
            _ => self.b.ins().uextend(types::I64, x),
        }
    }

    /// From 64 bits.
    pub(super) fn reduce(&mut self, dtype: DType, x: Value) -> Value {
        let kind = machine_type(dtype, Width::One);
        if kind == types::I64 { x } else { self.b.ins().ireduce(kind, x) }
    }

    /// Truth values of numbers: `a != 0`, where NaN counts as true.
    pub(super) fn is_not_zero(&mut self, dtype: DType, a: &[Value]) -> Vec<Value> {
        let kind = self.kind(dtype);
        let zero = self.shared.constant(self.b, kind, 0);
        self.map(a, |b, a| match dtype.is_float() {
            true => b.ins().fcmp(FloatCC::NotEqual, a, zero),
            false => b.ins().icmp(IntCC::NotEqual, a, zero),
        })
    }
}
