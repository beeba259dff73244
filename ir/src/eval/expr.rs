//! Element-wise expressions.

use super::EvalError;
use crate::expr::{BinaryOp, Expr, ExprNode, UnaryOp};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::types::{DType, Scalar, TensorType};

/// The result of an expression on scalars, `arguments[n]` for argument `n`.
pub fn eval_scalar(expr: &Expr, arguments: &[Scalar]) -> Scalar {
    let mut values: Vec<Scalar> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let at = |id: crate::expr::ExprId| values[id.index()];
        let value = match *node {
            ExprNode::Argument(n, _) => arguments[n as usize],
            ExprNode::Constant(value) => value,
            ExprNode::Unary(op, a) => unary(op, at(a)),
            ExprNode::Binary(op, a, b) => binary(op, at(a), at(b)),
            ExprNode::Select(c, a, b) => {
                if at(c).bits() != 0 {
                    at(a)
                } else {
                    at(b)
                }
            }
            ExprNode::Cast(dtype, a) => at(a).cast(dtype),
        };
        values.push(value);
    }
    values[expr.root().index()]
}

/// An expression over broadcast operands.
pub(super) fn map(expr: &Expr, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    if let Some(values) = operands.iter().map(|tensor| tensor.as_splat()).collect::<Option<Vec<_>>>() {
        return Ok(Tensor::splat(ty.shape.clone(), eval_scalar(expr, &values))?);
    }
    let places: Vec<Vec<usize>> = operands.iter().map(|tensor| broadcast_strides(tensor.shape(), &ty.shape)).collect();
    let extents = ty.shape.extents();
    if is_f32(expr) {
        let values: Vec<Vec<f32>> = operands.iter().map(|tensor| reachable_f32(tensor)).collect();
        let mut bytes = Vec::with_capacity(ty.bytes().unwrap_or(0));
        let mut stack = vec![0f32; expr.nodes().len()];
        super::positions(&extents, |position| {
            let argument = |n: usize| match values[n][..] {
                [single] => single,
                ref many => many[super::flat(&places[n], position)],
            };
            bytes.extend(eval_f32(expr, &mut stack, argument).to_le_bytes());
        });
        return Ok(Tensor::dense(DType::F32, ty.shape.clone(), bytes.into())?);
    }
    let mut values = Vec::with_capacity(ty.shape.elements().unwrap_or(0));
    super::positions(&extents, |position| {
        let arguments: Vec<Scalar> =
            operands.iter().zip(&places).map(|(tensor, strides)| tensor.get(super::flat(strides, position))).collect();
        values.push(eval_scalar(expr, &arguments));
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), values)?)
}

/// A splat as one value.
fn reachable_f32(tensor: &Tensor) -> Vec<f32> {
    match tensor.as_splat() {
        Some(value) => vec![value.as_f64() as f32],
        None => tensor.to_f32(),
    }
}

/// Row-major strides of an operand in the axes of the result; 0 where it repeats.
pub(super) fn broadcast_strides(shape: &Shape, result: &Shape) -> Vec<usize> {
    let (own, missing) = (shape.strides(), result.rank() - shape.rank());
    (0..result.rank())
        .map(|axis| match axis.checked_sub(missing) {
            Some(place) if shape.dim(place) != 1 => own[place],
            _ => 0,
        })
        .collect()
}

/// f32 throughout, truth values as 0 and 1.
fn is_f32(expr: &Expr) -> bool {
    let plain = |dtype: DType| matches!(dtype, DType::F32 | DType::Bool);
    expr.dtype() == DType::F32
        && expr.arguments().all(|(_, dtype)| dtype == DType::F32)
        && expr.nodes().iter().all(|node| match *node {
            ExprNode::Constant(value) => plain(value.dtype()),
            ExprNode::Cast(..) => false,
            ExprNode::Argument(..) | ExprNode::Unary(..) | ExprNode::Binary(..) | ExprNode::Select(..) => true,
        })
}

pub(super) fn eval_f32(expr: &Expr, stack: &mut [f32], argument: impl Fn(usize) -> f32) -> f32 {
    for (place, node) in expr.nodes().iter().enumerate() {
        stack[place] = match *node {
            ExprNode::Argument(n, _) => argument(n as usize),
            ExprNode::Constant(value) => value.as_f64() as f32,
            ExprNode::Unary(op, a) => f32_unary(op, stack[a.index()]),
            ExprNode::Binary(op, a, b) => f32_binary(op, stack[a.index()], stack[b.index()]),
            ExprNode::Select(c, a, b) => {
                if stack[c.index()] != 0.0 {
                    stack[a.index()]
                } else {
                    stack[b.index()]
                }
            }
            ExprNode::Cast(..) => stack[place],
        };
    }
    stack[expr.root().index()]
}

fn f32_unary(op: UnaryOp, a: f32) -> f32 {
    match op {
        UnaryOp::Not => f32::from(a == 0.0),
        UnaryOp::IsNan => f32::from(a.is_nan()),
        UnaryOp::IsInf => f32::from(a.is_infinite()),
        _ => float_unary(op, a as f64) as f32,
    }
}

fn f32_binary(op: BinaryOp, a: f32, b: f32) -> f32 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Max => maximum(a as f64, b as f64) as f32,
        BinaryOp::Min => minimum(a as f64, b as f64) as f32,
        BinaryOp::Equal => f32::from(a == b),
        BinaryOp::Less => f32::from(a < b),
        BinaryOp::LessEqual => f32::from(a <= b),
        BinaryOp::And => f32::from(a != 0.0 && b != 0.0),
        BinaryOp::Or => f32::from(a != 0.0 || b != 0.0),
        BinaryOp::Xor => f32::from((a != 0.0) != (b != 0.0)),
        BinaryOp::Rem => a % b,
        BinaryOp::Mod => (a as f64 - (a as f64 / b as f64).floor() * b as f64) as f32,
        BinaryOp::Pow => (a as f64).powf(b as f64) as f32,
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => f32::NAN,
    }
}

fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn unary(op: UnaryOp, a: Scalar) -> Scalar {
    let dtype = a.dtype();
    match op {
        UnaryOp::IsNan => return Scalar::bool(a.as_f64().is_nan()),
        UnaryOp::IsInf => return Scalar::bool(a.as_f64().is_infinite()),
        UnaryOp::Not if dtype == DType::Bool => return Scalar::bool(a.bits() == 0),
        UnaryOp::Not => return Scalar::from_bits(dtype, !a.bits()),
        _ => {}
    }
    if dtype.is_float() {
        return Scalar::from_f64(dtype, float_unary(op, a.as_f64()));
    }
    let value = a.as_i64();
    match op {
        UnaryOp::Neg => Scalar::from_i64(dtype, value.wrapping_neg()),
        UnaryOp::Abs if dtype.is_signed_integer() => Scalar::from_i64(dtype, value.wrapping_abs()),
        UnaryOp::Sign if dtype.is_signed_integer() => Scalar::from_i64(dtype, value.signum()),
        UnaryOp::Sign => Scalar::from_i64(dtype, (a.bits() != 0) as i64),
        UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => a,
        _ => Scalar::from_f64(dtype, float_unary(op, a.as_f64())),
    }
}

fn float_unary(op: UnaryOp, a: f64) -> f64 {
    match op {
        UnaryOp::Neg => -a,
        UnaryOp::Abs => a.abs(),
        UnaryOp::Sign => {
            if a > 0.0 {
                1.0
            } else if a < 0.0 {
                -1.0
            } else {
                a
            }
        }
        UnaryOp::Floor => a.floor(),
        UnaryOp::Ceil => a.ceil(),
        UnaryOp::Round => a.round_ties_even(),
        UnaryOp::Trunc => a.trunc(),
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Reciprocal => 1.0 / a,
        UnaryOp::Exp => a.exp(),
        UnaryOp::Log => a.ln(),
        UnaryOp::Tanh => a.tanh(),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        UnaryOp::Erf => libm::erf(a),
        UnaryOp::Sin => a.sin(),
        UnaryOp::Cos => a.cos(),
        UnaryOp::Tan => a.tan(),
        UnaryOp::Asin => a.asin(),
        UnaryOp::Acos => a.acos(),
        UnaryOp::Atan => a.atan(),
        UnaryOp::Sinh => a.sinh(),
        UnaryOp::Cosh => a.cosh(),
        UnaryOp::Asinh => a.asinh(),
        UnaryOp::Acosh => a.acosh(),
        UnaryOp::Atanh => a.atanh(),
        UnaryOp::Not | UnaryOp::IsNan | UnaryOp::IsInf => f64::NAN,
    }
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    if a.dtype().is_float() { float_binary(op, a, b) } else { integer_binary(op, a, b) }
}

fn float_binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    let (dtype, x, y) = (a.dtype(), a.as_f64(), b.as_f64());
    let number = |value| Scalar::from_f64(dtype, value);
    match op {
        BinaryOp::Add => number(x + y),
        BinaryOp::Sub => number(x - y),
        BinaryOp::Mul => number(x * y),
        BinaryOp::Div => number(x / y),
        BinaryOp::Rem => number(x % y),
        BinaryOp::Mod => number(x - (x / y).floor() * y),
        BinaryOp::Pow => number(x.powf(y)),
        BinaryOp::Max => number(maximum(x, y)),
        BinaryOp::Min => number(minimum(x, y)),
        BinaryOp::Equal => Scalar::bool(x == y),
        BinaryOp::Less => Scalar::bool(x < y),
        BinaryOp::LessEqual => Scalar::bool(x <= y),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::ShiftLeft | BinaryOp::ShiftRight => number(f64::NAN),
    }
}

/// In 128 bits, where every operand is exact; results wrap to their type.
fn integer_binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    let dtype = a.dtype();
    let wide = |value: Scalar| if dtype == DType::U64 { value.bits() as i128 } else { value.as_i64() as i128 };
    let (x, y) = (wide(a), wide(b));
    let number = |value: i128| Scalar::from_bits(dtype, value as u64);
    let width = dtype.size() as i128 * 8;
    match op {
        BinaryOp::Add => number(x + y),
        BinaryOp::Sub => number(x - y),
        BinaryOp::Mul => number(x.wrapping_mul(y)),
        BinaryOp::Div => number(x.checked_div(y).unwrap_or(0)),
        BinaryOp::Rem => number(x.checked_rem(y).unwrap_or(0)),
        BinaryOp::Mod => number(if y == 0 { 0 } else { x - y * floor_div(x, y) }),
        BinaryOp::Pow => integer_power(dtype, x, y),
        BinaryOp::Max => number(x.max(y)),
        BinaryOp::Min => number(x.min(y)),
        BinaryOp::And => number(x & y),
        BinaryOp::Or => number(x | y),
        BinaryOp::Xor => number(x ^ y),
        BinaryOp::ShiftLeft => number(if (0..width).contains(&y) { x << y } else { 0 }),
        BinaryOp::ShiftRight => Scalar::from_bits(dtype, if (0..width).contains(&y) { a.bits() >> y } else { 0 }),
        BinaryOp::Equal => Scalar::bool(x == y),
        BinaryOp::Less => Scalar::bool(x < y),
        BinaryOp::LessEqual => Scalar::bool(x <= y),
    }
}

fn floor_div(x: i128, y: i128) -> i128 {
    let quotient = x / y;
    if x % y != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient }
}

/// Wraps like repeated multiplication; a negative exponent truncates the fraction.
fn integer_power(dtype: DType, base: i128, exponent: i128) -> Scalar {
    if exponent < 0 {
        return Scalar::from_f64(dtype, (base as f64).powf(exponent as f64).trunc());
    }
    let (mut result, mut square, mut left) = (1u64, base as u64, exponent as u64);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    Scalar::from_bits(dtype, result)
}
