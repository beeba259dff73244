//! Pads in front of windows that can pad by themselves.

use edgecc_ir::{BinaryOp, Expr, ExprId, ExprNode, Graph, NodeId, Op, PadMode, PoolKind, Scalar, UnaryOp, Window};

/// `conv(pad(x)) => conv(x)` with larger pads, and likewise for pools.
///
/// The pad is constant and of spatial axes alone. A convolution takes zeros. An average pool takes zeros if it has no pads
/// of its own or counts them, and then counts pads. A max pool takes minus infinity, or zeros where `x` is nowhere negative
/// and each window meets an element of `x`. Pools do not round extents up. Exact.
pub fn fold_pads(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(op) = with_folded_pad(graph, id) else { continue };
        let mut operands = graph.operands(id).to_vec();
        let pad = operands[0];
        operands[0] = graph.operands(pad)[0];
        let origin = graph.node(pad).origin().joined(graph.node(id).origin());
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

fn with_folded_pad(graph: &Graph, id: NodeId) -> Option<Op> {
    let &pad = graph.operands(id).first()?;
    let Op::Pad { mode: PadMode::Constant, before, after } = graph.op(pad) else { return None };
    let fill = graph.constant_value(graph.operands(pad)[1])?.as_splat()?;
    if before.len() < 3 || before[..2] != [0, 0] || after[..2] != [0, 0] {
        return None;
    }
    let mut op = graph.op(id).clone();
    match &mut op {
        Op::Conv { window, .. } if is_zero(fill) => grow(window, before, after),
        Op::Pool { kind: PoolKind::Average { count_pads }, window, ceil: false } if is_zero(fill) => {
            if !*count_pads && window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad > 0) {
                return None;
            }
            *count_pads = true;
            grow(window, before, after);
        }
        Op::Pool { kind: PoolKind::Max, window, ceil: false } => {
            grow(window, before, after);
            let zeros = is_zero(fill) && meets_input(window) && is_non_negative(graph, graph.operands(pad)[0]);
            if fill.as_f64() != f64::NEG_INFINITY && !zeros {
                return None;
            }
        }
        _ => return None,
    }
    Some(op)
}

fn grow(window: &mut Window, before: &[usize], after: &[usize]) {
    window.pads_before.iter_mut().zip(&before[2..]).for_each(|(pad, more)| *pad += more);
    window.pads_after.iter_mut().zip(&after[2..]).for_each(|(pad, more)| *pad += more);
}

fn is_zero(fill: Scalar) -> bool {
    fill.as_f64() == 0.0
}

/// Whether no window lies in the padding alone: undilated, and wider than the pads.
fn meets_input(window: &Window) -> bool {
    (0..window.kernel.len()).all(|axis| {
        let kernel = window.kernel[axis];
        window.dilations[axis] == 1 && window.pads_before[axis] < kernel && window.pads_after[axis] < kernel
    })
}

/// Whether every element is at least 0 (or NaN), as far as the last expression that made it tells.
fn is_non_negative(graph: &Graph, id: NodeId) -> bool {
    let expr = match graph.op(id) {
        Op::Map(expr) => Some(expr),
        op => op.epilogue(),
    };
    expr.is_some_and(|expr| at_least_zero(expr, expr.root()))
}

fn at_least_zero(expr: &Expr, id: ExprId) -> bool {
    match expr.node(id) {
        ExprNode::Constant(value) => value.as_f64() >= 0.0,
        ExprNode::Unary(op, _) => matches!(op, UnaryOp::Abs | UnaryOp::Sqrt | UnaryOp::Exp | UnaryOp::Sigmoid),
        ExprNode::Binary(BinaryOp::Max, a, b) => at_least_zero(expr, a) || at_least_zero(expr, b),
        ExprNode::Binary(BinaryOp::Min | BinaryOp::Add | BinaryOp::Mul, a, b) => {
            at_least_zero(expr, a) && at_least_zero(expr, b)
        }
        ExprNode::Select(_, a, b) => at_least_zero(expr, a) && at_least_zero(expr, b),
        ExprNode::Argument(..) | ExprNode::Binary(..) | ExprNode::Cast(..) => false,
    }
}
