//! Expressions as element-wise operators, one for each node.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Scalar, Tensor, UnaryOp};
use edgecc_passes::quantize::integer_range;

use super::super::tensor::number;
use super::writer::{Writer, int};

/// Writes an expression over these values; the last node's result is called `result`.
pub(super) fn write(writer: &mut Writer, expr: &Expr, arguments: &[String], result: &str) -> Result<(), &'static str> {
    let mut values: Vec<String> = Vec::with_capacity(expr.nodes().len());
    for (place, node) in expr.nodes().iter().enumerate() {
        let is_result = place == expr.root().index();
        let value = |id: ExprId| values[id.index()].clone();
        let name = |writer: &mut Writer| if is_result { result.to_string() } else { writer.fresh("value") };
        let written = match *node {
            ExprNode::Argument(n, _) => arguments[n as usize].clone(),
            ExprNode::Constant(scalar) => writer.constant(&Tensor::scalar(scalar)),
            ExprNode::Unary(op, a) => {
                let name = name(writer);
                unary(writer, op, expr.dtype_of(a), value(a), name)?
            }
            ExprNode::Binary(op, a, b) => {
                let name = name(writer);
                binary(writer, op, expr.dtype_of(a), [value(a), value(b)], name)?
            }
            ExprNode::Select(c, a, b) => {
                let name = name(writer);
                writer.node_to("Where", &[value(c), value(a), value(b)], vec![name.clone()], Vec::new());
                name
            }
            ExprNode::Cast(dtype, a) => {
                let name = name(writer);
                let to = int("to", number(dtype) as i64);
                let source = saturated(writer, value(a), expr.dtype_of(a), dtype);
                writer.node_to("Cast", &[source], vec![name.clone()], vec![to]);
                name
            }
        };
        if is_result && written != result {
            writer.node_to("Identity", &[written], vec![result.into()], Vec::new());
            return Ok(());
        }
        values.push(written);
    }
    Ok(())
}

fn unary(writer: &mut Writer, op: UnaryOp, dtype: DType, a: String, result: String) -> Result<String, &'static str> {
    let operator = match op {
        UnaryOp::Neg => "Neg",
        UnaryOp::Abs => "Abs",
        UnaryOp::Sign => "Sign",
        UnaryOp::Floor => "Floor",
        UnaryOp::Ceil => "Ceil",
        UnaryOp::Round => "Round",
        UnaryOp::Sqrt => "Sqrt",
        UnaryOp::Reciprocal => "Reciprocal",
        UnaryOp::Exp => "Exp",
        UnaryOp::Log => "Log",
        UnaryOp::Tanh => "Tanh",
        UnaryOp::Sigmoid => "Sigmoid",
        UnaryOp::Erf => "Erf",
        UnaryOp::Sin => "Sin",
        UnaryOp::Cos => "Cos",
        UnaryOp::Tan => "Tan",
        UnaryOp::Asin => "Asin",
        UnaryOp::Acos => "Acos",
        UnaryOp::Atan => "Atan",
        UnaryOp::Sinh => "Sinh",
        UnaryOp::Cosh => "Cosh",
        UnaryOp::Asinh => "Asinh",
        UnaryOp::Acosh => "Acosh",
        UnaryOp::Atanh => "Atanh",
        UnaryOp::Not if dtype == DType::Bool => "Not",
        UnaryOp::Not => "BitwiseNot",
        UnaryOp::IsNan => "IsNaN",
        UnaryOp::IsInf => "IsInf",
        UnaryOp::Trunc => return Ok(towards_zero(writer, a, result)),
    };
    writer.node_to(operator, &[a], vec![result.clone()], Vec::new());
    Ok(result)
}

/// `sign(a) * floor(|a|)`.
fn towards_zero(writer: &mut Writer, a: String, result: String) -> String {
    let size = writer.node("Abs", std::slice::from_ref(&a), Vec::new());
    let size = writer.node("Floor", &[size], Vec::new());
    let sign = writer.node("Sign", &[a], Vec::new());
    writer.node_to("Mul", &[sign, size], vec![result.clone()], Vec::new());
    result
}

fn binary(
    writer: &mut Writer,
    op: BinaryOp,
    dtype: DType,
    [a, b]: [String; 2],
    result: String,
) -> Result<String, &'static str> {
    let is_bool = dtype == DType::Bool;
    let mut attributes = Vec::new();
    let operator = match op {
        BinaryOp::Add => "Add",
        BinaryOp::Sub => "Sub",
        BinaryOp::Mul => "Mul",
        BinaryOp::Div => "Div",
        BinaryOp::Rem => {
            attributes.push(int("fmod", 1));
            "Mod"
        }
        BinaryOp::Mod if dtype.is_float() => return Ok(modulo(writer, a, b, result)),
        BinaryOp::Mod => "Mod",
        BinaryOp::Pow => "Pow",
        BinaryOp::Max if is_bool => "Or",
        BinaryOp::Min if is_bool => "And",
        BinaryOp::Max => "Max",
        BinaryOp::Min => "Min",
        BinaryOp::And if is_bool => "And",
        BinaryOp::Or if is_bool => "Or",
        BinaryOp::Xor if is_bool => "Xor",
        BinaryOp::And => "BitwiseAnd",
        BinaryOp::Or => "BitwiseOr",
        BinaryOp::Xor => "BitwiseXor",
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight if dtype.is_signed_integer() => {
            return Err("ONNX shifts no signed numbers");
        }
        BinaryOp::ShiftLeft => {
            attributes.push(super::writer::text("direction", "LEFT"));
            "BitShift"
        }
        BinaryOp::ShiftRight => {
            attributes.push(super::writer::text("direction", "RIGHT"));
            "BitShift"
        }
        BinaryOp::Equal => "Equal",
        BinaryOp::Less | BinaryOp::LessEqual if is_bool => return Err("ONNX orders no truth values"),
        BinaryOp::Less => "Less",
        BinaryOp::LessEqual => "LessOrEqual",
    };
    writer.node_to(operator, &[a, b], vec![result.clone()], attributes);
    Ok(result)
}

/// `a - floor(a / b) * b`.
fn modulo(writer: &mut Writer, a: String, b: String, result: String) -> String {
    let quotient = writer.node("Div", &[a.clone(), b.clone()], Vec::new());
    let quotient = writer.node("Floor", &[quotient], Vec::new());
    let product = writer.node("Mul", &[quotient, b], Vec::new());
    writer.node_to("Sub", &[a, product], vec![result.clone()], Vec::new());
    result
}

/// The value `scalar` of an element type as a constant's name.
pub(super) fn scalar(writer: &mut Writer, dtype: DType, value: f64) -> String {
    writer.constant(&Tensor::scalar(Scalar::from_f64(dtype, value)))
}

/// A value that a cast to narrow integers leaves within their range: ours saturates, ONNX's says nothing of what is beyond.
fn saturated(writer: &mut Writer, value: String, from: DType, to: DType) -> String {
    let is_narrow = to.is_integer() && to.size() <= 2 && matches!(from, DType::F32 | DType::F64);
    if !is_narrow {
        return value;
    }
    let (low, high) = integer_range(to);
    let [low, high] = [low, high].map(|bound| writer.constant(&Tensor::scalar(Scalar::from_f64(from, bound as f64))));
    writer.node("Clip", &[value, low, high], Vec::new())
}
