//! The classic networks that ONNX ships with constant weights, their input and their answers.

use std::path::{Path, PathBuf};

use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;

/// The tolerance of ONNX's own test of these.
pub const BOUND: Bound = Bound { relative: 1e-3, of_channel: 1e-4 };

/// The file of a network.
pub fn model(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("light_{name}.onnx"))
}

/// `arange(elements) / elements`, as ONNX's backend test makes the input of these networks.
pub fn image() -> Array {
    let extents = vec![1, 3, 224, 224];
    let count: usize = extents.iter().product();
    let bytes = (0..count).flat_map(|i| (i as f32 / count as f32).to_le_bytes()).collect();
    Array { element_type: ElementType::F32, extents, bytes }
}

/// The answer that is shipped with a network.
pub fn answer(folder: &Path, name: &str) -> Array {
    let tensor = edgecc::onnx::read_tensor(&folder.join(format!("light_{name}_output_0.pb"))).expect("a tensor");
    Array { element_type: ElementType::F32, extents: tensor.shape().extents(), bytes: tensor.bytes().to_vec() }
}
