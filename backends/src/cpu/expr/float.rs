//! Operators of floating-point numbers.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use edgecc_ir::{BinaryOp, DType, UnaryOp};

use super::{Emission, Width, unsupported};
use crate::cpu::function::EmitError;

impl Emission<'_, '_> {
    pub(super) fn float_unary(&mut self, op: UnaryOp, dtype: DType, a: &[Value]) -> Result<Vec<Value>, EmitError> {
        let mut floats = self.floats(dtype);
        Ok(match op {
            UnaryOp::Neg => floats.map(a, |b, a| b.ins().fneg(a)),
            UnaryOp::Abs => floats.absolute(a),
            UnaryOp::Sign => floats.sign(a),
            UnaryOp::Floor => floats.map(a, |b, a| b.ins().floor(a)),
            UnaryOp::Ceil => floats.map(a, |b, a| b.ins().ceil(a)),
            UnaryOp::Round => floats.map(a, |b, a| b.ins().nearest(a)),
            UnaryOp::Trunc => floats.map(a, |b, a| b.ins().trunc(a)),
            UnaryOp::Sqrt => floats.square_root(a),
            UnaryOp::Reciprocal => floats.reciprocal(a),
            UnaryOp::Exp => floats.exp(a),
            UnaryOp::Log => floats.log(a),
            UnaryOp::Tanh => floats.tanh(a),
            UnaryOp::Sigmoid => floats.sigmoid(a),
            UnaryOp::Erf => floats.erf(a),
            UnaryOp::Sin => floats.sine(a),
            UnaryOp::Cos => floats.cosine(a),
            UnaryOp::Tan => floats.tangent(a),
            UnaryOp::Asin => floats.arc_sine(a),
            UnaryOp::Acos => floats.arc_cosine(a),
            UnaryOp::Atan => floats.arc_tangent(a),
            UnaryOp::Sinh => floats.hyperbolic_sine(a),
            UnaryOp::Cosh => floats.hyperbolic_cosine(a),
            UnaryOp::Asinh => floats.area_sine(a),
            UnaryOp::Acosh => floats.area_cosine(a),
            UnaryOp::Atanh => floats.area_tangent(a),
            UnaryOp::Not | UnaryOp::IsNan | UnaryOp::IsInf => return Err(unsupported(format!("{op:?} of {dtype}"))),
        })
    }

    pub(super) fn float_binary(
        &mut self,
        op: BinaryOp,
        dtype: DType,
        x: &[Value],
        y: &[Value],
    ) -> Result<Vec<Value>, EmitError> {
        let mut floats = self.floats(dtype);
        Ok(match op {
            BinaryOp::Add => floats.add(x, y),
            BinaryOp::Sub => floats.subtract(x, y),
            BinaryOp::Mul => floats.multiply(x, y),
            BinaryOp::Div => floats.divide(x, y),
            BinaryOp::Max => floats.maximum(x, y),
            BinaryOp::Min => floats.minimum(x, y),
            BinaryOp::Pow => floats.power(x, y),
            BinaryOp::Rem | BinaryOp::Mod if self.width == Width::Four => {
                self.per_lane(&[(dtype, x), (dtype, y)], dtype, |one, arguments| {
                    one.float_binary(op, dtype, &arguments[0], &arguments[1])
                })?
            }
            BinaryOp::Rem | BinaryOp::Mod => self.remainder(op, dtype, x, y),
            BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::ShiftLeft
            | BinaryOp::ShiftRight
            | BinaryOp::Equal
            | BinaryOp::Less
            | BinaryOp::LessEqual => return Err(unsupported(format!("{op:?} of {dtype}"))),
        })
    }

    /// In binary64, where quotients of narrower types below 2^29 are rounded as they should be.
    fn remainder(&mut self, op: BinaryOp, dtype: DType, x: &[Value], y: &[Value]) -> Vec<Value> {
        let is_narrow = dtype != DType::F64;
        let wide = |emission: &mut Self, values: &[Value]| {
            emission.map(values, |b, value| if is_narrow { b.ins().fpromote(types::F64, value) } else { value })
        };
        let (wide_x, wide_y) = (wide(self, x), wide(self, y));
        let mut floats = self.floats(DType::F64);
        let result = if op == BinaryOp::Rem {
            floats.truncated_remainder(&wide_x, &wide_y)
        } else {
            floats.floored_remainder(&wide_x, &wide_y)
        };
        self.map(&result, |b, value| if is_narrow { b.ins().fdemote(types::F32, value) } else { value })
    }

    /// Truth values.
    pub(super) fn float_compare(&mut self, op: BinaryOp, x: &[Value], y: &[Value]) -> Vec<Value> {
        let condition = match op {
            BinaryOp::Less => FloatCC::LessThan,
            BinaryOp::LessEqual => FloatCC::LessThanOrEqual,
            _ => FloatCC::Equal,
        };
        self.zip(x, y, |b, x, y| b.ins().fcmp(condition, x, y))
    }

    /// Whether numbers of any type are NaN or infinite.
    pub(super) fn classify(&mut self, op: UnaryOp, dtype: DType, a: &[Value]) -> Vec<Value> {
        if !dtype.is_float() {
            let kind = self.kind(DType::Bool);
            return vec![self.integer(kind, 0); a.len()];
        }
        if op == UnaryOp::IsNan {
            return self.map(a, |b, a| b.ins().fcmp(FloatCC::Unordered, a, a));
        }
        let mut floats = self.floats(dtype);
        let (magnitude, infinity) = (floats.absolute(a), floats.number(f64::INFINITY));
        self.map(&magnitude, |b, magnitude| b.ins().fcmp(FloatCC::Equal, magnitude, infinity))
    }
}
