//! Values of inputs that are the same in every run.

use edgecc_ir::{Graph, Scalar, Tensor, TensorType};

/// Numbers in -1..1 for every input of a graph, in order.
pub fn inputs(graph: &Graph) -> Vec<Tensor> {
    graph.inputs().iter().enumerate().map(|(place, &id)| numbers(graph.ty(id), place as u64)).collect()
}

/// Knuth's linear congruential generator.
fn numbers(ty: &TensorType, seed: u64) -> Tensor {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Scalar::from_f64(ty.dtype, (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    };
    let values: Vec<Scalar> = (0..ty.shape.elements().expect("a size")).map(|_| next()).collect();
    Tensor::from_scalars(ty.dtype, ty.shape.clone(), values).expect("a tensor")
}
