//! Maps between numbers and the integers that stand for them.

use edgecc_ir::{DType, Graph, NodeId, Scalar, Shape, Tensor};
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
