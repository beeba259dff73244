//! Vectors that several nodes read, such as the zeros that layers without a bias begin with, become one for each: what is
//! equal by chance does not tie the channels of layers. Matrices stay shared, as whoever shares weights wants them to.

use edgecc_ir::{Graph, NodeId, Op};

/// Gives each user its own copy of shared constants that have one axis longer than 1. New nodes come behind the others.
pub(super) fn unshare_vectors(graph: &Graph) -> Graph {
    let mut apart = graph.clone();
    for id in graph.order() {
        let Op::Constant(value) = graph.op(id) else { continue };
        if !is_vector(graph, id) {
            continue;
        }
        for &user in graph.users(id).iter().skip(1) {
            let own = apart.constant(value.clone(), graph.node(id).origin().clone());
            apart.replace_operand(user, id, own);
        }
    }
    apart
}

fn is_vector(graph: &Graph, id: NodeId) -> bool {
    graph.ty(id).shape.extents().iter().filter(|&&extent| extent > 1).count() == 1
}
