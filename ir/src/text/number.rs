//! Literals of elements: the shortest decimal that reads back to the same bits.

use crate::types::{DType, Scalar};

/// The literal of an element whose type the reader knows. NaN other than the quiet positive one, and truth values other
/// than 0 and 1, are written as bits in hexadecimal.
pub(super) fn literal(value: Scalar) -> String {
    match value.dtype() {
        DType::Bool => match value.bits() {
            0 => "false".into(),
            1 => "true".into(),
            bits => format!("{bits:#x}"),
        },
        DType::U64 => value.bits().to_string(),
        dtype if dtype.is_integer() => value.as_i64().to_string(),
        _ => float(value),
    }
}

/// The literal with its type, `3_i64`; binary32 and truth values have none.
pub(super) fn typed_literal(value: Scalar) -> String {
    match value.dtype() {
        DType::F32 => literal(value),
        DType::Bool if value.bits() < 2 => literal(value),
        dtype => format!("{}_{dtype}", literal(value)),
    }
}

/// The literal with at most six digits behind the first, as snapshots show it.
pub(super) fn rounded_literal(value: Scalar) -> String {
    if !value.dtype().is_float() || !value.as_f64().is_finite() {
        return literal(value);
    }
    let rounded: f64 = format!("{:.5e}", value.as_f64()).parse().unwrap_or(f64::NAN);
    plain(rounded)
}

/// The element of type `dtype` that a literal without a type stands for.
pub(super) fn parse_literal(dtype: DType, text: &str) -> Option<Scalar> {
    if let Some(digits) = text.strip_prefix("0x") {
        let bits = u64::from_str_radix(digits, 16).ok()?;
        let value = Scalar::from_bits(dtype, bits);
        return (value.bits() == bits).then_some(value);
    }
    match dtype {
        DType::Bool => match text {
            "false" => Some(Scalar::bool(false)),
            "true" => Some(Scalar::bool(true)),
            _ => None,
        },
        DType::U64 => text.parse::<u64>().ok().map(|bits| Scalar::from_bits(dtype, bits)),
        dtype if dtype.is_integer() => {
            let value = text.parse::<i64>().ok()?;
            let scalar = Scalar::from_i64(dtype, value);
            (scalar.as_i64() == value).then_some(scalar)
        }
        _ => parse_float(dtype, text),
    }
}

/// The element that a literal with its type stands for; without one it is a truth value or binary32.
pub(super) fn parse_typed_literal(text: &str) -> Option<Scalar> {
    match text.rsplit_once('_') {
        Some((number, dtype)) => parse_literal(DType::from_name(dtype)?, number),
        None if matches!(text, "true" | "false") => parse_literal(DType::Bool, text),
        None => parse_literal(DType::F32, text),
    }
}

fn parse_float(dtype: DType, text: &str) -> Option<Scalar> {
    let starts_plainly = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    if !starts_plainly && !matches!(text, "inf" | "nan") {
        return None;
    }
    match dtype {
        DType::F32 => text.parse::<f32>().ok().map(|value| Scalar::from_bits(dtype, value.to_bits() as u64)),
        _ => text.parse::<f64>().ok().map(|value| Scalar::from_f64(dtype, value)),
    }
}

fn float(value: Scalar) -> String {
    let short = shortest(value);
    if parse_literal(value.dtype(), &short) == Some(value) { short } else { format!("{:#x}", value.bits()) }
}

fn shortest(value: Scalar) -> String {
    match value.dtype() {
        DType::F32 => trimmed(format!("{:?}", f32::from_bits(value.bits() as u32))),
        DType::F64 => plain(value.as_f64()),
        _ => shortest_half(value),
    }
}

/// The fewest digits that read back to the same binary16 or bfloat16.
fn shortest_half(value: Scalar) -> String {
    let candidates = (0..6).filter_map(|digits| format!("{:.digits$e}", value.as_f64()).parse::<f64>().ok());
    let exact = |number: &f64| Scalar::from_f64(value.dtype(), *number) == value;
    plain(candidates.into_iter().find(exact).unwrap_or(value.as_f64()))
}

fn plain(value: f64) -> String {
    trimmed(format!("{value:?}"))
}

fn trimmed(text: String) -> String {
    match text.strip_suffix(".0") {
        Some(whole) => whole.into(),
        None if text == "NaN" => "nan".into(),
        None => text,
    }
}
