//! Contractions of dequantised values become contractions of the integers.

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, PadMode, Scalar, Tensor, TypeError};

use super::affine::{along, dequantized, integer};
use crate::fuse::channels::{bias_shape, channel_axis, channel_tensor, weight_channel};

/// `conv(dequantize(q), dequantize(w)) => f32(conv(q, w) - zero * sum(w)) * scale`, for convolutions and matrix products with
/// constant weights; the padding is written out, as the integer that stands for 0.
///
/// The image has one scale and zero point, the weights may have one per channel of the result. Weights are taken less their
/// zero point; where that leaves i8, the rest goes into a second contraction whose sums are added. Transposed convolutions and
/// products of two activations need zero points of 0. Sums are exact; the scale is one f32 factor.
pub fn integer_contractions(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if let Some(integers) = Integers::of(graph, id) {
            rewrites += rewrite(graph, id, integers).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

/// What a contraction computes on integers.
struct Integers {
    source: NodeId,
    /// The integer of the source that stands for 0.
    zero: i64,
    weights: Weights,
    /// Values of one step of the sums: one, or one per channel.
    scales: Vec<f64>,
    channels: usize,
    axis: usize,
}

enum Weights {
    /// Constants less their zero point, as far as i8 goes; what is beyond; and the sum of both for each channel.
    Constant { within: Vec<i64>, beyond: Option<Vec<i64>>, sums: Vec<i64> },
    /// Integers whose zero point is 0.
    Computed(NodeId),
}

impl Integers {
    fn of(graph: &Graph, id: NodeId) -> Option<Integers> {
        let axis = channel_axis(graph, id)?;
        let ty = graph.ty(id);
        let &[image, weights, ..] = graph.operands(id) else { return None };
        let (source, image) = dequantized(graph, image).filter(|(_, affine)| affine.dtype == DType::I8)?;
        let (scale, zero) = image.single()?;
        let (weights, affine) = dequantized(graph, weights)?;
        let channels = ty.shape.dim(axis);
        let channel_of = weight_channel(graph.op(id), &graph.ty(weights).shape, channels);
        let Some(constant) = graph.constant_value(weights) else {
            let (other, other_zero) = affine.single()?;
            let is_plain = (zero, other_zero, affine.dtype) == (0, 0, DType::I8);
            let scales = vec![scale as f64 * other as f64];
            let weights = Weights::Computed(weights);
            return is_plain.then_some(Integers { source, zero, weights, scales, channels, axis });
        };
        if zero != 0 && !is_shared(graph.op(id), constant) {
            return None;
        }
        let mut sums = vec![0; channels];
        let position = along(constant.shape(), affine.axis);
        let mut scales = vec![0f64; channels];
        let mut values = Vec::with_capacity(constant.elements());
        for (place, q) in constant.scalars().enumerate() {
            let (at, channel) = (position(place), channel_of(place));
            let value = q.as_i64() - affine.zeros[at];
            sums[channel] += value;
            let step = scale as f64 * affine.scales[at] as f64;
            if scales[channel] != 0.0 && scales[channel] != step {
                // Scales along an axis that is summed over.
                return None;
            }
            scales[channel] = step;
            values.push(value);
        }
        let (within, beyond) = split(values)?;
        let fits = sums.iter().all(|sum| (sum * zero).unsigned_abs() < 1 << 30);
        let weights = Weights::Constant { within, beyond, sums };
        fits.then_some(Integers { source, zero, weights, scales, channels, axis })
    }
}

/// Whether every batch of a matrix product, and every pixel of a convolution, meets the same weights of a channel, all of them.
fn is_shared(op: &Op, weights: &Tensor) -> bool {
    let extents = weights.shape().extents();
    match op {
        Op::MatMul { .. } => extents[..extents.len() - 2].iter().all(|&extent| extent == 1),
        Op::Conv { .. } => true,
        _ => false,
    }
}

/// Values as sums of two of i8; without the second where the first is all.
fn split(values: Vec<i64>) -> Option<(Vec<i64>, Option<Vec<i64>>)> {
    let within: Vec<i64> = values.iter().map(|&value| value.clamp(-128, 127)).collect();
    let beyond: Vec<i64> = values.iter().zip(&within).map(|(value, within)| value - within).collect();
    let fits = beyond.iter().all(|rest| (-128..=127).contains(rest));
    let beyond = beyond.iter().any(|&rest| rest != 0).then_some(beyond);
    fits.then_some((within, beyond))
}

fn rewrite(graph: &mut Graph, id: NodeId, integers: Integers) -> Result<(), TypeError> {
    let origin = graph.node(id).origin().clone();
    let Integers { source, zero, weights, scales, channels, axis } = integers;
    let weights_id = graph.operands(id)[1];
    let weights_origin = graph.node(weights_id).origin().clone();
    let shape = graph.ty(weights_id).shape.clone();
    let mut op = graph.op(id).clone();
    let (source, rank) = (padded(graph, &mut op, source, zero, id)?, graph.ty(id).shape.rank());
    let epilogue = op.epilogue().cloned().unwrap_or_default();
    let extras = graph.operands(id)[2..].to_vec();
    let mut operands = [source].to_vec();
    let constant = |graph: &mut Graph, values: &[i64]| {
        let scalars = values.iter().map(|&value| Scalar::from_i64(DType::I8, value));
        let tensor = Tensor::from_scalars(DType::I8, shape.clone(), scalars);
        tensor.ok().map(|tensor| graph.constant(tensor, weights_origin.clone()))
    };
    let mut terms: Vec<NodeId> = Vec::new();
    match &weights {
        Weights::Computed(weights) => operands.push(*weights),
        Weights::Constant { within, beyond, sums } => {
            operands.extend(constant(graph, within));
            if let Some(rest) = beyond.as_ref().and_then(|beyond| constant(graph, beyond)) {
                let mut plain = op.clone();
                plain.epilogue_mut().into_iter().for_each(|slot| *slot = Op::plain_epilogue(DType::I8));
                terms.push(graph.add(plain, &[source, rest], origin.clone())?);
            }
            if zero != 0 {
                let offsets = sums.iter().map(|sum| Scalar::from_i64(DType::I32, -sum * zero));
                let offsets = Tensor::from_scalars(DType::I32, bias_shape(channels, axis, rank), offsets);
                terms.extend(offsets.ok().map(|offsets| graph.constant(offsets, origin.clone())));
            }
        }
    }
    operands.extend(&extras);
    let first_term = operands.len() as u16 - 1;
    operands.extend(&terms);
    let factor = operands.len() as u16 - 1;
    let shape = if scales.len() == 1 { bias_shape(1, axis, rank) } else { bias_shape(channels, axis, rank) };
    operands.push(graph.constant(channel_tensor(&scales, shape), origin.clone()));
    let mut scaled = Expr::new();
    let root = scaled.inline(&epilogue, |expr, n, _| (n == 0).then(|| value_of_sum(expr, first_term..factor, factor)));
    op.epilogue_mut().into_iter().for_each(|slot| *slot = scaled.clone().with_root(root));
    graph.rewrite(id, op, &operands, origin)
}

/// `f32(acc + terms) * factor`
fn value_of_sum(expr: &mut Expr, terms: std::ops::Range<u16>, factor: u16) -> edgecc_ir::ExprId {
    let mut sum = expr.arg(0, DType::I32);
    for term in terms {
        let term = expr.arg(term, DType::I32);
        sum = expr.binary(BinaryOp::Add, sum, term);
    }
    let (sum, factor) = (expr.cast(DType::F32, sum), expr.arg(factor, DType::F32));
    expr.binary(BinaryOp::Mul, sum, factor)
}

/// The image with the padding of a convolution's window written out, which the window loses.
fn padded(graph: &mut Graph, op: &mut Op, source: NodeId, zero: i64, id: NodeId) -> Result<NodeId, TypeError> {
    let Op::Conv { window, .. } = op else { return Ok(source) };
    if window.pads_before.iter().chain(&window.pads_after).all(|&pad| pad == 0) {
        return Ok(source);
    }
    let whole = |pads: &[usize]| [&[0, 0], pads].concat();
    let (before, after) = (whole(&window.pads_before), whole(&window.pads_after));
    window.pads_before.iter_mut().chain(&mut window.pads_after).for_each(|pad| *pad = 0);
    let origin = graph.node(id).origin().clone();
    let fill = graph.constant(integer(DType::I8, zero), origin.clone());
    graph.add(Op::Pad { mode: PadMode::Constant, before, after }, &[source, fill], origin)
}
