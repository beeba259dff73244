//! How much each class of a group matters.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId, Op, Tensor};

use super::Norm;
use super::classes::Class;
use super::groups::{Group, result_axis};
use super::propagate::Channels;

/// For each group the importance of its classes; the mean of a group is 1. Without activations it is the weights that make a
/// channel and those that read it; with them, what the channel adds to what reads it: the size of each position along
/// [`depth_axis`] of a contraction's operand 0, times the weights that read it.
pub(crate) fn importance(
    graph: &Graph,
    channels: &mut Channels,
    groups: &[Group],
    norm: Norm,
    activations: &BTreeMap<NodeId, Vec<f64>>,
) -> Vec<Vec<f64>> {
    let (mut made, mut read) = (Totals::default(), Totals::default());
    for id in graph.order() {
        let (Some(axis), Some(weights)) = (result_axis(graph, id), weights(graph, id)) else { continue };
        let values = filter_norms(graph, id, weights, norm);
        made.add(channels, id, axis, &values);
        let Some(axis) = depth_axis(graph, id) else { continue };
        let x = graph.operands(id)[0];
        let mut values = depth_norms(graph, id, weights, norm);
        match activations.get(&id) {
            Some(activations) => values.iter_mut().zip(activations).for_each(|(value, size)| *value *= size),
            None if activations.is_empty() => {}
            None => continue,
        }
        read.add(channels, x, axis, &values);
    }
    let of_group = |group: &Group| {
        let parts: Vec<Vec<f64>> = [&made, &read].iter().map(|totals| totals.of(&group.classes)).collect();
        let known: Vec<&Vec<f64>> = match (activations.is_empty(), &parts[..]) {
            (false, [_, read]) if read.iter().any(|&value| value > 0.0) => vec![read],
            _ => parts.iter().filter(|part| part.iter().any(|&value| value > 0.0)).collect(),
        };
        let sum = |place: usize| known.iter().map(|part| part[place]).sum::<f64>();
        relative((0..group.classes.len()).map(sum).collect())
    };
    groups.iter().map(of_group).collect()
}

/// Sums by class of values that have the mean 1 on each axis.
#[derive(Default)]
struct Totals(BTreeMap<Class, f64>);

impl Totals {
    fn add(&mut self, channels: &mut Channels, node: NodeId, axis: usize, values: &[f64]) {
        let axis = channels.axis(node, axis).clone();
        let values = relative(values.to_vec());
        for (&class, value) in axis.iter().zip(values) {
            *self.0.entry(channels.classes.root(class)).or_default() += value;
        }
    }

    fn of(&self, classes: &[Class]) -> Vec<f64> {
        relative(classes.iter().map(|class| self.0.get(class).copied().unwrap_or(0.0)).collect())
    }
}

/// The values over their mean; as they are where that is 0.
fn relative(values: Vec<f64>) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    if mean > 0.0 { values.iter().map(|value| value / mean).collect() } else { values }
}

fn weights(graph: &Graph, id: NodeId) -> Option<&Tensor> {
    graph.constant_value(*graph.operands(id).get(1)?)
}

/// The axis of a contraction's operand 0 that sums of products run over, where a sum takes more than one position of it.
pub fn depth_axis(graph: &Graph, id: NodeId) -> Option<usize> {
    let operands = graph.operands(id);
    match graph.op(id) {
        Op::Conv { .. } => (graph.ty(operands[1]).shape.dim(1) > 1).then_some(1),
        Op::ConvTranspose { groups: 1, .. } => Some(1),
        Op::MatMul { transpose_a, .. } => {
            let rank = graph.ty(operands[0]).shape.rank();
            Some(if *transpose_a { rank - 2 } else { rank - 1 })
        }
        _ => None,
    }
}

/// For every result channel the norm of the weights that make it.
fn filter_norms(graph: &Graph, id: NodeId, weights: &Tensor, norm: Norm) -> Vec<f64> {
    let rank = weights.shape().rank();
    match graph.op(id) {
        Op::Conv { .. } => norms(weights, 0, norm),
        Op::ConvTranspose { groups, .. } => norms(weights, 1, norm).repeat(*groups),
        Op::MatMul { transpose_b: true, .. } => norms(weights, rank - 2, norm),
        _ => norms(weights, rank - 1, norm),
    }
}

/// For every position of [`depth_axis`] the norm of the weights that read it.
fn depth_norms(graph: &Graph, id: NodeId, weights: &Tensor, norm: Norm) -> Vec<f64> {
    let rank = weights.shape().rank();
    match graph.op(id) {
        Op::Conv { groups, .. } => norms(weights, 1, norm).repeat(*groups),
        Op::ConvTranspose { .. } => norms(weights, 0, norm),
        Op::MatMul { transpose_b: true, .. } => norms(weights, rank - 1, norm),
        _ => norms(weights, rank - 2, norm),
    }
}

/// The norm of the elements at each position along an axis.
fn norms(weights: &Tensor, axis: usize, norm: Norm) -> Vec<f64> {
    let extent = weights.shape().dim(axis);
    let inner = weights.shape().strides()[axis];
    let mut sums = vec![0.0; extent];
    for (place, weight) in weights.to_f32().into_iter().enumerate() {
        let weight = weight as f64;
        sums[place / inner % extent] += match norm {
            Norm::L1 => weight.abs(),
            Norm::L2 => weight * weight,
        };
    }
    match norm {
        Norm::L1 => sums,
        Norm::L2 => sums.into_iter().map(f64::sqrt).collect(),
    }
}
