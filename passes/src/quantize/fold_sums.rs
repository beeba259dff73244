//! Biases of sums of integers are integers, and steps are multiplied by.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Graph, NodeId, Scalar, Tensor, UnaryOp};

use super::affine::{integer_range, with_number};
use super::fold_requantize::{Sum, rounded};
use crate::fuse::channels::{bias_shape, channel_axis, channel_values};
use crate::query::sums_integers;

/// `f32(acc + t) * m + b => f32(acc + t') * m` with `t' = t + round(b / m)`, and `round(x / s) => round(x * (1 / s))`, in the
/// epilogue of a contraction of integers; `max(x, 0)` goes where the cast bounds alike.
///
/// `m`, `b` and `t` are constant along the channels. Not exact: a bias is rounded to the steps of the sums, and the inverse of a
/// step to f32.
pub fn fold_sums(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if !sums_integers(graph, id) {
            continue;
        }
        rewrites += (fold_bias(graph, id) || multiply(graph, id) || drop_bound(graph, id)) as usize;
    }
    graph.remove_dead();
    rewrites
}

/// `f32(sum) * factor + bias`
struct Biased {
    node: ExprId,
    /// The sum less what is constant in it.
    sum: ExprId,
    factor: ExprId,
    constant: Vec<i64>,
}

impl Biased {
    fn of(graph: &Graph, id: NodeId, expr: &Expr, axis: usize) -> Option<Biased> {
        let (operands, shape) = (graph.operands(id), &graph.ty(id).shape);
        let channels = shape.dim(axis);
        let per_channel = |id: ExprId| match expr.node(id) {
            ExprNode::Constant(value) => Some(vec![value.as_f64(); channels]),
            ExprNode::Argument(n, _) if n > 0 => channel_values(graph, operands[n as usize + 1], shape, axis),
            _ => None,
        };
        expr.ids().find_map(|node| {
            let ExprNode::Binary(BinaryOp::Add, a, b) = expr.node(node) else { return None };
            let (scaled, bias) = per_channel(b).map(|bias| (a, bias)).or_else(|| Some((b, per_channel(a)?)))?;
            let ExprNode::Binary(BinaryOp::Mul, x, y) = expr.node(scaled) else { return None };
            let ((wide, factor), factors) =
                per_channel(y).map(|m| ((x, y), m)).or_else(|| Some(((y, x), per_channel(x)?)))?;
            let ExprNode::Cast(DType::F32, sum) = expr.node(wide) else { return None };
            if expr.dtype_of(sum) != DType::I32 {
                return None;
            }
            let sum = Sum::of(expr, sum, channels, per_channel);
            let each = sum.constant.iter().zip(bias.iter().zip(&factors));
            let constant =
                each.map(|(own, (bias, factor))| rounded(own + bias / factor)).collect::<Option<Vec<i64>>>()?;
            Some(Biased { node, sum: sum.rest, factor, constant })
        })
    }
}

fn fold_bias(graph: &mut Graph, id: NodeId) -> bool {
    let Some((axis, old)) = channel_axis(graph, id).zip(graph.op(id).epilogue().cloned()) else { return false };
    let Some(biased) = Biased::of(graph, id, &old, axis) else { return false };
    let (origin, rank) = (graph.node(id).origin().clone(), graph.ty(id).shape.rank());
    let values = biased.constant.iter().map(|&value| Scalar::from_i64(DType::I32, value));
    let Ok(bias) = Tensor::from_scalars(DType::I32, bias_shape(biased.constant.len(), axis, rank), values) else {
        return false;
    };
    let mut operands = graph.operands(id).to_vec();
    operands.push(graph.constant(bias, origin.clone()));
    let argument = operands.len() as u16 - 2;
    let mut expr = Expr::new();
    let root = expr.inline_but(&old, biased.node, |expr| {
        let sum = expr.inline(&old.clone().with_root(biased.sum), |_, _, _| None);
        let factor = expr.inline(&old.clone().with_root(biased.factor), |_, _, _| None);
        let bias = expr.arg(argument, DType::I32);
        let sum = expr.binary(BinaryOp::Add, sum, bias);
        let wide = expr.cast(DType::F32, sum);
        expr.binary(BinaryOp::Mul, wide, factor)
    });
    rewrite(graph, id, expr.with_root(root), &operands)
}

fn multiply(graph: &mut Graph, id: NodeId) -> bool {
    let Some(old) = graph.op(id).epilogue().cloned() else { return false };
    let found = old.ids().find_map(|node| {
        let ExprNode::Unary(UnaryOp::Round, ratio) = old.node(node) else { return None };
        let ExprNode::Binary(BinaryOp::Div, x, step) = old.node(ratio) else { return None };
        match old.node(step) {
            ExprNode::Constant(step) if step.dtype() == DType::F32 && step.as_f64() > 0.0 => Some((ratio, x, step)),
            _ => None,
        }
    });
    let Some((ratio, x, step)) = found else { return false };
    let mut expr = Expr::new();
    let root = expr.inline_but(&old, ratio, |expr| {
        let x = expr.inline(&old.clone().with_root(x), |_, _, _| None);
        let inverse = expr.number(x, 1.0 / step.as_f64());
        expr.binary(BinaryOp::Mul, x, inverse)
    });
    let operands = graph.operands(id).to_vec();
    rewrite(graph, id, expr.with_root(root), &operands)
}

/// `cast(round(max(x, 0) * c) + low) => cast(round(x * c) + low)`, where `low` is the least integer and `c` above 0.
fn drop_bound(graph: &mut Graph, id: NodeId) -> bool {
    let Some(old) = graph.op(id).epilogue().cloned() else { return false };
    let number = |id: ExprId| match old.node(id) {
        ExprNode::Constant(value) => Some(value.as_f64()),
        _ => None,
    };
    let found = old.ids().find_map(|node| {
        let ExprNode::Cast(dtype @ (DType::I8 | DType::U8), steps) = old.node(node) else { return None };
        let (low, _) = integer_range(dtype);
        let rounded = match old.node(steps) {
            ExprNode::Binary(BinaryOp::Add, rounded, zero) if number(zero) == Some(low as f64) => rounded,
            _ => return None,
        };
        let ExprNode::Unary(UnaryOp::Round, scaled) = old.node(rounded) else { return None };
        let ExprNode::Binary(BinaryOp::Mul, bounded, factor) = old.node(scaled) else { return None };
        let ExprNode::Binary(BinaryOp::Max, a, b) = old.node(bounded) else { return None };
        let (x, bound) = with_number(a, b, number)?;
        (bound == 0.0 && number(factor)? > 0.0).then_some((scaled, x, factor))
    });
    let Some((scaled, x, factor)) = found else { return false };
    let mut expr = Expr::new();
    let root = expr.inline_but(&old, scaled, |expr| {
        let [x, factor] = [x, factor].map(|part| expr.inline(&old.clone().with_root(part), |_, _, _| None));
        expr.binary(BinaryOp::Mul, x, factor)
    });
    let operands = graph.operands(id).to_vec();
    rewrite(graph, id, expr.with_root(root), &operands)
}

fn rewrite(graph: &mut Graph, id: NodeId, expr: Expr, operands: &[NodeId]) -> bool {
    let (mut op, origin) = (graph.op(id).clone(), graph.node(id).origin().clone());
    op.epilogue_mut().into_iter().for_each(|slot| *slot = expr.clone());
    graph.rewrite(id, op, operands, origin).is_ok()
}
