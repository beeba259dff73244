//! Winograd's convolution against the evaluator, which sums directly: here and on emulated aarch64, by our encoders and by
//! Cranelift alone, in singles and in halves. Prints the largest difference as a part of the largest result.

use std::collections::BTreeSet;

use edgecc_backends::contraction::Element;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_ir::eval;
use edgecc_tests::graphs::{Way, artifact, difference, outputs_emulated, outputs_here};
use edgecc_tests::report::say;
use edgecc_tests::winograd::CASES;
use edgecc_tests::{cross, numbers};

/// The most by which a result may differ, as a part of the largest: of singles, of halves.
const BOUND: f64 = 1e-5;
const BOUND_OF_HALVES: f64 = 2e-2;

#[test]
fn results_differ_little_from_direct_sums() {
    let program = cross::device_program();
    let (mut worst, mut worst_of_halves): (f64, f64) = (0.0, 0.0);
    for case in &CASES {
        let graph = case.graph();
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        let emulated = |way: Way, processors: &[&str]| -> Vec<Vec<Vec<f64>>> {
            let outputs = program.iter().map(|program| outputs_emulated(program, &graph, &inputs, way, processors));
            outputs.flatten().collect()
        };
        let largest = |outputs: &[Vec<Vec<f64>>]| {
            outputs.iter().map(|outputs| difference(&expected[0], &outputs[0])).fold(0.0, f64::max)
        };
        let mut outputs = outputs_here(&graph, &inputs, &expected, Way::LARGE).to_vec();
        for way in [Way::LARGE, Way::LARGE_CLIF, Way::IN_ORDER] {
            outputs.extend(emulated(way, &["cortex-a72"]));
        }
        worst = worst.max(largest(&outputs));
        // The second computes with halves.
        let outputs = emulated(Way::LARGE_HALVES, &["cortex-a72", "cortex-a76"]);
        worst_of_halves = worst_of_halves.max(largest(&outputs));
    }
    say(&format!("Winograd: at most {worst:.1e} of the largest result, {worst_of_halves:.1e} of halves"));
    assert!(worst <= BOUND && worst > 0.0, "{worst}");
    assert!(worst_of_halves <= BOUND_OF_HALVES, "{worst_of_halves}");
}

#[test]
fn cases_have_every_form() {
    let forms = |element: Element| -> BTreeSet<(i64, i64, i64)> {
        let axes = CASES.iter().filter_map(|case| case.axes(element)).flatten();
        axes.map(|axis| (axis.points, axis.taps, axis.step())).collect()
    };
    let (singles, halves) = (forms(Element::F32), forms(Element::F16));
    for axis in [(4, 3, 1), (6, 3, 1), (8, 3, 1), (8, 5, 1), (8, 7, 1), (7, 3, 2)] {
        assert!(singles.contains(&axis), "{axis:?} of {singles:?}");
    }
    for axis in [(4, 3, 1), (6, 3, 1), (6, 5, 1), (11, 7, 1), (5, 3, 2), (7, 3, 2)] {
        assert!(halves.contains(&axis), "{axis:?} of {halves:?}");
    }
}

#[test]
fn weights_grow_only_where_they_may() {
    let graph = CASES[2].graph();
    let [usual, large] = [Way::USUAL, Way::LARGE].map(|way| artifact(&graph, Architecture::Aarch64, way).len());
    assert!(large > usual + 3 * 64 * 64 * 9 * 4 / 2, "{usual} and {large} bytes");
}
