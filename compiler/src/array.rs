//! Tensors from files as tensors of the graph.

use edgecc_device::tensor_file::Array;
use edgecc_ir::{DType, Shape, Tensor};

/// The tensor with the elements of an array. Fails for an element type that graphs do not have.
pub fn to_tensor(array: &Array) -> Result<Tensor, String> {
    let name = array.element_type.name();
    let dtype = DType::from_name(name).ok_or_else(|| format!("no tensors of {name}"))?;
    Tensor::dense(dtype, Shape::new(&array.extents), array.bytes.clone().into()).map_err(|error| error.to_string())
}
