//! Operators that move integers as they move the numbers that those stand for.

use edgecc_ir::{Graph, NodeId, Op, PadMode, PoolKind, Shape};

/// The operands of a node that hold the values it moves, where it computes none: each element of its result is one of
/// theirs, whatever the order of values keeps.
pub(crate) fn moved_operands(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let operands = graph.operands(id);
    match graph.op(id) {
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice { .. } | Op::Tile { .. } => Some(vec![0]),
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => Some(vec![0]),
        Op::Pad { mode: PadMode::Constant, .. } => Some(vec![0, 1]),
        Op::Pad { .. } => Some(vec![0]),
        Op::Concat { .. } => Some((0..operands.len()).collect()),
        Op::Pool { kind: PoolKind::Max, .. } => Some(vec![0]),
        Op::Resize { axes } => axes.iter().all(|axis| axis.weights.is_empty()).then(|| vec![0]),
        Op::Input { .. }
        | Op::Constant(_)
        | Op::Map(_)
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::MatMul { .. }
        | Op::Pool { .. }
        | Op::PoolIndices { .. }
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::LocalResponseNorm { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::CumulativeSum { .. }
        | Op::TopK { .. }
        | Op::Project(_)
        | Op::Relayout(_) => None,
    }
}

/// The axis of the result that an axis of the operand becomes, whose positions stay in order.
pub(crate) fn moved_axis(op: &Op, operand: &Shape, axis: usize) -> Option<usize> {
    match op {
        Op::Transpose(perm) => perm.iter().position(|&from| from == axis),
        Op::Reshape(shape) => {
            let before: usize = operand.extents()[..axis].iter().product();
            let extents = shape.extents();
            let starts = |place: &usize| extents[..*place].iter().product::<usize>() == before;
            (0..extents.len()).filter(starts).find(|&place| extents[place] == operand.dim(axis))
        }
        _ => None,
    }
}
