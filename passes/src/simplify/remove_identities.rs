//! Nodes that change nothing.

use edgecc_ir::{Graph, NodeId, Op};

/// `identity(x) => x`: a map that is its argument, a reshape, broadcast, transpose, slice, pad, tile, resize or relayout that
/// keeps every element in its place, a concatenation of one operand, a reduction over extents of 1.
///
/// The result has the type of the operand that stays. Exact.
pub fn remove_identities(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if let Some(same) = unchanged_operand(graph, id) {
            graph.replace_uses(id, same);
            rewrites += 1;
        }
    }
    graph.remove_dead();
    rewrites
}

fn unchanged_operand(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let operands = graph.operands(id);
    let first = *operands.first()?;
    let same = match graph.op(id) {
        Op::Map(expr) => operands[(0..operands.len()).find(|&n| expr.is_argument(n as u16))?],
        Op::Concat { axis } => only_part(graph, operands, *axis)?,
        op if keeps_elements(op, graph, first) => first,
        _ => return None,
    };
    (graph.node(same).ty() == graph.node(id).ty()).then_some(same)
}

/// The operand of a concatenation whose others are all empty.
fn only_part(graph: &Graph, operands: &[NodeId], axis: usize) -> Option<NodeId> {
    let mut parts = operands.iter().filter(|&&part| graph.ty(part).shape.dim(axis) != 0);
    let part = parts.next()?;
    parts.next().is_none().then_some(*part)
}

/// Whether the result has the operand's elements in the operand's order, provided that it has its type.
fn keeps_elements(op: &Op, graph: &Graph, operand: NodeId) -> bool {
    match op {
        Op::Reshape(_) | Op::Broadcast(_) | Op::Relayout(_) => true,
        Op::Transpose(perm) => perm.is_sorted(),
        Op::Slice { steps, counts, .. } => steps.iter().zip(counts).all(|(&step, &count)| step == 1 || count <= 1),
        Op::Pad { before, after, .. } => before.iter().chain(after).all(|&pad| pad == 0),
        Op::Tile { repeats } => repeats.iter().all(|&repeat| repeat == 1),
        Op::Resize { axes } => axes.is_empty(),
        Op::Reduce { axes, .. } => axes.iter().all(|&axis| graph.ty(operand).shape.dim(axis) == 1),
        Op::Input { .. }
        | Op::Constant(_)
        | Op::Map(_)
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::MatMul { .. }
        | Op::Pool { .. }
        | Op::PoolIndices { .. }
        | Op::ArgReduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::LocalResponseNorm { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::CumulativeSum { .. }
        | Op::TopK { .. }
        | Op::Project(_) => false,
    }
}
