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
use crate::view::{StorageId, View};

/// Neighbours of a vector.
const LANES: i64 = 4;
/// What a convolution does while it reads, from what it reads on: a map, a relayout, a pad and a transpose, or a depthwise convolution.
#[derive(Default)]
struct Front {
    map: Option<NodeId>,
    relayout: Option<NodeId>,
    pad: Option<NodeId>,
    transpose: Option<NodeId>,
    within: Option<NodeId>,
}

impl Front {
    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        [self.map, self.relayout, self.pad, self.transpose, self.within].into_iter().flatten()
    }
}

/// What a convolution reads.
pub(super) struct Source {
    /// The input; where its channels lie is not looked at yet.
    pub(super) input: View,
    /// Operands of the reading.
    pub(super) operands: Vec<View>,
    /// The depthwise convolution whose results are summed; what that one reads is asked of it.
    pub(super) within: Option<NodeId>,
    /// Rows and columns added by a pad in front: top, left, bottom, right.
    pub(super) pads: [i64; 4],
    /// What is made of the elements that are read; argument 0 is the input's.
    expr: Option<Expr>,
    outside: Option<Scalar>,
}

impl Source {
    /// What convolution `id` reads.
    pub(super) fn of(lowering: &Lowering<'_>, id: NodeId) -> Source {
        let graph = lowering.graph;
        let Front { map, relayout, pad, transpose, within } = front(lowering, id);
        let operand = |node: NodeId| graph.operands(node)[0];
        let perm = transpose.and_then(|node| permutation(graph, node));
        let seen = |view: View| perm.map_or(view.clone(), |perm| view.transposed(perm));
        // The first of them reads what none of them makes.
        let read = [map, relayout, pad, transpose].into_iter().flatten().next().map_or(graph.operands(id)[0], operand);
        let (mut pads, mut outside) = ([0; 4], None);
        if let Some((pad, border)) = pad.and_then(|pad| Some((pad, border(graph, pad, perm)?))) {
            pads = border;
            outside = graph.constant_value(graph.operands(pad)[1]).and_then(|fill| fill.as_splat());
        }
        let (mut node, mut operands, mut made) = (read, Vec::new(), None);
        if let Some(map) = map
            && let Op::Map(expr) = graph.op(map)
            && let Some(main) = main_operand(graph, map)
        {
            let shape = &graph.ty(map).shape;
            let others = graph.operands(map).iter().enumerate().filter(|&(place, _)| place != main);
            operands = others.map(|(_, &operand)| seen(lowering.view(operand).broadcast(shape))).collect();
            made = Some(expr.renumbered(|n| match usize::from(n) {
                place if place == main => 0,
                place if place < main => n + 1,
                _ => n,
            }));
            node = graph.operands(map)[main];
        }
        let input = match within {
            Some(_) => View::dense(StorageId(0), graph.ty(read)),
            None => seen(lowering.view(node).clone()),
        };
        Source { input, operands, within, pads, expr: made, outside }
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
    let means = graph.users(id).into_iter().filter(|&user| is_mean_of_convolution(lowering, user));
    let before = front(lowering, id).nodes().fold(Origin::default(), |all, node| all.joined(graph.node(node).origin()));
    means.fold(before.joined(graph.node(id).origin()), |all, mean| all.joined(graph.node(mean).origin()))
}

/// Whether the convolutions that read a node's result do its work.
pub(super) fn is_done_by_readers(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let is_able = match lowering.graph.op(id) {
        Op::Map(_) | Op::Relayout(_) | Op::Pad { .. } | Op::Transpose(_) => true,
        Op::Conv { groups, .. } => *groups > 1,
        _ => false,
    };
    if lowering.options.processor != Processor::Gpu || !is_able || is_output(lowering.graph, id) {
        return false;
    }
    let readers = readers(lowering.graph, id);
    !readers.is_empty() && readers.into_iter().all(|reader| front(lowering, reader).nodes().any(|node| node == id))
}

/// What reads a node, directly or by movements between.
fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let behind = |user: NodeId| match graph.op(user) {
        Op::Relayout(_) | Op::Pad { .. } | Op::Transpose(_) => readers(graph, user),
        _ => vec![user],
    };
    graph.users(id).into_iter().flat_map(behind).collect()
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
    let first = graph.operands(id)[0];
    if lowering.options.processor != Processor::Gpu || !is_input_of(lowering, id, first) {
        return Front::default();
    }
    if is_computed(lowering, first, id) {
        return Front { within: Some(first), ..Front::default() };
    }
    let operand = |node: NodeId| graph.operands(node)[0];
    let perm = permutation(graph, first);
    let pad = Some(perm.map_or(first, |_| operand(first))).filter(|&pad| border(graph, pad, perm).is_some());
    let transpose = pad.and(perm).map(|_| first);
    let before = pad.map_or(first, operand);
    let is_relaid = matches!(graph.op(before), Op::Relayout(_)) && *groups == 1 && is_thin(graph, id);
    let path: Vec<NodeId> = [pad, transpose, Some(id)].into_iter().flatten().collect();
    let relayout = Some(before).filter(|&relayout| is_relaid && leads_only_to(graph, relayout, &path));
    let path: Vec<NodeId> = relayout.into_iter().chain(path).collect();
    let map = Some(relayout.map_or(before, operand)).filter(|&map| *groups == 1 && is_map(lowering, map, &path));
    Front { map, relayout, pad, transpose, within: None }
}

fn permutation(graph: &Graph, id: NodeId) -> Option<&[usize]> {
    match graph.op(id) {
        Op::Transpose(perm) => Some(perm),
        _ => None,
    }
}

/// The rows and columns that a pad puts around an image of integers, all of one number, behind a transpose: top, left, bottom, right.
/// Borders of zeros around other numbers are the window's own.
fn border(graph: &Graph, id: NodeId, perm: Option<&[usize]>) -> Option<[i64; 4]> {
    let Op::Pad { mode: PadMode::Constant, before, after } = graph.op(id) else { return None };
    graph.constant_value(graph.operands(id)[1])?.as_splat()?;
    let axis = |axis: usize| perm.map_or(axis, |perm| perm[axis]);
    let seen = |pads: &[usize]| (0..pads.len()).map(|place| pads[axis(place)]).collect::<Vec<_>>();
    let (before, after) = (seen(before), seen(after));
    let is_spatial = before.len() > 2 && before[..2] == [0, 0] && after[..2] == [0, 0];
    let spatial = |pads: &[usize]| two(&pads[2..], 0).map(|pad| pad as i64);
    (graph.ty(id).dtype == DType::I8 && is_spatial).then(|| {
        let ([top, left], [bottom, right]) = (spatial(&before), spatial(&after));
        [top, left, bottom, right]
    })
}

/// Whether a value and those on the way from it are read by the next one on the way alone.
fn leads_only_to(graph: &Graph, id: NodeId, path: &[NodeId]) -> bool {
    let all: Vec<NodeId> = std::iter::once(id).chain(path.iter().copied()).collect();
    all.windows(2).all(|pair| graph.users(pair[0]) == [pair[1]] && !is_output(graph, pair[0]))
}

/// A map whose result goes to one convolution alone, by this path, and that takes little beside its sums.
fn is_map(lowering: &Lowering<'_>, id: NodeId, path: &[NodeId]) -> bool {
    let graph = lowering.graph;
    let (Op::Map(expr), Some(&reader)) = (graph.op(id), path.last()) else { return false };
    let is_known = |(_, dtype): (u16, DType)| {
        matches!(dtype, DType::F32 | DType::F16 | DType::I8 | DType::U8 | DType::I32 | DType::U32)
    };
    let Some(main) = main_operand(graph, id) else { return false };
    let node = graph.operands(id)[main];
    let is_integer = graph.ty(id).dtype == DType::I8;
    let is_laid_out = is_thin(graph, reader) || !matches!(graph.op(node), Op::Relayout(_));
    leads_only_to(graph, id, path)
        && is_laid_out
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
