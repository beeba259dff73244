//! Transcendental functions of f32 as polynomials, for one element or four lanes. No library is called.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::function::lanes as lane_flags;

/// Writes f32 arithmetic of one width: `F32`, or `F32X4`.
pub(super) struct Floats<'a, 'b> {
    pub(super) b: &'a mut FunctionBuilder<'b>,
    kind: Type,
}

impl<'a, 'b> Floats<'a, 'b> {
    pub(super) fn new(b: &'a mut FunctionBuilder<'b>, kind: Type) -> Self {
        Floats { b, kind }
    }

    pub(super) fn number(&mut self, value: f32) -> Value {
        let scalar = self.b.ins().f32const(value);
        if self.kind == types::F32 { scalar } else { self.b.ins().splat(self.kind, scalar) }
    }

    fn integer_kind(&self) -> Type {
        if self.kind == types::F32 { types::I32 } else { types::I32X4 }
    }

    fn integer(&mut self, value: i32) -> Value {
        let scalar = self.b.ins().iconst(types::I32, value as u32 as i64);
        if self.kind == types::F32 { scalar } else { self.b.ins().splat(types::I32X4, scalar) }
    }

    fn bits(&mut self, x: Value) -> Value {
        let kind = self.integer_kind();
        self.b.ins().bitcast(kind, lane_flags(), x)
    }

    fn from_bits(&mut self, x: Value) -> Value {
        self.b.ins().bitcast(self.kind, lane_flags(), x)
    }

    fn to_integer(&mut self, x: Value) -> Value {
        let kind = self.integer_kind();
        self.b.ins().fcvt_to_sint_sat(kind, x)
    }

    fn to_float(&mut self, x: Value) -> Value {
        self.b.ins().fcvt_from_sint(self.kind, x)
    }

    fn shift_left(&mut self, x: Value, by: i64) -> Value {
        let by = self.b.ins().iconst(types::I32, by);
        self.b.ins().ishl(x, by)
    }

    fn shift_right(&mut self, x: Value, by: i64) -> Value {
        let by = self.b.ins().iconst(types::I32, by);
        self.b.ins().sshr(x, by)
    }

    fn add(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().fadd(x, y)
    }

    fn subtract(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().fsub(x, y)
    }

    fn multiply(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().fmul(x, y)
    }

    fn divide(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().fdiv(x, y)
    }

    fn times(&mut self, x: Value, factor: f32) -> Value {
        let factor = self.number(factor);
        self.multiply(x, factor)
    }

    fn multiply_add(&mut self, x: Value, y: Value, z: Value) -> Value {
        self.b.ins().fma(x, y, z)
    }

    fn absolute(&mut self, x: Value) -> Value {
        self.b.ins().fabs(x)
    }

    /// The magnitude of `x`, which is not negative, with the sign of `sign`.
    fn copy_sign(&mut self, x: Value, sign: Value) -> Value {
        let top = self.integer(i32::MIN);
        let sign = self.bits(sign);
        let sign = self.b.ins().band(sign, top);
        let bits = self.bits(x);
        let bits = self.b.ins().bor(bits, sign);
        self.from_bits(bits)
    }

    /// `if x <compared to> y then a else b`, lane by lane.
    pub(super) fn choose(&mut self, compare: FloatCC, x: Value, y: Value, a: Value, b: Value) -> Value {
        let mask = self.b.ins().fcmp(compare, x, y);
        self.select(mask, a, b)
    }

    fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        if self.kind == types::F32 {
            return self.b.ins().select(mask, a, b);
        }
        let mask = self.b.ins().bitcast(self.kind, lane_flags(), mask);
        self.b.ins().bitselect(mask, a, b)
    }

    fn clamp(&mut self, x: Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.number(low), self.number(high));
        let x = self.b.ins().fmax(x, low);
        self.b.ins().fmin(x, high)
    }

    /// `((c[0] * x + c[1]) * x + ..) * x + c[n]`.
    fn polynomial(&mut self, x: Value, coefficients: &[f32]) -> Value {
        let mut sum = self.number(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            let next = self.number(coefficient);
            sum = self.multiply_add(sum, x, next);
        }
        sum
    }

    /// e to the power x: `2^n * e^r` with `|r| <= ln(2) / 2` and the Taylor-like polynomial of Cephes `expf`. Two factors of
    /// `2^(n/2)` reach from the smallest subnormal to infinity.
    pub(super) fn exp(&mut self, x: Value) -> Value {
        let clamped = self.clamp(x, -104.0, 89.0);
        let scaled = self.times(clamped, std::f32::consts::LOG2_E);
        let n = self.b.ins().nearest(scaled);
        let high = self.number(-0.693_359_4);
        let low = self.number(2.121_944_4e-4);
        let r = self.multiply_add(n, high, clamped);
        let r = self.multiply_add(n, low, r);
        let coefficients = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
        let p = self.polynomial(r, &coefficients);
        let square = self.multiply(r, r);
        let p = self.multiply_add(p, square, r);
        let one = self.number(1.0);
        let p = self.add(p, one);
        let n = self.to_integer(n);
        let half = self.shift_right(n, 1);
        let other = self.b.ins().isub(n, half);
        let [first, second] = [half, other].map(|n| self.power_of_two(n));
        let p = self.multiply(p, first);
        self.multiply(p, second)
    }

    /// `2^n` of an integer in -126..=127.
    fn power_of_two(&mut self, n: Value) -> Value {
        let bias = self.integer(127);
        let exponent = self.b.ins().iadd(n, bias);
        let bits = self.shift_left(exponent, 23);
        self.from_bits(bits)
    }

    /// The natural logarithm: exponent and mantissa apart, polynomial of Cephes `logf`.
    pub(super) fn log(&mut self, x: Value) -> Value {
        let smallest = self.number(f32::MIN_POSITIVE);
        let lifted = self.times(x, 8_388_608.0);
        let normal = self.choose(FloatCC::LessThan, x, smallest, lifted, x);
        let (minus_23, zero) = (self.number(-23.0), self.number(0.0));
        let shift = self.choose(FloatCC::LessThan, x, smallest, minus_23, zero);
        let bits = self.bits(normal);
        let root_half = self.integer(0x3f35_04f3);
        let relative = self.b.ins().isub(bits, root_half);
        let exponent = self.shift_right(relative, 23);
        let removed = self.shift_left(exponent, 23);
        let mantissa = self.b.ins().isub(bits, removed);
        let mantissa = self.from_bits(mantissa);
        let exponent = self.to_float(exponent);
        let exponent = self.add(exponent, shift);
        let one = self.number(1.0);
        let r = self.subtract(mantissa, one);
        let coefficients = [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_4e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ];
        let p = self.polynomial(r, &coefficients);
        let square = self.multiply(r, r);
        let p = self.multiply(p, r);
        let p = self.multiply(p, square);
        let low = self.number(-2.121_944_4e-4);
        let p = self.multiply_add(exponent, low, p);
        let half = self.number(-0.5);
        let p = self.multiply_add(half, square, p);
        let p = self.add(p, r);
        let high = self.number(0.693_359_4);
        let result = self.multiply_add(exponent, high, p);
        let (infinity, minus_infinity, nan) =
            (self.number(f32::INFINITY), self.number(f32::NEG_INFINITY), self.number(f32::NAN));
        let result = self.choose(FloatCC::Equal, x, infinity, infinity, result);
        let result = self.choose(FloatCC::Equal, x, zero, minus_infinity, result);
        // Negative and NaN: neither is at least zero.
        self.choose(FloatCC::GreaterThanOrEqual, x, zero, result, nan)
    }

    /// `1 / (1 + exp(-x))`.
    pub(super) fn sigmoid(&mut self, x: Value) -> Value {
        let negative = self.b.ins().fneg(x);
        let power = self.exp(negative);
        let one = self.number(1.0);
        let sum = self.add(power, one);
        self.divide(one, sum)
    }

    /// Cephes `tanhf`: an odd polynomial below 0.625, else `1 - 2 / (exp(2|x|) + 1)` with the sign of x.
    pub(super) fn tanh(&mut self, x: Value) -> Value {
        let magnitude = self.absolute(x);
        let square = self.multiply(x, x);
        let p =
            self.polynomial(square, &[-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_2e-2, 1.333_144_1e-1, -3.333_328e-1]);
        let p = self.multiply(p, square);
        let near = self.multiply_add(p, x, x);
        let double = self.add(magnitude, magnitude);
        let power = self.exp(double);
        let (one, two) = (self.number(1.0), self.number(2.0));
        let sum = self.add(power, one);
        let share = self.divide(two, sum);
        let far = self.subtract(one, share);
        let far = self.copy_sign(far, x);
        let limit = self.number(0.625);
        self.choose(FloatCC::LessThan, magnitude, limit, near, far)
    }

    /// The error function as `x * P(x^2) / Q(x^2)` on [-4, 4], beyond which it is 1 (the minimax fit of Eigen's `erf`).
    pub(super) fn erf(&mut self, x: Value) -> Value {
        let x = self.clamp(x, -4.0, 4.0);
        let square = self.multiply(x, x);
        let numerator = self.polynomial(
            square,
            &[
                -2.726_142_3e-10,
                2.770_681_4e-8,
                -2.101_024e-6,
                -5.692_506_4e-5,
                -7.349_906e-4,
                -2.954_6e-3,
                -1.609_603_3e-2,
            ],
        );
        let denominator =
            self.polynomial(square, &[-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2]);
        let numerator = self.multiply(numerator, x);
        self.divide(numerator, denominator)
    }

    /// `x^y` as `exp(y * log|x|)` with the sign that an odd integer `y` gives; NaN for a negative `x` and a fraction `y`.
    pub(super) fn pow(&mut self, x: Value, y: Value) -> Value {
        let magnitude = self.absolute(x);
        let logarithm = self.log(magnitude);
        let product = self.multiply(y, logarithm);
        let power = self.exp(product);
        let whole = self.b.ins().nearest(y);
        let half = self.times(y, 0.5);
        let half_whole = self.b.ins().nearest(half);
        let (zero, one, nan) = (self.number(0.0), self.number(1.0), self.number(f32::NAN));
        let negated = self.b.ins().fneg(power);
        // An even y is twice an integer.
        let odd = self.choose(FloatCC::Equal, half, half_whole, power, negated);
        let signed = self.choose(FloatCC::Equal, whole, y, odd, nan);
        let result = self.choose(FloatCC::LessThan, x, zero, signed, power);
        let result = self.choose(FloatCC::Equal, x, one, one, result);
        self.choose(FloatCC::Equal, y, zero, one, result)
    }

    /// Sine, or cosine: reduction by multiples of pi/2 in three parts (Cody and Waite), polynomials of Cephes `sinf`.
    pub(super) fn sine(&mut self, x: Value, quarter_turns: i32) -> Value {
        let turns = self.times(x, std::f32::consts::FRAC_2_PI);
        let n = self.b.ins().nearest(turns);
        let mut r = x;
        for part in [-1.570_312_5, -4.837_513e-4, -7.549_79e-8] {
            let part = self.number(part);
            r = self.multiply_add(n, part, r);
        }
        let square = self.multiply(r, r);
        let sine = self.polynomial(square, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
        let sine = self.multiply(sine, square);
        let sine = self.multiply_add(sine, r, r);
        let cosine = self.polynomial(square, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
        let fourth = self.multiply(square, square);
        let cosine = self.multiply(cosine, fourth);
        let (half, one) = (self.number(-0.5), self.number(1.0));
        let near_one = self.multiply_add(half, square, one);
        let cosine = self.add(cosine, near_one);
        let quarters = self.to_integer(n);
        let offset = self.integer(quarter_turns);
        let quarters = self.b.ins().iadd(quarters, offset);
        let low_bit = self.integer(1);
        let odd = self.b.ins().band(quarters, low_bit);
        let odd = self.to_float(odd);
        let zero = self.number(0.0);
        let value = self.choose(FloatCC::Equal, odd, zero, sine, cosine);
        // Quarters 2 and 3 have the other sign: bit 1 becomes the sign bit.
        let sign = self.shift_left(quarters, 30);
        let top = self.integer(i32::MIN);
        let sign = self.b.ins().band(sign, top);
        let bits = self.bits(value);
        let bits = self.b.ins().bxor(bits, sign);
        self.from_bits(bits)
    }
}
