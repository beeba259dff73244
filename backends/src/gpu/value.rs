//! Values of element types in a shader. WGSL computes with 32 bits: narrower integers are kept in range behind every operation,
//! halves are rounded, and of 64 bits there are copies and positions.

use edgecc_ir::{DType, Scalar};

use super::writer::Writer;

/// What a value is in WGSL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// f32: of f32 and of halves.
    Float,
    /// i32: of signed integers, and of those i64 that fit.
    Signed,
    /// u32.
    Unsigned,
    /// bool.
    Truth,
    /// vec2<u32>: 64 bits that are only copied.
    Pair,
}

/// How many neighbours a value stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Width {
    /// One.
    One,
    /// Four, as a vector.
    Four,
}

/// What a value of an element type is; `None` where a shader has none.
pub(super) fn kind(dtype: DType) -> Option<Kind> {
    match dtype {
        DType::F32 | DType::F16 => Some(Kind::Float),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Some(Kind::Signed),
        DType::U8 | DType::U16 | DType::U32 => Some(Kind::Unsigned),
        DType::Bool => Some(Kind::Truth),
        DType::U64 => Some(Kind::Pair),
        DType::BF16 | DType::F64 => None,
    }
}

impl Kind {
    /// The type's name.
    pub(super) fn name(self, width: Width) -> &'static str {
        match (self, width) {
            (Kind::Float, Width::One) => "f32",
            (Kind::Float, Width::Four) => "vec4<f32>",
            (Kind::Signed, Width::One) => "i32",
            (Kind::Signed, Width::Four) => "vec4<i32>",
            (Kind::Unsigned, Width::One) => "u32",
            (Kind::Unsigned, Width::Four) => "vec4<u32>",
            (Kind::Truth, Width::One) => "bool",
            (Kind::Truth, Width::Four) => "vec4<bool>",
            (Kind::Pair, _) => "vec2<u32>",
        }
    }
}

/// A constant.
pub(super) fn literal(out: &mut Writer, value: Scalar, width: Width) -> Option<String> {
    let kind = kind(value.dtype())?;
    let text = match kind {
        Kind::Float => float(out, value.as_f64() as f32),
        Kind::Signed => integer(i32::try_from(value.as_i64()).ok()?),
        Kind::Unsigned => format!("{}u", value.bits()),
        Kind::Truth => (value.bits() != 0).to_string(),
        Kind::Pair => format!("vec2<u32>({}u, {}u)", value.bits() as u32, value.bits() >> 32),
    };
    Some(match width {
        Width::One => text,
        Width::Four => format!("{}({text})", kind.name(width)),
    })
}

/// A literal of f32. WGSL has none that are not finite: those come from bits that no compiler folds.
pub(super) fn float(out: &mut Writer, value: f32) -> String {
    if !value.is_finite() {
        out.patterns.insert(value.to_bits());
        return format!("bitcast<f32>({})", pattern(value.to_bits()));
    }
    if value.is_sign_negative() { format!("({value:?}f)") } else { format!("{value:?}f") }
}

/// The variable that holds these bits.
pub(super) fn pattern(bits: u32) -> String {
    format!("bits_{bits:08x}")
}

/// A literal of i32, whose lowest value no literal can say.
pub(super) fn integer(value: i32) -> String {
    match value {
        i32::MIN => "(-2147483647 - 1)".into(),
        value if value < 0 => format!("({value})"),
        value => value.to_string(),
    }
}

/// The value in the range of its type, behind an operation on 32 bits.
pub(super) fn wrapped(dtype: DType, text: &str, width: Width) -> String {
    let word = |number: &str| match width {
        Width::One => number.to_string(),
        Width::Four => format!("{}({number})", Kind::Unsigned.name(width)),
    };
    let shifted = |bits: &str| format!("(({text} << {bits}) >> {bits})", bits = word(bits));
    match dtype {
        DType::U8 => format!("({text} & {})", word("0xffu")),
        DType::U16 => format!("({text} & {})", word("0xffffu")),
        DType::I8 => shifted("24u"),
        DType::I16 => shifted("16u"),
        _ => text.into(),
    }
}
