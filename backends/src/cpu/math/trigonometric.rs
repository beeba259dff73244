//! Functions of angles and their inverses.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::condcodes::FloatCC;

use super::{Floats, Format};

/// pi/2 as a sum of three f32: products with whole numbers are taken off one by one (Cody and Waite 1980).
const HALF_PI: [f64; 3] = [1.570_796_370_506_286_6, -4.371_138_828_673_793e-8, -1.715_124_851_805_865_4e-15];

impl Floats<'_, '_> {
    /// Sine. Angles beyond 1e5 lose digits, and beyond 1e7 all of them.
    pub fn sine(&mut self, x: &[Value]) -> Vec<Value> {
        let quarters = self.quarters(x);
        self.wave(&quarters, 0)
    }

    /// Cosine, within the limits of the sine.
    pub fn cosine(&mut self, x: &[Value]) -> Vec<Value> {
        let quarters = self.quarters(x);
        self.wave(&quarters, 1)
    }

    /// Tangent, within the limits of the sine.
    pub fn tangent(&mut self, x: &[Value]) -> Vec<Value> {
        let quarters = self.quarters(x);
        let (sine, cosine) = (self.wave(&quarters, 0), self.wave(&quarters, 1));
        self.divide(&sine, &cosine)
    }

    fn quarters(&mut self, x: &[Value]) -> Quarters {
        let turns = self.times(x, FRAC_2_PI);
        let n = self.round(&turns);
        let parts = if self.format == Format::DOUBLE { [FRAC_PI_2, 6.123_233_995_736_766e-17, 0.0] } else { HALF_PI };
        let mut rest = x.to_vec();
        for part in parts {
            rest = self.times_add(&n, -part, &rest);
        }
        // Of angles too large for that, something between -1 and 1 comes out.
        let rest = self.clamp(&rest, -FRAC_PI_4, FRAC_PI_4);
        let square = self.multiply(&rest, &rest);
        let sine = self.polynomial(&square, &[-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1]);
        let sine = self.multiply(&sine, &square);
        let sine = self.multiply_add(&sine, &rest, &rest);
        let cosine = self.polynomial(
            &square,
            &[2.443_315_711_809_948e-5, -1.388_731_625_493_765e-3, 4.166_664_568_298_827e-2, -0.5, 1.0],
        );
        Quarters { number: self.truncated(&n), sine, cosine }
    }

    /// The sine of an angle further by some quarters: odd quarters have the cosine, 2 and 3 the other sign.
    fn wave(&mut self, quarters: &Quarters, further: i64) -> Vec<Value> {
        let number = if further == 0 { quarters.number.clone() } else { self.plus_integer(&quarters.number, further) };
        let odd = self.masked(&number, 1);
        let odd = self.converted(&odd);
        let value = self.choose_by(FloatCC::Equal, &odd, 0.0, &quarters.sine, &quarters.cosine);
        let top = if self.format == Format::DOUBLE { 62 } else { 30 };
        let shifted = self.shift_left(&number, top);
        let shifted = self.with_bits(&shifted);
        let signs = self.signs(&shifted);
        self.turn(&value, &signs)
    }

    /// Inverse sine.
    pub fn arc_sine(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (near, far) = (self.arc_sine_near(&magnitude), self.arc_sine_far(&magnitude));
        let far = self.number_minus(FRAC_PI_2, &far);
        let value = self.choose_by(FloatCC::LessThanOrEqual, &magnitude, 0.5, &near, &far);
        self.copy_sign(&value, x)
    }

    /// Inverse cosine.
    pub fn arc_cosine(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (near, far) = (self.arc_sine_near(&magnitude), self.arc_sine_far(&magnitude));
        let near = self.copy_sign(&near, x);
        let near = self.number_minus(FRAC_PI_2, &near);
        let opposite = self.number_minus(PI, &far);
        let far = self.choose_by(FloatCC::LessThan, x, 0.0, &opposite, &far);
        self.choose_by(FloatCC::LessThanOrEqual, &magnitude, 0.5, &near, &far)
    }

    /// The inverse sine of numbers from 0 to 1/2.
    fn arc_sine_near(&mut self, x: &[Value]) -> Vec<Value> {
        let square = self.multiply(x, x);
        let p = self.polynomial(
            &square,
            &[4.216_319_904_8e-2, 2.418_131_104_9e-2, 4.547_002_599_8e-2, 7.495_300_268_6e-2, 1.666_675_242_2e-1],
        );
        let p = self.multiply(&p, &square);
        self.multiply_add(&p, x, x)
    }

    /// The inverse cosine of numbers from 1/2 to 1: twice the inverse sine of `sqrt((1 - x) / 2)`. NaN beyond 1.
    fn arc_sine_far(&mut self, x: &[Value]) -> Vec<Value> {
        let rest = self.number_minus(1.0, x);
        let half = self.times(&rest, 0.5);
        let root = self.square_root(&half);
        let angle = self.arc_sine_near(&root);
        self.add(&angle, &angle)
    }

    /// Inverse tangent: of x, of `(x - 1) / (x + 1)` and of `-1 / x`, by size.
    pub fn arc_tangent(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (less, more) = (self.plus(&magnitude, -1.0), self.plus(&magnitude, 1.0));
        let (ones, minus, none) = (self.all(1.0, x), self.all(-1.0, x), self.all(0.0, x));
        let (eighth, quarter) = (self.all(FRAC_PI_4, x), self.all(FRAC_PI_2, x));
        let by_size = |floats: &mut Self, low: &[Value], middle: &[Value], high: &[Value]| {
            let upper = floats.choose_by(FloatCC::GreaterThan, &magnitude, 2.414_213_562_373_095, high, middle);
            floats.choose_by(FloatCC::GreaterThan, &magnitude, 0.414_213_562_373_095, &upper, low)
        };
        let numerator = by_size(self, &magnitude, &less, &minus);
        let denominator = by_size(self, &ones, &more, &magnitude);
        let start = by_size(self, &none, &eighth, &quarter);
        let t = self.divide(&numerator, &denominator);
        let square = self.multiply(&t, &t);
        let p = self.polynomial(
            &square,
            &[8.053_744_494_68e-2, -1.387_768_568_32e-1, 1.997_771_064_78e-1, -3.333_294_915_39e-1],
        );
        let p = self.multiply(&p, &square);
        let angle = self.multiply_add(&p, &t, &t);
        let angle = self.add(&start, &angle);
        self.copy_sign(&angle, x)
    }
}

/// An angle as a number of quarter turns, with sine and cosine of the rest.
struct Quarters {
    number: Vec<Value>,
    sine: Vec<Value>,
    cosine: Vec<Value>,
}
