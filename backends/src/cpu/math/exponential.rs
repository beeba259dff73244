//! Exponential and logarithm, and what is made of them.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::{Floats, Format};

/// ln(2) as a sum; the first part has few bits, so that products with exponents are exact.
pub(super) const LN_2: [f64; 2] = [0.693_359_375, -2.121_944_400_546_905_8e-4];

/// `e^r` for `|r| <= ln(2) / 2`.
const EXP: [f64; 8] = [
    1.987_569_150_0e-4,
    1.398_199_950_7e-3,
    8.333_451_907_3e-3,
    4.166_579_589_4e-2,
    1.666_666_545_9e-1,
    5.000_000_120_1e-1,
    1.0,
    1.0,
];

impl Floats<'_, '_> {
    /// e to the power x, from the smallest subnormal number to infinity.
    pub fn exp(&mut self, x: &[Value]) -> Vec<Value> {
        self.exp_of_sum(x, None, 0)
    }

    /// `2^shift * e^(high + low)`, where `low` is small. Two factors of a power of two reach results whose exponent alone is
    /// no normal number.
    pub(super) fn exp_of_sum(&mut self, high: &[Value], low: Option<&[Value]>, shift: i64) -> Vec<Value> {
        let (least, most) = if self.format == Format::DOUBLE { (-746.0, 711.0) } else { (-104.0, 90.0) };
        let clamped = self.clamp(high, least, most);
        let (n, mut r) = self.reduce(&clamped);
        if let Some(low) = low {
            r = self.add(&r, low);
        }
        let p = self.polynomial(&r, &EXP);
        let n = self.truncated(&n);
        let n = if shift == 0 { n } else { self.plus_integer(&n, shift) };
        let half = self.shift_right(&n, 1);
        let other = self.zip(&n, &half, |b, n, half| b.ins().isub(n, half));
        let (first, second) = (self.power_of_two(&half), self.power_of_two(&other));
        let p = self.multiply(&p, &first);
        self.multiply(&p, &second)
    }

    /// e to the power x, where results that are no normal number may become the smallest normal number, or infinity.
    pub(super) fn exp_within(&mut self, x: &[Value]) -> Vec<Value> {
        let (least, most) = if self.format == Format::DOUBLE { (-707.0, 710.0) } else { (-86.5, 89.0) };
        let clamped = self.clamp(x, least, most);
        let (n, r) = self.reduce(&clamped);
        let p = self.polynomial(&r, &EXP);
        let n = self.truncated(&n);
        let scale = self.power_of_two(&n);
        self.multiply(&p, &scale)
    }

    /// `(n, r)` with `x = n * ln(2) + r`, n whole.
    fn reduce(&mut self, x: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let scaled = self.times(x, std::f64::consts::LOG2_E);
        let n = self.round(&scaled);
        let r = self.times_add(&n, -LN_2[0], x);
        let r = self.times_add(&n, -LN_2[1], &r);
        (n, r)
    }

    /// `2^n` of an exponent of a normal number, or of infinity.
    fn power_of_two(&mut self, n: &[Value]) -> Vec<Value> {
        let Format { bias, fraction, .. } = self.format;
        let exponent = self.plus_integer(n, bias);
        let bits = self.shift_left(&exponent, fraction);
        self.with_bits(&bits)
    }

    /// `(m, e)` with `x = m * 2^e` and `sqrt(1/2) <= m < sqrt(2)`, for positive numbers, subnormal ones too.
    pub(super) fn split(&mut self, x: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let Format { fraction, .. } = self.format;
        let (smallest, root_half) = if self.format == Format::DOUBLE {
            (f64::MIN_POSITIVE, std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64)
        } else {
            (f64::from(f32::MIN_POSITIVE), i64::from(std::f32::consts::FRAC_1_SQRT_2.to_bits()))
        };
        let lifted = self.times(x, 2f64.powi(fraction as i32));
        let normal = self.choose_by(FloatCC::LessThan, x, smallest, &lifted, x);
        let (lift, none) = (self.all(-(fraction as f64), x), self.all(0.0, x));
        let lift = self.choose_by(FloatCC::LessThan, x, smallest, &lift, &none);
        let bits = self.bits(&normal);
        let relative = self.plus_integer(&bits, -root_half);
        let exponent = self.shift_right(&relative, fraction);
        let removed = self.shift_left(&exponent, fraction);
        let mantissa = self.zip(&bits, &removed, |b, bits, removed| b.ins().isub(bits, removed));
        let mantissa = self.with_bits(&mantissa);
        let exponent = self.converted(&exponent);
        (mantissa, self.add(&exponent, &lift))
    }

    /// The natural logarithm.
    pub fn log(&mut self, x: &[Value]) -> Vec<Value> {
        let (mantissa, exponent) = self.split(x);
        let r = self.plus(&mantissa, -1.0);
        let p = self.polynomial(
            &r,
            &[
                7.037_683_629_2e-2,
                -1.151_461_031_0e-1,
                1.167_699_874_0e-1,
                -1.242_014_084_6e-1,
                1.424_932_278_7e-1,
                -1.666_805_766_5e-1,
                2.000_071_476_5e-1,
                -2.499_999_399_3e-1,
                3.333_333_117_4e-1,
            ],
        );
        let square = self.multiply(&r, &r);
        let p = self.multiply(&p, &r);
        let p = self.multiply(&p, &square);
        let p = self.times_add(&exponent, LN_2[1], &p);
        let p = self.times_add(&square, -0.5, &p);
        let p = self.add(&p, &r);
        let result = self.times_add(&exponent, LN_2[0], &p);
        // Infinity is its own logarithm.
        let result = self.choose_by(FloatCC::Equal, x, f64::INFINITY, x, &result);
        let least = self.all(f64::NEG_INFINITY, x);
        let result = self.choose_by(FloatCC::Equal, x, 0.0, &least, &result);
        // Negative and NaN: neither is at least zero.
        let root = self.square_root(x);
        self.choose_by(FloatCC::GreaterThanOrEqual, x, 0.0, &result, &root)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&mut self, x: &[Value]) -> Vec<Value> {
        let negative = self.negate(x);
        let power = self.exp_within(&negative);
        let sum = self.plus(&power, 1.0);
        self.over(1.0, &sum)
    }

    /// An odd polynomial below 0.625, else `1 - 2 / (exp(2|x|) + 1)` with the sign of x.
    pub fn tanh(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let square = self.multiply(x, x);
        let p = self.polynomial(
            &square,
            &[
                -5.704_988_727_45e-3,
                2.063_908_879_54e-2,
                -5.373_971_555_31e-2,
                1.333_144_220_36e-1,
                -3.333_328_225_56e-1,
            ],
        );
        let p = self.multiply(&p, &square);
        let near = self.multiply_add(&p, x, x);
        let double = self.add(&magnitude, &magnitude);
        let power = self.exp_within(&double);
        let sum = self.plus(&power, 1.0);
        let share = self.over(2.0, &sum);
        let far = self.number_minus(1.0, &share);
        let far = self.copy_sign(&far, x);
        self.choose_by(FloatCC::LessThan, &magnitude, 0.625, &near, &far)
    }

    /// The error function as `x * P(x^2) / Q(x^2)` on [-4, 4], beyond which it is 1 (the minimax fit of Eigen's `erf`).
    pub fn erf(&mut self, x: &[Value]) -> Vec<Value> {
        let x = self.clamp(x, -4.0, 4.0);
        let square = self.multiply(&x, &x);
        let numerator = self.polynomial(
            &square,
            &[
                -2.726_142_344_e-10,
                2.770_681_498_e-8,
                -2.101_023_963_e-6,
                -5.692_506_433_e-5,
                -7.349_906_297_e-4,
                -2.954_600_170_e-3,
                -1.609_602_616_e-2,
            ],
        );
        let denominator = self.polynomial(
            &square,
            &[-1.456_607_182_e-5, -2.133_740_559_e-4, -1.682_826_969_e-3, -7.373_329_252_e-3, -1.426_473_911_e-2],
        );
        let numerator = self.multiply(&numerator, &x);
        self.divide(&numerator, &denominator)
    }
}
