//! Convolutions and matrix products of f32 as contractions. Other element types and run-time weights of convolutions take
//! the plain loop nest.

use edgecc_ir::{DType, Expr, NodeId, Op, Shape, Tensor, TensorType, Window as OpWindow};

use super::{Call, Lowered, Lowering, contraction_loops, movement, operand};
use crate::contraction::{ContractionSpec, DepthwiseSpec, KernelShape, Strides, Tap, Window};
use crate::cpu::contraction::pack_depthwise;
use crate::kernel::Access;
use crate::pack::{PackedLayout, TapTable, pack_weights};
use crate::program::{KernelSource, Operand};
use crate::schedule::{depthwise_schedule, schedule};
use crate::view::View;

/// Lowers a convolution, transposed convolution or matrix product.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId) -> Lowered<()> {
    if !is_tiled(lowering, id) {
        return contraction_loops::lower(lowering, id);
    }
    let graph = lowering.graph;
    match graph.op(id) {
        Op::Conv { window, groups, epilogue } => conv(lowering, id, window, *groups, epilogue),
        Op::ConvTranspose { window, groups, epilogue, .. } => conv_transpose(lowering, id, window, *groups, epilogue),
        Op::MatMul { transpose_a, transpose_b, epilogue } => matmul(lowering, id, *transpose_a, *transpose_b, epilogue),
        op => return Err(format!("{} is no contraction", op.name())),
    }
    Ok(())
}

/// f32 throughout, at least one element to sum over, one or two spatial axes, constant weights of a convolution.
fn is_tiled(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let operands = graph.operands(id);
    let result = graph.ty(id);
    let plain = operands.iter().all(|&operand| graph.ty(operand).dtype == DType::F32) && result.dtype == DType::F32;
    let full = operands[..2].iter().all(|&operand| graph.ty(operand).shape.elements() != Ok(0));
    let accumulates = |expr: &Expr| expr.arguments().all(|(_, dtype)| dtype == DType::F32);
    let shape = match graph.op(id) {
        Op::Conv { .. } => matches!(result.shape.rank(), 3 | 4) && lowering.constant_value(operands[1]).is_some(),
        Op::ConvTranspose { window, .. } => {
            let covered = window.kernel.iter().zip(&window.strides).all(|(kernel, stride)| kernel >= stride);
            let dense = window.dilations.iter().all(|&dilation| dilation == 1);
            matches!(result.shape.rank(), 3 | 4) && lowering.constant_value(operands[1]).is_some() && covered && dense
        }
        _ => true,
    };
    plain && full && shape && result.shape.elements() != Ok(0) && graph.op(id).epilogue().is_some_and(accumulates)
}

/// An image `[N,C,H,W]` or `[N,C,W]` as strides, channels cut in groups: batch axes (N, group).
struct Image {
    extents: [i64; 4],
    strides: [i64; 4],
}

impl Image {
    /// N, C, H, W; a sequence is an image of one row.
    fn of(view: &View) -> Image {
        let extent = |axis: usize| view.extents[axis] as i64;
        let stride = |axis: usize| view.strides[axis] as i64;
        match view.rank() {
            3 => Image { extents: [extent(0), extent(1), 1, extent(2)], strides: [stride(0), stride(1), 0, stride(2)] },
            _ => Image { extents: [0, 1, 2, 3].map(extent), strides: [0, 1, 2, 3].map(stride) },
        }
    }

    fn strides(&self, lead: usize, groups: i64) -> Strides {
        let [image, channel, row, column] = self.strides;
        let group = self.extents[1] / groups * channel;
        Strides { base: lead as i64, batch: vec![image, group], row, column, channel }
    }
}

fn two<T: Copy>(list: &[T], single: T) -> [T; 2] {
    match *list {
        [column] => [single, column],
        [row, column, ..] => [row, column],
        [] => [single, single],
    }
}

fn conv(lowering: &mut Lowering<'_>, id: NodeId, window: &OpWindow, groups: usize, epilogue: &Expr) {
    let input = with_adjacent_channels(lowering, id, lowering.graph.operands(id)[0]);
    let output = lowering.destination(id);
    let (image, result) = (Image::of(&input), Image::of(&output));
    let signed = |list: &[usize], single: usize| two(list, single).map(|n| n as i64);
    let ([top, left], [bottom, right]) = (signed(&window.pads_before, 0), signed(&window.pads_after, 0));
    let shape = KernelShape {
        kernel: signed(&window.kernel, 1),
        stride: signed(&window.strides, 1),
        dilation: signed(&window.dilations, 1),
        pads: [top, left, bottom, right],
    };
    let window = Window::convolution(image.extents[2], image.extents[3], &shape);
    let parts =
        Parts { id, input: &input, output: &output, image: &image, result: &result, groups: groups as i64, epilogue };
    if groups > 1 && groups as i64 == image.extents[1] && groups as i64 == result.extents[1] {
        depthwise(lowering, &parts, window);
    } else {
        let taps = window.taps.len();
        let weights =
            ConvWeights { depth: image.extents[1] / groups as i64, filters: result.extents[1] / groups as i64, taps };
        let place =
            move |n: i64, k: i64, tap: usize| ((n * weights.depth + k) * weights.taps as i64 + tap as i64) as usize;
        let output_strides = result.strides(output.lead, groups as i64);
        grouped(lowering, &parts, window, output_strides, move |group, tap, k, n| {
            place(group * weights.filters + n, k, tap)
        });
    }
}

#[derive(Clone, Copy)]
struct ConvWeights {
    depth: i64,
    filters: i64,
    taps: usize,
}

/// What the phases of a convolution have in common.
struct Parts<'a> {
    id: NodeId,
    input: &'a View,
    output: &'a View,
    image: &'a Image,
    result: &'a Image,
    groups: i64,
    epilogue: &'a Expr,
}

/// Each of the `stride * stride` phases of the result is an ordinary convolution with every stride-th tap: result position
/// `o = stride * q + phase` meets input `q + (phase + pad - tap) / stride` where that divides.
fn conv_transpose(lowering: &mut Lowering<'_>, id: NodeId, window: &OpWindow, groups: usize, epilogue: &Expr) {
    let input = with_adjacent_channels(lowering, id, lowering.graph.operands(id)[0]);
    let output = lowering.destination(id);
    let (image, result) = (Image::of(&input), Image::of(&output));
    let kernel = two(&window.kernel, 1).map(|n| n as i64);
    let stride = two(&window.strides, 1).map(|n| n as i64);
    let pad = two(&window.pads_before, 0).map(|n| n as i64);
    let filters = result.extents[1] / groups as i64;
    let depth = image.extents[1] / groups as i64;
    let taps_total = kernel[0] * kernel[1];
    for phase_row in 0..stride[0].min(result.extents[2]) {
        for phase_column in 0..stride[1].min(result.extents[3]) {
            let rows = phase_taps(phase_row, kernel[0], stride[0], pad[0]);
            let columns = phase_taps(phase_column, kernel[1], stride[1], pad[1]);
            let taps = rows.iter().flat_map(|&(ky, row)| {
                columns.iter().map(move |&(kx, column)| Tap { row, column, weight: (ky * kernel[1] + kx) as usize })
            });
            let phase = Window {
                height: (result.extents[2] - phase_row + stride[0] - 1) / stride[0],
                width: (result.extents[3] - phase_column + stride[1] - 1) / stride[1],
                input_height: image.extents[2],
                input_width: image.extents[3],
                step: [1, 1],
                taps: taps.collect(),
            };
            let whole = result.strides(output.lead, groups as i64);
            let strides = Strides {
                base: whole.base + phase_row * whole.row + phase_column * whole.column,
                row: whole.row * stride[0],
                column: whole.column * stride[1],
                ..whole
            };
            let parts = Parts {
                id,
                input: &input,
                output: &output,
                image: &image,
                result: &result,
                groups: groups as i64,
                epilogue,
            };
            let place = move |group: i64, tap: usize, k: i64, n: i64| {
                (((group * depth + k) * filters + n) * taps_total + tap as i64) as usize
            };
            let phases = Phase { offset: [phase_row, phase_column], stride };
            grouped_phase(lowering, &parts, phase, strides, phases, place);
        }
    }
}

/// Kernel positions that meet a phase, each with its input offset.
fn phase_taps(phase: i64, kernel: i64, stride: i64, pad: i64) -> Vec<(i64, i64)> {
    let meets = (0..kernel).filter(|tap| (phase + pad - tap).rem_euclid(stride) == 0);
    meets.map(|tap| (tap, (phase + pad - tap).div_euclid(stride))).collect()
}

/// Which pixels of the result a contraction writes: every `stride`-th from `offset`, rows and columns.
#[derive(Clone, Copy)]
struct Phase {
    offset: [i64; 2],
    stride: [i64; 2],
}

const EVERY_PIXEL: Phase = Phase { offset: [0, 0], stride: [1, 1] };

fn grouped(
    lowering: &mut Lowering<'_>,
    parts: &Parts<'_>,
    window: Window,
    output: Strides,
    place: impl Fn(i64, usize, i64, i64) -> usize,
) {
    grouped_phase(lowering, parts, window, output, EVERY_PIXEL, place);
}

/// A convolution as a contraction whose batch axes are images and groups. `place(group, tap, k, n)` is a weight's position.
fn grouped_phase(
    lowering: &mut Lowering<'_>,
    parts: &Parts<'_>,
    window: Window,
    output: Strides,
    phase: Phase,
    place: impl Fn(i64, usize, i64, i64) -> usize,
) {
    let further = further_views(lowering, parts.id);
    let spec = ContractionSpec {
        batch: vec![parts.image.extents[0], parts.groups],
        depth: parts.image.extents[1] / parts.groups,
        channels: parts.result.extents[1] / parts.groups,
        input: parts.image.strides(parts.input.lead, parts.groups),
        weight_batch: vec![0, 1],
        output,
        operands: further.iter().map(|view| phase_strides(view, parts.groups, phase)).collect(),
        epilogue: parts.epilogue.clone(),
        window,
    };
    let Some(weights) = lowering.constant_value(lowering.graph.operands(parts.id)[1]) else { return };
    let packed =
        pack(lowering, &spec, weights, |matrix, tap, k, n| place(matrix, spec.window.taps[tap as usize].weight, k, n));
    contract(lowering, parts.id, spec, parts.input, packed, parts.output, &further);
}

fn phase_strides(view: &View, groups: i64, phase: Phase) -> Strides {
    let whole = Image::of(view).strides(view.lead, groups);
    Strides {
        base: whole.base + phase.offset[0] * whole.row + phase.offset[1] * whole.column,
        row: whole.row * phase.stride[0],
        column: whole.column * phase.stride[1],
        ..whole
    }
}

fn depthwise(lowering: &mut Lowering<'_>, parts: &Parts<'_>, window: Window) {
    let further = further_views(lowering, parts.id);
    let images = |strides: Strides| Strides { batch: vec![strides.batch[0]], ..strides };
    let spec = DepthwiseSpec {
        batch: vec![parts.image.extents[0]],
        channels: parts.image.extents[1],
        input: images(parts.image.strides(parts.input.lead, 1)),
        output: images(parts.result.strides(parts.output.lead, 1)),
        operands: further.iter().map(|view| images(phase_strides(view, 1, EVERY_PIXEL))).collect(),
        epilogue: parts.epilogue.clone(),
        window,
    };
    let Some(weights) = lowering.constant_value(lowering.graph.operands(parts.id)[1]) else { return };
    let taps = spec.window.taps.len();
    let values = Weights::of(weights);
    let packed = pack_depthwise(&spec, |tap, channel| values.at(channel as usize * taps + tap as usize));
    let packed = lowering.constant(to_bytes(packed));
    let macs = spec.batch.iter().product::<i64>() * spec.window.pixels() * spec.channels * taps as i64;
    let schedule = depthwise_schedule(&spec, lowering.architecture);
    let mut operands = vec![
        operand(parts.input, Access::Read),
        lowering.whole(packed, Access::Read),
        operand(parts.output, Access::Write),
    ];
    let in_place = add_further(&mut operands, parts.output, &further);
    let call = Call { macs: macs as u64, in_place, ..Call::default() };
    lowering.push(parts.id, KernelSource::Depthwise(spec, schedule), operands, call);
}

/// `[.., M, K] x [.., K, N]`: batch axes are the leading axes; where the second operand has none, rows of all batches are
/// one matrix if strides allow.
fn matmul(lowering: &mut Lowering<'_>, id: NodeId, transpose_a: bool, transpose_b: bool, epilogue: &Expr) {
    let graph = lowering.graph;
    let (a, b) = (graph.operands(id)[0], graph.operands(id)[1]);
    let left = swapped(lowering.view(a), transpose_a);
    let left = if left.strides[left.rank() - 1] == 1 || left.extents[left.rank() - 1] == 1 {
        left
    } else {
        dense_copy(lowering, id, &left)
    };
    let output = lowering.destination(id);
    let right = swapped(lowering.view(b), transpose_b);
    let right = if right.lead == 0 { right } else { dense_copy(lowering, id, &right) };
    let further = further_views(lowering, id);
    let leading = output.rank() - 2;
    let batch_strides = |view: &View| -> Vec<i64> {
        let wide =
            view.broadcast(&Shape::new(&[&output.extents[..leading], &view.extents[view.rank() - 2..]].concat()));
        wide.strides[..leading].iter().map(|&stride| stride as i64).collect()
    };
    let matrix = |view: &View| {
        let [row, channel] = [view.strides[view.rank() - 2], view.strides[view.rank() - 1]].map(|stride| stride as i64);
        Strides { base: view.lead as i64, batch: batch_strides(view), row: 0, column: row, channel }
    };
    let mut spec = ContractionSpec {
        batch: output.extents[..leading].iter().map(|&extent| extent as i64).collect(),
        window: Window::matrix(output.extents[leading] as i64),
        depth: left.extents[left.rank() - 1] as i64,
        channels: output.extents[leading + 1] as i64,
        input: Strides { channel: 1, ..matrix(&left) },
        weight_batch: matrix_numbers(&right, &output.extents[..leading]),
        output: matrix(&output),
        operands: further.iter().map(matrix).collect(),
        epilogue: epilogue.clone(),
    };
    merge_rows(&mut spec);
    let packed = match lowering.constant_value(b) {
        Some(value) => {
            let (depth, channels) = (spec.depth as usize, spec.channels as usize);
            let place = move |matrix: i64, _tap: i64, k: i64, n: i64| {
                let (k, n) = (k as usize, n as usize);
                matrix as usize * depth * channels + if transpose_b { n * depth + k } else { k * channels + n }
            };
            pack(lowering, &spec, value, place)
        }
        None => pack_at_run_time(lowering, id, &spec, &right),
    };
    contract(lowering, id, spec, &left, packed, &output, &further);
}

/// The view with its last two axes exchanged if `swap`.
fn swapped(view: &View, swap: bool) -> View {
    let rank = view.rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    if swap {
        perm.swap(rank - 2, rank - 1);
    }
    view.transposed(&perm)
}

/// Which matrix of the right operand each batch axis moves to, counted in matrices; 0 where the operand repeats.
fn matrix_numbers(right: &View, batch: &[usize]) -> Vec<i64> {
    let own = &right.extents[..right.rank() - 2];
    let missing = batch.len() - own.len();
    let number = |axis: usize| match axis.checked_sub(missing) {
        Some(place) if own[place] != 1 => own[place + 1..].iter().product::<usize>() as i64,
        _ => 0,
    };
    (0..batch.len()).map(number).collect()
}

/// Makes rows of the innermost batch axes, as long as all of them share one right matrix and lie evenly spaced. Batch axes
/// of extent 1 go.
fn merge_rows(spec: &mut ContractionSpec) {
    while let Some(&extent) = spec.batch.last() {
        let rows = spec.window.width;
        let last = spec.batch.len() - 1;
        let even = |strides: &Strides| strides.batch[last] == strides.column * rows || rows == 1;
        let all_even = [&spec.input, &spec.output].into_iter().chain(&spec.operands).all(even);
        if extent != 1 && (spec.weight_batch[last] != 0 || !all_even) {
            return;
        }
        spec.window = Window::matrix(rows * extent);
        spec.batch.pop();
        spec.weight_batch.pop();
        for strides in [&mut spec.input, &mut spec.output].into_iter().chain(&mut spec.operands) {
            let step = strides.batch.pop().unwrap_or(0);
            if rows == 1 && extent != 1 {
                strides.column = step;
            }
        }
    }
}

/// Adds the step. Operands in the order of the kernel: input, weights, output, further operands, tap table.
fn contract(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: ContractionSpec,
    input: &View,
    packed: Operand,
    output: &View,
    further: &[View],
) {
    let mut operands = vec![operand(input, Access::Read), packed, operand(output, Access::Write)];
    let in_place = add_further(&mut operands, output, further);
    if TapTable::is_read(&spec) {
        let table = lowering.constant(TapTable::of(&spec).bytes.into());
        operands.push(lowering.whole(table, Access::Read));
    }
    let pixels = spec.batch.iter().product::<i64>() * spec.window.pixels();
    let macs = pixels * spec.channels * spec.depth * spec.window.taps.len() as i64;
    let call = Call { macs: macs as u64, in_place, ..Call::default() };
    let schedule = schedule(&spec, lowering.architecture);
    lowering.push(id, KernelSource::Contraction(spec, schedule), operands, call);
}

/// Adds the epilogue's operands. One that is read where the result is written may share its memory.
fn add_further(operands: &mut Vec<Operand>, output: &View, further: &[View]) -> Vec<(usize, usize)> {
    let mut in_place = Vec::new();
    for view in further {
        if view.storage != output.storage && (View { storage: output.storage, ..view.clone() }).coincides(output) {
            in_place.push((2, operands.len()));
        }
        operands.push(operand(view, Access::Read));
    }
    in_place
}

/// The operands behind the first two, broadcast to the result.
fn further_views(lowering: &Lowering<'_>, id: NodeId) -> Vec<View> {
    let shape = &lowering.graph.ty(id).shape;
    lowering.graph.operands(id)[2..].iter().map(|&operand| lowering.view(operand).broadcast(shape)).collect()
}

/// The operand as an image whose channels are neighbours in memory, copied where they are not.
fn with_adjacent_channels(lowering: &mut Lowering<'_>, id: NodeId, operand: NodeId) -> View {
    let view = lowering.view(operand).clone();
    if view.extents[1] == 1 || view.strides[1] == 1 {
        let mut strides = view.strides.clone();
        strides[1] = 1;
        return View { strides, ..view };
    }
    let ty = lowering.graph.ty(operand);
    let dense = lowering.temporary(&ty.with_layout(edgecc_ir::Layout::channels_last(ty.shape.rank())));
    movement::copy(lowering, id, &view, &dense);
    dense
}

fn dense_copy(lowering: &mut Lowering<'_>, id: NodeId, view: &View) -> View {
    let dense = lowering.temporary(&TensorType::new(view.dtype, view.shape()));
    movement::copy(lowering, id, view, &dense);
    dense
}

fn pack(
    lowering: &mut Lowering<'_>,
    spec: &ContractionSpec,
    weights: &Tensor,
    place: impl Fn(i64, i64, i64, i64) -> usize,
) -> Operand {
    let layout = PackedLayout::of(spec, &schedule(spec, lowering.architecture));
    let values = Weights::of(weights);
    let packed = pack_weights(&layout, |matrix, tap, k, n| values.at(place(matrix, tap, k, n)));
    let packed = lowering.constant(to_bytes(packed));
    lowering.whole(packed, Access::Read)
}

/// Packs the right operand into planned memory: two strided copies, of the panels of full width and of the narrower last
/// one. What pads the last panel is never stored in a result and stays as it is.
fn pack_at_run_time(lowering: &mut Lowering<'_>, id: NodeId, spec: &ContractionSpec, right: &View) -> Operand {
    let layout = PackedLayout::of(spec, &schedule(spec, lowering.architecture));
    let packed = lowering.untyped(layout.bytes() as usize);
    let rank = right.rank();
    let (batch, batch_strides) = (&right.extents[..rank - 2], &right.strides[..rank - 2]);
    let (k, n) = (right.strides[rank - 2], right.strides[rank - 1]);
    let matrices =
        Shape::new(batch).strides().into_iter().map(|stride| stride as isize * layout.matrix_elements() as isize);
    let matrices: Vec<isize> = matrices.collect();
    let mut copy_panels = |panels: i64, first: i64, channels: i64, width: i64| {
        let extents = [batch, &[panels as usize, layout.depth as usize, channels as usize]].concat();
        let first_channel = first * layout.panel;
        let source = View {
            extents: extents.clone(),
            strides: [batch_strides, &[layout.panel as isize * n, k, n]].concat(),
            offset: right.offset + first_channel as usize * n.unsigned_abs(),
            ..right.clone()
        };
        let destination = View {
            storage: packed,
            dtype: DType::F32,
            extents,
            strides: [&matrices[..], &[layout.panel_elements() as isize, width as isize, 1]].concat(),
            offset: (first * layout.panel_elements()) as usize,
            lead: 0,
        };
        movement::copy(lowering, id, &source, &destination);
    };
    copy_panels(layout.full_panels(), 0, layout.panel, layout.panel);
    if layout.last_channels() > 0 {
        let last = layout.full_panels();
        copy_panels(1, last, layout.last_channels(), layout.width(last));
    }
    lowering.whole(packed, Access::Read)
}

/// Constant f32 elements by row-major position, without a copy.
enum Weights<'a> {
    Dense(&'a [u8]),
    Splat(f32),
}

impl<'a> Weights<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        match tensor.data() {
            edgecc_ir::TensorData::Dense(bytes) => Weights::Dense(bytes),
            edgecc_ir::TensorData::Splat(value) => Weights::Splat(value.as_f64() as f32),
        }
    }

    fn at(&self, position: usize) -> f32 {
        match self {
            Weights::Dense(bytes) => match bytes[position * 4..position * 4 + 4] {
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => 0.0,
            },
            Weights::Splat(value) => *value,
        }
    }
}

/// The bytes of packed weights, without a copy.
fn to_bytes(values: Vec<f32>) -> bytes::Bytes {
    struct Packed(Vec<f32>);
    impl AsRef<[u8]> for Packed {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    bytes::Bytes::from_owner(Packed(values))
}
