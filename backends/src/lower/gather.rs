//! Copies of elements whose positions are data.

use edgecc_ir::{BinaryOp, DType, NodeId};

use super::builder::Builder;
use super::nest::Space;
use super::{Call, Lowered, Lowering, bits_of};
use crate::kernel::{Index, Local, LoopMode, Stmt};
use crate::view::View;

/// Positions along an axis of the data, seen over the coordinates of whatever is read or written there.
pub(super) struct Lookup {
    /// The positions, i32 or i64, with strides of 0 along axes on which they do not depend.
    pub(super) positions: View,
    /// The data's extent along the axis; positions below 0 count from it.
    pub(super) extent: usize,
    /// The data's stride along the axis.
    pub(super) stride: isize,
}

impl Lookup {
    /// Loads a position: the statements, and the place in the data.
    pub(super) fn load(&self, builder: &mut Builder, buffer: usize, at: Index) -> (Vec<Stmt>, Index) {
        let mut local = Local(0);
        let statements = builder.block(|b| {
            let loaded = b.load(buffer, at);
            let position = b.cast(DType::I64, loaded);
            let (zero, extent) = (b.number(DType::I64, 0.0), b.number(DType::I64, self.extent as f64));
            let from_end = b.binary(BinaryOp::Add, position, extent);
            let negative = b.binary(BinaryOp::Less, position, zero);
            local = b.select(negative, from_end, position);
        });
        let clamped = Index::Clamped { local, low: 0, high: self.extent as i64 - 1 };
        (statements, clamped.times(self.stride as i64))
    }
}

/// The views that a lookup needs: `axes` of another view, seen at the places `at` of a space of rank `rank`, else repeated.
pub(super) fn spread(view: &View, axes: impl Iterator<Item = usize>, at: usize, extents: &[usize]) -> View {
    let mut strides = vec![0; extents.len()];
    for (place, axis) in axes.enumerate() {
        strides[at + place] = view.strides[axis];
    }
    View { extents: extents.to_vec(), strides, ..view.clone() }
}

/// `[data[..axis], indices.., data[axis+1..]]`.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, axis: usize) -> Lowered<()> {
    let (data, indices) = operands(lowering, id);
    let result = lowering.destination(id);
    let rank = indices.rank();
    let mut seen = spread(&data, 0..axis, 0, &result.extents);
    for inner in axis + 1..data.rank() {
        seen.strides[inner + rank - 1] = data.strides[inner];
    }
    let positions = spread(&indices, 0..rank, axis, &result.extents);
    let lookup = Lookup { positions, extent: data.extents[axis], stride: data.strides[axis] };
    gather(lowering, id, &data, &seen, &result, &[lookup]);
    Ok(())
}

/// ONNX GatherElements.
pub(super) fn elements(lowering: &mut Lowering<'_>, id: NodeId, axis: usize) -> Lowered<()> {
    let (data, indices) = operands(lowering, id);
    let result = lowering.destination(id);
    let mut seen = View { extents: result.extents.clone(), ..data.clone() };
    seen.strides[axis] = 0;
    let lookup = Lookup { positions: indices, extent: data.extents[axis], stride: data.strides[axis] };
    gather(lowering, id, &data, &seen, &result, &[lookup]);
    Ok(())
}

/// ONNX GatherND.
pub(super) fn nd(lowering: &mut Lowering<'_>, id: NodeId, batch_dims: usize) -> Lowered<()> {
    let (data, indices) = operands(lowering, id);
    let result = lowering.destination(id);
    let prefix = indices.rank() - 1;
    let depth = indices.extents[prefix];
    let mut seen = spread(&data, 0..batch_dims, 0, &result.extents);
    for inner in batch_dims + depth..data.rank() {
        seen.strides[inner - batch_dims - depth + prefix] = data.strides[inner];
    }
    let lookups = nd_lookups(&indices, &data, batch_dims, &result.extents);
    gather(lowering, id, &data, &seen, &result, &lookups);
    Ok(())
}

/// One lookup for each entry along the last axis of `indices`, over a space of `extents`.
pub(super) fn nd_lookups(indices: &View, data: &View, batch_dims: usize, extents: &[usize]) -> Vec<Lookup> {
    let prefix = indices.rank() - 1;
    let lookup = |entry: usize| {
        let axis = batch_dims + entry;
        let mut starts = vec![0; indices.rank()];
        let mut counts = indices.extents.clone();
        (starts[prefix], counts[prefix]) = (entry, 1);
        let column = indices.sliced(&starts, &vec![1; indices.rank()], &counts);
        let positions = spread(&column, 0..prefix, 0, extents);
        Lookup { positions, extent: data.extents[axis], stride: data.strides[axis] }
    };
    (0..indices.extents[prefix]).map(lookup).collect()
}

fn operands(lowering: &Lowering<'_>, id: NodeId) -> (View, View) {
    let operands = lowering.graph.operands(id);
    (lowering.view(operands[0]).clone(), lowering.view(operands[1]).clone())
}

/// `result = data` at the looked-up positions; `seen` is the data over the result's coordinates without them.
pub(super) fn gather(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    data: &View,
    seen: &View,
    result: &View,
    lookups: &[Lookup],
) {
    if result.elements() == 0 {
        return;
    }
    let bits = bits_of(data.dtype);
    let as_bits = |view: &View| View { dtype: bits, ..view.clone() };
    let mut builder = Builder::new();
    let views: Vec<&View> = lookups.iter().map(|lookup| &lookup.positions).chain([seen, result]).collect();
    let mut space = Space::new(&mut builder, &views, &[]);
    space.split(&mut builder);
    let still = (0..lookups.len()).all(|n| space.is_still(n));
    let buffers: Vec<usize> = lookups.iter().map(|lookup| builder.reads(&lookup.positions)).collect();
    let (from, to) = (builder.reads(&as_bits(data)), builder.writes(&as_bits(result)));
    let mut place = space.position(from);
    for (lookup, &buffer) in lookups.iter().zip(&buffers) {
        let (statements, offset) = lookup.load(&mut builder, buffer, space.position(buffer));
        space.before_inner_of_view(buffer, statements);
        place = place.plus(offset);
    }
    let body = builder.block(|b| {
        let element = b.load(from, place);
        b.store(to, space.position(to), element);
    });
    let call = Call { grain: space.grain(1), ..Call::default() };
    let mode = if still { LoopMode::Lanes } else { LoopMode::Serial };
    builder.push(lowering, id, space.range(), space.wrap(body, mode), call);
}
