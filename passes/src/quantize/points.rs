//! Where a graph of numbers takes integers: the contractions that can sum them, and the values between.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{DType, Expr, Graph, NodeId, Op, Type};

use super::function::FunctionOf;
use super::movement::moved_operands;
use crate::fuse;
use crate::query::is_constant;

/// Rounds of fusion that tell which values are kept.
const ROUNDS: usize = 16;

/// Where integers can stand for the numbers of a graph behind [`crate::prepare`].
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Contractions with constant weights, in the graph's order.
    pub layers: Vec<NodeId>,
    /// Values that are kept between steps and read by layers, or by what stands between them.
    pub values: Vec<NodeId>,
    /// Of the values those that are read for a function of them alone, argument 0: with integers on both of its sides, it is a table.
    pub functions: BTreeMap<NodeId, Expr>,
    /// Other contractions, with the reason.
    pub float: Vec<(NodeId, &'static str)>,
}

/// Finds them. A contraction for which `stays` has a reason keeps its numbers.
pub fn quantization_points(graph: &Graph, stays: impl Fn(NodeId) -> Option<&'static str>) -> Points {
    let mut points = Points::default();
    for id in graph.order().into_iter().filter(|&id| graph.op(id).epilogue().is_some()) {
        match reason_to_stay(graph, id).or_else(|| stays(id)) {
            Some(reason) => points.float.push((id, reason)),
            None => points.layers.push(id),
        }
    }
    let layers: BTreeSet<NodeId> = points.layers.iter().copied().collect();
    let mut kept = values(graph, &layers);
    kept.retain(|&id| graph.users(id).into_iter().any(|user| takes_integers(graph, user, &layers)));
    let of = |&id: &NodeId| FunctionOf::behind(graph, id, &layers);
    points.functions = kept.iter().filter_map(of).map(|function| (function.source, function.expr)).collect();
    kept.extend(points.functions.keys());
    points.values = graph.order().into_iter().filter(|id| kept.contains(id)).collect();
    points
}

fn reason_to_stay(graph: &Graph, id: NodeId) -> Option<&'static str> {
    let operands = graph.operands(id);
    let is_number = |id: NodeId| graph.ty(id).dtype == DType::F32;
    if !is_number(operands[0]) || !is_number(id) {
        return Some("is not of f32");
    }
    if graph.constant_value(operands[1]).is_none() {
        return Some("multiplies two activations");
    }
    match graph.op(id) {
        Op::ConvTranspose { .. } => Some("is a transposed convolution"),
        Op::MatMul { .. } if graph.ty(operands[1]).shape.rank() != 2 => Some("has several matrices of weights"),
        _ if is_constant(graph, operands[0]) => Some("has a constant operand"),
        _ => None,
    }
}

/// The values that stay when everything is fused that can be, as far as integers may stand for them: what layers read, and
/// images that layers or maps over such values make for maps, pools and reductions.
fn values(graph: &Graph, layers: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let fused = fused(graph);
    // What is moved on its way to a layer is moved as integers.
    let inputs: BTreeSet<NodeId> = layers.iter().map(|&layer| layer_input(graph, layer)).collect();
    let mut kept: BTreeSet<NodeId> = inputs.clone();
    let fused_order = fused.order();
    for &id in &fused_order {
        let Type::Tensor(ty) = fused.node(id).ty() else { continue };
        let of_layers = match fused.op(id) {
            // A layer that took in the maps behind it bears the last one's id.
            Op::Conv { .. } | Op::MatMul { .. } => reads_layer_weights(&fused, id, graph, layers),
            Op::Map(_) => fused.operands(id).iter().any(|&operand| kept.contains(&origin_of(&fused, operand))),
            _ => false,
        };
        if of_layers && ty.dtype == DType::F32 && is_image(&fused, id) && feeds_computation(&fused, id) {
            kept.insert(id);
        }
    }
    kept.into_iter().filter(|id| graph.ty(*id).dtype == DType::F32).collect()
}

fn fused(graph: &Graph) -> Graph {
    let mut fused = graph.clone();
    for _ in 0..ROUNDS {
        if fuse::fuse_epilogue(&mut fused) + fuse::fuse_maps(&mut fused) == 0 {
            break;
        }
    }
    fused
}

fn reads_layer_weights(fused: &Graph, id: NodeId, graph: &Graph, layers: &BTreeSet<NodeId>) -> bool {
    let weights = fused.operands(id)[1];
    graph.users(weights).iter().any(|user| layers.contains(user))
}

/// Whether what reads a value can do with integers: one of the layers, a contraction that is none, or what leads to either or to an
/// output. Contractions that could be layers and are not want numbers.
pub(super) fn takes_integers(graph: &Graph, reader: NodeId, layers: &BTreeSet<NodeId>) -> bool {
    let is_output = |id: NodeId| graph.outputs().iter().any(|output| output.node == id);
    let (mut reached, mut open) = (BTreeSet::from([reader]), vec![reader]);
    while let Some(id) = open.pop() {
        let takes = match graph.op(id).epilogue() {
            Some(_) => layers.contains(&id) || reason_to_stay(graph, id).is_some(),
            None => is_output(id),
        };
        if takes {
            return true;
        }
        if graph.op(id).epilogue().is_none() {
            open.extend(graph.users(id).into_iter().filter(|&user| reached.insert(user)));
        }
    }
    false
}

/// The value that a layer reads, as it is before it is moved.
pub fn layer_input(graph: &Graph, layer: NodeId) -> NodeId {
    origin_of(graph, graph.operands(layer)[0])
}

/// The value whose elements a movement moves.
fn origin_of(graph: &Graph, mut id: NodeId) -> NodeId {
    while let Some(&[place]) = moved_operands(graph, id).as_deref() {
        id = graph.operands(id)[place];
    }
    id
}

/// Whether a value has more than one element for each position of axis 1 of an image, or of the last axis of others.
fn is_image(graph: &Graph, id: NodeId) -> bool {
    let extents = graph.ty(id).shape.extents();
    match extents.len() {
        0 | 1 => false,
        2 => extents[0] > 1,
        3 => extents[..2].iter().product::<usize>() > 1,
        _ => extents[2..].iter().product::<usize>() > 1,
    }
}

/// Whether a map, pool, reduction or contraction reads the value, as it is or moved.
fn feeds_computation(graph: &Graph, id: NodeId) -> bool {
    graph.users(id).into_iter().any(|user| match graph.op(user) {
        Op::Map(_) | Op::Pool { .. } | Op::Reduce { .. } | Op::Conv { .. } | Op::MatMul { .. } => true,
        _ => moved_operands(graph, user).is_some() && feeds_computation(graph, user),
    })
}
