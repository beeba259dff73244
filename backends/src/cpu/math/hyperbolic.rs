//! Hyperbolic functions and their inverses.

use std::f64::consts::LN_2;

use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::condcodes::FloatCC;

use super::{Floats, Format};

impl Floats<'_, '_> {
    /// `(exp(|x|) - exp(-|x|)) / 2` with the sign of x; a polynomial below 1, where the difference would cancel.
    pub fn hyperbolic_sine(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (half, other) = self.half_powers(&magnitude);
        let far = self.subtract(&half, &other);
        let far = self.copy_sign(&far, x);
        let near = self.odd_polynomial(x, &[2.037_219_129_45e-4, 8.330_283_762_39e-3, 1.666_671_602_11e-1]);
        self.choose_by(FloatCC::LessThan, &magnitude, 1.0, &near, &far)
    }

    /// `(exp(|x|) + exp(-|x|)) / 2`.
    pub fn hyperbolic_cosine(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let (half, other) = self.half_powers(&magnitude);
        self.add(&half, &other)
    }

    /// `exp(x) / 2` and `exp(-x) / 2`; the first is finite as long as the hyperbolic functions are.
    fn half_powers(&mut self, x: &[Value]) -> (Vec<Value>, Vec<Value>) {
        let half = self.exp_of_sum(x, None, -1);
        let other = self.over(0.25, &half);
        (half, other)
    }

    /// `log(|x| + sqrt(x^2 + 1))` with the sign of x; a polynomial below 1/2.
    pub fn area_sine(&mut self, x: &[Value]) -> Vec<Value> {
        let magnitude = self.absolute(x);
        let square = self.multiply(x, x);
        let square = self.plus(&square, 1.0);
        let root = self.square_root(&square);
        let sum = self.add(&magnitude, &root);
        let far = self.log_of_sum(&magnitude, &sum);
        let far = self.copy_sign(&far, x);
        let near =
            self.odd_polynomial(x, &[2.012_200_330_9e-2, -4.269_934_097_2e-2, 7.484_758_608_8e-2, -1.666_628_813_4e-1]);
        self.choose_by(FloatCC::LessThan, &magnitude, 0.5, &near, &far)
    }

    /// `log(x + sqrt(x^2 - 1))`; near 1 a polynomial of `x - 1` times its root. NaN below 1.
    pub fn area_cosine(&mut self, x: &[Value]) -> Vec<Value> {
        let above = self.plus(x, -1.0);
        let more = self.plus(x, 1.0);
        let square = self.multiply(&above, &more);
        let root = self.square_root(&square);
        let sum = self.add(x, &root);
        let far = self.log_of_sum(x, &sum);
        let p = self.polynomial(
            &above,
            &[
                1.759_688_107_1e-3,
                -7.527_288_671_3e-3,
                2.645_490_501_9e-2,
                -1.178_474_170_3e-1,
                std::f64::consts::SQRT_2,
            ],
        );
        let root = self.square_root(&above);
        let near = self.multiply(&p, &root);
        self.choose_by(FloatCC::LessThan, &above, 0.5, &near, &far)
    }

    /// `log((1 + x) / (1 - x)) / 2`; a polynomial below 1/2. NaN beyond 1.
    pub fn area_tangent(&mut self, x: &[Value]) -> Vec<Value> {
        let (more, less) = (self.plus(x, 1.0), self.number_minus(1.0, x));
        let quotient = self.divide(&more, &less);
        let far = self.log(&quotient);
        let far = self.times(&far, 0.5);
        let near = self.odd_polynomial(
            x,
            &[1.817_407_834_9e-1, 8.243_703_010_58e-2, 1.466_914_317_3e-1, 1.997_821_645_0e-1, 3.333_373_003_03e-1],
        );
        let magnitude = self.absolute(x);
        self.choose_by(FloatCC::LessThan, &magnitude, 0.5, &near, &far)
    }

    /// `x + x^3 * (c[0] * x^2n + .. + c[n])`.
    fn odd_polynomial(&mut self, x: &[Value], coefficients: &[f64]) -> Vec<Value> {
        let square = self.multiply(x, x);
        let p = self.polynomial(&square, coefficients);
        let p = self.multiply(&p, &square);
        self.multiply_add(&p, x, x)
    }

    /// `log(sum)`, where `sum` is about `2 x` for a large `x`, whose square may be infinite.
    fn log_of_sum(&mut self, x: &[Value], sum: &[Value]) -> Vec<Value> {
        let limit = if self.format == Format::DOUBLE { 1e8 } else { 1e4 };
        let argument = self.choose_by(FloatCC::GreaterThan, x, limit, x, sum);
        let logarithm = self.log(&argument);
        let doubled = self.plus(&logarithm, LN_2);
        self.choose_by(FloatCC::GreaterThan, x, limit, &doubled, &logarithm)
    }
}
