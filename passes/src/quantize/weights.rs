//! Weights of matrix products as integers of few bits beside numbers: only what a model stores and reads gets smaller.

use edgecc_ir::{BinaryOp, BlockWeights, DType, Expr, Graph, NodeId, Op, Origin, Shape, Tensor, TypeError};

/// Weights of four bits along the depth that share a scale; half as many where the depth is no multiple of them.
const BLOCKS: [usize; 2] = [32, 16];
/// Scales that are tried for a block of four bits: the largest magnitude is so many steps. Beyond 7 it is cut off on one side.
const STEPS: [f32; 6] = [7.0, 7.25, 7.5, 8.0, 8.5, 9.0];

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightBits {
    /// -8 to 7, with a scale for each block of 32 along the depth.
    Four,
    /// -127 to 127, with a scale for each channel.
    Eight,
}

/// What rounding took from the weights of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundingNoise {
    /// Sum of their squares.
    pub signal: f64,
    /// Sum of the squares of what they changed by.
    pub noise: f64,
}

/// Why the weights of a layer keep their numbers, where they must.
pub fn weights_stay(graph: &Graph, layer: NodeId, bits: WeightBits) -> Option<&'static str> {
    let &[input, weights, ..] = graph.operands(layer) else { return Some("has no weights") };
    if [layer, input, weights].iter().any(|&value| graph.ty(value).dtype != DType::F32) {
        return Some("is not of f32");
    }
    let Some(value) = graph.constant_value(weights) else { return Some("multiplies two activations") };
    match graph.op(layer) {
        Op::MatMul { transpose_a: false, .. } if value.shape().rank() == 2 => {}
        Op::MatMul { .. } => return Some("has several matrices of weights, or another order of axes"),
        Op::Conv { .. } if is_row(graph, layer) => {}
        _ => return Some("has many pixels, for each of which its weights would become numbers again"),
    }
    let [depth, channels] = depth_and_channels(graph, layer);
    if depth * channels < BlockWeights::FEWEST || channels % 4 != 0 {
        return Some("has few weights");
    }
    (bits == WeightBits::Four && block_of(depth, bits).is_none()).then_some("has a depth that blocks do not divide")
}

/// `x * w => x * (f32(q) * scale)`, with the nearest integers of symmetric scales; a convolution of one pixel becomes a product.
/// The layer is one whose weights need not stay.
pub fn round_to_bits(graph: &mut Graph, layer: NodeId, bits: WeightBits) -> Result<RoundingNoise, TypeError> {
    let [depth, channels] = depth_and_channels(graph, layer);
    let transposed = !matches!(graph.op(layer), Op::MatMul { transpose_b: false, .. });
    let weights = graph.operands(layer)[1];
    let values = graph.constant_value(weights).map(Tensor::to_f32).unwrap_or_default();
    let block = block_of(depth, bits).unwrap_or(depth);
    let blocks = depth / block;
    let place = |channel: usize, k: usize| if transposed { channel * depth + k } else { k * channels + channel };
    let of_block = |channel: usize, block_number: usize| {
        let places = block_number * block..(block_number + 1) * block;
        places.map(move |k| place(channel, k))
    };
    let mut integers = vec![0i8; values.len()];
    let mut scales = vec![0f32; channels * blocks];
    let mut noise = 0.0;
    for (channel, number) in (0..channels).flat_map(|channel| (0..blocks).map(move |number| (channel, number))) {
        let own: Vec<f32> = of_block(channel, number).map(|at| values[at]).collect();
        let (scale, loss) = scale_of(&own, bits);
        for (at, &value) in of_block(channel, number).zip(&own) {
            integers[at] = nearest(value, scale, bits);
        }
        scales[if transposed { channel * blocks + number } else { number * channels + channel }] = scale;
        noise += loss;
    }
    let signal = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let origin = graph.node(weights).origin().clone();
    let numbers = dequantized_weights(graph, (&integers, &scales), [depth, channels, block], transposed, origin)?;
    match graph.op(layer).clone() {
        Op::Conv { epilogue, .. } => product_of_row(graph, layer, numbers, epilogue)?,
        _ => graph.replace_operand(layer, weights, numbers),
    }
    graph.remove_dead();
    Ok(RoundingNoise { signal, noise })
}

/// A convolution of one pixel, each of whose results is a product of a row.
fn is_row(graph: &Graph, layer: NodeId) -> bool {
    let Op::Conv { groups: 1, window, .. } = graph.op(layer) else { return false };
    let operands = graph.operands(layer);
    let is_one = |value: NodeId| graph.ty(value).shape.extents()[2..].iter().all(|&extent| extent == 1);
    let has_pads = window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad != 0);
    !has_pads && operands[..2].iter().chain([&layer]).all(|&value| is_one(value))
}

fn depth_and_channels(graph: &Graph, layer: NodeId) -> [usize; 2] {
    let shape = &graph.ty(graph.operands(layer)[1]).shape;
    match graph.op(layer) {
        Op::MatMul { transpose_b: false, .. } => [shape.dim(0), shape.dim(1)],
        _ => [shape.dim(1), shape.dim(0)],
    }
}

fn block_of(depth: usize, bits: WeightBits) -> Option<usize> {
    match bits {
        WeightBits::Eight => None,
        WeightBits::Four => BLOCKS.into_iter().find(|&block| depth.is_multiple_of(block)),
    }
}

/// The scale of some weights, and the squares of what they change by.
fn scale_of(values: &[f32], bits: WeightBits) -> (f32, f64) {
    let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
    if largest < f32::MIN_POSITIVE * 1e6 {
        return (1.0, values.iter().map(|&value| f64::from(value).powi(2)).sum());
    }
    let steps: &[f32] = match bits {
        WeightBits::Eight => &[127.0],
        WeightBits::Four => &STEPS,
    };
    let loss = |scale: f32| -> f64 {
        let change = |&value: &f32| f64::from(value) - f64::from(nearest(value, scale, bits)) * f64::from(scale);
        values.iter().map(|value| change(value).powi(2)).sum()
    };
    let scales = steps.iter().map(|steps| largest / steps).map(|scale| (scale, loss(scale)));
    scales.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((1.0, 0.0))
}

fn nearest(value: f32, scale: f32, bits: WeightBits) -> i8 {
    let [low, high] = match bits {
        WeightBits::Eight => [-127.0, 127.0],
        WeightBits::Four => [-8.0, 7.0],
    };
    (value / scale).round_ties_even().clamp(low, high) as i8
}

/// `f32(q) * scale`: `[channels, depth]` where the product transposes it, else `[depth, channels]`.
fn dequantized_weights(
    graph: &mut Graph,
    (integers, scales): (&[i8], &[f32]),
    [depth, channels, block]: [usize; 3],
    transposed: bool,
    origin: Origin,
) -> Result<NodeId, TypeError> {
    let blocks = depth / block;
    let (of_integers, of_scales) = match (transposed, blocks) {
        (true, 1) => (vec![channels, depth], vec![channels, 1]),
        (false, 1) => (vec![depth, channels], vec![1, channels]),
        (true, _) => (vec![channels, blocks, block], vec![channels, blocks, 1]),
        (false, _) => (vec![blocks, block, channels], vec![blocks, 1, channels]),
    };
    let bytes: Vec<u8> = integers.iter().map(|&integer| integer as u8).collect();
    let integers = Tensor::dense(DType::I8, Shape::new(&of_integers), bytes.into())
        .map_err(|error| TypeError { op: "constant", what: error.to_string() })?;
    let q = graph.constant(integers, origin.clone());
    let scales = graph.constant(Tensor::from_f32(Shape::new(&of_scales), scales), origin.clone());
    let mut expr = Expr::argument(0, DType::I8);
    let (value, scale) = (expr.cast(DType::F32, expr.root()), expr.arg(1, DType::F32));
    let root = expr.binary(BinaryOp::Mul, value, scale);
    let numbers = graph.add(Op::Map(expr.with_root(root)), &[q, scales], origin.clone())?;
    if blocks == 1 {
        return Ok(numbers);
    }
    let extents = if transposed { [channels, depth] } else { [depth, channels] };
    graph.add(Op::Reshape(Shape::new(&extents)), &[numbers], origin)
}

/// `[batch, depth, 1..] -> [batch, depth] * numbers -> [batch, channels, 1..]`.
fn product_of_row(graph: &mut Graph, layer: NodeId, numbers: NodeId, epilogue: Expr) -> Result<(), TypeError> {
    let (operands, origin) = (graph.operands(layer).to_vec(), graph.node(layer).origin().clone());
    let shape = graph.ty(layer).shape.clone();
    let spatial = shape.rank() - 2;
    let mut moved = Vec::new();
    for &operand in operands[..1].iter().chain(&operands[2..]) {
        let extents = graph.ty(operand).shape.extents();
        let kept = extents.len().saturating_sub(spatial);
        moved.push(graph.add(Op::Reshape(Shape::new(&extents[..kept])), &[operand], origin.clone())?);
    }
    moved.insert(1, numbers);
    let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue };
    let product = graph.add(op, &moved, origin.clone())?;
    graph.rewrite(layer, Op::Reshape(shape), &[product], origin)
}
