//! What is to be seen in pictures, whoever computed the outputs.

use std::path::Path;

use serde_json::Value;

/// ImageNet's class of Egyptian cats.
const EGYPTIAN_CAT: usize = 285;

/// Asserts that a classifier's outputs see the cat on `chelsea`.
pub fn assert_cat(outputs: &[Vec<f64>]) {
    assert_eq!(largest(outputs[0].iter().copied()).0, EGYPTIAN_CAT);
}

/// Asserts that the outputs of `ultraface_slim320`, scores \[1, boxes, 2\] and corners \[1, boxes, 4\], hold the astronaut's
/// face where onnxruntime finds it.
pub fn assert_face(outputs: &[Vec<f64>], folder: &Path) {
    assert_face_within(outputs, folder, 1e-4, 2e-3);
}

/// The same, with the score and each corner within these distances.
pub fn assert_face_within(outputs: &[Vec<f64>], folder: &Path, score_within: f64, corner_within: f64) {
    let demo = std::fs::read_to_string(folder.join("data/expected_demo.json")).expect("what is expected");
    let demo: Value = serde_json::from_str(&demo).expect("JSON");
    let expected = &demo["ultraface_slim320/astronaut"];
    let (place, score) = largest(outputs[0].chunks(2).map(|pair| pair[1]));
    assert!((score - expected["best_face_score"].as_f64().expect("a score")).abs() < score_within, "{score}");
    let corners: Vec<f64> =
        expected["box_xyxy_rel"].as_array().expect("a box").iter().filter_map(Value::as_f64).collect();
    assert_eq!(corners.len(), 4);
    for (actual, corner) in outputs[1][place * 4..place * 4 + 4].iter().zip(corners) {
        assert!((actual - corner).abs() < corner_within, "{actual} instead of {corner}");
    }
}

fn largest(values: impl Iterator<Item = f64>) -> (usize, f64) {
    values
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (place, value)| if value > best.1 { (place, value) } else { best })
}
