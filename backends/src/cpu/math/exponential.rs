//! Exponential and logarithm, and what is made of them.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::{Floats, Format};

/// ln(2) as a sum; the first part has few bits, so that products with exponents are exact.
pub(in crate::cpu) const LN_2: [f64; 2] = [0.693_359_375, -2.121_944_400_546_905_8e-4];

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

/// `e^r` for `|r| <= ln(2) / 2` within 9.2e-8 of its value, by rising power: a minimax fit.
pub(in crate::cpu) const EXP_SHORT: [f64; 6] =
    [1.0, 0.999_999_7, 0.499_991_48, 0.166_676_52, 0.041_898_176, 0.008_289_36];

/// Numerator and denominator, by falling power of `x^2`, of `tanh(x) / x` (the minimax fit of Eigen).
pub(crate) const TANH: ([f64; 7], [f64; 4]) = (
    [
        -2.760_768_477_423_55e-16,
        2.000_187_904_824_77e-13,
        -8.604_671_522_137_35e-11,
        5.122_297_090_371_14e-8,
        1.485_722_357_179_79e-5,
        6.372_619_288_754_36e-4,
        4.893_524_558_917_86e-3,
    ],
    [1.198_258_394_667_02e-6, 1.185_347_056_866_54e-4, 2.268_434_632_439_00e-3, 4.893_525_185_543_85e-3],
);

/// Numerator and denominator, by falling power of `x^2`, of `erf(x) / x` (the minimax fit of Eigen).
pub(crate) const ERF: ([f64; 7], [f64; 5]) = (
    [
        -2.726_142_344_e-10,
        2.770_681_498_e-8,
        -2.101_023_963_e-6,
        -5.692_506_433_e-5,
        -7.349_906_297_e-4,
        -2.954_600_170_e-3,
        -1.609_602_616_e-2,
    ],
    [-1.456_607_182_e-5, -2.133_740_559_e-4, -1.682_826_969_e-3, -7.373_329_252_e-3, -1.426_473_911_e-2],
);

/// `x = n * ln(2) + r`, n whole.
struct Reduced {
    /// The bits of `n + 1.5 * 2^fraction`: n in the low bits.
    lifted: Vec<Value>,
    rest: Vec<Value>,
}

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
        let Reduced { lifted, mut rest } = self.reduce(&clamped, 1.0);
        if let Some(low) = low {
            rest = self.add(&rest, low);
        }
        let p = self.polynomial(&rest, &EXP);
        let lift = self.bits_of(self.lift());
        let n = self.plus_integer(&lifted, shift - lift);
        let half = self.shift_right(&n, 1);
        let other = self.zip(&n, &half, |b, n, half| b.ins().isub(n, half));
        let (first, second) = (self.power_of_two(&half), self.power_of_two(&other));
        let p = self.multiply(&p, &first);
        self.multiply(&p, &second)
    }

    /// `e^x`, or `e^-x` for a sign of -1, where results that are no normal number may become the smallest normal number, or
    /// infinity.
    fn exp_within(&mut self, x: &[Value], sign: f64) -> Vec<Value> {
        let (least, most) = if self.format == Format::DOUBLE { (-707.0, 710.0) } else { (-86.5, 89.0) };
        let clamped = if sign > 0.0 { self.clamp(x, least, most) } else { self.clamp(x, -most, -least) };
        let Reduced { lifted, rest } = self.reduce(&clamped, sign);
        let rising: Vec<f64> = match self.format == Format::DOUBLE {
            true => EXP.into_iter().rev().collect(),
            false => EXP_SHORT.to_vec(),
        };
        // Of an odd power, -1 remains.
        let falling: Vec<f64> = (0..rising.len()).rev().map(|power| rising[power] * sign.powi(power as i32)).collect();
        let p = self.polynomial(&rest, &falling);
        let scale = self.power_of_two(&lifted);
        self.multiply(&p, &scale)
    }

    /// For a sign of -1, n is that of -x, and the rest is that of -x with the other sign.
    fn reduce(&mut self, x: &[Value], sign: f64) -> Reduced {
        let lift = self.lift();
        let lifts = self.all(lift, x);
        let lifted = self.times_add(x, sign * std::f64::consts::LOG2_E, &lifts);
        let n = self.plus(&lifted, -lift);
        let rest = self.times_add(&n, -sign * LN_2[0], x);
        let rest = self.times_add(&n, -sign * LN_2[1], &rest);
        Reduced { lifted: self.bits(&lifted), rest }
    }

    /// Added to a number of few digits before the point, it leaves none behind the point, and the digits in the low bits.
    fn lift(&self) -> f64 {
        1.5 * 2f64.powi(self.format.fraction as i32)
    }

    fn bits_of(&self, number: f64) -> i64 {
        if self.format == Format::DOUBLE { number.to_bits() as i64 } else { i64::from((number as f32).to_bits()) }
    }

    /// `2^n` of an exponent of a normal number, or of infinity, in the low bits.
    fn power_of_two(&mut self, n: &[Value]) -> Vec<Value> {
        let Format { fraction, .. } = self.format;
        let exponent = self.shift_left(n, fraction);
        let one = self.bits_of(1.0);
        let bits = self.plus_integer(&exponent, one);
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
        let power = self.exp_within(x, -1.0);
        let sum = self.plus(&power, 1.0);
        self.over(1.0, &sum)
    }

    /// `x * P(x^2) / Q(x^2)` on [-7.9, 7.9], beyond which f32 says 1.
    pub fn tanh(&mut self, x: &[Value]) -> Vec<Value> {
        self.rational(x, 7.905_311_107_635_498, &TANH.0, &TANH.1)
    }

    /// The error function as `x * P(x^2) / Q(x^2)` on [-4, 4], beyond which it is 1.
    pub fn erf(&mut self, x: &[Value]) -> Vec<Value> {
        self.rational(x, 4.0, &ERF.0, &ERF.1)
    }

    fn rational(&mut self, x: &[Value], limit: f64, numerator: &[f64], denominator: &[f64]) -> Vec<Value> {
        let x = self.clamp(x, -limit, limit);
        let square = self.multiply(&x, &x);
        let numerator = self.polynomial(&square, numerator);
        let numerator = self.multiply(&numerator, &x);
        let denominator = self.polynomial(&square, denominator);
        self.divide(&numerator, &denominator)
    }
}
