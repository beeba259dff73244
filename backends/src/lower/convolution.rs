//! Convolutions and transposed convolutions of f32 with constant weights: contractions whose batch axes are images and
//! groups, or depthwise.

use edgecc_ir::{Expr, NodeId, TensorType, Window as OpWindow};

use super::contraction::{Values, Weights, contract, further_views, has_symmetric_weights, pack};
use super::reading::{Source, is_thin};
use super::{LowerOptions, Lowering, Processor, depthwise, movement, operand, strassen, winograd, winograd_weights};
use crate::contraction::{ContractionSpec, Element, KernelShape, Reading, Strides, Tap, Window, divide_up};
use crate::kernel::Access;
use crate::schedule::choices::Choice;
use crate::schedule::gpu::{depthwise_schedules, winograd_axes};
use crate::view::View;
use crate::winograd::cheapest_axes;

/// An image `[N,C,H,W]` or `[N,C,W]` as strides, channels cut in groups: batch axes (N, group).
pub(super) struct Image {
    pub(super) extents: [i64; 4],
    strides: [i64; 4],
}

impl Image {
    /// N, C, H, W; a sequence is an image of one row.
    pub(super) fn of(view: &View) -> Image {
        let extent = |axis: usize| view.extents[axis] as i64;
        let stride = |axis: usize| view.strides[axis] as i64;
        match view.rank() {
            3 => Image { extents: [extent(0), extent(1), 1, extent(2)], strides: [stride(0), stride(1), 0, stride(2)] },
            _ => Image { extents: [0, 1, 2, 3].map(extent), strides: [0, 1, 2, 3].map(stride) },
        }
    }

    pub(super) fn strides(&self, lead: usize, groups: i64) -> Strides {
        let [image, channel, row, column] = self.strides;
        let group = self.extents[1] / groups * channel;
        Strides { base: lead as i64, batch: vec![image, group], row, column, channel }
    }
}

/// The elements that a convolution sums.
pub(super) fn element_of(lowering: &Lowering<'_>, id: NodeId) -> Element {
    let graph = lowering.graph;
    Element::of(graph.ty(graph.operands(id)[0]).dtype).unwrap_or_default()
}

pub(super) fn two<T: Copy>(list: &[T], single: T) -> [T; 2] {
    match *list {
        [column] => [single, column],
        [row, column, ..] => [row, column],
        [] => [single, single],
    }
}

/// The window of a convolution of an image of rows by columns that was padded as given.
pub(super) fn window_of(window: &OpWindow, [rows, columns]: [i64; 2], pads: [i64; 4]) -> (KernelShape, Window) {
    let signed = |list: &[usize], single: usize| two(list, single).map(|n| n as i64);
    let ([top, left], [bottom, right]) = (signed(&window.pads_before, 0), signed(&window.pads_after, 0));
    let own = [top, left, bottom, right];
    let shape = KernelShape {
        kernel: signed(&window.kernel, 1),
        stride: signed(&window.strides, 1),
        dilation: signed(&window.dilations, 1),
        pads: [0, 1, 2, 3].map(|side| own[side] + pads[side]),
    };
    (shape, Window::convolution(rows, columns, &shape))
}

pub(super) fn conv(lowering: &mut Lowering<'_>, id: NodeId, window: &OpWindow, groups: usize, epilogue: &Expr) {
    let source = Source::of(lowering, id);
    if let Some(within) = source.within {
        return over_depthwise(lowering, (id, within), window, epilogue);
    }
    let takes_planes = lowering.options.processor == Processor::Gpu && groups == 1 && is_thin(lowering.graph, id);
    let input = match takes_planes {
        true => source.input.clone(),
        false => with_adjacent_channels(lowering, id, &source.input),
    };
    let output = lowering.destination(id);
    let (image, result) = (Image::of(&input), Image::of(&output));
    let (shape, window) = window_of(window, [image.extents[2], image.extents[3]], source.pads);
    let parts = Parts {
        id,
        source: &source,
        input: &input,
        output: &output,
        image: &image,
        result: &result,
        groups: groups as i64,
        epilogue,
    };
    if groups > 1 && groups as i64 == image.extents[1] && groups as i64 == result.extents[1] {
        return depthwise::lower(lowering, id, &source, (&input, &output));
    }
    let taps = window.taps.len();
    let weights =
        ConvWeights { depth: image.extents[1] / groups as i64, filters: result.extents[1] / groups as i64, taps };
    let place = move |n: i64, k: i64, tap: usize| ((n * weights.depth + k) * weights.taps as i64 + tap as i64) as usize;
    let direct = specify(lowering, &parts, window.clone(), result.strides(output.lead, groups as i64), EVERY_PIXEL);
    let by_winograd = winograd_candidate(lowering, &parts, &window, &shape, &direct);
    // Sums of weights at run time would leave the layers of small networks in steps too short for several cores.
    let by_strassen = strassen::candidate(lowering, &direct).filter(|_| lowering.options.constants_may_grow);
    let possible = by_winograd.as_ref().map(|candidate| (Choice::Winograd, candidate.pays));
    let possible = possible.or(by_strassen.as_ref().map(|candidate| (Choice::Strassen, candidate.pays)));
    if lowering.takes_algorithm(&direct, possible) {
        by_winograd.iter().for_each(|candidate| winograd::lower(lowering, candidate, &direct));
        let further = further_views(lowering, id);
        let operands = strassen::Operands { input: &input, output: &output, further: &further };
        if let (Some(candidate), Some(tensor)) = (by_strassen, lowering.constant_value(lowering.graph.operands(id)[1]))
        {
            let values = Weights::of(tensor);
            strassen::lower(lowering, id, &candidate, &operands, |k, n| values.at(place(n, k, 0)));
        }
        return;
    }
    products(lowering, &parts, direct, move |group, tap, k, n| place(group * weights.filters + n, k, tap));
}

/// Lowers a convolution of one tap that computes the results of a depthwise convolution where it sums them.
fn over_depthwise(lowering: &mut Lowering<'_>, (id, within): (NodeId, NodeId), window: &OpWindow, epilogue: &Expr) {
    let graph = lowering.graph;
    let source = Source::of(lowering, within);
    let input = with_adjacent_channels(lowering, within, &source.input);
    let output = lowering.destination(id);
    // Results that are nowhere.
    let results = View::dense(input.storage, graph.ty(within));
    let (image, result) = (Image::of(&results), Image::of(&output));
    let Some(spec) = depthwise::specify(lowering, within, &source, &input) else { return };
    let schedule = depthwise_schedules(&spec, lowering.options.gpu)[0];
    let Some(weights) = depthwise::pack(lowering, within, &spec, &schedule) else { return };
    let (input, output) = (&input, &output);
    let parts = Parts { id, source: &source, input, output, image: &image, result: &result, groups: 1, epilogue };
    let window = window_of(window, [image.extents[2], image.extents[3]], [0; 4]).1;
    let direct = specify(lowering, &parts, window, result.strides(output.lead, 1), EVERY_PIXEL);
    let direct = ContractionSpec { reading: Some(Reading::Depthwise(Box::new(spec))), ..direct };
    let Some(tensor) = lowering.constant_value(graph.operands(id)[1]) else { return };
    let depth = direct.depth;
    let packed = pack(lowering, &direct, &Weights::of(tensor), |_, _, k, n| (n * depth + k) as usize);
    let further = further_views(lowering, id);
    let mut reading = vec![weights];
    reading.extend(further_views(lowering, within).iter().map(|view| operand(view, Access::Read)));
    contract(lowering, id, direct, packed, Values { input, output, further: &further, reading });
}

/// The convolution as one that Winograd's algorithm may take. Its weights are larger: where constants may not grow a GPU
/// transforms them in each inference.
fn winograd_candidate<'a>(
    lowering: &Lowering<'_>,
    parts: &Parts<'a>,
    window: &'a Window,
    shape: &KernelShape,
    direct: &ContractionSpec,
) -> Option<winograd::Candidate<'a>> {
    let element = direct.element;
    let [stride, along] = shape.stride;
    let is_plain = (along, shape.dilation, parts.groups) == (stride, [1, 1], 1)
        && element != Element::I8
        && direct.reading.is_none();
    let channels = (parts.image.extents[1], parts.result.extents[1]);
    let outputs = (parts.image.extents[0], [window.height, window.width]);
    let LowerOptions { processor, gpu, constants_may_grow, .. } = lowering.options;
    let (axes, pays) = match processor {
        Processor::Cpu => cheapest_axes(element, outputs, (shape.kernel, stride), channels),
        Processor::Gpu if stride > 1 => None,
        Processor::Gpu => winograd_axes(gpu, element, outputs, shape.kernel, channels, constants_may_grow),
    }?;
    let candidate = winograd::Candidate {
        id: parts.id,
        element,
        window,
        taps: shape.kernel,
        pads: shape.pads,
        input: parts.input,
        output: parts.output,
        image: parts.image,
        result: parts.result,
        epilogue: parts.epilogue,
        axes,
        pays,
    };
    let has_weights = constants_may_grow || processor == Processor::Gpu && winograd_weights::fits(lowering, direct);
    (has_weights && is_plain && winograd::fits(lowering, &candidate)).then_some(candidate)
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
    source: &'a Source,
    input: &'a View,
    output: &'a View,
    image: &'a Image,
    result: &'a Image,
    groups: i64,
    epilogue: &'a Expr,
}

/// Each of the `stride * stride` phases of the result is an ordinary convolution with every stride-th tap: result position
/// `o = stride * q + phase` meets input `q + (phase + pad - tap) / stride` where that divides.
pub(super) fn conv_transpose(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    window: &OpWindow,
    groups: usize,
    epilogue: &Expr,
) {
    let source = Source::of(lowering, id);
    let input = with_adjacent_channels(lowering, id, &source.input);
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
                height: divide_up(result.extents[2] - phase_row, stride[0]),
                width: divide_up(result.extents[3] - phase_column, stride[1]),
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
                source: &source,
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
            let spec = specify(lowering, &parts, phase, strides, phases);
            products(lowering, &parts, spec, place);
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
pub(super) struct Phase {
    offset: [i64; 2],
    stride: [i64; 2],
}

pub(super) const EVERY_PIXEL: Phase = Phase { offset: [0, 0], stride: [1, 1] };

/// A convolution as a contraction whose batch axes are images and groups.
fn specify(
    lowering: &Lowering<'_>,
    parts: &Parts<'_>,
    window: Window,
    output: Strides,
    phase: Phase,
) -> ContractionSpec {
    let further = further_views(lowering, parts.id);
    let element = element_of(lowering, parts.id);
    ContractionSpec {
        element,
        batch: vec![parts.image.extents[0], parts.groups],
        depth: parts.image.extents[1] / parts.groups,
        channels: parts.result.extents[1] / parts.groups,
        input: parts.image.strides(parts.input.lead, parts.groups),
        reading: parts.source.elements(element, parts.groups).map(Reading::Elements),
        symmetric_weights: has_symmetric_weights(lowering, parts.id),
        weight_batch: vec![0, 1],
        output,
        operands: further.iter().map(|view| phase_strides(view, parts.groups, phase)).collect(),
        epilogue: parts.epilogue.clone(),
        window,
    }
}

/// Lowers a convolution by its products. `place(group, tap, k, n)` is a weight's position.
fn products(
    lowering: &mut Lowering<'_>,
    parts: &Parts<'_>,
    spec: ContractionSpec,
    place: impl Fn(i64, usize, i64, i64) -> usize,
) {
    let further = further_views(lowering, parts.id);
    let Some(weights) = lowering.constant_value(lowering.graph.operands(parts.id)[1]) else { return };
    let packed = pack(lowering, &spec, &Weights::of(weights), |matrix, tap, k, n| {
        place(matrix, spec.window.taps[tap as usize].weight, k, n)
    });
    let Parts { id, source, input, output, .. } = *parts;
    let reading = source.operands.iter().map(|view| operand(view, Access::Read)).collect();
    contract(lowering, id, spec, packed, Values { input, output, further: &further, reading });
}

/// A view of an image's shape as strides of one group.
pub(super) fn image_strides(view: &View) -> Strides {
    phase_strides(view, 1, EVERY_PIXEL)
}

/// A view of an image's shape as strides of groups of channels, for the pixels of a phase.
pub(super) fn phase_strides(view: &View, groups: i64, phase: Phase) -> Strides {
    let whole = Image::of(view).strides(view.lead, groups);
    Strides {
        base: whole.base + phase.offset[0] * whole.row + phase.offset[1] * whole.column,
        row: whole.row * phase.stride[0],
        column: whole.column * phase.stride[1],
        ..whole
    }
}

/// The operand of node `id` as an image whose channels are neighbours in memory, copied where they are not.
pub(super) fn with_adjacent_channels(lowering: &mut Lowering<'_>, id: NodeId, view: &View) -> View {
    if view.extents[1] == 1 || view.strides[1] == 1 {
        let mut strides = view.strides.clone();
        strides[1] = 1;
        return View { strides, ..view.clone() };
    }
    let ty = TensorType::new(view.dtype, view.shape());
    let dense = lowering.temporary(&ty.with_layout(edgecc_ir::Layout::channels_last(view.rank())));
    movement::copy(lowering, id, view, &dense);
    dense
}
