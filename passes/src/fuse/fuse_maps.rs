//! Maps that read maps.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Graph, NodeId, Op, UnaryOp};

use crate::quantize::dequantized;
use crate::query::{map_expr, place_among};

/// The most operands that a fused map reads.
const MAX_OPERANDS: usize = 12;
/// The most nodes of a fused expression.
const MAX_NODES: usize = 64;
/// The most operations that are computed again for each element that a smaller producer is broadcast to.
const MAX_REPEATED: usize = 2;

/// `map(map(x), y) => map(x, y)`, with the producer's expression in place of the argument and each operand once.
///
/// Nothing else reads the producer, unless it makes f32 of 8 bits, which is done again wherever they are read; and it does not
/// make 8 bits of f32. It has the elements of the result, or is broadcast and then so cheap that computing it
/// again costs no more than reading it. Limits bound operands and expression. Exact.
pub fn fuse_maps(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let absorbed = producers(graph, id);
        if absorbed.is_empty() {
            continue;
        }
        let (expr, operands) = inlined(graph, id, &absorbed);
        let origins = absorbed.iter().map(|&producer| graph.node(producer).origin());
        let origin = origins.fold(Default::default(), |a: edgecc_ir::Origin, b| a.joined(b));
        let origin = origin.joined(graph.node(id).origin());
        if graph.rewrite(id, Op::Map(expr), &operands, origin).is_ok() {
            rewrites += absorbed.len();
        }
    }
    graph.remove_dead();
    rewrites
}

/// The producers that a map takes in, in the order of its operands and as far as the limits reach.
fn producers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let mut absorbed = Vec::new();
    if map_expr(graph, id).is_none() {
        return absorbed;
    }
    for &operand in graph.operands(id) {
        if absorbed.contains(&operand) || !is_fusible(graph, operand, id) {
            continue;
        }
        absorbed.push(operand);
        let (expr, operands) = inlined(graph, id, &absorbed);
        if operands.len() > MAX_OPERANDS || expr.nodes().len() > MAX_NODES {
            absorbed.pop();
        }
    }
    absorbed
}

fn is_fusible(graph: &Graph, producer: NodeId, consumer: NodeId) -> bool {
    let Some(expr) = map_expr(graph, producer) else { return false };
    let same_size = graph.ty(producer).shape.elements() == graph.ty(consumer).shape.elements();
    let is_own = graph.only_user(producer) == Some(consumer) && !narrows(graph, producer);
    (is_own || dequantized(graph, producer).is_some()) && (same_size || is_cheap(expr))
}

/// Whether a map makes 8 bits of wider numbers.
fn narrows(graph: &Graph, map: NodeId) -> bool {
    let size = |id: NodeId| graph.ty(id).dtype.size();
    size(map) == 1 && graph.ty(map).dtype != DType::Bool && graph.operands(map).iter().any(|&operand| size(operand) > 2)
}

fn is_cheap(expr: &Expr) -> bool {
    let operations = expr.nodes().iter().filter(|node| node.operands().next().is_some());
    operations.clone().count() <= MAX_REPEATED && operations.clone().all(is_cheap_operation)
}

fn is_cheap_operation(node: &ExprNode) -> bool {
    match node {
        ExprNode::Unary(op, _) => matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not),
        ExprNode::Binary(op, ..) => !matches!(op, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Mod | BinaryOp::Pow),
        ExprNode::Argument(..) | ExprNode::Constant(_) | ExprNode::Select(..) | ExprNode::Cast(..) => true,
    }
}

/// The expression of map `id` with the absorbed maps written out, and its distinct operands.
fn inlined(graph: &Graph, id: NodeId, absorbed: &[NodeId]) -> (Expr, Vec<NodeId>) {
    let (mut expr, mut operands) = (Expr::new(), Vec::new());
    let root = inline_map(graph, &mut expr, &mut operands, id, absorbed);
    (expr.with_root(root), operands)
}

/// Adds the expression of map `id` to `expr`, whose arguments stand for `operands`.
fn inline_map(graph: &Graph, expr: &mut Expr, operands: &mut Vec<NodeId>, id: NodeId, absorbed: &[NodeId]) -> ExprId {
    let Op::Map(map) = graph.op(id) else { unreachable!("only maps are absorbed") };
    let values = graph.operands(id);
    expr.inline(map, |expr, n, dtype| {
        let value = values[n as usize];
        Some(if absorbed.contains(&value) {
            inline_map(graph, expr, operands, value, absorbed)
        } else {
            let place = place_among(operands, value);
            expr.arg(place as u16, dtype)
        })
    })
}
