//! Powers.

use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::condcodes::FloatCC;

use super::Floats;
use super::exponential::LN_2;

impl Floats<'_, '_> {
    /// `x^y` as `exp(y * log|x|)`, where logarithm and product are sums of two numbers, so that large exponents lose nothing.
    /// Special cases are those of IEEE 754-2019, 9.2.1.
    pub fn power(&mut self, x: &[Value], y: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (high, low) = self.log_sum(&magnitude);
        let product = self.multiply(y, &high);
        let negative = self.negate(&product);
        let lost = self.multiply_add(y, &high, &negative);
        let lost = self.multiply_add(y, &low, &lost);
        // What is lost of an infinite product is no number.
        let size = self.absolute(&product);
        let none = self.all(0.0, x);
        let lost = self.choose_by(FloatCC::LessThan, &size, 1e4, &lost, &none);
        let power = self.exp_of_sum(&product, Some(&lost), 0);
        let power = self.signed_power(x, y, &power);
        let ones = self.all(1.0, x);
        let is_defined = self.choose_by(FloatCC::Equal, y, 0.0, &ones, &power);
        self.choose_by(FloatCC::Equal, x, 1.0, &ones, &is_defined)
    }

    /// The sign that an odd integer `y` keeps of `x`; NaN for a finite negative `x` and a fraction `y`, and 1 for -1 to an
    /// infinite power.
    fn signed_power(&mut self, x: &[Value], y: &[Value], power: &[Value]) -> Vec<Value> {
        let half = self.times(y, 0.5);
        let (whole, half_whole) = (self.round(y), self.round(&half));
        let signs = self.signs(x);
        let negative = self.turn(power, &signs);
        // An even number is twice a whole one.
        let whole_power = self.choose(FloatCC::Equal, &half, &half_whole, power, &negative);
        let least = self.all(f64::NEG_INFINITY, x);
        let root = self.square_root(x);
        let below = self.choose(FloatCC::Equal, x, &least, power, &root);
        let fraction_power = self.choose_by(FloatCC::LessThan, x, 0.0, &below, power);
        let result = self.choose(FloatCC::Equal, &whole, y, &whole_power, &fraction_power);
        let (ones, size) = (self.all(1.0, x), self.absolute(y));
        let at_infinity = self.choose_by(FloatCC::Equal, x, -1.0, &ones, &result);
        self.choose_by(FloatCC::Equal, &size, f64::INFINITY, &at_infinity, &result)
    }

    /// The logarithm of a number that is not negative, as a sum: `log(m) = 2 (t + t^3/3 + t^5/5 + ..)` with
    /// `t = (m - 1) / (m + 1)`, whose rounding error is kept.
    fn log_sum(&mut self, x: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let (mantissa, exponent) = self.split(x);
        let numerator = self.plus(&mantissa, -1.0);
        let denominator = self.plus(&mantissa, 1.0);
        // What the sum lost: mantissa - (denominator - 1).
        let kept = self.plus(&denominator, -1.0);
        let lost = self.subtract(&mantissa, &kept);
        let t = self.divide(&numerator, &denominator);
        let negative = self.negate(&t);
        let rest = self.multiply_add(&negative, &denominator, &numerator);
        let rest = self.multiply_add(&negative, &lost, &rest);
        let rest = self.divide(&rest, &denominator);
        let square = self.multiply(&t, &t);
        let series = self.polynomial(&square, &[2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0]);
        let cube = self.multiply(&square, &t);
        let series = self.multiply(&series, &cube);
        let low = self.times_add(&rest, 2.0, &series);
        let double = self.add(&t, &t);
        let whole = self.times(&exponent, LN_2[0]);
        let high = self.add(&whole, &double);
        let kept = self.subtract(&high, &whole);
        let lost = self.subtract(&double, &kept);
        let low = self.add(&low, &lost);
        let low = self.times_add(&exponent, LN_2[1], &low);
        self.log_limits(x, high, low)
    }

    /// Zero, infinity and NaN have logarithms without a second part.
    fn log_limits(&mut self, x: &[Value], high: Vec<Value>, low: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
        let least = self.all(f64::NEG_INFINITY, x);
        let high = self.choose_by(FloatCC::LessThan, x, f64::INFINITY, &high, x);
        let high = self.choose_by(FloatCC::Equal, x, 0.0, &least, &high);
        (high, low)
    }
}
