//! Emission of expressions. [`refused`] says what there is no WGSL for, so that emission finds nothing unknown.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, UnaryOp};

use super::functions::Function;
use super::value::{Kind, Width, float, integer, kind, literal, wrapped};
use super::writer::Writer;

/// What of an expression a shader cannot compute.
pub(super) fn refused(expr: &Expr) -> Option<String> {
    expr.nodes().iter().find_map(|node| match *node {
        ExprNode::Argument(_, dtype) => (kind(dtype).is_none()).then(|| format!("on {dtype}")),
        ExprNode::Constant(value) => {
            let fits = value.dtype() != DType::I64 || i32::try_from(value.as_i64()).is_ok();
            (kind(value.dtype()).is_none() || !fits).then(|| format!("with constants of {}", value.dtype()))
        }
        ExprNode::Unary(op, a) => refused_op(format!("{op:?}"), expr.dtype_of(a)),
        ExprNode::Binary(BinaryOp::Pow, a, _) if !expr.dtype_of(a).is_float() => {
            Some(format!("with powers of {}", expr.dtype_of(a)))
        }
        ExprNode::Binary(op, a, _) => refused_op(format!("{op:?}"), expr.dtype_of(a)),
        ExprNode::Select(_, a, _) => refused_op("Select".into(), expr.dtype_of(a)),
        ExprNode::Cast(to, a) => refused_cast(expr.dtype_of(a), to),
    })
}

/// 64 bits that are no positions are only copied.
fn refused_op(name: String, dtype: DType) -> Option<String> {
    let computed = kind(dtype).is_some_and(|kind| kind != Kind::Pair);
    (!computed).then(|| format!("with {name} of {dtype}"))
}

fn refused_cast(from: DType, to: DType) -> Option<String> {
    let computed = |dtype| kind(dtype).is_some_and(|kind| kind != Kind::Pair);
    let overflows = to == DType::I64 && (from.is_float() || from == DType::U32);
    (!computed(from) || !computed(to) || overflows).then(|| format!("with a cast of {from} to {to}"))
}

/// Writes an expression; the result is the value's name. `None` for what [`refused`] refuses.
pub(super) fn emit(out: &mut Writer, expr: &Expr, arguments: &[String], width: Width) -> Option<String> {
    emit_nodes(out, expr, arguments, width, None)
}

/// The same of an expression whose result is stored at once, which rounds it to a half where it is one.
pub(super) fn emit_stored(out: &mut Writer, expr: &Expr, arguments: &[String], width: Width) -> Option<String> {
    emit_nodes(out, expr, arguments, width, Some(expr.root()))
}

fn emit_nodes(
    out: &mut Writer,
    expr: &Expr,
    arguments: &[String],
    width: Width,
    stored: Option<ExprId>,
) -> Option<String> {
    let mut values: Vec<String> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let at = |id: ExprId| values[id.index()].clone();
        let is_stored = stored.is_some_and(|root| root.index() == values.len());
        let value = match *node {
            ExprNode::Argument(n, _) => arguments.get(n as usize)?.clone(),
            ExprNode::Constant(value) => literal(out, value, width)?,
            ExprNode::Unary(op, a) => {
                let text = unary(out, op, expr.dtype_of(a), &at(a), width);
                out.value(text)
            }
            ExprNode::Binary(op, a, b) => {
                let bound = matches!(expr.node(b), ExprNode::Constant(value) if !value.as_f64().is_nan());
                let text = binary(out, op, expr.dtype_of(a), [&at(a), &at(b)], bound, width)?;
                out.value(text)
            }
            ExprNode::Select(c, a, b) => out.value(format!("select({}, {}, {})", at(b), at(a), at(c))),
            ExprNode::Cast(DType::F16, a) if is_stored && expr.dtype_of(a) == DType::F32 => at(a),
            ExprNode::Cast(to, a) => {
                let text = cast(out, expr.dtype_of(a), to, &at(a), width)?;
                out.value(text)
            }
        };
        values.push(value);
    }
    Some(values[expr.root().index()].clone())
}

/// Two numbers of f32 as one by an associative operation.
pub(super) fn joined(out: &mut Writer, op: BinaryOp, a: &str, b: &str) -> Option<String> {
    binary(out, op, DType::F32, [a, b], false, Width::One)
}

/// Rounded to a half where the value is one.
fn rounded(out: &mut Writer, dtype: DType, text: String, width: Width) -> String {
    match dtype {
        DType::F16 => out.call(Function::Half, width, &text),
        _ => wrapped(dtype, &format!("({text})"), width),
    }
}

fn splat(kind: Kind, number: &str, width: Width) -> String {
    match width {
        Width::One => number.into(),
        Width::Four => format!("{}({number})", kind.name(width)),
    }
}

fn unary(out: &mut Writer, op: UnaryOp, dtype: DType, a: &str, width: Width) -> String {
    if !dtype.is_float() {
        return unary_integer(op, dtype, a, width);
    }
    let one = |number: f32| splat(Kind::Float, &format!("{number:?}f"), width);
    let text = match op {
        UnaryOp::IsNan => return out.call(Function::IsNan, width, a),
        UnaryOp::IsInf => return out.call(Function::IsInfinite, width, a),
        UnaryOp::Neg => format!("-{a}"),
        UnaryOp::Abs => format!("abs({a})"),
        // The sign of NaN is NaN.
        UnaryOp::Sign => format!("select({a}, sign({a}), {a} != {})", one(0.0)),
        UnaryOp::Floor => format!("floor({a})"),
        UnaryOp::Ceil => format!("ceil({a})"),
        UnaryOp::Round => format!("round({a})"),
        UnaryOp::Trunc => format!("trunc({a})"),
        UnaryOp::Sqrt => format!("sqrt({a})"),
        UnaryOp::Reciprocal => format!("1.0f / {a}"),
        UnaryOp::Exp => format!("exp({a})"),
        UnaryOp::Log => format!("log({a})"),
        UnaryOp::Tanh => out.call(Function::Tanh, width, a),
        UnaryOp::Sigmoid => out.call(Function::Sigmoid, width, a),
        UnaryOp::Erf => out.call(Function::Erf, width, a),
        UnaryOp::Sin => format!("sin({a})"),
        UnaryOp::Cos => format!("cos({a})"),
        UnaryOp::Tan => format!("tan({a})"),
        UnaryOp::Asin => format!("asin({a})"),
        UnaryOp::Acos => format!("acos({a})"),
        UnaryOp::Atan => format!("atan({a})"),
        UnaryOp::Sinh => format!("sinh({a})"),
        UnaryOp::Cosh => format!("cosh({a})"),
        UnaryOp::Asinh => format!("asinh({a})"),
        UnaryOp::Acosh => format!("acosh({a})"),
        UnaryOp::Atanh => format!("atanh({a})"),
        UnaryOp::Not => a.into(),
    };
    rounded(out, dtype, text, width)
}

fn unary_integer(op: UnaryOp, dtype: DType, a: &str, width: Width) -> String {
    let is_signed = dtype.is_signed_integer();
    match op {
        UnaryOp::Not if dtype == DType::Bool => format!("!{a}"),
        UnaryOp::Not => wrapped(dtype, &format!("(~{a})"), width),
        UnaryOp::Neg if is_signed => wrapped(dtype, &format!("(-{a})"), width),
        UnaryOp::Neg => wrapped(dtype, &format!("(0u - {a})"), width),
        UnaryOp::Abs if is_signed => wrapped(dtype, &format!("abs({a})"), width),
        UnaryOp::Sign if is_signed => format!("sign({a})"),
        UnaryOp::Sign => format!("min({a}, {})", splat(Kind::Unsigned, "1u", width)),
        UnaryOp::IsNan | UnaryOp::IsInf => splat(Kind::Truth, "false", width),
        _ => a.into(),
    }
}

/// `bounded`: the second operand is a constant, and none that is NaN.
fn binary(
    out: &mut Writer,
    op: BinaryOp,
    dtype: DType,
    [a, b]: [&str; 2],
    bounded: bool,
    width: Width,
) -> Option<String> {
    match kind(dtype)? {
        Kind::Truth => Some(binary_truth(op, a, b)),
        Kind::Signed | Kind::Unsigned => binary_integer(op, dtype, a, b, width),
        Kind::Pair => None,
        Kind::Float => {
            let text = match op {
                BinaryOp::Add => format!("{a} + {b}"),
                BinaryOp::Sub => format!("{a} - {b}"),
                BinaryOp::Mul => format!("{a} * {b}"),
                BinaryOp::Div => format!("{a} / {b}"),
                BinaryOp::Rem => format!("{a} - trunc({a} / {b}) * {b}"),
                BinaryOp::Mod => format!("{a} - floor({a} / {b}) * {b}"),
                BinaryOp::Pow => out.call(Function::Power, width, &format!("{a}, {b}")),
                BinaryOp::Max if bounded => return Some(format!("select({a}, {b}, {a} < {b})")),
                BinaryOp::Min if bounded => return Some(format!("select({a}, {b}, {a} > {b})")),
                BinaryOp::Max => return Some(out.call(Function::Larger, width, &format!("{a}, {b}"))),
                BinaryOp::Min => return Some(out.call(Function::Smaller, width, &format!("{a}, {b}"))),
                BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual => return Some(compared(op, a, b)),
                BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::ShiftLeft | BinaryOp::ShiftRight => {
                    return None;
                }
            };
            Some(rounded(out, dtype, text, width))
        }
    }
}

fn compared(op: BinaryOp, a: &str, b: &str) -> String {
    let sign = match op {
        BinaryOp::Less => "<",
        BinaryOp::LessEqual => "<=",
        _ => "==",
    };
    format!("{a} {sign} {b}")
}

fn binary_truth(op: BinaryOp, a: &str, b: &str) -> String {
    match op {
        BinaryOp::And | BinaryOp::Min => format!("{a} & {b}"),
        BinaryOp::Or | BinaryOp::Max => format!("{a} | {b}"),
        BinaryOp::Xor => format!("{a} != {b}"),
        BinaryOp::Less => format!("(!{a}) & {b}"),
        BinaryOp::LessEqual => format!("(!{a}) | {b}"),
        _ => format!("{a} == {b}"),
    }
}

fn binary_integer(op: BinaryOp, dtype: DType, a: &str, b: &str, width: Width) -> Option<String> {
    let kind = kind(dtype)?;
    let zero = splat(kind, if kind == Kind::Signed { "0" } else { "0u" }, width);
    let text = match op {
        BinaryOp::Add => format!("({a} + {b})"),
        BinaryOp::Sub => format!("({a} - {b})"),
        BinaryOp::Mul => format!("({a} * {b})"),
        BinaryOp::Div => format!("select({a} / {b}, {zero}, {b} == {zero})"),
        BinaryOp::Rem => format!("select({a} % {b}, {zero}, {b} == {zero})"),
        BinaryOp::Mod if kind == Kind::Unsigned => format!("select({a} % {b}, {zero}, {b} == {zero})"),
        BinaryOp::Mod => {
            let moved = format!("({a} % {b} != {zero}) & (({a} % {b} < {zero}) != ({b} < {zero}))");
            format!("select({a} % {b} + select({zero}, {b}, {moved}), {zero}, {b} == {zero})")
        }
        BinaryOp::Max => return Some(format!("max({a}, {b})")),
        BinaryOp::Min => return Some(format!("min({a}, {b})")),
        BinaryOp::And => return Some(format!("{a} & {b}")),
        BinaryOp::Or => return Some(format!("{a} | {b}")),
        BinaryOp::Xor => return Some(format!("{a} ^ {b}")),
        BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual => return Some(compared(op, a, b)),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => return shifted(op, dtype, a, b, width),
        BinaryOp::Pow => return None,
    };
    Some(wrapped(dtype, &text, width))
}

/// 0 where the distance reaches the width; negative distances are such too.
fn shifted(op: BinaryOp, dtype: DType, a: &str, b: &str, width: Width) -> Option<String> {
    if dtype.size() > 4 {
        return None;
    }
    let (words, result) = (Kind::Unsigned.name(width), kind(dtype)?.name(width));
    let bits = dtype.size() * 8;
    let mask = if bits == 32 { "0xffffffffu".into() } else { format!("{:#x}u", (1u32 << bits) - 1) };
    let splatted = |number: &str| splat(Kind::Unsigned, number, width);
    let distance = format!("bitcast<{words}>({b})");
    let held = format!("(bitcast<{words}>({a}) & {})", splatted(&mask));
    let sign = if op == BinaryOp::ShiftLeft { "<<" } else { ">>" };
    let moved = format!("{held} {sign} ({distance} & {})", splatted("31u"));
    let kept = format!("select({moved}, {}, {distance} >= {})", splatted("0u"), splatted(&format!("{bits}u")));
    Some(wrapped(dtype, &format!("bitcast<{result}>({kept})"), width))
}

fn cast(out: &mut Writer, from: DType, to: DType, a: &str, width: Width) -> Option<String> {
    let (source, target) = (kind(from)?, kind(to)?);
    let name = target.name(width);
    Some(match (source, target) {
        (_, Kind::Pair) | (Kind::Pair, _) => return None,
        (Kind::Truth, Kind::Truth) => a.into(),
        (Kind::Float, Kind::Truth) => format!("{a} != {}", splat(Kind::Float, "0.0f", width)),
        (Kind::Signed, Kind::Truth) => format!("{a} != {}", splat(Kind::Signed, "0", width)),
        (Kind::Unsigned, Kind::Truth) => format!("{a} != {}", splat(Kind::Unsigned, "0u", width)),
        (Kind::Truth, _) => format!("select({name}(0), {name}(1), {a})"),
        (_, Kind::Float) if to == DType::F16 => {
            let single = format!("{name}({a})");
            out.call(Function::Half, width, &single)
        }
        (_, Kind::Float) => format!("{name}({a})"),
        (Kind::Float, Kind::Signed | Kind::Unsigned) => saturated(out, to, a, width)?,
        (_, Kind::Signed | Kind::Unsigned) => wrapped(to, &format!("{name}({a})"), width),
    })
}

/// Towards zero, saturated; NaN becomes 0.
fn saturated(out: &mut Writer, to: DType, a: &str, width: Width) -> Option<String> {
    let target = kind(to)?;
    let name = target.name(width);
    // The bounds as f32: the upper one of 32 bits is the largest float below 2^31 or 2^32.
    let (low, high, least, most): (f32, f32, i64, i64) = match to {
        DType::U8 => (0.0, 255.0, 0, 255),
        DType::I8 => (-128.0, 127.0, -128, 127),
        DType::U16 => (0.0, 65535.0, 0, 65535),
        DType::I16 => (-32768.0, 32767.0, -32768, 32767),
        DType::U32 => (0.0, 4_294_967_040.0, 0, i64::from(u32::MAX)),
        DType::I32 => (-2_147_483_648.0, 2_147_483_520.0, i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => return None,
    };
    let bound = |value: i64| match target {
        Kind::Unsigned => splat(target, &format!("{value}u"), width),
        _ => splat(target, &integer(value as i32), width),
    };
    let [low, high] = [low, high].map(|value| float(out, value)).map(|text| splat(Kind::Float, &text, width));
    let inside = format!("{name}(clamp({a}, {low}, {high}))");
    let upper = format!("select({inside}, {}, {a} > {high})", bound(most));
    let lower = format!("select({upper}, {}, {a} < {low})", bound(least));
    let zero = bound(0);
    Some(format!("select({lower}, {zero}, {a} != {a})"))
}
