//! Updates of elements whose positions are data: a copy, then one update after the other.

use edgecc_ir::{BinaryOp, NodeId, ScatterKind};

use super::builder::Builder;
use super::gather::{Lookup, nd_lookups};
use super::nest::{Space, push_copy};
use super::{Call, Lowered, Lowering, bits_of};
use crate::kernel::{Access, LoopMode};
use crate::view::View;

/// ONNX ScatterElements.
pub(super) fn elements(lowering: &mut Lowering<'_>, id: NodeId, axis: usize, kind: ScatterKind) -> Lowered<()> {
    let [data, indices, updates] = operands(lowering, id);
    let result = lowering.destination(id);
    push_copy(lowering, id, &data, &result);
    let mut target = View { extents: updates.extents.clone(), ..result.clone() };
    target.strides[axis] = 0;
    let lookup = Lookup { positions: indices, extent: result.extents[axis], stride: result.strides[axis] };
    update(lowering, id, kind, &result, &target, &updates, &[lookup]);
    Ok(())
}

/// ONNX ScatterND.
pub(super) fn nd(lowering: &mut Lowering<'_>, id: NodeId, kind: ScatterKind) -> Lowered<()> {
    let [data, indices, updates] = operands(lowering, id);
    let result = lowering.destination(id);
    push_copy(lowering, id, &data, &result);
    let prefix = indices.rank() - 1;
    let depth = indices.extents[prefix];
    let mut strides = vec![0; prefix];
    strides.extend(&result.strides[depth..]);
    let target = View { extents: updates.extents.clone(), strides, ..result.clone() };
    let lookups = nd_lookups(&indices, &result, 0, &updates.extents);
    update(lowering, id, kind, &result, &target, &updates, &lookups);
    Ok(())
}

fn operands(lowering: &Lowering<'_>, id: NodeId) -> [View; 3] {
    let operands = lowering.graph.operands(id);
    [0, 1, 2].map(|n| lowering.view(operands[n]).clone())
}

/// Joins `updates`, in row-major order, to `result` at the looked-up positions; `target` is the result over the updates'
/// coordinates without them.
fn update(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    kind: ScatterKind,
    result: &View,
    target: &View,
    updates: &View,
    lookups: &[Lookup],
) {
    if updates.elements() == 0 || result.elements() == 0 {
        return;
    }
    let op = joined_by(kind);
    let dtype = if op.is_some() { result.dtype } else { bits_of(result.dtype) };
    let typed = |view: &View| View { dtype, ..view.clone() };
    let mut builder = Builder::new();
    let views: Vec<&View> = lookups.iter().map(|lookup| &lookup.positions).chain([updates, target]).collect();
    let mut space = Space::in_order(&mut builder, &views);
    let buffers: Vec<usize> = lookups.iter().map(|lookup| builder.reads(&lookup.positions)).collect();
    let from = builder.reads(&typed(updates));
    let to = builder.operand(&typed(result), Access::ReadWrite);
    // Updates that lie side by side in the result meet different elements.
    let apart = (0..lookups.len()).all(|n| space.is_still(n)) && !space.is_still(to);
    let mut place = space.position(to);
    for (lookup, &buffer) in lookups.iter().zip(&buffers) {
        let (statements, offset) = lookup.load(&mut builder, buffer, space.position(buffer));
        space.before_inner_of_view(buffer, statements);
        place = place.plus(offset);
    }
    let body = builder.block(|b| {
        let update = b.load(from, space.position(from));
        let value = match op {
            Some(op) => {
                let before = b.load(to, place.clone());
                b.binary(op, before, update)
            }
            None => update,
        };
        b.store(to, place, value);
    });
    let mode = if apart { LoopMode::Lanes } else { LoopMode::Serial };
    builder.push(lowering, id, space.range(), space.wrap(body, mode), Call::default());
}

/// How an update and the element that was there become one; `None` if the update replaces it.
fn joined_by(kind: ScatterKind) -> Option<BinaryOp> {
    match kind {
        ScatterKind::Replace => None,
        ScatterKind::Add => Some(BinaryOp::Add),
        ScatterKind::Multiply => Some(BinaryOp::Mul),
        ScatterKind::Max => Some(BinaryOp::Max),
        ScatterKind::Min => Some(BinaryOp::Min),
    }
}
