//! Which axes of a value count the heads of attention.

use std::collections::BTreeSet;

use edgecc_ir::{Graph, NodeId, Op};

use super::reshape::factors;

/// The axes of a value along which products of two activations, which read it moved, are apart: each has its own of both.
pub(crate) fn head_axes(graph: &Graph, value: NodeId) -> BTreeSet<usize> {
    let mut heads = BTreeSet::new();
    let rank = graph.ty(value).shape.rank();
    let (mut reached, mut open) = (BTreeSet::new(), vec![(value, (0..rank).map(Some).collect::<Vec<_>>())]);
    while let Some((id, axes)) = open.pop() {
        for user in graph.users(id).into_iter().filter(|&user| reached.insert((id, user))) {
            match graph.op(user) {
                Op::MatMul { .. } if graph.constant_value(graph.operands(user)[1]).is_none() => {
                    let shape = &graph.ty(id).shape;
                    let apart = (0..axes.len().saturating_sub(2)).filter(|&axis| shape.dim(axis) > 1);
                    heads.extend(apart.filter_map(|axis| axes[axis]));
                }
                _ => open.extend(moved(graph, id, user, &axes).map(|axes| (user, axes))),
            }
        }
    }
    heads
}

/// Where a node that moves its operand's axes, or keeps them, has them; `None` for one that does something else.
fn moved(graph: &Graph, operand: NodeId, id: NodeId, axes: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let [from, to] = [operand, id].map(|value| graph.ty(value).shape.extents());
    match graph.op(id) {
        Op::Transpose(perm) => Some(perm.iter().map(|&axis| axes[axis]).collect()),
        Op::Reshape(_) => {
            let factors = factors(&from, &to)?;
            let mut moved = vec![None; to.len()];
            for factor in &factors {
                let is_alone = factors.iter().filter(|f| f.from == factor.from || f.to == factor.to).count() == 1;
                moved[factor.to] = axes[factor.from].filter(|_| is_alone);
            }
            Some(moved)
        }
        Op::Map(_) | Op::Slice { .. } | Op::Broadcast(_) if from.len() <= to.len() => {
            let missing = vec![None; to.len() - from.len()];
            Some(missing.into_iter().chain(axes.iter().copied()).collect())
        }
        _ => None,
    }
}
