//! What shaders do while they read what a convolution sums: a map or a constant pad in front of it is no step of its own, nor is a depthwise
//! convolution of few channels.

use edgecc_ir::{BlockWeights, DType, Expr, Graph, NodeId, Op, Origin, PadMode, Scalar, Shape};

use super::contraction::is_tiled;
use super::convolution::{EVERY_PIXEL, phase_strides, two, window_of};
use super::depthwise::{is_depthwise, is_mean_of_convolution};
use super::{Lowering, Processor};
use crate::contraction::{Combination, ContractionSpec, DepthwiseSpec, Element, Elements, Strides};
use crate::gpu::MOST_BINDINGS;
use crate::schedule::gpu::{pays_within, reads_cheaply};
use crate::view::View;

/// Neighbours of a vector.
const LANES: i64 = 4;
/// Where what a convolution sums comes from.
#[derive(Default)]
struct Front {
    /// The map whose result is summed or padded.
    map: Option<NodeId>,
    /// The pad whose result is summed.
    pad: Option<NodeId>,
    /// The depthwise convolution whose result is summed.
    within: Option<NodeId>,
}

/// What a convolution reads.
pub(super) struct Source {
    /// The node that is read.
    pub(super) node: NodeId,
    /// Operands of the reading.
    pub(super) operands: Vec<View>,
    /// The depthwise convolution whose results are summed; what that one reads is asked of it.
    pub(super) within: Option<NodeId>,
    /// Rows and columns added by a pad in front: top, left, bottom, right.
    pub(super) pads: [i64; 4],
    /// What is made of the elements that are read; argument 0 is the node's.
    expr: Option<Expr>,
    outside: Option<Scalar>,
}

impl Source {
    /// What convolution `id` reads.
    pub(super) fn of(lowering: &Lowering<'_>, id: NodeId) -> Source {
        let graph = lowering.graph;
        let Front { map, pad, within } = front(lowering, id);
        let mut source = Source {
            node: graph.operands(id)[0],
            operands: Vec::new(),
            within,
            pads: [0; 4],
            expr: None,
            outside: None,
        };
        if let Some(pad) = pad
            && let Op::Pad { before, after, .. } = graph.op(pad)
        {
            let spatial = |pads: &[usize]| two(&pads[2..], 0).map(|pad| pad as i64);
            let ([top, left], [bottom, right]) = (spatial(before), spatial(after));
            source.pads = [top, left, bottom, right];
            source.outside = graph.constant_value(graph.operands(pad)[1]).and_then(|fill| fill.as_splat());
            source.node = graph.operands(pad)[0];
        }
        if let Some(map) = map
            && let Op::Map(expr) = graph.op(map)
            && let Some(main) = main_operand(graph, map)
        {
            let shape = &graph.ty(map).shape;
            let operands = graph.operands(map);
            let others = operands.iter().enumerate().filter(|&(place, _)| place != main);
            source.operands = others.map(|(_, &operand)| lowering.view(operand).broadcast(shape)).collect();
            source.expr = Some(expr.renumbered(|n| match usize::from(n) {
                place if place == main => 0,
                place if place < main => n + 1,
                _ => n,
            }));
            source.node = operands[main];
        }
        source
    }

    /// What is made of elements, where that is more than loads of an input that meets zeros outside, by groups of channels.
    pub(super) fn elements(&self, element: Element, groups: i64) -> Option<Elements> {
        (self.expr.is_some() || self.outside.is_some()).then(|| Elements {
            expr: self.expr.clone().unwrap_or_else(|| Expr::argument(0, element.dtype())),
            operands: self.operands.iter().map(|view| phase_strides(view, groups, EVERY_PIXEL)).collect(),
            outside: self.outside.unwrap_or_else(|| Scalar::from_f64(element.dtype(), 0.0)),
        })
    }
}

/// The model's nodes that a node's step stands for.
pub(super) fn origin(lowering: &Lowering<'_>, id: NodeId) -> Origin {
    let graph = lowering.graph;
    let Front { map, pad, within } = front(lowering, id);
    let means = graph.users(id).into_iter().filter(|&user| is_mean_of_convolution(lowering, user));
    let before = [map, pad, within].into_iter().flatten().map(|node| graph.node(node).origin());
    let first = before.fold(Origin::default(), |all, more| all.joined(more)).joined(graph.node(id).origin());
    means.fold(first, |all, mean| all.joined(graph.node(mean).origin()))
}

/// Whether the convolutions that read the result of a map, a pad or a depthwise convolution do its work.
pub(super) fn is_done_by_readers(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let users = graph.users(id);
    let is_done = |&user: &NodeId| match (graph.op(id), graph.op(user)) {
        (Op::Map(_), Op::Pad { .. }) => graph.users(user).iter().all(|&reader| front(lowering, reader).map == Some(id)),
        (Op::Map(_), _) => front(lowering, user).map == Some(id),
        (Op::Pad { .. }, _) => front(lowering, user).pad == Some(id),
        (Op::Conv { .. }, _) => front(lowering, user).within == Some(id),
        _ => false,
    };
    lowering.options.processor == Processor::Gpu && !users.is_empty() && users.iter().all(is_done)
}

/// Whether everything that reads a value does so in any order of its axes: maps, which lay out what they compute, and convolutions of
/// a few channels.
pub(super) fn is_read_in_any_order(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let is_able = |&user: &NodeId| match graph.op(user) {
        Op::Map(_) => true,
        Op::Conv { groups, .. } => *groups == 1 && is_input_of(lowering, user, id) && is_thin(graph, user),
        _ => false,
    };
    lowering.options.processor == Processor::Gpu && !is_output(graph, id) && graph.users(id).iter().all(is_able)
}

/// Whether a convolution reads its few channels one by one, wherever they lie.
pub(super) fn is_thin(graph: &Graph, id: NodeId) -> bool {
    (graph.ty(graph.operands(id)[0]).shape.dim(1) as i64) < LANES
}

fn front(lowering: &Lowering<'_>, id: NodeId) -> Front {
    let graph = lowering.graph;
    let Op::Conv { groups, .. } = graph.op(id) else { return Front::default() };
    if lowering.options.processor != Processor::Gpu || !is_tiled(lowering, id) {
        return Front::default();
    }
    let operand = graph.operands(id)[0];
    if is_computed(lowering, operand, id) {
        return Front { within: Some(operand), ..Front::default() };
    }
    let pad = Some(operand).filter(|&pad| is_pad(lowering, pad));
    let before = pad.map_or(operand, |pad| graph.operands(pad)[0]);
    let map = Some(before).filter(|&map| *groups == 1 && is_map(lowering, map, (id, pad)));
    Front { map, pad, within: None }
}

/// A border of one number around an image of integers; numbers of zero are the window's own.
fn is_pad(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let graph = lowering.graph;
    let Op::Pad { mode: PadMode::Constant, before, after } = graph.op(id) else { return false };
    let is_spatial = before.len() > 2 && before[..2] == [0, 0] && after[..2] == [0, 0];
    let fill = graph.constant_value(graph.operands(id)[1]).and_then(|fill| fill.as_splat());
    graph.ty(id).dtype == DType::I8
        && is_spatial
        && fill.is_some()
        && !is_output(graph, id)
        && graph.users(id).iter().all(|&user| is_input_of(lowering, user, id))
}

/// A map that one convolution alone reads, and that takes little beside its sums.
fn is_map(lowering: &Lowering<'_>, id: NodeId, (reader, pad): (NodeId, Option<NodeId>)) -> bool {
    let graph = lowering.graph;
    let Op::Map(expr) = graph.op(id) else { return false };
    let is_known = |(_, dtype): (u16, DType)| {
        matches!(dtype, DType::F32 | DType::F16 | DType::I8 | DType::U8 | DType::I32 | DType::U32)
    };
    let has_one_reader = match pad {
        Some(pad) => graph.users(id) == [pad] && graph.users(pad) == [reader],
        None => graph.users(id) == [reader] && is_input_of(lowering, reader, id),
    };
    let Some(main) = main_operand(graph, id) else { return false };
    let node = graph.operands(id)[main];
    let is_integer = graph.ty(id).dtype == DType::I8;
    let is_laid_out = is_thin(graph, reader) || !matches!(graph.op(node), Op::Relayout(_));
    has_one_reader
        && is_laid_out
        && !is_output(graph, id)
        && !BlockWeights::are_made_by(graph, id)
        && expr.arguments().all(is_known)
        && (!is_integer || graph.operands(id).len() == 1)
        && is_cheap(lowering, reader, id, expr)
}

/// Whether a convolution with a map in its reading takes little more than without.
fn is_cheap(lowering: &Lowering<'_>, reader: NodeId, map: NodeId, expr: &Expr) -> bool {
    let graph = lowering.graph;
    let Some(spec) = outline(graph, reader) else { return false };
    let rank = graph.ty(reader).shape.rank();
    let moves = |&operand: &NodeId| {
        let shape = &graph.ty(operand).shape;
        (2..rank).any(|axis| (shape.rank() + axis).checked_sub(rank).is_some_and(|own| shape.dim(own) > 1))
    };
    let operands = graph.operands(map);
    let moving = operands.iter().filter(|operand| moves(operand)).count() as i64;
    let fixed = operands.len() as i64 - moving;
    // One of them is the input itself.
    let others = if moving > 0 { [fixed, moving - 1] } else { [fixed - 1, 0] };
    (spec.window.taps.len() == 1 || is_thin(graph, reader))
        && graph.operands(reader).len() + operands.len() <= MOST_BINDINGS
        && reads_cheaply(lowering.options.gpu, &spec, expr, others)
}

/// Whether a convolution of one tap computes results of a depthwise convolution, which it alone reads, sooner than it loads them.
fn is_computed(lowering: &Lowering<'_>, id: NodeId, reader: NodeId) -> bool {
    let graph = lowering.graph;
    let is_whole = |spec: &ContractionSpec| {
        spec.element != Element::I8
            && spec.batch.len() == 1
            && spec.window.taps.len() == 1
            && spec.window.is_interior()
            && spec.window.step == [1, 1]
            && spec.depth % LANES == 0
    };
    // Panels of another program may be narrower than all channels.
    if !is_depthwise(lowering, id)
        || lowering.options.packings.is_some()
        || graph.users(id) != [reader]
        || !is_input_of(lowering, reader, id)
        || is_output(graph, id)
        || graph.operands(id).len() + graph.operands(reader).len() > MOST_BINDINGS
    {
        return false;
    }
    let Some((sums, windows)) = outline(graph, reader).filter(is_whole).zip(outline(graph, id)) else { return false };
    let Some(epilogue) = graph.op(id).epilogue() else { return false };
    let within = DepthwiseSpec {
        element: sums.element,
        batch: sums.batch.clone(),
        window: windows.window,
        channels: sums.depth,
        combination: Combination::Products,
        input: Strides::default(),
        reading: None,
        output: Strides::default(),
        mean: None,
        operands: vec![Strides::default(); graph.operands(id).len() - 2],
        epilogue: epilogue.clone(),
    };
    pays_within(lowering.options.gpu, &within, &sums)
}

/// A convolution as far as its cost depends on it: everything but where its operands lie. The second batch axis are groups, where there are
/// several.
fn outline(graph: &Graph, id: NodeId) -> Option<ContractionSpec> {
    let Op::Conv { window, groups, .. } = graph.op(id) else { return None };
    let (input, result) = (graph.ty(graph.operands(id)[0]), graph.ty(id));
    let extent = |shape: &Shape, axis: usize| shape.dim(axis) as i64;
    let rank = input.shape.rank();
    let lines = if rank == 3 { 1 } else { extent(&input.shape, 2) };
    let groups = *groups as i64;
    Some(ContractionSpec {
        element: Element::of(input.dtype)?,
        batch: [extent(&input.shape, 0), groups][..if groups == 1 { 1 } else { 2 }].to_vec(),
        window: window_of(window, [lines, extent(&input.shape, rank - 1)], [0; 4]).1,
        depth: extent(&input.shape, 1) / groups,
        channels: extent(&result.shape, 1) / groups,
        ..ContractionSpec::default()
    })
}

/// The operand of a map that has all elements of its result.
fn main_operand(graph: &Graph, map: NodeId) -> Option<usize> {
    let shape = &graph.ty(map).shape;
    let is_whole = |&operand: &NodeId| graph.ty(operand).shape == *shape && graph.constant_value(operand).is_none();
    graph.operands(map).iter().position(is_whole)
}

/// Whether a value is a convolution's input, and no other operand of it.
fn is_input_of(lowering: &Lowering<'_>, reader: NodeId, id: NodeId) -> bool {
    let graph = lowering.graph;
    let places = graph.operands(reader).iter().enumerate().filter(|(_, operand)| **operand == id);
    matches!(graph.op(reader), Op::Conv { .. }) && places.map(|(place, _)| place).eq([0]) && is_tiled(lowering, reader)
}

fn is_output(graph: &Graph, id: NodeId) -> bool {
    graph.outputs().iter().any(|output| output.node == id)
}
