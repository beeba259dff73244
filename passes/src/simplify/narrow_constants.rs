//! Constants that repeat along an axis, which a map can repeat by itself.

use edgecc_ir::{Graph, NodeId, Op, Shape, Tensor, TensorData};

/// `map(x, const[C x H x W]) => map(x, const[C x 1 x 1])` where the elements are the same all along H and W.
///
/// Exporters write slopes and biases out for every pixel. The other operands still broadcast to the shape of the result.
/// Exact.
pub fn narrow_constants(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if matches!(graph.op(id), Op::Map(_)) {
            rewrites += (0..graph.operands(id).len()).filter(|&place| narrow(graph, id, place)).count();
        }
    }
    graph.remove_dead();
    rewrites
}

fn narrow(graph: &mut Graph, map: NodeId, place: usize) -> bool {
    let constant = graph.operands(map)[place];
    let Some(value) = graph.constant_value(constant) else { return false };
    let Some(narrowed) = (0..value.shape().rank())
        .fold(None, |found: Option<Tensor>, axis| without_repeats(found.as_ref().unwrap_or(value), axis).or(found))
    else {
        return false;
    };
    let mut operands = graph.operands(map).to_vec();
    let mut shapes =
        operands.iter().map(|&operand| if operand == constant { narrowed.shape() } else { &graph.ty(operand).shape });
    let together = shapes.try_fold(Shape::scalar(), |shape, other| shape.broadcast(other));
    if together.as_ref() != Some(&graph.ty(map).shape) {
        return false;
    }
    let origin = graph.node(constant).origin().clone();
    operands[place] = graph.constant(narrowed, origin);
    let (op, origin) = (graph.op(map).clone(), graph.node(map).origin().clone());
    graph.rewrite(map, op, &operands, origin).is_ok()
}

/// The tensor with extent 1 along `axis`; `None` where elements differ along it or there is nothing to narrow.
fn without_repeats(value: &Tensor, axis: usize) -> Option<Tensor> {
    let (extent, TensorData::Dense(bytes)) = (value.shape().dim(axis), value.data()) else { return None };
    let mut extents = value.shape().extents();
    let inner = extents[axis + 1..].iter().product::<usize>() * value.dtype().size();
    if extent <= 1 || inner == 0 {
        return None;
    }
    let repeats = |block: &[u8]| block.chunks_exact(inner).all(|chunk| chunk == &block[..inner]);
    if !bytes.chunks_exact(extent * inner).all(repeats) {
        return None;
    }
    extents[axis] = 1;
    let kept: Vec<u8> = bytes.chunks_exact(extent * inner).flat_map(|block| &block[..inner]).copied().collect();
    Tensor::dense(value.dtype(), Shape::new(&extents), kept.into()).ok()
}
