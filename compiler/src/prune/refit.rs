//! Fits the weights of a pruned network again: no labels and no gradients, each layer by least squares.

use edgecc_ir::{Graph, NodeId, Op, Tensor, TypeError};
use edgecc_passes::prune::{Kept, Pruned};

use super::{Calibration, Error};
use crate::calibrate::capture::{CaptureError, Captured, capture};
use crate::least_squares::Normal;
use crate::rows::{Form, Layer, Rows};

/// What keeps weights near those before, as a share of the features' mean square.
const RIDGE: f64 = 1e-3;

/// Fits every layer behind a cut, in order.
pub(super) fn refit(
    original: &Graph,
    pruned: &mut Pruned,
    calibration: Calibration<'_>,
    say: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let order = pruned.graph.order();
    let mut changed = vec![false; pruned.graph.bound()];
    for (place, &id) in order.iter().enumerate() {
        changed[id.index()] = is_changed(original, pruned, id, &changed);
        if !changed[id.index()] {
            continue;
        }
        let Some(layer) = Layer::of(&pruned.graph, id) else { continue };
        say(format!("fitting weights, {} of {} nodes", place + 1, order.len()));
        if let Some((weights, bias)) = fit(original, pruned, &layer, calibration)? {
            replace(&mut pruned.graph, id, weights, bias)?;
        }
    }
    pruned.graph.remove_dead();
    Ok(())
}

/// Whether a value differs from that of the network before, where it is kept.
fn is_changed(original: &Graph, pruned: &Pruned, id: NodeId, changed: &[bool]) -> bool {
    let operands = pruned.graph.operands(id);
    let is_cut = |&operand: &NodeId| pruned.graph.node(operand).ty() != original.node(operand).ty();
    let mixes = pruned.graph.op(id).epilogue().is_some() || matches!(pruned.graph.op(id), Op::Normalize { .. });
    operands.iter().any(|operand| changed[operand.index()]) || mixes && operands.iter().take(1).any(is_cut)
}

/// Elements of a row of a value whose channels lie along axis 1 of images, or the last axis, at these positions.
fn results(layer: &Layer<'_>, value: &Captured<'_>, row: usize, kept: Option<&[usize]>, row_results: &mut Vec<f32>) {
    let (extents, strides) = (value.shape.extents(), value.shape.strides());
    let (start, step, count) = match layer.form {
        Form::MatMul { .. } => (row * extents[extents.len() - 1], 1, extents[extents.len() - 1]),
        Form::Conv { .. } => (row / strides[1] * strides[0] + row % strides[1], strides[1], extents[1]),
    };
    let at = |channel: usize| value.elements[start + channel * step];
    match kept {
        Some(kept) => row_results.extend(kept.iter().map(|&channel| at(channel))),
        None => row_results.extend((0..count).map(at)),
    }
}

/// The weights, and the bias if there is one, that bring a layer's results nearest to those before. `None` where the samples
/// do not tell.
fn fit(
    original: &Graph,
    pruned: &Pruned,
    layer: &Layer<'_>,
    Calibration { samples, options, threads }: Calibration<'_>,
) -> Result<Option<(Tensor, Option<Tensor>)>, CaptureError> {
    let shape = &pruned.graph.ty(layer.id).shape;
    let rows = Rows::of(layer, shape, samples.runs.len());
    if rows.taken == 0 {
        return Ok(None);
    }
    let x = pruned.graph.operands(layer.id)[0];
    let (mut features, mut missing) = (Vec::new(), Vec::new());
    capture(&pruned.graph, options, &[x, layer.id], samples, threads, &mut |value| {
        for row in rows.of_run(value.run) {
            match value.node == x {
                true => layer.gather(&value, shape, row, &mut features),
                false => results(layer, &value, row, None, &mut missing),
            }
        }
    })?;
    let kept = kept_results(&pruned.kept, layer);
    let mut place = 0;
    let mut wanted = Vec::new();
    capture(original, options, &[layer.id], samples, threads, &mut |value| {
        for row in rows.of_run(value.run) {
            wanted.clear();
            results(layer, &value, row, Some(kept), &mut wanted);
            for value in &wanted {
                missing[place] = value - missing[place];
                place += 1;
            }
        }
    })?;
    Ok(solve(layer, &features, &missing, threads).map(|correction| corrected(&pruned.graph, layer, &correction)))
}

fn kept_results<'a>(kept: &'a Kept, layer: &Layer<'_>) -> &'a [usize] {
    let rank = |form: &Form<'_>| match form {
        Form::Conv { .. } => 1,
        Form::MatMul { .. } => kept.rank(layer.id) - 1,
    };
    kept.axis(layer.id, rank(&layer.form))
}

/// For each result what is added to the weights of its features, and behind them to the bias.
fn solve(layer: &Layer<'_>, features: &[f32], missing: &[f32], threads: usize) -> Option<Vec<Vec<f64>>> {
    let (groups, of_group, results) = (layer.groups(), layer.features(), layer.results());
    let results_of_group = results / groups;
    let columns = of_group + layer.bias as usize;
    let mut corrections = Vec::with_capacity(results);
    for group in 0..groups {
        let mut normal = Normal::new(columns, results_of_group);
        for (features, missing) in features.chunks(groups * of_group).zip(missing.chunks(results)) {
            let features = &features[group * of_group..][..of_group];
            let missing = &missing[group * results_of_group..][..results_of_group];
            let one = layer.bias.then_some(1.0);
            normal.add(features.iter().copied().chain(one).chain(missing.iter().copied()), threads);
        }
        let solution = normal.solve(RIDGE, threads)?;
        let of_result = |result: usize| solution.iter().skip(result).step_by(results_of_group).copied().collect();
        corrections.extend((0..results_of_group).map(of_result));
    }
    Some(corrections)
}

/// Weights and bias with what is added to them.
fn corrected(graph: &Graph, layer: &Layer<'_>, corrections: &[Vec<f64>]) -> (Tensor, Option<Tensor>) {
    let mut weights = layer.weights.to_f32();
    for (result, correction) in corrections.iter().enumerate() {
        for (feature, more) in correction[..layer.features()].iter().enumerate() {
            let weight = &mut weights[layer.place(feature, result)];
            *weight = (*weight as f64 + more) as f32;
        }
    }
    let bias = layer.bias.then(|| {
        let before = graph.constant_value(graph.operands(layer.id)[2]).map(Tensor::to_f32).unwrap_or_default();
        let at = |result: usize| before.get(result).or(before.first()).copied().unwrap_or(0.0) as f64;
        let more = |(result, correction): (usize, &Vec<f64>)| (at(result) + correction[layer.features()]) as f32;
        let values: Vec<f32> = corrections.iter().enumerate().map(more).collect();
        let units = match &layer.form {
            Form::Conv { window, .. } => window.kernel.len(),
            Form::MatMul { .. } => 0,
        };
        Tensor::from_f32(std::iter::once(values.len()).chain(std::iter::repeat_n(1, units)).collect(), &values)
    });
    (Tensor::from_f32(layer.weights.shape().clone(), &weights), bias)
}

/// Gives a contraction other weights; whoever shares the old ones keeps them.
fn replace(graph: &mut Graph, id: NodeId, weights: Tensor, bias: Option<Tensor>) -> Result<(), TypeError> {
    let node = graph.node(id).clone();
    let mut operands = node.operands().to_vec();
    for (place, value) in [(1, Some(weights)), (2, bias)] {
        if let Some(value) = value {
            let origin = graph.node(operands[place]).origin().clone();
            operands[place] = graph.constant(value, origin);
        }
    }
    graph.rewrite(id, node.op().clone(), &operands, node.origin().clone())
}
