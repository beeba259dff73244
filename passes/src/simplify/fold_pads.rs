//! Pads in front of windows that can pad by themselves.

use edgecc_ir::{BinaryOp, Expr, ExprId, ExprNode, Graph, NodeId, Op, PadMode, PoolKind, Scalar, UnaryOp, Window};

/// `conv(pad(x)) => conv(x)` with larger pads, and likewise for pools; also where a transpose stands between the two.
///
/// The pad is constant and of spatial axes alone. A convolution takes zeros. An average pool takes zeros if it has no pads
/// of its own or counts them, and then counts pads. A max pool takes minus infinity, or zeros where `x` is nowhere negative
/// and each window meets an element of `x`. Pools do not round extents up. Exact.
pub fn fold_pads(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(pad) = Pad::in_front_of(graph, id) else { continue };
        let Some(op) = with_pad(graph, graph.op(id), &pad) else { continue };
        let origin = graph.node(pad.node).origin().joined(graph.node(id).origin());
        let mut operands = graph.operands(id).to_vec();
        operands[0] = match pad.perm {
            None => pad.source,
            Some(perm) => match graph.add(Op::Transpose(perm), &[pad.source], origin.clone()) {
                Ok(transposed) => transposed,
                Err(_) => continue,
            },
        };
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

/// A constant pad in front of a window, in the axes of the window.
struct Pad {
    node: NodeId,
    source: NodeId,
    fill: Scalar,
    /// The transpose between pad and window.
    perm: Option<Vec<usize>>,
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Pad {
    fn in_front_of(graph: &Graph, window: NodeId) -> Option<Pad> {
        let &operand = graph.operands(window).first()?;
        let (node, perm) = match graph.op(operand) {
            Op::Transpose(perm) => (graph.operands(operand)[0], Some(perm.clone())),
            _ => (operand, None),
        };
        let Op::Pad { mode: PadMode::Constant, before, after } = graph.op(node) else { return None };
        let &[source, fill] = graph.operands(node) else { return None };
        let fill = graph.constant_value(fill)?.as_splat()?;
        let permuted = |pads: &Vec<usize>| match &perm {
            Some(perm) => perm.iter().map(|&axis| pads[axis]).collect(),
            None => pads.clone(),
        };
        let (before, after) = (permuted(before), permuted(after));
        let spatial = before.len() >= 3 && before[..2] == [0, 0] && after[..2] == [0, 0];
        spatial.then_some(Pad { node, source, fill, perm, before, after })
    }
}

/// The window that pads by itself.
fn with_pad(graph: &Graph, op: &Op, pad: &Pad) -> Option<Op> {
    let mut op = op.clone();
    match &mut op {
        // Integers have their padding written out.
        Op::Conv { window, .. } if is_zero(pad.fill) && pad.fill.dtype().is_float() => grow(window, pad),
        Op::Pool { kind: PoolKind::Average { count_pads }, window, ceil: false } if is_zero(pad.fill) => {
            if !*count_pads && window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad > 0) {
                return None;
            }
            *count_pads = true;
            grow(window, pad);
        }
        Op::Pool { kind: PoolKind::Max, window, ceil: false } => {
            grow(window, pad);
            let zeros = is_zero(pad.fill) && meets_input(window) && is_non_negative(graph, pad.source);
            if pad.fill.as_f64() != f64::NEG_INFINITY && !zeros {
                return None;
            }
        }
        _ => return None,
    }
    Some(op)
}

fn grow(window: &mut Window, pad: &Pad) {
    window.pads_before.iter_mut().zip(&pad.before[2..]).for_each(|(own, more)| *own += more);
    window.pads_after.iter_mut().zip(&pad.after[2..]).for_each(|(own, more)| *own += more);
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
