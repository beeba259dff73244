//! Functions that processors have no instruction for, of those that they have.

use crate::cpu::a64::{Arrangement, Lanes, LanesOne};
use crate::cpu::math::{EXP_SHORT, LN_2};

use super::{Formula, Id, Op, Purpose};

/// How `exp(-x)` is computed in an arrangement.
struct Exponential {
    /// The smallest and largest x: beyond them the power of two is no exponent.
    range: [f64; 2],
    /// Bits of the fraction.
    fraction: u8,
    /// ln(2) as a sum.
    octave: &'static [f64],
    /// exp on [-ln(2)/2, ln(2)/2] by rising power.
    polynomial: &'static [f64],
}

const EXPONENTIAL: Exponential =
    Exponential { range: [-87.0, 87.0], fraction: 23, octave: &LN_2, polynomial: &EXP_SHORT };
/// The fit's largest relative error is 2.6e-6; so is that of ln(2) in one part, over 87.
const EXPONENTIAL_FOR_HALVES: Exponential = Exponential {
    octave: &[std::f64::consts::LN_2],
    polynomial: &[0.999_999_261_4, 0.999_963_404_9, 0.500_043_586_6, 0.167_909_072_2, 0.041_458_608_2],
    ..EXPONENTIAL
};
/// The fit's largest relative error is 7.5e-5, a seventh of a half's last place.
const HALF_EXPONENTIAL: Exponential = Exponential {
    range: [-11.0, 9.0],
    fraction: 10,
    octave: &LN_2,
    polynomial: &[0.999_928_051_685_384_5, 1.000_164_285_457_209_3, 0.504_964_058_763_703_5, 0.165_667_758_706_504_05],
};

impl Formula {
    fn exponential(&self) -> &'static Exponential {
        match self.of {
            Arrangement::S4 if self.purpose == Purpose::Halves => &EXPONENTIAL_FOR_HALVES,
            Arrangement::S4 => &EXPONENTIAL,
            Arrangement::H8 => &HALF_EXPONENTIAL,
        }
    }

    /// `x * sigmoid(z) = x / (1 + exp(-z))`: one division, no product. Where z is x, numbers so small that the quotient is none
    /// to speak of are cut off above the line too: the divisor is finite.
    pub(super) fn gated(&mut self, x: Id, z: Id) -> Id {
        let divisor = self.sigmoid_divisor(z);
        let low = self.number(self.exponential().range[0]);
        let above = if x == z { self.two(Lanes::Maximum, x, low) } else { x };
        self.two(Lanes::Divide, above, divisor)
    }

    /// `1 + exp(-x)`.
    pub(super) fn sigmoid_divisor(&mut self, x: Id) -> Id {
        let power = self.exponential_of_negative(x);
        let unit = self.number(1.0);
        self.two(Lanes::Add, power, unit)
    }

    /// `exp(-x)`: `-x = n ln(2) - r`, and `exp(-r)` by a polynomial.
    pub(super) fn exponential_of_negative(&mut self, x: Id) -> Id {
        let Exponential { range: [low, high], fraction, octave, polynomial } = *self.exponential();
        let (low, high) = (self.number(low), self.number(high));
        let x = self.two(Lanes::Maximum, x, low);
        let x = self.two(Lanes::Minimum, x, high);
        let per_octave = self.number(-std::f64::consts::LOG2_E);
        let octaves = self.two(Lanes::Multiply, x, per_octave);
        let n = self.push(Op::One(LanesOne::RoundNearest, octaves));
        let r = octave.iter().fold(x, |r, &part| {
            let part = self.number(part);
            self.multiply_add(r, n, part)
        });
        let n = self.push(Op::One(LanesOne::ToInteger, octaves));
        let n = self.push(Op::Shift(n, fraction));
        // Of an odd power of -r, the sign remains.
        let signed = polynomial.iter().enumerate().map(|(power, c)| c * (-1f64).powi(power as i32));
        let falling: Vec<f64> = signed.rev().collect();
        let p = self.polynomial(r, &falling);
        self.two(Lanes::AddIntegers, p, n)
    }

    /// `tanh(x) = 2 sigmoid(2 x) - 1`, to about a half's last place at 1.
    pub(super) fn half_tanh(&mut self, x: Id) -> Id {
        let twice = self.two(Lanes::Add, x, x);
        let divisor = self.sigmoid_divisor(twice);
        let (two, less) = (self.number(2.0), self.number(-1.0));
        let quotient = self.two(Lanes::Divide, two, divisor);
        self.two(Lanes::Add, quotient, less)
    }

    /// `erf(x)` as `tanh(2 / sqrt(pi) (x + 0.08943 x^3))`, within 5e-4 (Hendrycks and Gimpel 2016, of GELU).
    pub(super) fn half_erf(&mut self, x: Id) -> Id {
        let (first, third) = (std::f64::consts::FRAC_2_SQRT_PI, std::f64::consts::FRAC_2_SQRT_PI * 2.0 * 0.044_715);
        let (first, third) = (self.number(first), self.number(third));
        let square = self.two(Lanes::Multiply, x, x);
        let factor = self.multiply_add(first, square, third);
        let inner = self.two(Lanes::Multiply, x, factor);
        self.half_tanh(inner)
    }

    /// `x P(x^2) / Q(x^2)` of x within `-limit..=limit`.
    pub(super) fn rational(&mut self, x: Id, limit: f64, numerator: &[f64], denominator: &[f64]) -> Id {
        let (low, high) = (self.number(-limit), self.number(limit));
        let x = self.two(Lanes::Maximum, x, low);
        let x = self.two(Lanes::Minimum, x, high);
        let square = self.two(Lanes::Multiply, x, x);
        let p = self.polynomial(square, numerator);
        let p = self.two(Lanes::Multiply, p, x);
        let q = self.polynomial(square, denominator);
        self.two(Lanes::Divide, p, q)
    }

    /// A polynomial of coefficients by falling power, of which pairs are summed apart (Estrin): half of the coefficients are
    /// factors, which need no register of their own.
    fn polynomial(&mut self, x: Id, coefficients: &[f64]) -> Id {
        let square = self.two(Lanes::Multiply, x, x);
        let rising: Vec<f64> = coefficients.iter().rev().copied().collect();
        let pairs: Vec<&[f64]> = rising.chunks(2).collect();
        let mut sum = None;
        for pair in pairs.into_iter().rev() {
            let constant = self.number(pair[0]);
            sum = Some(match (pair, sum) {
                ([_], _) => constant,
                (_, None) => {
                    let factor = self.number(pair[1]);
                    self.multiply_add(constant, x, factor)
                }
                (_, Some(higher)) => {
                    let factor = self.number(pair[1]);
                    let own = self.multiply_add(constant, x, factor);
                    self.multiply_add(own, square, higher)
                }
            });
        }
        sum.unwrap_or(x)
    }
}
