//! Strassen's algorithm in machine code against direct sums by the evaluator: pixels at one distance and in lines, even and odd numbers of
//! them, with and without a bias and residual sums, by constants that may grow and that may not. The error that it adds is measured relative to
//! the largest result.

use edgecc::compile::{CompileOptions, compile_graph};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_ir::{Graph, eval};
use edgecc_tests::graphs::{Way, difference, outputs_emulated};
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers, run};

/// The most by which a result may differ, as a part of the largest.
const BOUND: f64 = 1e-5;

const WAYS: [Way; 5] = [Way::USUAL, Way::LARGE, Way::CLIF, Way::LARGE_CLIF, Way::IN_ORDER];

struct Case {
    /// Rows and columns of inputs; rows of a matrix alone where there are no columns.
    extents: [usize; 2],
    /// Input and output channels.
    channels: [usize; 2],
    stride: usize,
    residual: bool,
    activation: Activation,
}

const fn image(extents: [usize; 2], channels: [usize; 2], activation: Activation) -> Case {
    Case { extents, channels, stride: 1, residual: false, activation }
}

/// Pixels and rows that halves divide and do not, lines of pixels, few and many channels, epilogues that leave few registers.
const CASES: [Case; 7] = [
    image([36, 36], [64, 128], Activation::Relu),
    image([15, 15], [192, 256], Activation::None),
    Case { stride: 2, ..image([32, 32], [128, 256], Activation::Relu6) },
    Case { stride: 2, ..image([58, 18], [192, 256], Activation::Relu) },
    Case { residual: true, ..image([16, 16], [192, 192], Activation::Relu) },
    image([128, 0], [256, 256], Activation::Silu),
    Case { residual: true, ..image([193, 0], [264, 264], Activation::Silu) },
];

fn graph(case: &Case) -> Graph {
    let ([height, width], [depth, channels]) = (case.extents, case.channels);
    let extents = if width == 0 { vec![height, depth] } else { vec![1, depth, height, width] };
    let mut network = Network::new("strassen", &extents);
    let entry = network.value();
    match width {
        0 => network.dense(channels, Activation::None),
        _ => network.conv(channels, 1, case.stride, 1, Activation::None),
    }
    if case.residual {
        network.add_value(entry);
    }
    network.activate(case.activation);
    network.finish()
}

/// Steps by the algorithm.
fn steps(graph: &Graph, way: Way) -> usize {
    let Way { kernels, allow_size, core, precision, chains } = way;
    let options =
        CompileOptions { kernels, allow_size, core, precision, chains, ..run::options(Architecture::Aarch64, &[]) };
    let program = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles").best.program;
    program.steps.iter().filter(|step| step.name.ends_with("_strassen")).count()
}

#[test]
fn results_differ_little_from_direct_sums() {
    let Some(program) = cross::device_program() else { return };
    let mut worst: f64 = 0.0;
    for case in &CASES {
        let graph = graph(case);
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for way in WAYS {
            for outputs in outputs_emulated(&program, &graph, &inputs, way, &["cortex-a72"]) {
                worst = worst.max(difference(&expected[0], &outputs[0]));
            }
        }
    }
    say(&format!("Strassen: at most {worst:.1e} of the largest result"));
    assert!(worst <= BOUND, "{worst}");
}

#[test]
fn every_case_is_computed_by_the_algorithm() {
    for (number, case) in CASES.iter().enumerate() {
        let graph = graph(case);
        // Sums on the left, seven products, the last quadrant; sums of weights unless those are constants, which convolutions' are.
        let expected = if case.extents[1] == 0 { [10, 9] } else { [0, 9] };
        assert_eq!([Way::USUAL, Way::LARGE].map(|way| steps(&graph, way)), expected, "case {number}");
        assert_eq!(steps(&graph, Way::LARGE_HALVES), 0, "case {number} in halves");
    }
}

#[test]
fn small_products_are_summed_directly() {
    let cases = [
        image([12, 12], [96, 96], Activation::Relu),
        // Too few channels for what sums take.
        image([64, 64], [16, 96], Activation::Relu),
        // Halves of channels that are no vectors.
        image([28, 28], [132, 128], Activation::Relu),
    ];
    for (number, case) in cases.iter().enumerate() {
        assert_eq!(steps(&graph(case), Way::LARGE), 0, "case {number}");
    }
}
