//! Statistics of the values that become integers.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{DType, Graph, NodeId, Op, Scalar};
use edgecc_passes::quantize::{Affine, Points};

use super::{QuantizeError, QuantizeOptions};
use crate::calibrate::capture::{Captured, capture};
use crate::calibrate::observe::{Observed, Range};
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use crate::recipe::RangeRule;

/// Decibels of a channel over its rounding, below which it is not rounded with others.
const FEWEST_DECIBELS: f64 = 30.0;

/// Statistics of every value that is to be integers.
pub(super) fn observe(
    graph: &Graph,
    options: &CompileOptions,
    points: &Points,
    samples: &Samples,
    threads: usize,
) -> Result<BTreeMap<NodeId, Observed>, QuantizeError> {
    let mut observed: BTreeMap<NodeId, Observed> = BTreeMap::new();
    let mut not_finite = None;
    // Layers tell the means of what they read as they read it.
    let read = points.layers.iter().map(|&layer| graph.operands(layer)[0]);
    let values: Vec<NodeId> = points.values.iter().copied().chain(read).collect::<BTreeSet<_>>().into_iter().collect();
    capture(graph, options, &values, samples, threads, &mut |captured: Captured<'_>| {
        let (axis, extents) = (channel_axis(graph, captured.node), captured.shape.extents());
        let channels = extents.get(axis).map_or(1, |&channels| channels.max(1));
        let inner = extents.iter().skip(axis + 1).product();
        let own = observed.entry(captured.node).or_insert_with(|| Observed::new(channels));
        if !own.add(captured.elements, inner) {
            not_finite.get_or_insert((captured.node, captured.run));
        }
    })?;
    match not_finite {
        Some((node, run)) => Err(QuantizeError::NotFinite { origin: graph.node(node).origin().to_string(), run }),
        None => Ok(observed),
    }
}

/// The axis along which a value has channels, as layers sum over them.
pub(super) fn channel_axis(graph: &Graph, id: NodeId) -> usize {
    let rank = graph.ty(id).shape.rank();
    let is_read = |reads: fn(&Op) -> bool| graph.users(id).iter().any(|&user| reads(graph.op(user)));
    if is_read(|op| matches!(op, Op::Conv { .. })) {
        return 1;
    }
    match (is_read(|op| matches!(op, Op::MatMul { .. })), rank) {
        (true, _) if is_read(|op| matches!(op, Op::MatMul { transpose_a: true, .. })) => rank - 2,
        (false, 4) => 1,
        (_, rank) => rank.saturating_sub(1),
    }
}

/// What the integers of each value cover.
pub(super) fn ranges(
    graph: &Graph,
    how: &QuantizeOptions,
    points: &Points,
    observed: &BTreeMap<NodeId, Observed>,
) -> BTreeMap<NodeId, Range> {
    let rules = how.rules(graph);
    let range = |&id: &NodeId| {
        let observed = observed.get(&id)?;
        let range = match (rules.get(&id), how.observer) {
            (Some(&RangeRule::Decided(range)), _) => range,
            (Some(&RangeRule::By { observer }), _) | (None, Some(observer)) => observed.proposal(observer),
            (None, None) if how.plain => observed.extremes(),
            (None, None) => match points.functions.get(&id) {
                Some(function) => observed.best_range_for(|x| eval_scalar(function, &[Scalar::f32(x as f32)]).as_f64()),
                None => observed.best_range(),
            },
        };
        Some((id, range))
    };
    points.values.iter().filter_map(range).collect()
}

/// What 16 bits of each value cover: everything, since their steps are fine, where nothing else is said.
pub(super) fn wide_ranges(
    graph: &Graph,
    how: &QuantizeOptions,
    points: &Points,
    observed: &BTreeMap<NodeId, Observed>,
) -> BTreeMap<NodeId, Range> {
    let rules = how.rules(graph);
    let range = |&id: &NodeId| match rules.get(&id) {
        Some(&RangeRule::Decided(range)) => Some((id, range)),
        Some(RangeRule::By { .. }) | None => Some((id, observed.get(&id)?.extremes())),
    };
    points.values.iter().filter_map(range).collect()
}

/// Values behind the last layer, such as boxes beside scores, of which a channel has too few steps where all share one scale.
pub(super) fn unlike_parts(
    graph: &Graph,
    points: &Points,
    observed: &BTreeMap<NodeId, Observed>,
    ranges: &BTreeMap<NodeId, Range>,
) -> Vec<NodeId> {
    let is_coarse = |&&id: &&NodeId| {
        let range = ranges.get(&id).zip(observed.get(&id));
        range.is_some_and(|(range, observed)| observed.worst_channel(range) < FEWEST_DECIBELS)
    };
    points.values.iter().filter(is_coarse).copied().filter(|&id| !leads_to_layer(graph, id)).collect()
}

/// Whether a contraction reads a value, or something that is computed of it.
fn leads_to_layer(graph: &Graph, id: NodeId) -> bool {
    let (mut reached, mut open) = (BTreeSet::from([id]), vec![id]);
    while let Some(value) = open.pop() {
        for user in graph.users(value) {
            if graph.op(user).epilogue().is_some() {
                return true;
            }
            if reached.insert(user) {
                open.push(user);
            }
        }
    }
    false
}

/// The integers of 8 bits that cover a range, one of which stands for 0.
pub(super) fn affine(range: &Range) -> Affine {
    let width = range.high - range.low;
    if width < f32::MIN_POSITIVE as f64 * 1e6 {
        return Affine::per_tensor(DType::I8, 1.0, 0);
    }
    let scale = (width / 255.0) as f32;
    let zero = (-128.0 - range.low / scale as f64).round_ties_even();
    Affine::per_tensor(DType::I8, scale, zero.clamp(-128.0, 127.0) as i64)
}
