//! Operators whose operands are all constants.

use edgecc_ir::{BlockWeights, Graph, NodeId, Op, Scalar, Tensor, Type, eval};

/// A constant of more bytes than this is not written a second time in another form.
const LARGE: usize = 1 << 20;

/// `op(constants) => constant`, evaluated.
///
/// The result takes at most `max_bytes`; one over a mebibyte is made only where nothing else reads its large operands, so
/// that weights are not stored twice. A reshaped constant shares its bytes, and a tensor of one repeated element stays
/// one, however large. Relayouts stay: constants are row-major. So do [`BlockWeights`], which are numbers of 4 or 8 bits. Exact.
pub fn fold_constants(graph: &mut Graph, max_bytes: usize) -> usize {
    fold_constants_but(graph, max_bytes, |_, _| false)
}

/// As [`fold_constants`], but for the nodes that `stays` tells.
pub(crate) fn fold_constants_but(graph: &mut Graph, max_bytes: usize, stays: impl Fn(&Graph, NodeId) -> bool) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if stays(graph, id) || BlockWeights::are_made_by(graph, id) {
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

fn folded(graph: &Graph, id: NodeId, max_bytes: usize) -> Option<Tensor> {
    let (op, Type::Tensor(ty)) = (graph.op(id), graph.node(id).ty()) else { return None };
    if graph.operands(id).is_empty() || matches!(op, Op::Relayout(_)) {
        return None;
    }
    let operands: Option<Vec<&Tensor>> =
        graph.operands(id).iter().map(|&operand| graph.constant_value(operand)).collect();
    let operands = operands?;
    if let Some(value) = repeated(op, &operands) {
        return Tensor::splat(ty.shape.clone(), value).ok();
    }
    if let Op::Reshape(shape) = op {
        return operands[0].reshaped(shape.clone()).ok();
    }
    let bytes = ty.bytes().ok()?;
    if bytes > max_bytes || bytes > LARGE && is_read_elsewhere(graph, id) {
        return None;
    }
    eval::evaluate(op, &operands).ok()?.into_iter().next()
}

/// Whether something other than `id` reads one of its large operands.
fn is_read_elsewhere(graph: &Graph, id: NodeId) -> bool {
    let large = |operand: NodeId| graph.ty(operand).bytes().is_ok_and(|bytes| bytes > LARGE);
    graph.operands(id).iter().any(|&operand| large(operand) && graph.only_user(operand) != Some(id))
}

/// The element that the result repeats: of movements of repeated elements, and of maps over nothing else.
fn repeated(op: &Op, operands: &[&Tensor]) -> Option<Scalar> {
    let splats: Option<Vec<Scalar>> = operands.iter().map(|operand| operand.as_splat()).collect();
    let first = operands[0].as_splat();
    match op {
        Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Tile { .. }
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. } => first,
        Op::Concat { .. } | Op::Pad { .. } => {
            first.filter(|first| splats.is_some_and(|all| all.iter().all(|value| value == first)))
        }
        Op::Map(_) => {
            let scalars: Vec<Tensor> = splats?.into_iter().map(Tensor::scalar).collect();
            eval::evaluate(op, &scalars.iter().collect::<Vec<_>>()).ok()?.first()?.as_splat()
        }
        _ => None,
    }
}
