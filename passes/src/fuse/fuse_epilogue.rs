//! Maps that read a contraction.

use edgecc_ir::{Expr, Graph, NodeId, Op};

use crate::query::{map_expr, place_among, sums_integers};

/// The most operands of an epilogue.
const MAX_EXTRAS: usize = 6;
/// The most nodes of an epilogue.
const MAX_NODES: usize = 64;

/// `map(conv(x, w), y) => conv(x, w, y)` with the map as epilogue: activations, residual sums, products.
///
/// Nothing else reads the contraction; the map has its type, and its other operands the same element type, but where integers
/// are summed: there it may not make f32 of 8 bits for another map or epilogue, which reads 8 bits as well. Of two contractions under one map, the later one in the
/// graph's order takes it, when the other's result is there. Limits bound operands and expression. Exact.
pub fn fuse_epilogue(graph: &mut Graph) -> usize {
    let order = graph.order();
    let mut place = vec![0; graph.bound()];
    for (number, id) in order.iter().enumerate() {
        place[id.index()] = number;
    }
    let mut rewrites = 0;
    for id in order {
        let Some(contraction) = last_contraction(graph, id, &place) else { continue };
        let (epilogue, extras) = joined(graph, id, contraction);
        if extras.len() > MAX_EXTRAS || epilogue.nodes().len() > MAX_NODES {
            continue;
        }
        let mut op = graph.op(contraction).clone();
        if let Some(slot) = op.epilogue_mut() {
            *slot = epilogue;
        }
        let operands = [&graph.operands(contraction)[..2], &extras].concat();
        let origin = graph.node(contraction).origin().joined(graph.node(id).origin());
        rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

/// The contraction among a map's operands that can take it in; the last in order if several can.
fn last_contraction(graph: &Graph, map: NodeId, place: &[usize]) -> Option<NodeId> {
    map_expr(graph, map)?;
    let fits = |&&id: &&NodeId| {
        graph.op(id).epilogue().is_some()
            && graph.only_user(id) == Some(map)
            && graph.ty(id).shape == graph.ty(map).shape
            && if sums_integers(graph, id) { !widens_for_others(graph, map, id) } else { has_one_type(graph, map, id) }
    };
    graph.operands(map).iter().filter(fits).max_by_key(|id| place[id.index()]).copied()
}

/// Whether a map makes wider numbers of a contraction's result of 8 bits for another map or epilogue.
fn widens_for_others(graph: &Graph, map: NodeId, contraction: NodeId) -> bool {
    let widens = graph.ty(contraction).dtype.size() == 1 && graph.ty(map).dtype.size() > 1;
    let takes_in = |user: NodeId| matches!(graph.op(user), Op::Map(_)) || graph.op(user).epilogue().is_some();
    widens && graph.users(map).into_iter().any(takes_in)
}

/// Whether a map's operands and result have the contraction's element type.
fn has_one_type(graph: &Graph, map: NodeId, contraction: NodeId) -> bool {
    let dtype = graph.ty(contraction).dtype;
    graph.ty(map) == graph.ty(contraction)
        && graph.operands(map).iter().all(|&operand| graph.ty(operand).dtype == dtype)
}

/// The map's expression over the contraction's epilogue, and the operands behind the first two.
fn joined(graph: &Graph, map: NodeId, contraction: NodeId) -> (Expr, Vec<NodeId>) {
    let (mut epilogue, mut extras) = (Expr::new(), graph.operands(contraction)[2..].to_vec());
    let (Op::Map(expr), Some(inner)) = (graph.op(map), graph.op(contraction).epilogue()) else {
        return (epilogue, extras);
    };
    let values = graph.operands(map);
    let root = epilogue.inline(expr, |epilogue, n, dtype| {
        let value = values[n as usize];
        Some(if value == contraction {
            epilogue.inline(inner, |_, _, _| None)
        } else {
            let extra = place_among(&mut extras, value);
            epilogue.arg(extra as u16 + 1, dtype)
        })
    });
    (epilogue.with_root(root), extras)
}
