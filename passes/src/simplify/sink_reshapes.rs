//! Reshapes move behind maps, where they no longer part a map from what it could fuse with.

use edgecc_ir::{Graph, NodeId, Op, Shape, TypeError};

/// `map(reshape(x), y) => reshape(map(x, y'))`
///
/// Operands of the result's shape are all reshapes from one shape; the others are constants that vary along the last axis
/// at most, which the reshape leaves alone. Exact.
pub fn sink_reshapes(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if !can_sink(graph, id) {
            continue;
        }
        if let Ok(sunk) = add_sunk(graph, id) {
            let (shape, origin) = (graph.ty(id).shape.clone(), graph.node(id).origin().clone());
            rewrites += graph.rewrite(id, Op::Reshape(shape), &[sunk], origin).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

/// Whether the map can work in the shape in front of the reshapes.
fn can_sink(graph: &Graph, id: NodeId) -> bool {
    let operands = graph.operands(id);
    let reshaped = operands.iter().find(|&&operand| matches!(graph.op(operand), Op::Reshape(_)));
    let (Op::Map(_), Some(&reshaped)) = (graph.op(id), reshaped) else { return false };
    let source = &graph.ty(graph.operands(reshaped)[0]).shape;
    operands.iter().all(|&operand| fits(graph, operand, source, &graph.ty(id).shape))
}

fn fits(graph: &Graph, operand: NodeId, source: &Shape, result: &Shape) -> bool {
    match graph.op(operand) {
        Op::Reshape(shape) => shape == result && graph.ty(graph.operands(operand)[0]).shape == *source,
        Op::Constant(value) => value.elements() == 1 || varies_along_last(value.shape(), source, result),
        _ => false,
    }
}

/// Whether a constant is `[1,..,N]` and `N` is the last extent on both sides of the reshape.
fn varies_along_last(constant: &Shape, source: &Shape, result: &Shape) -> bool {
    let last = |shape: &Shape| shape.rank().checked_sub(1).map(|axis| shape.dim(axis));
    let extent = last(constant);
    let alone = constant.elements().ok() == extent;
    alone && extent == last(source) && extent == last(result)
}

/// Adds the map over what the reshapes read.
fn add_sunk(graph: &mut Graph, id: NodeId) -> Result<NodeId, TypeError> {
    let (op, origin) = (graph.op(id).clone(), graph.node(id).origin().clone());
    let mut operands = Vec::new();
    for operand in graph.operands(id).to_vec() {
        operands.push(match graph.op(operand) {
            Op::Reshape(_) => graph.operands(operand)[0],
            _ => aligned_constant(graph, operand)?,
        });
    }
    graph.add(op, &operands, origin)
}

/// The constant without leading axes of extent 1, which the rank in front of the reshape may not have room for.
fn aligned_constant(graph: &mut Graph, operand: NodeId) -> Result<NodeId, TypeError> {
    let shape = graph.ty(operand).shape.clone();
    if shape.rank() < 2 {
        return Ok(operand);
    }
    let last = if shape.elements() == Ok(1) { Vec::new() } else { vec![shape.dim(shape.rank() - 1)] };
    let origin = graph.node(operand).origin().clone();
    graph.add(Op::Reshape(Shape::new(&last)), &[operand], origin)
}
