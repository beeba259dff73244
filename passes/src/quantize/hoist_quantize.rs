//! Quantization moves in front of movement, so that integers move.

use edgecc_ir::{Graph, NodeId, Op};

use super::affine::{quantize_expr, quantized};
use super::movement::moved_operands;

/// `quantize(move(x)) => move(quantize(x))`, for movements, concatenations, constant pads, max pools and nearest resizing
/// that nothing else reads.
///
/// Exact: quantization keeps the order of numbers, and does to each element what it does to it elsewhere.
pub fn hoist_quantize(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some((movement, affine)) = quantized(graph, id) else { continue };
        let Some(places) = moved_operands(graph, movement).filter(|_| graph.only_user(movement) == Some(id)) else {
            continue;
        };
        let (op, origin) = (graph.op(movement).clone(), graph.node(movement).origin().clone());
        let mut operands = graph.operands(movement).to_vec();
        let quantize = Op::Map(quantize_expr(&affine));
        let own = graph.node(id).origin().clone();
        let added = places.iter().try_for_each(|&place| {
            operands[place] = graph.add(quantize.clone(), &[operands[place]], own.clone())?;
            Ok::<(), edgecc_ir::TypeError>(())
        });
        if added.is_ok() {
            rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

/// `quantize(dequantize(q)) => q`, where both have one scale, zero point and type.
///
/// Exact: steps of a scale are far apart from where rounding changes.
pub fn cancel_quantize(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if let Some(same) = unchanged(graph, id) {
            graph.replace_uses(id, same);
            rewrites += 1;
        }
    }
    graph.remove_dead();
    rewrites
}

fn unchanged(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let (values, to) = quantized(graph, id)?;
    let (integers, from) = super::affine::dequantized(graph, values)?;
    (from == to).then_some(integers)
}
