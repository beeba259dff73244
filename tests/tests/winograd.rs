//! Winograd's convolution against the evaluator, which sums directly: here and on emulated aarch64, by our encoders and by
//! Cranelift alone. Prints the largest difference as a part of the largest result.

use edgecc_backends::cpu::isa::Architecture;
use edgecc_ir::{Graph, Tensor, eval};
use edgecc_tests::graphs::{Way, artifact, outputs_emulated, outputs_here};
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers};

/// The most by which a result may differ, as a part of the largest.
const BOUND: f64 = 1e-3;

struct Case {
    images: usize,
    extents: [usize; 2],
    depth: usize,
    channels: usize,
    pads: [usize; 2],
    residual: bool,
}

const fn case(extents: [usize; 2], depth: usize, channels: usize) -> Case {
    Case { images: 1, extents, depth, channels, pads: [1, 1], residual: false }
}

/// Whole tiles, tiles beyond the output on either axis, no tile inside, no padding, several images, a residual sum.
const CASES: [Case; 7] = [
    case([16, 16], 16, 32),
    case([13, 18], 32, 20),
    case([7, 7], 64, 64),
    Case { pads: [0, 0], ..case([14, 11], 24, 36) },
    Case { pads: [2, 2], ..case([9, 9], 32, 32) },
    Case { images: 2, ..case([10, 12], 32, 32) },
    Case { images: 2, residual: true, ..case([14, 14], 32, 32) },
];

/// `max(conv(x) + bias (+ x), 0)`.
fn graph(case: &Case) -> Graph {
    let [height, width] = case.extents;
    let mut network = Network::new("winograd", &[case.images, case.depth, height, width]);
    let x = network.value();
    network.padded_conv(case.channels, 3, 1, 1, case.pads);
    if case.residual {
        network.add_value(x);
    }
    network.activate(Activation::Relu);
    network.finish()
}

/// The largest difference as a part of the largest result.
fn difference(expected: &Tensor, actual: &[f64]) -> f64 {
    assert_eq!(expected.elements(), actual.len());
    let expected: Vec<f64> = expected.scalars().map(|value| value.as_f64()).collect();
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    expected.iter().zip(actual).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn results_differ_little_from_direct_sums() {
    let program = cross::device_program();
    let mut worst: f64 = 0.0;
    for case in &CASES {
        let graph = graph(case);
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        let mut outputs = outputs_here(&graph, &inputs, &expected, Way::LARGE).to_vec();
        for way in [Way::LARGE, Way::LARGE_CLIF, Way::IN_ORDER] {
            let emulated =
                program.iter().flat_map(|program| outputs_emulated(program, &graph, &inputs, way, &["cortex-a72"]));
            outputs.extend(emulated);
        }
        worst = outputs.iter().map(|outputs| difference(&expected[0], &outputs[0])).fold(worst, f64::max);
    }
    say(&format!("Winograd: at most {worst:.1e} of the largest result"));
    assert!(worst <= BOUND && worst > 0.0, "{worst}");
}

#[test]
fn weights_grow_only_where_they_may() {
    let graph = graph(&CASES[2]);
    let [usual, large] = [Way::USUAL, Way::LARGE].map(|way| artifact(&graph, Architecture::Aarch64, way).len());
    assert!(large > usual + 3 * 64 * 64 * 9 * 4 / 2, "{usual} and {large} bytes");
}
