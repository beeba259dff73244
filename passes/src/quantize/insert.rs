//! Quantization as it is decided, written into a graph of numbers.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, Scalar, Tensor, TypeError, UnaryOp};

use super::affine::{Affine, along, dequantize, dequantized, integer_range, quantize_expr};
use super::movement::moved_operands;
use super::points::{quantization_points, takes_integers};
use crate::fuse::channels::{
    Place, bias_epilogue, bias_shape, channel_axis, channel_tensor, channel_values, locate, with_bias,
};

/// What becomes of a graph's values and layers.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Values, with what their integers stand for.
    pub values: BTreeMap<NodeId, Affine>,
    /// Layers, with their weights.
    pub layers: BTreeMap<NodeId, QuantizedWeights>,
    /// Of the layers those that read 16 bits, with what the upper 8 of them stand for.
    pub wide: BTreeMap<NodeId, Affine>,
}

/// Weights of a layer as integers.
#[derive(Clone, Debug)]
pub struct QuantizedWeights {
    /// The integers, of the weights' shape.
    pub integers: Tensor,
    /// What they stand for.
    pub affine: Affine,
    /// Added to each channel of the layer's result; empty for nothing.
    pub correction: Vec<f64>,
}

/// The axis of a layer's weights whose positions are the channels of its result.
pub fn weights_axis(op: &Op) -> usize {
    match op {
        Op::MatMul { transpose_b: false, .. } => 1,
        _ => 0,
    }
}

/// Weights rounded to i8 with a scale for each position of `axis`, without zero points: the largest magnitude is 127 steps.
/// Positions without weights but zeros take steps of 1.
pub fn quantize_weights(weights: &Tensor, axis: usize) -> QuantizedWeights {
    let values = weights.to_f32();
    let position = along(weights.shape(), Some(axis));
    let mut largest = vec![0f32; weights.shape().dim(axis)];
    for (place, value) in values.iter().enumerate() {
        let most = &mut largest[position(place)];
        *most = most.max(value.abs());
    }
    let (_, most) = integer_range(DType::I8);
    let step = |largest: &f32| if *largest < f32::MIN_POSITIVE * 1e6 { 1.0 } else { largest / most as f32 };
    let scales: Vec<f32> = largest.iter().map(step).collect();
    with_scales(weights, axis, scales)
}

/// Weights rounded to i8 with these scales, at most 127 in magnitude.
pub fn with_scales(weights: &Tensor, axis: usize, scales: Vec<f32>) -> QuantizedWeights {
    let position = along(weights.shape(), Some(axis));
    let integers = weights.to_f32().into_iter().enumerate().map(|(place, value)| {
        let steps = (value as f64 / scales[position(place)] as f64).round_ties_even();
        Scalar::from_i64(DType::I8, (steps as i64).clamp(-127, 127))
    });
    let integers = Tensor::from_scalars(DType::I8, weights.shape().clone(), integers);
    let zeros = vec![0; scales.len()];
    QuantizedWeights {
        // As many as the weights have.
        integers: integers.unwrap_or_else(|_| weights.clone()),
        affine: Affine { dtype: DType::I8, axis: Some(axis), scales, zeros },
        correction: Vec::new(),
    }
}

/// What rounding a layer's weights takes from the mean of each channel: `sum((w - rounded w) * mean of x)`, with the mean of each
/// position that is summed over (Nagel et al.: Data-free quantization through weight equalization and bias correction, 2019,
/// section 4.2).
pub fn bias_correction(graph: &Graph, layer: NodeId, rounded: &QuantizedWeights, means: &[f64]) -> Vec<f64> {
    let Some(weights) = graph.constant_value(graph.operands(layer)[1]) else { return Vec::new() };
    let scales = &rounded.affine.scales;
    let mut sums = vec![0.0; scales.len()];
    for (index, (weight, integer)) in weights.to_f32().into_iter().zip(rounded.integers.to_i64()).enumerate() {
        let Place { summed, channel } = locate(graph.op(layer), weights, scales.len(), index);
        let difference = weight as f64 - integer as f64 * scales[channel] as f64;
        sums[channel] += difference * means.get(summed).copied().unwrap_or(0.0);
    }
    sums
}

/// `conv(x, w) => conv(dequantize(quantize(x)), dequantize(q)) + correction` for every value and layer that is decided on. What else
/// reads a value gets the rounded one where integers are of use to it.
pub fn insert_quantization(graph: &mut Graph, decisions: &Decisions) -> Result<(), TypeError> {
    let narrow = decisions.layers.keys().filter(|layer| !decisions.wide.contains_key(layer));
    let narrow: BTreeSet<NodeId> = narrow.copied().collect();
    let readers = |&id: &NodeId| -> Vec<NodeId> {
        graph.users(id).into_iter().filter(|&user| takes_integers(graph, user, &narrow)).collect()
    };
    let readers: Vec<Vec<NodeId>> = decisions.values.keys().map(readers).collect();
    for ((&id, affine), readers) in decisions.values.iter().zip(readers) {
        let origin = graph.node(id).origin().clone();
        let numbers = rounded(graph, id, (affine, quantize_expr(affine)), origin)?;
        readers.into_iter().for_each(|user| graph.replace_operand(user, id, numbers));
    }
    for (&id, weights) in &decisions.layers {
        let old = graph.operands(id)[1];
        let origin = graph.node(old).origin().clone();
        let integers = graph.constant(weights.integers.clone(), origin.clone());
        let (op, operands) = dequantize(graph, integers, &weights.affine);
        let numbers = graph.add(op, &operands, origin)?;
        graph.replace_operand(id, old, numbers);
        correct(graph, id, &weights.correction)?;
        if let Some(upper) = decisions.wide.get(&id) {
            widen(graph, id, upper)?;
        }
    }
    graph.remove_dead();
    Ok(())
}

/// What the integers that an expression makes of a value stand for.
fn rounded(
    graph: &mut Graph,
    value: NodeId,
    (affine, expr): (&Affine, Expr),
    origin: Origin,
) -> Result<NodeId, TypeError> {
    let integers = graph.add(Op::Map(expr), &[value], origin.clone())?;
    let (op, operands) = dequantize(graph, integers, affine);
    graph.add(op, &operands, origin)
}

/// `conv(x, w) => conv(upper 8 bits of x, w) + conv(lower 8 bits of x, w)`, both over integers that are dequantised; the bias is of the
/// first.
fn widen(graph: &mut Graph, layer: NodeId, upper: &Affine) -> Result<(), TypeError> {
    let lower = Affine::per_tensor(DType::I8, upper.scales[0] / 256.0, 0);
    let (op, operands, origin) =
        (graph.op(layer).clone(), graph.operands(layer).to_vec(), graph.node(layer).origin().clone());
    let above = rounded(graph, operands[0], (upper, quantize_expr(upper)), origin.clone())?;
    let below = rounded(graph, operands[0], (&lower, lower_expr(upper, &lower)), origin.clone())?;
    let mut plain = op.clone();
    plain.epilogue_mut().into_iter().for_each(|slot| *slot = Op::plain_epilogue(DType::F32));
    let below = graph.add(plain, &[below, operands[1]], origin.clone())?;
    let above = graph.add(op, &[&[above], &operands[1..]].concat(), origin.clone())?;
    let mut sum = Expr::new();
    let (a, b) = (sum.arg(0, DType::F32), sum.arg(1, DType::F32));
    let root = sum.binary(BinaryOp::Add, a, b);
    graph.rewrite(layer, Op::Map(sum.with_root(root)), &[above, below], origin)
}

/// `saturate(round(x / lower) - 256 * saturate(round(x / upper)))`: what is left of 16 bits beside the upper 8. All of it is of whole
/// numbers that f32 holds exactly, so that it is the same however it is computed.
fn lower_expr(upper: &Affine, lower: &Affine) -> Expr {
    let (least, most) = integer_range(DType::I8);
    let mut expr = Expr::new();
    let x = expr.arg(0, DType::F32);
    let steps = |expr: &mut Expr, affine: &Affine| {
        let scale = expr.constant(Scalar::f32(affine.scales[0]));
        let ratio = expr.binary(BinaryOp::Div, x, scale);
        expr.unary(UnaryOp::Round, ratio)
    };
    let (whole, above) = (steps(&mut expr, lower), steps(&mut expr, upper));
    let number = |expr: &mut Expr, value: i64| expr.constant(Scalar::f32(value as f32));
    let (least, most) = (number(&mut expr, least - upper.zeros[0]), number(&mut expr, most - upper.zeros[0]));
    let above = expr.binary(BinaryOp::Max, above, least);
    let above = expr.binary(BinaryOp::Min, above, most);
    let steps_above = number(&mut expr, 256);
    let above = expr.binary(BinaryOp::Mul, above, steps_above);
    let rest = expr.binary(BinaryOp::Sub, whole, above);
    let root = expr.cast(DType::I8, rest);
    expr.with_root(root)
}

/// `conv(dequantize(q), w) => conv(dequantize(q), dequantize(quantize(w)))` for constant numbers w, with new scales: so that what
/// was quantised, and whose weights were numbers meanwhile, becomes integers again. Counts the layers.
pub fn round_weights(graph: &mut Graph) -> Result<usize, TypeError> {
    let rounded = |layer: NodeId| {
        if !stands_for_integers(graph, graph.operands(layer)[0]) {
            return None;
        }
        Some((layer, quantize_weights(graph.constant_value(graph.operands(layer)[1])?, weights_axis(graph.op(layer)))))
    };
    let layers: BTreeMap<_, _> = quantization_points(graph, |_| None).layers.into_iter().filter_map(rounded).collect();
    let count = layers.len();
    insert_quantization(graph, &Decisions { layers, ..Decisions::default() })?;
    Ok(count)
}

/// Whether a value is dequantised, moved or not.
fn stands_for_integers(graph: &Graph, id: NodeId) -> bool {
    let moves_integers = |places: Vec<usize>| {
        let mut sources = places.into_iter().map(|place| graph.operands(id)[place]);
        sources.all(|source| graph.constant_value(source).is_some() || stands_for_integers(graph, source))
    };
    dequantized(graph, id).is_some() || moved_operands(graph, id).is_some_and(moves_integers)
}

/// Adds numbers to the channels of a contraction's sums, to a bias that is there.
pub(super) fn correct(graph: &mut Graph, id: NodeId, correction: &[f64]) -> Result<(), TypeError> {
    let Some(axis) = channel_axis(graph, id).filter(|_| !correction.is_empty()) else { return Ok(()) };
    let (shape, origin) = (graph.ty(id).shape.clone(), graph.node(id).origin().clone());
    let mut operands = graph.operands(id).to_vec();
    let op = graph.op(id).clone();
    let own = match op.epilogue() {
        Some(epilogue) if *epilogue == bias_epilogue() && operands.len() == 3 => {
            channel_values(graph, operands[2], &shape, axis)
        }
        _ => None,
    };
    let sums: Vec<f64> = match &own {
        Some(own) => own.iter().zip(correction).map(|(bias, more)| bias + more).collect(),
        None => correction.to_vec(),
    };
    let bias = graph.constant(channel_tensor(&sums, bias_shape(sums.len(), axis, shape.rank())), origin.clone());
    let op = match own {
        Some(_) => {
            operands[2] = bias;
            Some(op)
        }
        None => {
            operands.push(bias);
            with_bias(op, operands.len() - 3)
        }
    };
    op.map_or(Ok(()), |op| graph.rewrite(id, op, &operands, origin))
}
