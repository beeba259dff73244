//! Scales and shifts per channel in front of a contraction.

use edgecc_ir::{DType, Graph, NodeId, Op, Tensor};

use super::channels::{
    Affine, Place, bias_shape, channel_axis, channel_tensor, channel_values, locate, scaled, with_bias,
};
use crate::query::{is_constant, map_expr};

/// `conv(x * s + t, w) => conv(x, w * s) + sum(w * t)`, for convolutions and matrix products with constant weights.
///
/// The map is affine in `x` with constants along the axis that the contraction sums over, and the contraction alone reads
/// it. Where the convolution pads, `t` is 0, because the padding has not been shifted. Not exact: sums are computed in
/// binary64 and each weight is rounded once to f32.
pub fn fold_leading_affine(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(folded) = fold(graph, id) else { continue };
        let origin = graph.node(graph.operands(id)[0]).origin().joined(graph.node(id).origin());
        let mut operands = graph.operands(id).to_vec();
        let weights_origin = graph.node(operands[1]).origin().clone();
        operands[0] = folded.source;
        operands[1] = graph.constant(folded.weights, weights_origin);
        if let Some(bias) = folded.bias {
            operands.push(graph.constant(bias, origin.clone()));
        }
        rewrites += graph.rewrite(id, folded.op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

struct Folded {
    source: NodeId,
    op: Op,
    weights: Tensor,
    bias: Option<Tensor>,
}

fn fold(graph: &Graph, id: NodeId) -> Option<Folded> {
    let &[map, weights, ref extras @ ..] = graph.operands(id) else { return None };
    let (op, expr) = (graph.op(id).clone(), map_expr(graph, map)?);
    if !matches!(op, Op::Conv { .. } | Op::MatMul { .. }) || graph.only_user(map) != Some(id) {
        return None;
    }
    if weights == map || extras.contains(&map) {
        return None;
    }
    let (shape, operands) = (&graph.ty(map).shape, graph.operands(map));
    let place = operands.iter().position(|&operand| !is_constant(graph, operand))?;
    if graph.ty(operands[place]) != graph.ty(map) {
        return None;
    }
    let axis = summed_axis(&op, shape.rank());
    let values = |n: u16| channel_values(graph, operands[n as usize], shape, axis);
    let affine = Affine::of(expr, place as u16, shape.dim(axis), values)?;
    let weights = graph.constant_value(weights).filter(|w| w.dtype() == DType::F32)?;
    let shifts = affine.shift.iter().any(|&shift| shift != 0.0);
    if shifts && (pads(&op) || matches!(op, Op::MatMul { .. }) && weights.shape().rank() != 2) {
        return None;
    }
    let result = &graph.ty(id).shape;
    let channels = channel_axis(graph, id)?;
    let locate = |index: usize| locate(&op, weights, result.dim(channels), index);
    let scaled_weights = scaled(weights, &affine.scale, |index| locate(index).summed);
    let bias = shifts.then(|| {
        let mut sums = vec![0.0; result.dim(channels)];
        for (index, weight) in weights.to_f32().into_iter().enumerate() {
            let Place { summed, channel } = locate(index);
            sums[channel] += weight as f64 * affine.shift[summed];
        }
        channel_tensor(&sums, bias_shape(result.dim(channels), channels, result.rank()))
    });
    let op = if shifts { with_bias(op.clone(), extras.len())? } else { op.clone() };
    Some(Folded { source: operands[place], op, weights: scaled_weights, bias })
}

fn summed_axis(op: &Op, rank: usize) -> usize {
    match op {
        Op::MatMul { transpose_a: false, .. } => rank - 1,
        Op::MatMul { transpose_a: true, .. } => rank - 2,
        _ => 1,
    }
}

fn pads(op: &Op) -> bool {
    match op {
        Op::Conv { window, .. } => window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad > 0),
        _ => false,
    }
}
