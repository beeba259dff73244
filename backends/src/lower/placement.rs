//! Placement: which values are written straight to where they are wanted, so that concat, pad, outputs and reshapes of
//! outputs copy nothing.
//!
//! Decided backwards from the outputs: a value that a step computes may be written into a window of the storage of the
//! concat, pad or output that wants it. A value has one place; whoever else wants it copies.

use edgecc_ir::{Graph, Layout, NodeId, Op, PadMode, TensorType};

use super::Lowering;
use super::reading::is_done_by_readers;
use crate::view::View;

/// Finds the destination of every value that is wanted in a particular place.
pub(super) fn place(lowering: &mut Lowering<'_>) {
    for (index, output) in lowering.graph.outputs().iter().enumerate() {
        let ty = lowering.graph.ty(output.node);
        let dense = View::dense(lowering.output_storage(index), ty);
        claim(lowering, output.node, dense);
    }
    for id in lowering.graph.order().into_iter().rev() {
        match lowering.graph.op(id) {
            Op::Concat { axis } => place_parts(lowering, id, *axis),
            Op::Reshape(_) | Op::Relayout(_) => place_source(lowering, id),
            Op::Pad { mode: PadMode::Constant, before, .. } => place_inside(lowering, id, before),
            _ => {}
        }
    }
}

/// `concat(a, b)`: each part is a window of the whole.
fn place_parts(lowering: &mut Lowering<'_>, id: NodeId, axis: usize) {
    let whole = lowering.destination(id);
    let mut start = 0;
    for &part in lowering.graph.operands(id) {
        let window = part_of(&whole, axis, start, lowering.graph.ty(part));
        start += lowering.graph.ty(part).shape.dim(axis);
        claim(lowering, part, window);
    }
}

/// `pad(x)`: `x` is written inside of the borders.
fn place_inside(lowering: &mut Lowering<'_>, id: NodeId, before: &[usize]) {
    let source = lowering.graph.operands(id)[0];
    if is_done_by_readers(lowering, id) || !is_written(lowering.graph, source) || lowering.placed(source).is_some() {
        return;
    }
    let whole = lowering.destination(id);
    let inside = whole.sliced(before, &vec![1; whole.rank()], &lowering.graph.ty(source).shape.extents());
    claim(lowering, source, inside);
}

/// The window of a concat's result that holds a part of type `ty` from `start` along `axis`.
pub(super) fn part_of(whole: &View, axis: usize, start: usize, ty: &TensorType) -> View {
    let mut starts = vec![0; whole.rank()];
    starts[axis] = start;
    whole.sliced(&starts, &vec![1; whole.rank()], &ty.shape.extents())
}

/// `reshape(x)` and `relayout(x)` that keep the order of bytes: `x` is written where the result is wanted.
fn place_source(lowering: &mut Lowering<'_>, id: NodeId) {
    let Some(wanted) = lowering.placed(id) else { return };
    let source = lowering.graph.operands(id)[0];
    let (ty, result) = (lowering.graph.ty(source), lowering.graph.ty(id));
    let dense = wanted.is_dense(&result.layout);
    let same_order = match lowering.graph.op(id) {
        Op::Reshape(_) => keeps_order(ty) && keeps_order(result),
        _ => ty.layout.same_bytes(&result.layout, &ty.shape),
    };
    if dense && same_order {
        let window = View { offset: wanted.offset, ..View::dense(wanted.storage, ty) };
        claim(lowering, source, window);
    }
}

/// Whether memory order is logical order.
fn keeps_order(ty: &TensorType) -> bool {
    ty.layout.same_bytes(&Layout::row_major(ty.shape.rank()), &ty.shape)
}

fn claim(lowering: &mut Lowering<'_>, id: NodeId, view: View) {
    if is_written(lowering.graph, id) && lowering.placed(id).is_none() {
        lowering.set_place(id, view);
    }
}

/// Whether a step writes the value, rather than that it is a view of another or given from outside.
fn is_written(graph: &Graph, id: NodeId) -> bool {
    match graph.op(id) {
        Op::Input { .. }
        | Op::Constant(_)
        | Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Broadcast(_)
        | Op::Project(_) => false,
        Op::TopK { .. } => false,
        // These may turn out to be views of their operand; where they have a place, they are copied there or place it.
        Op::Reshape(_) | Op::Relayout(_) => true,
        _ => true,
    }
}
