//! Broadcasts in front of maps, which broadcast by themselves.

use edgecc_ir::{Graph, NodeId, Op};

use crate::query::broadcast_shape;

/// `map(broadcast(x), y) => map(x, y)`
///
/// The other operands still broadcast to the shape of the result. Exact.
pub fn absorb_broadcasts(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if matches!(graph.op(id), Op::Map(_)) {
            rewrites += (0..graph.operands(id).len()).filter(|&place| absorb(graph, id, place)).count();
        }
    }
    graph.remove_dead();
    rewrites
}

fn absorb(graph: &mut Graph, map: NodeId, place: usize) -> bool {
    let mut operands = graph.operands(map).to_vec();
    if !matches!(graph.op(operands[place]), Op::Broadcast(_)) {
        return false;
    }
    operands[place] = graph.operands(operands[place])[0];
    if broadcast_shape(graph, &operands).as_ref() != Some(&graph.ty(map).shape) {
        return false;
    }
    let (op, origin) = (graph.op(map).clone(), graph.node(map).origin().clone());
    graph.rewrite(map, op, &operands, origin).is_ok()
}
