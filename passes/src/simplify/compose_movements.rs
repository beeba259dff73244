//! Two movements of the same kind in a row.

use edgecc_ir::{Graph, NodeId, Op, PadMode};

/// `move(move(x)) => move(x)` for two reshapes, transposes, broadcasts, slices, relayouts, or constant pads of one value.
///
/// Other users of the inner movement keep it. Exact.
pub fn compose_movements(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(&inner) = graph.operands(id).first() else { continue };
        let Some(op) = composed(graph.op(inner), graph.op(id)) else { continue };
        if same_fill(graph, inner, id) {
            let mut operands = graph.operands(id).to_vec();
            operands[0] = graph.operands(inner)[0];
            let origin = graph.node(inner).origin().joined(graph.node(id).origin());
            rewrites += graph.rewrite(id, op, &operands, origin).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

fn composed(inner: &Op, outer: &Op) -> Option<Op> {
    match (inner, outer) {
        (Op::Reshape(_), Op::Reshape(shape)) => Some(Op::Reshape(shape.clone())),
        (Op::Broadcast(_), Op::Broadcast(shape)) => Some(Op::Broadcast(shape.clone())),
        (Op::Relayout(_), Op::Relayout(layout)) => Some(Op::Relayout(layout.clone())),
        (Op::Transpose(first), Op::Transpose(second)) => {
            Some(Op::Transpose(second.iter().map(|&axis| first[axis]).collect()))
        }
        (
            Op::Slice { starts: inner_starts, steps: inner_steps, .. },
            Op::Slice { starts: outer_starts, steps: outer_steps, counts },
        ) => {
            // Position i of the outer range is position `outer_start + i * outer_step` of the inner one.
            let start = |axis: usize| {
                (inner_starts[axis] as isize + outer_starts[axis] as isize * inner_steps[axis]).max(0) as usize
            };
            let axes = 0..counts.len();
            Some(Op::Slice {
                starts: axes.clone().map(start).collect(),
                steps: axes.map(|axis| inner_steps[axis] * outer_steps[axis]).collect(),
                counts: counts.clone(),
            })
        }
        (
            Op::Pad { mode: PadMode::Constant, before: inner_before, after: inner_after },
            Op::Pad { mode: PadMode::Constant, before, after },
        ) => {
            let sum = |a: &[usize], b: &[usize]| a.iter().zip(b).map(|(a, b)| a + b).collect();
            let (before, after) = (sum(inner_before, before), sum(inner_after, after));
            Some(Op::Pad { mode: PadMode::Constant, before, after })
        }
        _ => None,
    }
}

/// Two pads fill with the same value, by node or by bits; other movements have none.
fn same_fill(graph: &Graph, inner: NodeId, outer: NodeId) -> bool {
    match (graph.operands(inner).get(1), graph.operands(outer).get(1)) {
        (Some(&a), Some(&b)) => {
            a == b || graph.constant_value(a).is_some_and(|value| Some(value) == graph.constant_value(b))
        }
        _ => true,
    }
}
