//! The sample's pictures as tensors.

use std::path::Path;

use edgecc_device::tensor_file::{Array, read_npz};

/// The first picture of the test split, as a batch of one.
pub fn first_image() -> Array {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits-test.npz");
    let arrays = read_npz(&path).expect("the test split");
    let (_, images) = arrays.into_iter().find(|(name, _)| name == "image").expect("images");
    let bytes = images.bytes[..images.bytes.len() / images.extents[0]].to_vec();
    Array { extents: [&[1], &images.extents[1..]].concat(), bytes, ..images }
}
