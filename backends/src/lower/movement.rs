//! Views and copies: transpose, slice, broadcast, reshape, relayout and concat.

use edgecc_ir::{Layout, NodeId, Op, Tensor, eval};

use super::nest::push_copy;
use super::placement::part_of;
use super::reading::is_read_in_any_order;
use super::{Lowered, Lowering};
use crate::view::View;

/// A view where strides can say it, else a copy.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId) -> Lowered<()> {
    let graph = lowering.graph;
    let operands = graph.operands(id);
    if let (Op::Relayout(layout), Some(value)) = (graph.op(id), lowering.constant_value(operands[0])) {
        return relaid(lowering, id, value, layout);
    }
    let source = lowering.view(operands[0]).clone();
    let alias = match graph.op(id) {
        Op::Transpose(perm) => Some(source.transposed(perm)),
        Op::Slice { starts, steps, counts } => Some(source.sliced(starts, steps, counts)),
        Op::Broadcast(shape) => Some(source.broadcast(shape)),
        Op::Reshape(shape) => source.reshaped(shape),
        Op::Relayout(layout) => {
            Some(source.clone()).filter(|source| source.is_dense(layout) || is_read_in_any_order(lowering, id))
        }
        Op::Concat { axis } => {
            concat(lowering, id, *axis);
            return Ok(());
        }
        op => return Err(format!("{} moves nothing", op.name())),
    };
    match alias {
        Some(view) => lowering.set_view(id, view),
        None => materialise(lowering, id, &source),
    }
    Ok(())
}

/// A constant in another layout is written in that order.
fn relaid(lowering: &mut Lowering<'_>, id: NodeId, value: &Tensor, layout: &Layout) -> Lowered<()> {
    if value.as_splat().is_some() {
        lowering.bind_constant(id, value);
        return Ok(());
    }
    let order = Op::Transpose(layout.order().collect());
    let moved = eval::evaluate(&order, &[value]).map_err(|error| error.to_string())?;
    let storage = lowering.constant(moved[0].bytes().clone());
    let view = View::dense(storage, &value.ty().with_layout(layout.clone()));
    lowering.set_view(id, view);
    Ok(())
}

/// Copies a reshape or relayout that strides cannot say.
fn materialise(lowering: &mut Lowering<'_>, id: NodeId, source: &View) {
    let destination = lowering.destination(id);
    let written = match lowering.graph.op(id) {
        // The copy runs over the operand's axes: it writes the result under the operand's shape.
        Op::Reshape(_) => destination.reshaped(&source.shape()),
        _ => Some(destination.clone()),
    };
    match written {
        Some(written) => copy(lowering, id, source, &written),
        None => {
            // The result is wanted in a window that the operand's axes cannot walk: by way of a dense tensor.
            let ty = lowering.graph.ty(id).clone();
            let dense = lowering.temporary(&ty);
            let over = View::dense(dense.storage, &edgecc_ir::TensorType::new(ty.dtype, source.shape()));
            copy(lowering, id, source, &over);
            copy(lowering, id, &dense, &destination);
        }
    }
}

/// Copies those parts that were not written in their place.
fn concat(lowering: &mut Lowering<'_>, id: NodeId, axis: usize) {
    let whole = lowering.destination(id);
    let mut start = 0;
    for &part in lowering.graph.operands(id) {
        let ty = lowering.graph.ty(part);
        let window = part_of(&whole, axis, start, ty);
        start += ty.shape.dim(axis);
        let source = lowering.view(part).clone();
        if source != window && source.elements() > 0 {
            copy(lowering, id, &source, &window);
        }
    }
}

/// Adds a step that copies between two views of one shape.
pub(super) fn copy(lowering: &mut Lowering<'_>, id: NodeId, source: &View, destination: &View) {
    if source.elements() == 0 {
        return;
    }
    push_copy(lowering, id, source, destination);
}
