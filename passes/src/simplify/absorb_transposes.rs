//! Transposes that a neighbour can stand in for.

use edgecc_ir::{Graph, NodeId, Op};

use crate::query::moves_only_units;

/// `matmul(transpose(a), b) => matmul(a, b)` with the other transpose flag, `reshape(transpose(x)) => reshape(x)` and
/// `transpose(reshape(x)) => reshape(x)`.
///
/// A matrix product absorbs an exchange of the last two axes; a reshape absorbs a transpose that moves only extents of 1.
/// Exact.
pub fn absorb_transposes(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        rewrites += match graph.op(id) {
            Op::MatMul { .. } => (0..2).filter(|&place| into_matmul(graph, id, place)).count(),
            Op::Reshape(_) | Op::Transpose(_) => into_reshape(graph, id) as usize,
            _ => 0,
        };
    }
    graph.remove_dead();
    rewrites
}

fn into_matmul(graph: &mut Graph, id: NodeId, place: usize) -> bool {
    let mut operands = graph.operands(id).to_vec();
    let Op::Transpose(perm) = graph.op(operands[place]) else { return false };
    if !exchanges_last_two(perm) {
        return false;
    }
    let mut op = graph.op(id).clone();
    if let Op::MatMul { transpose_a, transpose_b, .. } = &mut op {
        let flag = if place == 0 { transpose_a } else { transpose_b };
        *flag = !*flag;
    }
    operands[place] = graph.operands(operands[place])[0];
    let origin = graph.node(id).origin().clone();
    graph.rewrite(id, op, &operands, origin).is_ok()
}

fn exchanges_last_two(perm: &[usize]) -> bool {
    let rank = perm.len();
    rank >= 2 && perm[rank - 2..] == [rank - 1, rank - 2] && perm[..rank - 2].is_sorted()
}

fn into_reshape(graph: &mut Graph, id: NodeId) -> bool {
    let inner = graph.operands(id)[0];
    let transpose = match (graph.op(inner), graph.op(id)) {
        (Op::Transpose(_), Op::Reshape(_)) => inner,
        (Op::Reshape(_), Op::Transpose(_)) => id,
        _ => return false,
    };
    let Op::Transpose(perm) = graph.op(transpose) else { return false };
    if !moves_only_units(perm, &graph.ty(graph.operands(transpose)[0]).shape) {
        return false;
    }
    let (shape, source) = (graph.ty(id).shape.clone(), graph.operands(inner)[0]);
    let origin = graph.node(id).origin().clone();
    graph.rewrite(id, Op::Reshape(shape), &[source], origin).is_ok()
}
