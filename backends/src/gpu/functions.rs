//! Functions that WGSL lacks, or whose results for large, infinite or negative arguments it leaves open. `T` stands for the
//! type of the values, f32 or four of them.

use crate::cpu::math::{ERF, TANH};

use super::value::Width;

/// A function that comes with the shaders that call it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Function {
    /// The larger; NaN if either is.
    Larger,
    /// The smaller; NaN if either is.
    Smaller,
    /// Whether a value is NaN, from its bits.
    IsNan,
    /// Whether a value is infinite, from its bits.
    IsInfinite,
    /// Hyperbolic tangent: a quotient of polynomials.
    Tanh,
    /// The Gauss error function: a quotient of polynomials.
    Erf,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x ^ y`, of negative `x` for whole `y`.
    Power,
    /// The value rounded to a half.
    Half,
    /// An i64 as i32, saturated.
    Narrow,
    /// A quotient rounded down.
    FloorDivide,
    /// A remainder with the divisor's sign.
    FloorRemainder,
}

impl Function {
    /// Its name.
    pub(super) fn name(self, width: Width) -> &'static str {
        let names = match self {
            Function::Larger => ["larger", "larger4"],
            Function::Smaller => ["smaller", "smaller4"],
            Function::IsNan => ["is_nan", "is_nan4"],
            Function::IsInfinite => ["is_infinite", "is_infinite4"],
            Function::Tanh => ["tanh_of", "tanh_of4"],
            Function::Erf => ["erf", "erf4"],
            Function::Sigmoid => ["sigmoid", "sigmoid4"],
            Function::Power => ["power", "power4"],
            Function::Half => ["half", "half4"],
            Function::Narrow => ["narrow", "narrow"],
            Function::FloorDivide => ["floor_divide", "floor_divide"],
            Function::FloorRemainder => ["floor_remainder", "floor_remainder"],
        };
        match width {
            Width::One => names[0],
            Width::Four => names[1],
        }
    }

    /// Its definition.
    pub(super) fn text(self, width: Width) -> String {
        let name = self.name(width);
        let body = match self {
            Function::Larger => "(x: T, y: T) -> T { return select(select(x, y, x < y), y, y != y); }".into(),
            Function::Smaller => "(x: T, y: T) -> T { return select(select(x, y, x > y), y, y != y); }".into(),
            Function::IsNan => "(x: T) -> B { return (bitcast<U>(x) & U(0x7fffffffu)) > U(0x7f800000u); }".into(),
            Function::IsInfinite => "(x: T) -> B { return (bitcast<U>(x) & U(0x7fffffffu)) == U(0x7f800000u); }".into(),
            Function::Tanh => quotient(&TANH.0, &TANH.1, 7.905_311),
            Function::Erf => quotient(&ERF.0, &ERF.1, 4.0),
            // Beyond 88 the result is 0 to the precision of f32, and the exponential would be infinite.
            Function::Sigmoid => {
                "(x: T) -> T { return 1.0f / (1.0f + exp(select(-x, T(88.0f), x < T(-88.0f)))); }".into()
            }
            Function::Power => POWER.into(),
            Function::Half => match width {
                Width::One => "(x: f32) -> f32 { return unpack2x16float(pack2x16float(vec2<f32>(x, 0.0f))).x; }".into(),
                Width::Four => "(x: vec4<f32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(pack2x16float(x.xy)), \
                                unpack2x16float(pack2x16float(x.zw))); }"
                    .into(),
            },
            Function::Narrow => "(low: u32, high: u32) -> i32 { return select(select(2147483647, -2147483647 - 1, \
                                 bitcast<i32>(high) < 0), bitcast<i32>(low), \
                                 bitcast<i32>(high) == (bitcast<i32>(low) >> 31u)); }"
                .into(),
            Function::FloorDivide => "(x: i32, y: i32) -> i32 { return x / y - select(0, 1, x % y < 0); }".into(),
            Function::FloorRemainder => "(x: i32, y: i32) -> i32 { return x % y + select(0, y, x % y < 0); }".into(),
        };
        format!("fn {name}{}\n", typed(&body, width))
    }
}

/// The letters T, U and B as the types of floats, bits and truth values.
fn typed(body: &str, width: Width) -> String {
    let names = match width {
        Width::One => [("T", "f32"), ("U", "u32"), ("B", "bool")],
        Width::Four => [("T", "vec4<f32>"), ("U", "vec4<u32>"), ("B", "vec4<bool>")],
    };
    let mut text = String::with_capacity(body.len());
    let mut word = String::new();
    for letter in body.chars().chain([' ']) {
        if letter.is_alphanumeric() || letter == '_' {
            word.push(letter);
            continue;
        }
        let name = names.iter().find(|(short, _)| *short == word).map_or(word.as_str(), |(_, name)| name);
        text.push_str(name);
        word.clear();
        text.push(letter);
    }
    text.truncate(text.len() - 1);
    text
}

/// `x * numerator(x^2) / denominator(x^2)`, `x` clamped to where the function has reached 1. NaN stays NaN.
fn quotient(numerator: &[f64], denominator: &[f64], limit: f32) -> String {
    let polynomial = |terms: &[f64]| {
        let number = |term: &f64| format!("T({:?}f)", *term as f32);
        let first = terms.first().map(number).unwrap_or_default();
        terms.iter().skip(1).fold(first, |sum, term| format!("fma({sum}, s, {})", number(term)))
    };
    format!(
        "(y: T) -> T {{\n  let x = select(select(y, T({limit:?}f), y > T({limit:?}f)), T(-{limit:?}f), y < T(-{limit:?}f));\n  \
         let s = x * x;\n  return x * {} / {};\n}}",
        polynomial(numerator),
        polynomial(denominator)
    )
}

/// WGSL's `pow` is of positive bases alone.
const POWER: &str = "(x: T, y: T) -> T {
  let size = select(pow(abs(x), y), T(1.0f), y == T(0.0f));
  let is_whole = y == floor(y);
  let is_odd = is_whole & (floor(y * 0.5f) * 2.0f != y);
  let of_negative = select(select(size, -size, is_odd), sqrt(x), !is_whole);
  return select(size, of_negative, x < T(0.0f));
}";
