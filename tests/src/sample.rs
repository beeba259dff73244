//! The sample's pictures as tensors.

use std::path::Path;

use edgecc_device::tensor_file::{Array, read_npz};

/// The pictures of the test split, each as a batch of one, and their digits.
pub fn digits() -> (Vec<Array>, Vec<f64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits-test.npz");
    let arrays = read_npz(&path).expect("the test split");
    let array = |name: &str| &arrays.iter().find(|(found, _)| found == name).expect("an array").1;
    let (images, labels) = (array("image"), array("labels"));
    let extents = [&[1], &images.extents[1..]].concat();
    let one = |bytes: &[u8]| Array { extents: extents.clone(), bytes: bytes.to_vec(), ..*images };
    let pictures = images.bytes.chunks(images.bytes.len() / images.extents[0]).map(one).collect();
    (pictures, labels.to_f64())
}

/// The first of them.
pub fn first_image() -> Array {
    digits().0.swap_remove(0)
}
