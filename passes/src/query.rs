//! Questions about a graph that several passes ask.

use edgecc_ir::{DType, Expr, Graph, NodeId, Op, Shape};

/// The expression of a map.
pub(crate) fn map_expr(graph: &Graph, id: NodeId) -> Option<&Expr> {
    match graph.op(id) {
        Op::Map(expr) => Some(expr),
        _ => None,
    }
}

/// Whether a node is a contraction of integers.
pub(crate) fn sums_integers(graph: &Graph, id: NodeId) -> bool {
    graph.op(id).epilogue().is_some() && graph.ty(graph.operands(id)[0]).dtype == DType::I8
}

/// Whether a node is a constant.
pub(crate) fn is_constant(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.op(id), Op::Constant(_))
}

/// The shape that the values broadcast to; `None` where they do not.
pub(crate) fn broadcast_shape(graph: &Graph, ids: &[NodeId]) -> Option<Shape> {
    ids.iter().try_fold(Shape::scalar(), |shape, &id| shape.broadcast(&graph.ty(id).shape))
}

/// Whether a permutation of axes keeps the order of those whose extent is not 1, so that no element moves.
pub(crate) fn moves_only_units(perm: &[usize], operand: &Shape) -> bool {
    perm.iter().filter(|&&axis| operand.dim(axis) != 1).is_sorted()
}

/// The permutation that undoes `perm`.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (place, &axis) in perm.iter().enumerate() {
        inverse[axis] = place;
    }
    inverse
}

/// Entries by result axis moved to the axes of the operand: entry `i` of the result's axes belongs to axis `perm[i]`.
pub(crate) fn by_operand_axis<T: Copy>(perm: &[usize], entries: &[T]) -> Vec<T> {
    inverse(perm).into_iter().map(|place| entries[place]).collect()
}

/// The place of a value among operands, which it joins if it is not there.
pub(crate) fn place_among(operands: &mut Vec<NodeId>, value: NodeId) -> usize {
    operands.iter().position(|&operand| operand == value).unwrap_or_else(|| {
        operands.push(value);
        operands.len() - 1
    })
}
