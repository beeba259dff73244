//! Statistics of the values that become integers.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{Graph, NodeId, Op, Shape};
use edgecc_passes::quantize::Points;

use super::QuantizeError;
use crate::calibrate::capture::{Captured, capture};
use crate::calibrate::observe::Observed;
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;

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
        let (channels, inner) = channels(graph, captured.node, captured.shape);
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

/// Channels of a value as a layer sums over them, and how many neighbouring elements share one.
fn channels(graph: &Graph, id: NodeId, shape: &Shape) -> (usize, usize) {
    let rank = shape.rank();
    let transposed = graph.users(id).iter().any(|&user| matches!(graph.op(user), Op::MatMul { transpose_a: true, .. }));
    let is_image = graph.users(id).iter().any(|&user| matches!(graph.op(user), Op::Conv { .. }));
    let axis = match (is_image, transposed) {
        (true, _) => 1,
        (false, true) => rank - 2,
        (false, false) => rank - 1,
    };
    (shape.dim(axis).max(1), shape.extents()[axis + 1..].iter().product())
}
