//! The graphs of `graphs/` as machine code: here and on emulated aarch64 they compute what the evaluator does.

use edgecc_ir::{DType, Tensor, eval};
use edgecc_passes::precision::Precision;
use edgecc_tests::graphs::{Way, cases, outputs_emulated, outputs_here};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers};

/// The most by which an element may differ, as a part of 1 plus its size: passes and kernels reorder sums.
const TOLERANCE: f64 = 1e-5;
const HALF_TOLERANCE: f64 = 2e-3;
/// Of values that are kept as halves from step to step.
const HALVES_TOLERANCE: f64 = 1e-2;

fn assert_close(name: &str, way: Way, expected: &Tensor, actual: &[f64]) {
    assert_eq!(expected.elements(), actual.len(), "{name}");
    let tolerance = match (way.precision, expected.dtype()) {
        (Precision::F16, _) => HALVES_TOLERANCE,
        (Precision::F32, DType::F16) => HALF_TOLERANCE,
        (Precision::F32, _) => TOLERANCE,
    };
    for (expected, actual) in expected.scalars().map(|value| value.as_f64()).zip(actual) {
        assert!(
            (expected - actual).abs() <= tolerance * (1.0 + expected.abs()),
            "{name}, {way:?}: {actual} instead of {expected}"
        );
    }
}

#[test]
fn graphs_compute_here_what_the_evaluator_does() {
    for (name, graph) in cases() {
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for way in [Way::USUAL, Way::LARGE, Way::HALVES] {
            for outputs in outputs_here(&graph, &inputs, &expected, way) {
                expected.iter().zip(&outputs).for_each(|(expected, actual)| assert_close(&name, way, expected, actual));
            }
        }
    }
}

#[test]
fn graphs_compute_on_aarch64_what_the_evaluator_does() {
    let Some(program) = cross::device_program() else { return };
    let cases = cases();
    say(&format!(
        "{} graphs on emulated aarch64, by our encoders, for cores that issue in order, with halves, and by Cranelift alone",
        cases.len()
    ));
    for (name, graph) in &cases {
        let inputs = numbers::inputs(graph);
        let expected = eval::run(graph, &inputs).expect("values");
        for (way, processors) in [
            (Way::USUAL, &["cortex-a72", "max"][..]),
            (Way::CLIF, &["cortex-a72"]),
            (Way::IN_ORDER, &["cortex-a53"]),
            (Way::HALVES, &["cortex-a72", "max"]),
            (Way::HALVES_IN_ORDER, &["max"]),
        ] {
            for outputs in outputs_emulated(&program, graph, &inputs, way, processors) {
                expected.iter().zip(&outputs).for_each(|(expected, actual)| assert_close(name, way, expected, actual));
            }
        }
    }
}
