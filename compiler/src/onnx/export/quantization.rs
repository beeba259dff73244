//! Maps between numbers and the integers that stand for them.

use edgecc_ir::{BlockWeights, DType, Graph, NodeId, Op, Scalar, Shape, Tensor};
use edgecc_passes::quantize::{Affine, dequantized, quantized};

use super::writer::{Writer, int};

/// Writes a map that quantises or dequantises as ONNX's operator of that; tells whether it is one.
pub(super) fn write(writer: &mut Writer, graph: &Graph, id: NodeId, result: &str) -> bool {
    let (operator, (source, affine)) = match (quantized(graph, id), dequantized(graph, id)) {
        (Some(found), _) => ("QuantizeLinear", found),
        (None, Some(found)) => ("DequantizeLinear", found),
        (None, None) => return false,
    };
    if !matches!(affine.dtype, DType::I8 | DType::U8 | DType::I32) {
        return false;
    }
    let Some((scale, zero)) = parameters(&affine) else { return false };
    let inputs = [writer.value(source), writer.constant(&scale), writer.constant(&zero)];
    let attributes = affine.axis.map(|axis| int("axis", axis as i64)).into_iter().collect();
    writer.node_to(operator, &inputs, vec![result.to_string()], attributes);
    true
}

/// Whether a map makes numbers of weights in blocks, which the reshape behind it is written for.
pub(super) fn is_in_blocks(graph: &Graph, map: NodeId) -> bool {
    let is_reshaped = graph.only_user(map).is_some_and(|user| matches!(graph.op(user), Op::Reshape(_)));
    is_reshaped && BlockWeights::are_made_by(graph, map)
}

/// Writes weights that have a scale for each block of the depth, with the reshape that takes blocks together; tells whether it is that.
pub(super) fn write_blocks(writer: &mut Writer, graph: &Graph, reshape: NodeId, result: &str) -> bool {
    let Some(product) = graph.only_user(reshape).filter(|_| is_in_blocks(graph, graph.operands(reshape)[0])) else {
        return false;
    };
    let (Some(weights), Op::MatMul { transpose_b, .. }) = (BlockWeights::of(graph, product), graph.op(product)) else {
        return false;
    };
    let BlockWeights { depth, channels, block, .. } = weights;
    let blocks = weights.blocks();
    // Row-major positions of a matrix with this depth, in the order of the product's axes.
    let places = |depth: usize| {
        let extents = if *transpose_b { [channels, depth] } else { [depth, channels] };
        let transposed = *transpose_b;
        let all = (0..extents[0]).flat_map(move |row| (0..extents[1]).map(move |column| (row, column)));
        (extents, all.map(move |(row, column)| if transposed { (column, row) } else { (row, column) }))
    };
    let (extents, all) = places(depth);
    let integers: Vec<i8> = all.map(|(k, channel)| weights.integer(k, channel)).collect();
    let (scale_extents, all) = places(blocks);
    let scales: Vec<f32> = all.map(|(number, channel)| weights.scale(number, channel)).collect();
    let inputs =
        [writer.integers(&extents, &integers), writer.constant(&Tensor::from_f32(Shape::new(&scale_extents), &scales))];
    let axis = i64::from(*transpose_b);
    let attributes = vec![int("axis", axis), int("block_size", block as i64)];
    writer.node_of_blocks("DequantizeLinear", &inputs, result.to_string(), attributes);
    true
}

/// Scales and zero points: scalars, or one along an axis.
fn parameters(affine: &Affine) -> Option<(Tensor, Tensor)> {
    let shape = match affine.axis {
        None => Shape::scalar(),
        Some(_) => Shape::new(&[affine.scales.len()]),
    };
    let zeros = affine.zeros.iter().map(|&zero| Scalar::from_i64(affine.dtype, zero));
    let zeros = Tensor::from_scalars(affine.dtype, shape.clone(), zeros).ok()?;
    Some((Tensor::from_f32(shape, &affine.scales), zeros))
}
