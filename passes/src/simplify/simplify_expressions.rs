//! Operations that do not change a value.

use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Graph, Op, Scalar, UnaryOp};

/// `2 * 3 => 6`, `x * 1 => x`, `x + -0 => x`, `x / 2 => x * 0.5`, `x ^ 2 => x * x`, `cast(cast(x)) => cast(x)` and the like,
/// in the expressions of maps and epilogues.
///
/// `x + 0` goes for integers alone: for floats it turns -0 into 0. A quotient becomes a product where the divisor is a
/// power of two. Casts compose where the first loses nothing. Exact, but for `x ^ 3`, which rounds twice.
pub fn simplify_expressions(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let mut op = graph.op(id).clone();
        let slot = match &mut op {
            Op::Map(expr) => Some(expr),
            op => op.epilogue_mut(),
        };
        let Some(expr) = slot else { continue };
        let simple = simplified(expr);
        if simple == *expr {
            continue;
        }
        *expr = simple;
        let (operands, origin) = (graph.operands(id).to_vec(), graph.node(id).origin().clone());
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    rewrites
}

/// The expression with every node simplified, operands first.
fn simplified(expr: &Expr) -> Expr {
    let mut result = Expr::new();
    let mut copies: Vec<ExprId> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let copy = |id: ExprId| copies[id.index()];
        let id = match *node {
            ExprNode::Argument(n, dtype) => result.arg(n, dtype),
            ExprNode::Constant(value) => result.constant(value),
            ExprNode::Unary(op, a) => unary(&mut result, op, copy(a)),
            ExprNode::Binary(op, a, b) => binary(&mut result, op, copy(a), copy(b)),
            ExprNode::Select(c, a, b) => select(&mut result, copy(c), copy(a), copy(b)),
            ExprNode::Cast(dtype, a) => cast(&mut result, dtype, copy(a)),
        };
        copies.push(evaluated(&mut result, id));
    }
    let root = copies[expr.root().index()];
    result.with_root(root)
}

/// The value of a node whose operands are all constants, else the node.
fn evaluated(expr: &mut Expr, id: ExprId) -> ExprId {
    let mut operands = expr.node(id).operands().peekable();
    if operands.peek().is_none() || !operands.all(|operand| constant(expr, operand).is_some()) {
        return id;
    }
    let value = eval_scalar(&expr.clone().with_root(id), &[]);
    expr.constant(value)
}

fn unary(expr: &mut Expr, op: UnaryOp, a: ExprId) -> ExprId {
    let involution = matches!(op, UnaryOp::Neg | UnaryOp::Not);
    let idempotent =
        matches!(op, UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc);
    match expr.node(a) {
        ExprNode::Unary(inner, x) if inner == op && involution => x,
        ExprNode::Unary(inner, _) if inner == op && idempotent => a,
        _ => expr.unary(op, a),
    }
}

fn binary(expr: &mut Expr, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
    let (left, right) = (constant(expr, a), constant(expr, b));
    if right.is_some_and(|value| is_neutral(op, value)) {
        return a;
    }
    if left.is_some_and(|value| commutes(op) && is_neutral(op, value)) {
        return b;
    }
    match (op, right) {
        (BinaryOp::Div, Some(value)) if is_power_of_two(value) => {
            let inverse = expr.number(b, 1.0 / value.as_f64());
            expr.binary(BinaryOp::Mul, a, inverse)
        }
        (BinaryOp::Pow, Some(value)) if value.dtype().is_float() => power(expr, a, b, value.as_f64()),
        (BinaryOp::Max | BinaryOp::Min | BinaryOp::And | BinaryOp::Or, _) if a == b => a,
        _ => expr.binary(op, a, b),
    }
}

fn power(expr: &mut Expr, a: ExprId, exponent: ExprId, value: f64) -> ExprId {
    if value == 2.0 || value == 3.0 {
        let square = expr.binary(BinaryOp::Mul, a, a);
        return if value == 2.0 { square } else { expr.binary(BinaryOp::Mul, square, a) };
    }
    if value == -1.0 { expr.unary(UnaryOp::Reciprocal, a) } else { expr.binary(BinaryOp::Pow, a, exponent) }
}

fn constant(expr: &Expr, id: ExprId) -> Option<Scalar> {
    match expr.node(id) {
        ExprNode::Constant(value) => Some(value),
        _ => None,
    }
}

fn commutes(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor)
}

/// Whether `x op value` is `x` for every `x`, bit for bit but for the payload of NaN.
fn is_neutral(op: BinaryOp, value: Scalar) -> bool {
    let (number, dtype) = (value.as_f64(), value.dtype());
    let float = dtype.is_float();
    match op {
        BinaryOp::Add => number == 0.0 && (!float || number.is_sign_negative()),
        BinaryOp::Sub => number == 0.0 && (!float || number.is_sign_positive()),
        BinaryOp::Mul | BinaryOp::Div => number == 1.0 && dtype != DType::Bool,
        BinaryOp::Pow => number == 1.0 && float,
        BinaryOp::Max => float && number == f64::NEG_INFINITY,
        BinaryOp::Min => float && number == f64::INFINITY,
        BinaryOp::And => dtype == DType::Bool && number == 1.0,
        BinaryOp::Or | BinaryOp::Xor => !float && number == 0.0,
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => number == 0.0,
        BinaryOp::Rem | BinaryOp::Mod | BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual => false,
    }
}

/// Whether the reciprocal of an f32 or f64 is exact, and normal on both sides.
fn is_power_of_two(value: Scalar) -> bool {
    let (mantissa, exponent, limit) = match value.dtype() {
        DType::F32 => (value.bits() & 0x7f_ffff, value.bits() >> 23 & 0xff, 0xfd),
        DType::F64 => (value.bits() & 0xf_ffff_ffff_ffff, value.bits() >> 52 & 0x7ff, 0x7fd),
        _ => return false,
    };
    mantissa == 0 && (1..=limit).contains(&exponent)
}

fn select(expr: &mut Expr, condition: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
    match constant(expr, condition) {
        _ if then == otherwise => then,
        Some(value) => {
            if value.bits() != 0 {
                then
            } else {
                otherwise
            }
        }
        None => match expr.node(condition) {
            ExprNode::Unary(UnaryOp::Not, inner) => expr.select(inner, otherwise, then),
            _ => expr.select(condition, then, otherwise),
        },
    }
}

fn cast(expr: &mut Expr, dtype: DType, a: ExprId) -> ExprId {
    match expr.node(a) {
        ExprNode::Constant(value) => expr.constant(value.cast(dtype)),
        ExprNode::Cast(between, x) if compose(expr.dtype_of(x), between, dtype) => cast(expr, dtype, x),
        _ => expr.cast(dtype, a),
    }
}

/// Whether a cast by way of `between` gives what a direct one does: the first step loses nothing, and the last is of the
/// same kind. An integer wraps on its way to a narrower integer, where a float saturates.
fn compose(from: DType, between: DType, to: DType) -> bool {
    let detour = from.is_integer() && between.is_float() && to.is_integer();
    is_lossless(from, between) && (!detour || from == to)
}

/// Whether every value of `from` is one of `to`.
fn is_lossless(from: DType, to: DType) -> bool {
    if from == to || to == DType::Bool || from == DType::Bool {
        return to != DType::Bool || from == to;
    }
    let bits = |dtype: DType| dtype.size() as u32 * 8 - dtype.is_signed_integer() as u32;
    match (from.is_integer(), to) {
        (true, DType::BF16) => bits(from) <= 8,
        (true, DType::F16) => bits(from) <= 11,
        (true, DType::F32) => bits(from) <= 24,
        (true, DType::F64) => bits(from) <= 53,
        (true, _) => bits(from) <= bits(to) && (to.is_signed_integer() || !from.is_signed_integer()),
        (false, DType::F64) => true,
        (false, DType::F32) => from != DType::F64,
        (false, _) => false,
    }
}
