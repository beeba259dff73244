//! Dequantization among the operands of an epilogue.

use edgecc_ir::{Expr, Graph, NodeId, Op};

use crate::quantize::dequantized;
use crate::query::{map_expr, place_among, sums_integers};

/// `conv(x, w, dequantize(q)) => conv(x, w, q)` with the dequantization in the epilogue, for contractions of integers. Exact.
pub fn fuse_operands(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some((op, operands)) = absorbed(graph, id) else { continue };
        let origin = graph.node(id).origin().clone();
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

fn absorbed(graph: &Graph, id: NodeId) -> Option<(Op, Vec<NodeId>)> {
    let epilogue = graph.op(id).epilogue()?;
    let operands = graph.operands(id);
    let is_absorbed = |operand: NodeId| dequantized(graph, operand).is_some_and(|(_, affine)| affine.axis.is_none());
    if !sums_integers(graph, id) || !operands[2..].iter().any(|&operand| is_absorbed(operand)) {
        return None;
    }
    let mut extras: Vec<NodeId> = Vec::new();
    let mut expr = Expr::new();
    let root = expr.inline(epilogue, |expr, n, dtype| {
        let operand = operands[(n as usize).checked_sub(1)? + 2];
        let inner = map_expr(graph, operand).filter(|_| is_absorbed(operand));
        Some(match inner {
            None => expr.arg(place_among(&mut extras, operand) as u16 + 1, dtype),
            Some(inner) => expr.inline(inner, |expr, n, dtype| {
                let source = graph.operands(operand)[n as usize];
                Some(expr.arg(place_among(&mut extras, source) as u16 + 1, dtype))
            }),
        })
    });
    let mut op = graph.op(id).clone();
    op.epilogue_mut().into_iter().for_each(|slot| *slot = expr.clone().with_root(root));
    Some((op, [&operands[..2], &extras].concat()))
}
