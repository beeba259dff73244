//! Depthwise convolutions and max pools: windows within channels.

use edgecc_ir::{DType, Expr, NodeId, Op, ReduceKind, Window as OpWindow};

use super::contraction::{Weights, add_further, further_views, is_tiled, to_bytes};
use super::convolution::{Image, element_of, image_strides, two, window_of};
use super::reading::Source;
use super::{Call, LowerOptions, Lowering, Processor, operand};
use crate::contraction::{Combination, DepthwiseSpec, Element, KernelShape, Strides, Window};
use crate::cpu::contraction::pack_depthwise;
use crate::cpu::isa::{Architecture, Kernels};
use crate::gpu::MOST_BINDINGS;
use crate::kernel::Access;
use crate::program::{KernelSource, Operand};
use crate::schedule::DepthwiseSchedule;
use crate::view::View;

/// Strides over images and their pixels, of all channels.
fn of_images(view: &View) -> Strides {
    let strides = image_strides(view);
    Strides { batch: vec![strides.batch[0]], ..strides }
}

/// A depthwise convolution whose results go nowhere yet.
pub(super) fn specify(lowering: &Lowering<'_>, id: NodeId, source: &Source, input: &View) -> Option<DepthwiseSpec> {
    let Op::Conv { window, epilogue, .. } = lowering.graph.op(id) else { return None };
    let image = Image::of(input);
    let [images, channels, rows, columns] = image.extents;
    let element = element_of(lowering, id);
    Some(DepthwiseSpec {
        element,
        batch: vec![images],
        window: window_of(window, [rows, columns], source.pads).1,
        channels,
        combination: Combination::Products,
        input: of_images(input),
        reading: source.elements(element, 1),
        output: Strides::default(),
        mean: None,
        operands: further_views(lowering, id).iter().map(of_images).collect(),
        epilogue: epilogue.clone(),
    })
}

/// Its weights as they are packed for a schedule.
pub(super) fn pack(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: &DepthwiseSpec,
    schedule: &DepthwiseSchedule,
) -> Option<Operand> {
    let values = Weights::of(lowering.constant_value(lowering.graph.operands(id)[1])?);
    let taps = spec.window.taps.len();
    let packed = pack_depthwise(spec, schedule, |tap, channel| values.at(channel as usize * taps + tap as usize));
    let packed = lowering.constant(to_bytes(spec.element, packed));
    Some(lowering.whole(packed, Access::Read))
}

/// Lowers a depthwise convolution.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, source: &Source, (input, output): (&View, &View)) {
    let Some(spec) = specify(lowering, id, source, input) else { return };
    let mean = mean_of(lowering, id);
    let spec = DepthwiseSpec { output: of_images(output), mean: mean.as_ref().map(of_images), ..spec };
    let schedule = lowering.depthwise_schedule(&spec);
    let Some(packed) = pack(lowering, id, &spec, &schedule) else { return };
    let mut operands = vec![operand(input, Access::Read), packed, operand(output, Access::Write)];
    let in_place = add_further(&mut operands, output, &further_views(lowering, id));
    operands.extend(mean.iter().map(|mean| operand(mean, Access::Write)));
    let call = Call { macs: spec.macs() as u64, in_place, ..Call::default() };
    lowering.push(id, KernelSource::Depthwise(spec, schedule), operands, call);
}

/// Where the mean over all pixels goes that a GPU's depthwise convolution is to compute with its results, if there is one.
fn mean_of(lowering: &mut Lowering<'_>, id: NodeId) -> Option<View> {
    let mean = lowering.graph.users(id).into_iter().find(|&user| is_mean_of_convolution(lowering, user))?;
    Some(lowering.destination(mean))
}

/// Whether a node is the mean of all pixels of a depthwise convolution, which a GPU computes with its results.
pub(super) fn is_mean_of_convolution(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let Op::Reduce { kind: ReduceKind::Mean, axes } = graph.op(id) else { return false };
    let convolution = graph.operands(id)[0];
    lowering.options.processor == Processor::Gpu
        && is_depthwise(lowering, convolution)
        && graph.ty(convolution).shape.rank() == 4
        && axes == &[2, 3]
        && graph.operands(convolution).len() + 2 <= MOST_BINDINGS
        && matches!(graph.ty(id).dtype, DType::F32 | DType::F16)
}

/// Whether a node is a convolution within channels that a kernel is written for.
pub(super) fn is_depthwise(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let Op::Conv { groups, .. } = graph.op(id) else { return false };
    let channels = |id: NodeId| graph.ty(id).shape.dim(1);
    *groups > 1 && [id, graph.operands(id)[0]].into_iter().all(|id| channels(id) == *groups) && is_tiled(lowering, id)
}

/// Lowers a pool of f32 or f16 as a window without weights, where our encoders or shaders write it and the channels lie side by side;
/// tells whether it did. `epilogue` makes the result of what `combination` makes of a window.
pub(super) fn pool(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    (combination, epilogue): (Combination, Expr),
    window: &OpWindow,
    (source, result): (&View, &View),
) -> bool {
    let adjacent = |view: &View| view.rank() == 4 && view.strides[1] == 1;
    let Some(element) = Element::of(source.dtype) else { return false };
    let LowerOptions { processor, machine, .. } = lowering.options;
    let is_written = match (processor, machine.architecture) {
        (Processor::Gpu, _) | (Processor::Cpu, Architecture::Aarch64) => true,
        (Processor::Cpu, Architecture::X86_64) => machine.kernels == Kernels::Encoded && element == Element::F32,
    };
    if !adjacent(source) || !adjacent(result) || !is_written {
        return false;
    }
    let (image, output) = (Image::of(source), Image::of(result));
    let signed = |list: &[usize]| two(list, 1).map(|n| n as i64);
    let [top, left] = signed(&window.pads_before);
    let shape = KernelShape {
        kernel: signed(&window.kernel),
        stride: signed(&window.strides),
        dilation: signed(&window.dilations),
        pads: [top, left, 0, 0],
    };
    let [_, _, height, width] = output.extents;
    let window = Window { height, width, ..Window::convolution(image.extents[2], image.extents[3], &shape) };
    let spec = DepthwiseSpec {
        element,
        batch: vec![image.extents[0]],
        channels: image.extents[1],
        combination,
        reading: None,
        mean: None,
        input: of_images(source),
        output: of_images(result),
        operands: Vec::new(),
        epilogue,
        window,
    };
    let schedule = lowering.depthwise_schedule(&spec);
    // There are no weights: their place is taken by the input, of which shaders have nothing there.
    let (input, output) = (operand(source, Access::Read), operand(result, Access::Write));
    let none = match processor {
        Processor::Cpu => input.clone(),
        Processor::Gpu => Operand { length: 0, ..input.clone() },
    };
    let operands = vec![input, none, output];
    lowering.push(id, KernelSource::Depthwise(spec, schedule), operands, Call::default());
    true
}
