//! Floating-point functions as polynomials, for several items side by side: of f32, of four lanes of f32, or of f64. No
//! library is called. Polynomials are those of the Cephes library unless a function says otherwise; f64 shares them, so
//! that its functions err by up to 2e-7 too.

mod exponential;
mod half;
mod hyperbolic;
mod power;
mod trigonometric;

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::expr::{Shared, select};
use super::function::lanes as lane_flags;
use super::isa::Architecture;
pub(crate) use exponential::{ERF, TANH};
pub(super) use exponential::{EXP_SHORT, LN_2};

/// A floating-point format.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Format {
    float: Type,
    integer: Type,
    /// Bits of the stored fraction.
    fraction: i64,
}

impl Format {
    pub const SINGLE: Format = Format { float: types::F32, integer: types::I32, fraction: 23 };
    pub const LANES: Format = Format { float: types::F32X4, integer: types::I32X4, ..Format::SINGLE };
    pub const DOUBLE: Format = Format { float: types::F64, integer: types::I64, fraction: 52 };
}

/// Writes floating-point arithmetic of one format.
pub(super) struct Floats<'a, 'b> {
    b: &'a mut FunctionBuilder<'b>,
    shared: &'a mut Shared,
    format: Format,
}

impl<'a, 'b> Floats<'a, 'b> {
    pub fn new(b: &'a mut FunctionBuilder<'b>, shared: &'a mut Shared, format: Format) -> Self {
        Floats { b, shared, format }
    }

    pub fn number(&mut self, value: f64) -> Value {
        let bits = if self.format == Format::DOUBLE { value.to_bits() } else { u64::from((value as f32).to_bits()) };
        self.shared.constant(self.b, self.format.float, bits)
    }

    fn integer(&mut self, value: i64) -> Value {
        let bits = if self.format == Format::DOUBLE { value as u64 } else { u64::from(value as u32) };
        self.shared.constant(self.b, self.format.integer, bits)
    }

    /// Whether the CPU's vector minimum and maximum differ from IEEE 754's in their treatment of NaN.
    fn has_plain_extremes(&self) -> bool {
        self.shared.architecture == Architecture::X86_64 && self.format.float.is_vector()
    }

    pub fn map(&mut self, a: &[Value], mut each: impl FnMut(&mut FunctionBuilder<'b>, Value) -> Value) -> Vec<Value> {
        a.iter().map(|&a| each(self.b, a)).collect()
    }

    fn zip(
        &mut self,
        x: &[Value],
        y: &[Value],
        mut each: impl FnMut(&mut FunctionBuilder<'b>, Value, Value) -> Value,
    ) -> Vec<Value> {
        x.iter().zip(y).map(|(&x, &y)| each(self.b, x, y)).collect()
    }

    fn all(&mut self, value: f64, like: &[Value]) -> Vec<Value> {
        vec![self.number(value); like.len()]
    }

    pub fn add(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        self.zip(x, y, |b, x, y| b.ins().fadd(x, y))
    }

    pub fn subtract(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        self.zip(x, y, |b, x, y| b.ins().fsub(x, y))
    }

    pub fn multiply(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        self.zip(x, y, |b, x, y| b.ins().fmul(x, y))
    }

    pub fn divide(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        self.zip(x, y, |b, x, y| b.ins().fdiv(x, y))
    }

    pub fn multiply_add(&mut self, x: &[Value], y: &[Value], z: &[Value]) -> Vec<Value> {
        let items = x.iter().zip(y).zip(z);
        items.map(|((&x, &y), &z)| self.b.ins().fma(x, y, z)).collect()
    }

    /// `x + value`.
    fn plus(&mut self, x: &[Value], value: f64) -> Vec<Value> {
        let value = self.number(value);
        self.map(x, |b, x| b.ins().fadd(x, value))
    }

    /// `value - x`.
    fn number_minus(&mut self, value: f64, x: &[Value]) -> Vec<Value> {
        let value = self.number(value);
        self.map(x, |b, x| b.ins().fsub(value, x))
    }

    fn times(&mut self, x: &[Value], factor: f64) -> Vec<Value> {
        let factor = self.number(factor);
        self.map(x, |b, x| b.ins().fmul(x, factor))
    }

    /// `value / x`.
    fn over(&mut self, value: f64, x: &[Value]) -> Vec<Value> {
        let value = self.number(value);
        self.map(x, |b, x| b.ins().fdiv(value, x))
    }

    /// `x * factor + z`.
    fn times_add(&mut self, x: &[Value], factor: f64, z: &[Value]) -> Vec<Value> {
        let factor = self.number(factor);
        self.zip(x, z, |b, x, z| b.ins().fma(x, factor, z))
    }

    fn negate(&mut self, x: &[Value]) -> Vec<Value> {
        self.map(x, |b, x| b.ins().fneg(x))
    }

    pub fn absolute(&mut self, x: &[Value]) -> Vec<Value> {
        self.map(x, |b, x| b.ins().fabs(x))
    }

    pub fn square_root(&mut self, x: &[Value]) -> Vec<Value> {
        self.map(x, |b, x| b.ins().sqrt(x))
    }

    pub fn reciprocal(&mut self, x: &[Value]) -> Vec<Value> {
        self.over(1.0, x)
    }

    fn round(&mut self, x: &[Value]) -> Vec<Value> {
        self.map(x, |b, x| b.ins().nearest(x))
    }

    fn bits(&mut self, x: &[Value]) -> Vec<Value> {
        let kind = self.format.integer;
        self.map(x, |b, x| b.ins().bitcast(kind, lane_flags(), x))
    }

    fn with_bits(&mut self, x: &[Value]) -> Vec<Value> {
        let kind = self.format.float;
        self.map(x, |b, x| b.ins().bitcast(kind, lane_flags(), x))
    }

    fn truncated(&mut self, x: &[Value]) -> Vec<Value> {
        let kind = self.format.integer;
        self.map(x, |b, x| b.ins().fcvt_to_sint_sat(kind, x))
    }

    fn converted(&mut self, x: &[Value]) -> Vec<Value> {
        let kind = self.format.float;
        self.map(x, |b, x| b.ins().fcvt_from_sint(kind, x))
    }

    fn shift_left(&mut self, x: &[Value], by: i64) -> Vec<Value> {
        let by = self.b.ins().iconst(types::I32, by);
        self.map(x, |b, x| b.ins().ishl(x, by))
    }

    /// Copies of the sign come in from above.
    fn shift_right(&mut self, x: &[Value], by: i64) -> Vec<Value> {
        let by = self.b.ins().iconst(types::I32, by);
        self.map(x, |b, x| b.ins().sshr(x, by))
    }

    /// Zeros come in from above.
    fn shift_in_zeros(&mut self, x: &[Value], by: i64) -> Vec<Value> {
        let by = self.b.ins().iconst(types::I32, by);
        self.map(x, |b, x| b.ins().ushr(x, by))
    }

    fn add_integers(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        self.zip(x, y, |b, x, y| b.ins().iadd(x, y))
    }

    fn plus_integer(&mut self, x: &[Value], value: i64) -> Vec<Value> {
        let value = self.integer(value);
        self.map(x, |b, x| b.ins().iadd(x, value))
    }

    fn masked(&mut self, x: &[Value], mask: i64) -> Vec<Value> {
        let mask = self.integer(mask);
        self.map(x, |b, x| b.ins().band(x, mask))
    }

    /// The sign bit of each, all other bits 0, as integers.
    fn signs(&mut self, x: &[Value]) -> Vec<Value> {
        let top = if self.format == Format::DOUBLE { i64::MIN } else { i64::from(i32::MIN) };
        let bits = self.bits(x);
        self.masked(&bits, top)
    }

    /// `x` with its sign turned where `signs` has the sign bit.
    fn turn(&mut self, x: &[Value], signs: &[Value]) -> Vec<Value> {
        let bits = self.bits(x);
        let turned = self.zip(&bits, signs, |b, x, sign| b.ins().bxor(x, sign));
        self.with_bits(&turned)
    }

    /// The magnitude of `x`, which is not negative, with the sign of `sign`.
    fn copy_sign(&mut self, x: &[Value], sign: &[Value]) -> Vec<Value> {
        let signs = self.signs(sign);
        self.turn(x, &signs)
    }

    /// `if x <compared to> y then a else b`.
    pub fn choose(&mut self, compare: FloatCC, x: &[Value], y: &[Value], a: &[Value], b: &[Value]) -> Vec<Value> {
        let masks = self.zip(x, y, |builder, x, y| builder.ins().fcmp(compare, x, y));
        self.select(&masks, a, b)
    }

    /// `if x <compared to> value then a else b`.
    fn choose_by(&mut self, compare: FloatCC, x: &[Value], value: f64, a: &[Value], b: &[Value]) -> Vec<Value> {
        let value = self.all(value, x);
        self.choose(compare, x, &value, a, b)
    }

    fn select(&mut self, masks: &[Value], a: &[Value], b: &[Value]) -> Vec<Value> {
        let kind = self.format.float;
        let items = masks.iter().zip(a).zip(b);
        items.map(|((&mask, &a), &b)| select(self.b, kind, mask, a, b)).collect()
    }

    /// Selects integers by truth values.
    fn select_integers(&mut self, masks: &[Value], a: &[Value], b: &[Value]) -> Vec<Value> {
        let kind = self.format.integer;
        let items = masks.iter().zip(a).zip(b);
        items.map(|((&mask, &a), &b)| select(self.b, kind, mask, a, b)).collect()
    }

    /// The larger; NaN if either is.
    pub fn maximum(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        if !self.has_plain_extremes() {
            return self.zip(x, y, |b, x, y| b.ins().fmax(x, y));
        }
        let (x, y) = self.numbers_last(x, y);
        let larger = self.choose(FloatCC::LessThan, x, y, y, x);
        self.or_nan(larger, y)
    }

    /// The smaller; NaN if either is.
    pub fn minimum(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        if !self.has_plain_extremes() {
            return self.zip(x, y, |b, x, y| b.ins().fmin(x, y));
        }
        let (x, y) = self.numbers_last(x, y);
        let smaller = self.choose(FloatCC::LessThan, y, x, y, x);
        self.or_nan(smaller, y)
    }

    /// Operands of a commutative operator, numbers that are known behind others.
    fn numbers_last<'v>(&self, x: &'v [Value], y: &'v [Value]) -> (&'v [Value], &'v [Value]) {
        if x.iter().all(|&x| is_number(self.b, x)) { (y, x) } else { (x, y) }
    }

    /// x86's `maxps` and `minps`, to which `choose` on these operands compiles, give the other operand where `y` is NaN:
    /// that is mended here, unless `y` is a number that is known.
    fn or_nan(&mut self, extreme: Vec<Value>, y: &[Value]) -> Vec<Value> {
        if y.iter().all(|&y| is_number(self.b, y)) {
            return extreme;
        }
        let kind = self.format.float;
        self.zip(&extreme, y, |b, extreme, y| {
            let nan = b.ins().fcmp(FloatCC::Unordered, y, y);
            let nan = b.ins().bitcast(kind, lane_flags(), nan);
            b.ins().bor(extreme, nan)
        })
    }

    /// Between two numbers; NaN stays NaN.
    fn clamp(&mut self, x: &[Value], low: f64, high: f64) -> Vec<Value> {
        let (low, high) = (self.all(low, x), self.all(high, x));
        let above = self.maximum(x, &low);
        self.minimum(&above, &high)
    }

    /// -1, 0 or 1; zeros keep their sign and NaN is NaN.
    pub fn sign(&mut self, x: &[Value]) -> Vec<Value> {
        let ones = self.all(1.0, x);
        let units = self.copy_sign(&ones, x);
        let magnitude = self.absolute(x);
        self.choose_by(FloatCC::GreaterThan, &magnitude, 0.0, &units, x)
    }

    /// The remainder with the sign of `x`.
    pub fn truncated_remainder(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        let quotient = self.divide(x, y);
        let whole = self.map(&quotient, |b, quotient| b.ins().trunc(quotient));
        let negative = self.negate(&whole);
        let rest = self.multiply_add(&negative, y, x);
        // A quotient that was rounded up to a whole number has taken off one divisor too many.
        let (signs, limit) = (self.signs(x), self.absolute(y));
        let step = self.copy_sign(&limit, x);
        let mended = self.add(&rest, &step);
        let along = self.turn(&rest, &signs);
        let rest = self.choose_by(FloatCC::LessThan, &along, 0.0, &mended, &rest);
        // Nothing is taken from a number that is smaller than the divisor, be that infinite.
        let size = self.absolute(x);
        self.choose(FloatCC::LessThan, &size, &limit, x, &rest)
    }

    /// `x - floor(x / y) * y`, the remainder with the sign of `y`.
    pub fn floored_remainder(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        let quotient = self.divide(x, y);
        let whole = self.map(&quotient, |b, quotient| b.ins().floor(quotient));
        let product = self.multiply(&whole, y);
        self.subtract(x, &product)
    }

    /// `((c[0] * x + c[1]) * x + ..) * x + c[n]`.
    fn polynomial(&mut self, x: &[Value], coefficients: &[f64]) -> Vec<Value> {
        let mut sum = self.all(coefficients[0], x);
        for &coefficient in &coefficients[1..] {
            let next = self.all(coefficient, x);
            sum = self.multiply_add(&sum, x, &next);
        }
        sum
    }
}

/// Whether a value is a vector constant that is not NaN.
fn is_number(b: &FunctionBuilder<'_>, value: Value) -> bool {
    let function = &b.func.dfg;
    let definition = function.value_def(value).inst().map(|inst| function.insts[inst]);
    let Some(InstructionData::UnaryConst { constant_handle, .. }) = definition else { return false };
    let bytes = function.constants.get(constant_handle).as_slice();
    bytes.first_chunk().is_some_and(|&first| !f32::from_le_bytes(first).is_nan())
}
