//! Outputs that are no results of their own.

use edgecc_ir::{Expr, Graph, NodeId, Op};

/// `return x, x => return x, copy(x)`: an output that is an input, a constant or another output becomes a copy of it.
///
/// Afterwards every output is a node of its own, so that each is written to its own buffer. Exact.
pub fn separate_outputs(graph: &mut Graph) -> usize {
    let mut written: Vec<NodeId> = Vec::new();
    let mut rewrites = 0;
    for place in 0..graph.outputs().len() {
        let node = graph.outputs()[place].node;
        let computed = !matches!(graph.op(node), Op::Input { .. } | Op::Constant(_));
        if computed && !written.contains(&node) {
            written.push(node);
            continue;
        }
        let (expr, origin) = (Expr::argument(0, graph.ty(node).dtype), graph.node(node).origin().clone());
        if let Ok(copy) = graph.add(Op::Map(expr), &[node], origin) {
            graph.set_output(place, copy);
            rewrites += 1;
        }
    }
    rewrites
}
