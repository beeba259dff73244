//! Contractions as loop nests: any element type, number of spatial axes, dilation and group, constant weights or not.
//!
//! Channels are cut in groups: images are seen as `[N, group, channel of the group, spatial..]`.

use edgecc_ir::{BinaryOp, DType, NodeId, Op, Shape, Window};

use super::builder::{Builder, computed};
use super::nest::Space;
use super::rows::with_axes;
use super::window::{Taps, WindowAxis, anchors, offset, over};
use super::{Call, Lowered, Lowering};
use crate::kernel::{Fold, Index, Local, LoopMode, Stmt};
use crate::view::View;

/// First spatial axis of an image with its channels cut in groups.
const SPATIAL: usize = 3;

/// Lowers a convolution, transposed convolution or matrix product.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId) -> Lowered<()> {
    let graph = lowering.graph;
    match graph.op(id) {
        Op::Conv { window, groups, .. } => conv(lowering, id, window, *groups),
        Op::ConvTranspose { window, groups, .. } => conv_transpose(lowering, id, window, *groups),
        Op::MatMul { transpose_a, transpose_b, .. } => matmul(lowering, id, [*transpose_a, *transpose_b]),
        op => return Err(format!("{} is no contraction", op.name())),
    }
    Ok(())
}

/// The operands of a contraction, seen over one iteration space as far as they share its axes.
struct Parts {
    /// Left operand and weights whole, as they are read.
    read: [View; 2],
    result: View,
    /// Operands of the epilogue, over the result's coordinates.
    further: Vec<View>,
    /// Terms of the sum behind each element of the result.
    depth: usize,
}

/// Places in the kernel of the left operand, the weights and the result; the epilogue's operands follow.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const RESULT: usize = 2;
const FURTHER: usize = 3;

impl Parts {
    /// The iteration space: `seen` are the left operand and the weights over the result's coordinates.
    fn space(&self, builder: &mut Builder, seen: [&View; 2], apart: &[usize]) -> Space {
        let mut views = vec![seen[0], seen[1]];
        views.extend(&self.further);
        views.push(&self.result);
        let mut space = Space::new(builder, &views, apart);
        space.split(builder);
        builder.reads(&self.read[0]);
        builder.reads(&self.read[1]);
        builder.writes(&self.result);
        self.further.iter().for_each(|view| {
            builder.reads(view);
        });
        space
    }

    /// Place of the result among the views of the space, which lists it last.
    fn last(&self) -> usize {
        2 + self.further.len()
    }

    /// Sums what `terms` adds to the accumulator, applies the epilogue and adds the step.
    #[allow(clippy::too_many_arguments)]
    fn push(
        self,
        mut builder: Builder,
        lowering: &mut Lowering<'_>,
        id: NodeId,
        space: Space,
        lanes: bool,
        terms: impl FnOnce(&mut Builder, &Space, Local),
    ) {
        let Some(epilogue) = lowering.graph.op(id).epilogue() else { return };
        let body = builder.block(|b| {
            let sum = b.number(summed(self.read[0].dtype), 0.0);
            terms(b, &space, sum);
            let further = (0..self.further.len()).map(|n| b.load_stored(FURTHER + n, space.position(2 + n)));
            let arguments: Vec<Local> = std::iter::once(sum).chain(further.collect::<Vec<_>>()).collect();
            let value = b.apply(epilogue.clone(), &arguments);
            b.store(RESULT, space.position(self.last()), value);
        });
        let macs = (self.result.elements() * self.depth) as u64;
        let call = Call { grain: space.grain(self.depth), macs, ..Call::default() };
        let mode = if lanes { LoopMode::Lanes } else { LoopMode::Serial };
        builder.push(lowering, id, space.range(), space.wrap(body, mode), call);
    }
}

/// The type in which products of elements are summed.
fn summed(dtype: DType) -> DType {
    if dtype == DType::I8 { DType::I32 } else { computed(dtype) }
}

/// `sum += left * right` at two positions.
fn multiply_add(builder: &mut Builder, sum: Local, left: Index, right: Index) {
    let dtype = builder.dtype(sum);
    let factor = |builder: &mut Builder, buffer: usize, index: Index| {
        let value = builder.load(buffer, index);
        if builder.dtype(value) == dtype { value } else { builder.cast(dtype, value) }
    };
    let left = factor(builder, LEFT, left);
    let right = factor(builder, RIGHT, right);
    let product = builder.binary(BinaryOp::Mul, left, right);
    builder.fold(sum, BinaryOp::Add, product);
}

/// An image `[N,C,spatial..]` as `[N, group, C / groups, spatial..]`.
fn grouped(image: &View, groups: usize) -> View {
    let channels = image.extents[1] / groups;
    let extents = [&[image.extents[0], groups, channels], &image.extents[2..]].concat();
    let channel = image.strides[1];
    let strides = [&[image.strides[0], channel * channels as isize, channel], &image.strides[2..]].concat();
    View { extents, strides, ..image.clone() }
}

/// The epilogue's operands, broadcast to the result.
fn further(lowering: &Lowering<'_>, id: NodeId) -> Vec<View> {
    let shape = &lowering.graph.ty(id).shape;
    lowering.graph.operands(id)[2..].iter().map(|&operand| lowering.view(operand).broadcast(shape)).collect()
}

/// The parts of a convolution, images and epilogue operands grouped, with the channels of a group in the left operand and
/// the distance between them there and in the weights.
fn convolution_parts(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    groups: usize,
    channel_axis: usize,
) -> (Parts, usize, [isize; 2]) {
    let operands = lowering.graph.operands(id);
    let source = grouped(lowering.view(operands[0]), groups);
    let weights = lowering.view(operands[1]).clone();
    let result = grouped(&lowering.destination(id), groups);
    let further = further(lowering, id).iter().map(|view| grouped(view, groups)).collect();
    let channels = source.extents[2];
    let distances = [source.strides[2], weights.strides[channel_axis]];
    let depth = channels * weights.extents[2..].iter().product::<usize>();
    (Parts { read: [source, weights], result, further, depth }, channels, distances)
}

/// The weights seen over a grouped result: strides by group and by channel of the group.
fn weights_over(result: &View, weights: &View, group: isize, channel: isize) -> View {
    let mut strides = vec![0; result.rank()];
    (strides[1], strides[2]) = (group, channel);
    View { extents: result.extents.clone(), strides, ..weights.clone() }
}

fn conv(lowering: &mut Lowering<'_>, id: NodeId, window: &Window, groups: usize) {
    let (parts, channels, [channel, weight_channel]) = convolution_parts(lowering, id, groups, 1);
    if parts.result.elements() == 0 {
        return;
    }
    let mut builder = Builder::new();
    let [source, weights] = parts.read.clone();
    let axes = WindowAxis::all(window, &source, &parts.result, SPATIAL);
    let apart: Vec<usize> = axes.iter().filter(|axis| axis.is_clipped()).map(|axis| axis.axis).collect();
    let mut seen = anchors(&source, &parts.result, &axes, &apart);
    (seen.extents[2], seen.strides[2]) = (parts.result.extents[2], 0);
    let filter = weights.strides[0];
    let seen_weights = weights_over(&parts.result, &weights, filter * parts.result.extents[2] as isize, filter);
    let space = parts.space(&mut builder, [&seen, &seen_weights], &apart);
    let taps: Vec<Taps> = axes.iter().map(|axis| axis.taps(&mut builder, &space)).collect();
    let lanes = space.has_lanes();
    let terms = |b: &mut Builder, space: &Space, sum: Local| {
        let left = space.position(LEFT).plus(offset(&source, &axes, &taps));
        let right = taps
            .iter()
            .zip(&weights.strides[2..])
            .fold(space.position(RIGHT), |at, (taps, &stride)| at.plus(taps.tap.clone().times(stride as i64)));
        over(b, &taps, |b| over_channels(b, channels, sum, [left, right], [channel, weight_channel]));
    };
    parts.push(builder, lowering, id, space, lanes, terms);
}

/// Adds the products along the channels of a group.
fn over_channels(builder: &mut Builder, channels: usize, sum: Local, starts: [Index; 2], strides: [isize; 2]) {
    let var = builder.var();
    let [left, right] = starts;
    let at = |start: Index, stride: isize| start.plus(Index::Var(var).times(stride as i64));
    builder.serial(var, Index::Constant(0), Index::Constant(channels as i64), |b| {
        multiply_add(b, sum, at(left, strides[0]), at(right, strides[1]));
    });
}

/// Result position `o` meets input `i` by tap `k` where `i * stride = o + pad - k * dilation`: for each tap a loop over the
/// one input that does so, or none.
fn conv_transpose(lowering: &mut Lowering<'_>, id: NodeId, window: &Window, groups: usize) {
    let (parts, channels, [channel, weight_channel]) = convolution_parts(lowering, id, groups, 0);
    if parts.result.elements() == 0 {
        return;
    }
    let mut builder = Builder::new();
    let [source, weights] = parts.read.clone();
    let axes = WindowAxis::all(window, &source, &parts.result, SPATIAL);
    let apart: Vec<usize> = axes.iter().map(|axis| axis.axis).collect();
    let mut seen = anchors(&source, &parts.result, &axes, &apart);
    (seen.extents[2], seen.strides[2]) = (parts.result.extents[2], 0);
    let group = weight_channel * channels as isize;
    let seen_weights = weights_over(&parts.result, &weights, group, weights.strides[1]);
    let space = parts.space(&mut builder, [&seen, &seen_weights], &apart);
    let taps: Vec<[Taps; 2]> = axes.iter().map(|axis| axis.meeting(&mut builder, &space)).collect();
    let lanes = space.has_lanes();
    let terms = |b: &mut Builder, space: &Space, sum: Local| {
        let (mut left, mut right) = (space.position(LEFT), space.position(RIGHT));
        for (axis, [tap, input]) in taps.iter().enumerate() {
            left = left.plus(input.coordinate.clone().times(source.strides[axis + SPATIAL] as i64));
            right = right.plus(tap.tap.clone().times(weights.strides[axis + 2] as i64));
        }
        over(b, taps.as_flattened(), |b| over_channels(b, channels, sum, [left, right], [channel, weight_channel]));
    };
    parts.push(builder, lowering, id, space, lanes, terms);
}

fn matmul(lowering: &mut Lowering<'_>, id: NodeId, transposed: [bool; 2]) {
    let operands = lowering.graph.operands(id);
    let read = [0, 1].map(|n| swapped(lowering.view(operands[n]), transposed[n]));
    let result = lowering.destination(id);
    if result.elements() == 0 {
        return;
    }
    let [left, right] = &read;
    let (depth, steps) = (left.extents[left.rank() - 1], [last(left, 1), last(right, 2)]);
    let seen = [over_result(left, &result, [last(left, 2), 0]), over_result(right, &result, [0, last(right, 1)])];
    let parts = Parts { further: further(lowering, id), read, result, depth };
    let mut builder = Builder::new();
    let space = parts.space(&mut builder, [&seen[0], &seen[1]], &[]);
    let var = builder.var();
    // Columns run in lanes, but where the elements of a column lie closer together than the columns.
    let lanes = space.innermost().strides[..2].iter().all(|stride| stride.abs() <= 1);
    let terms = |b: &mut Builder, space: &Space, sum: Local| {
        let at = |operand: usize| space.position(operand).plus(Index::Var(var).times(steps[operand] as i64));
        let body = b.block(|b| multiply_add(b, sum, at(LEFT), at(RIGHT)));
        let mode = if lanes { LoopMode::Serial } else { LoopMode::Fold(vec![Fold { local: sum, op: BinaryOp::Add }]) };
        b.emit([Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(depth as i64), mode, body }]);
    };
    parts.push(builder, lowering, id, space, lanes, terms);
}

/// The stride of the axis `from_end` axes from the end.
fn last(view: &View, from_end: usize) -> isize {
    view.strides[view.rank() - from_end]
}

/// The view with its last two axes exchanged if `swap`.
fn swapped(view: &View, swap: bool) -> View {
    let mut perm: Vec<usize> = (0..view.rank()).collect();
    if swap {
        perm.swap(view.rank() - 2, view.rank() - 1);
    }
    view.transposed(&perm)
}

/// An operand's batch axes broadcast to those of the result, with the given strides along rows and columns.
fn over_result(operand: &View, result: &View, matrix: [isize; 2]) -> View {
    let leading = result.rank() - 2;
    let batch = with_axes(operand, 0..operand.rank() - 2).broadcast(&Shape::new(&result.extents[..leading]));
    let strides = [&batch.strides[..], &matrix].concat();
    View { extents: result.extents.clone(), strides, ..operand.clone() }
}
