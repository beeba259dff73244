//! Scales and shifts per channel behind a contraction.

use edgecc_ir::{DType, Graph, NodeId, Op, Tensor};

use super::channels::{
    Affine, affine_epilogue, bias_epilogue, bias_shape, channel_axis, channel_tensor, channel_values, scaled,
    weight_channel,
};
use crate::query::map_expr;

/// `conv(x, w) * s + t => conv(x, w * s) + t`, for convolutions and matrix products with constant weights.
///
/// The map is affine in the contraction, its other operands are constants along the channel axis (a batch normalization, a
/// scale, a bias, in any order of operations); nothing else reads the contraction, whose own epilogue is affine likewise.
/// Not exact: the coefficients are computed in binary64 and each weight is rounded once to f32.
pub fn fold_batchnorm(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(folded) = fold(graph, id) else { continue };
        let contraction = folded.contraction;
        let origin = graph.node(contraction).origin().joined(graph.node(id).origin());
        let mut operands = graph.operands(contraction)[..2].to_vec();
        if let Some(weights) = folded.weights {
            let weights_origin = graph.node(operands[1]).origin().clone();
            operands[1] = graph.constant(weights, weights_origin);
        }
        if let Some(bias) = folded.bias {
            operands.push(graph.constant(bias, origin.clone()));
        }
        rewrites += graph.rewrite(id, folded.op, &operands, origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

/// What a map and the contraction in front of it become. Weights and bias stand where they differ from none.
struct Folded {
    contraction: NodeId,
    op: Op,
    weights: Option<Tensor>,
    bias: Option<Tensor>,
}

fn fold(graph: &Graph, map: NodeId) -> Option<Folded> {
    let expr = map_expr(graph, map)?;
    let operands = graph.operands(map);
    let place = operands.iter().position(|&operand| channel_axis(graph, operand).is_some())?;
    let contraction = operands[place];
    let weights = graph.constant_value(graph.operands(contraction)[1]).filter(|w| w.dtype() == DType::F32)?;
    if graph.only_user(contraction) != Some(map) || graph.ty(contraction) != graph.ty(map) {
        return None;
    }
    let (axis, shape) = (channel_axis(graph, contraction)?, &graph.ty(map).shape);
    let channels = shape.dim(axis);
    let outer = Affine::of(expr, place as u16, channels, |n| channel_values(graph, operands[n as usize], shape, axis))?;
    let affine = outer.after(&affine_epilogue(graph, contraction)?);
    let biased = affine.shift.iter().any(|&shift| shift != 0.0);
    let mut op = graph.op(contraction).clone();
    *op.epilogue_mut()? = if biased { bias_epilogue() } else { Op::plain_epilogue(DType::F32) };
    Some(Folded {
        contraction,
        weights: affine
            .scale
            .iter()
            .any(|&scale| scale != 1.0)
            .then(|| scaled(weights, &affine.scale, weight_channel(&op, weights.shape(), channels))),
        bias: biased.then(|| channel_tensor(&affine.shift, bias_shape(channels, axis, shape.rank()))),
        op,
    })
}
