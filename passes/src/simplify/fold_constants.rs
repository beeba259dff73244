//! Operators whose operands are all constants.

use edgecc_ir::{Graph, NodeId, Op, Scalar, Tensor, Type};

/// `op(constants) => constant`.
///
/// A reshaped constant shares its bytes, and a tensor of one repeated element stays one. Exact.
pub fn fold_constants(graph: &mut Graph, max_bytes: usize) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if graph.operands(id).is_empty() {
            continue;
        }
        if let Some(value) = folded(graph, id, max_bytes) {
            let origin = graph.node(id).origin().clone();
            rewrites += graph.rewrite(id, Op::Constant(value), &[], origin).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

fn folded(graph: &Graph, id: NodeId, _max_bytes: usize) -> Option<Tensor> {
    let Type::Tensor(ty) = graph.node(id).ty() else { return None };
    let operands: Option<Vec<&Tensor>> =
        graph.operands(id).iter().map(|&operand| graph.constant_value(operand)).collect();
    let operands = operands?;
    if let Some(value) = repeated(graph.op(id), &operands) {
        return Tensor::splat(ty.shape.clone(), value).ok();
    }
    match graph.op(id) {
        Op::Reshape(shape) => operands[0].reshaped(shape.clone()).ok(),
        _ => None,
    }
}

/// The element that a movement of repeated elements repeats.
fn repeated(op: &Op, operands: &[&Tensor]) -> Option<Scalar> {
    let value = operands[0].as_splat()?;
    let all_alike = || operands.iter().all(|operand| operand.as_splat() == Some(value));
    match op {
        Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Tile { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. } => Some(value),
        Op::Concat { .. } | Op::Pad { .. } => all_alike().then_some(value),
        _ => None,
    }
}
