//! Transposes move behind the operators that can do without them, until they meet and cancel.

use edgecc_ir::{Graph, NodeId, Op, Resample, Shape, TypeError};

use crate::query::{by_operand_axis, inverse, is_constant, moves_only_units};

/// `op(transpose(x)) => transpose(op'(x))`, where `op'` names the axes as `x` does.
///
/// For element-wise maps, reductions, softmax, normalization, concat, slice, pad, tile, resize, broadcast of equal rank,
/// cumulative sum and gather by one axis of positions. The other operands of a map or concat are transposes by the same
/// permutation, constants, or tensors that the inverse permutation leaves in place but for extents of 1. Exact.
pub fn sink_transposes(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(perm) = permutation(graph, id) else { continue };
        if !can_sink(graph, id, &perm) {
            continue;
        }
        if let Ok(sunk) = add_sunk(graph, id, &perm) {
            let origin = graph.node(id).origin().clone();
            rewrites += graph.rewrite(id, Op::Transpose(perm), &[sunk], origin).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

/// The permutation of the first operand that is a transpose of the result's rank.
fn permutation(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let candidates = match graph.op(id) {
        Op::Map(_) | Op::Concat { .. } => graph.operands(id),
        _ => graph.operands(id).get(..1)?,
    };
    let rank = match graph.node(id).ty() {
        edgecc_ir::Type::Tensor(ty) => ty.shape.rank(),
        edgecc_ir::Type::Tuple(_) => return None,
    };
    candidates.iter().find_map(|&operand| match graph.op(operand) {
        Op::Transpose(perm) if perm.len() == rank => Some(perm.clone()),
        _ => None,
    })
}

fn can_sink(graph: &Graph, id: NodeId, perm: &[usize]) -> bool {
    match graph.op(id) {
        Op::Map(_) | Op::Concat { .. } => {
            graph.operands(id).iter().all(|&operand| free_to_permute(graph, operand, perm))
        }
        Op::Gather { .. } => graph.ty(graph.operands(id)[1]).shape.rank() == 1,
        Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Tile { .. }
        | Op::Resize { .. }
        | Op::CumulativeSum { .. } => true,
        Op::Input { .. }
        | Op::Constant(_)
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::MatMul { .. }
        | Op::Pool { .. }
        | Op::PoolIndices { .. }
        | Op::LocalResponseNorm { .. }
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::TopK { .. }
        | Op::Project(_)
        | Op::Relayout(_) => false,
    }
}

/// Whether the operand can be had in the axis order in front of the transposes without moving elements at run time.
fn free_to_permute(graph: &Graph, operand: NodeId, perm: &[usize]) -> bool {
    match graph.op(operand) {
        Op::Transpose(other) if other == perm => true,
        _ => is_constant(graph, operand) || moves_only_units(&inverse(perm), &aligned(graph, operand, perm.len())),
    }
}

/// The operand's shape with leading extents of 1 up to `rank` axes.
fn aligned(graph: &Graph, operand: NodeId, rank: usize) -> Shape {
    let shape = graph.ty(operand).shape.extents();
    std::iter::repeat_n(1, rank - shape.len()).chain(shape).collect()
}

/// Adds the operator as it is in front of the transpose, with its operands.
fn add_sunk(graph: &mut Graph, id: NodeId, perm: &[usize]) -> Result<NodeId, TypeError> {
    let op = in_operand_axes(graph.op(id), perm);
    let origin = graph.node(id).origin().clone();
    let operands = graph.operands(id).to_vec();
    let all_permuted = matches!(op, Op::Map(_) | Op::Concat { .. });
    let mut sunk = Vec::with_capacity(operands.len());
    for (place, operand) in operands.into_iter().enumerate() {
        let permuted = place == 0 || all_permuted;
        sunk.push(if permuted { unpermuted(graph, operand, perm)? } else { operand });
    }
    graph.add(op, &sunk, origin)
}

/// The operand with its axes in the order in front of the transposes.
fn unpermuted(graph: &mut Graph, operand: NodeId, perm: &[usize]) -> Result<NodeId, TypeError> {
    if let Op::Transpose(other) = graph.op(operand)
        && other == perm
    {
        return Ok(graph.operands(operand)[0]);
    }
    if graph.ty(operand).shape.rank() == 0 {
        return Ok(operand);
    }
    let origin = graph.node(operand).origin().clone();
    let (shape, back) = (aligned(graph, operand, perm.len()), inverse(perm));
    if moves_only_units(&back, &shape) {
        let permuted = back.iter().map(|&axis| shape.dim(axis)).collect();
        return graph.add(Op::Reshape(permuted), &[operand], origin);
    }
    let full_rank = graph.add(Op::Reshape(shape), &[operand], origin.clone())?;
    graph.add(Op::Transpose(back), &[full_rank], origin)
}

/// The operator with axis `i` of the transposed operand named as the operand names it, `perm[i]`.
fn in_operand_axes(op: &Op, perm: &[usize]) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::ArgReduce { axis, .. }
        | Op::Softmax { axis, .. }
        | Op::Concat { axis }
        | Op::Gather { axis }
        | Op::CumulativeSum { axis, .. } => *axis = perm[*axis],
        Op::Reduce { axes, .. } | Op::Normalize { axes, .. } => {
            axes.iter_mut().for_each(|axis| *axis = perm[*axis]);
            axes.sort_unstable();
        }
        Op::Slice { starts, steps, counts } => {
            *starts = by_operand_axis(perm, starts);
            *steps = by_operand_axis(perm, steps);
            *counts = by_operand_axis(perm, counts);
        }
        Op::Pad { before, after, .. } => {
            *before = by_operand_axis(perm, before);
            *after = by_operand_axis(perm, after);
        }
        Op::Tile { repeats } => *repeats = by_operand_axis(perm, repeats),
        Op::Broadcast(shape) => *shape = Shape::new(&by_operand_axis(perm, &shape.extents())),
        Op::Resize { axes } => axes.iter_mut().for_each(|Resample { axis, .. }| *axis = perm[*axis]),
        _ => {}
    }
    op
}
