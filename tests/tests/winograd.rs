//! Winograd's convolution against the evaluator, which sums directly: here and on emulated aarch64, by our encoders and by
//! Cranelift alone, in singles and in halves. Prints the largest difference as a part of the largest result.

use std::collections::BTreeSet;

use edgecc_backends::contraction::Element;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::winograd::best_axes;
use edgecc_ir::{Graph, eval};
use edgecc_tests::graphs::{Way, artifact, difference, outputs_emulated, outputs_here};
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers};

/// The most by which a result may differ, as a part of the largest: of singles, of halves.
const BOUND: f64 = 1e-5;
const BOUND_OF_HALVES: f64 = 2e-2;

struct Case {
    images: usize,
    extents: [usize; 2],
    depth: usize,
    channels: usize,
    kernel: [usize; 2],
    pads: [usize; 2],
    residual: bool,
}

const fn case(extents: [usize; 2], depth: usize, channels: usize) -> Case {
    Case { images: 1, extents, depth, channels, kernel: [3, 3], pads: [1, 1], residual: false }
}

/// Whole tiles and last tiles of every size on either axis, no tile inside, no padding, uneven numbers of vectors, several
/// images, a residual sum; kernels of other sizes.
const CASES: [Case; 15] = [
    case([16, 16], 16, 32),
    case([13, 18], 32, 24),
    case([7, 7], 64, 64),
    case([9, 11], 48, 80),
    case([4, 4], 128, 128),
    case([12, 12], 36, 28),
    case([36, 36], 64, 64),
    case([33, 31], 64, 64),
    Case { pads: [0, 0], ..case([14, 11], 24, 40) },
    Case { pads: [2, 2], ..case([9, 9], 32, 32) },
    Case { images: 2, ..case([10, 12], 32, 32) },
    Case { images: 2, residual: true, ..case([14, 14], 32, 32) },
    Case { kernel: [5, 5], pads: [2, 2], ..case([19, 15], 32, 32) },
    Case { kernel: [1, 7], pads: [0, 3], ..case([17, 17], 64, 64) },
    Case { kernel: [7, 1], pads: [3, 0], ..case([5, 17], 64, 64) },
];

impl Case {
    /// The axes that lowering chooses.
    fn points(&self, element: Element) -> Option<[(i64, i64); 2]> {
        let extents = [0, 1].map(|axis| (self.extents[axis] + 2 * self.pads[axis] - self.kernel[axis] + 1) as i64);
        let taps = self.kernel.map(|taps| taps as i64);
        let channels = (self.depth as i64, self.channels as i64);
        let axes = best_axes(element, (self.images as i64, extents), taps, channels)?;
        Some(axes.map(|axis| (axis.points, axis.taps)))
    }
}

/// `max(conv(x) + bias (+ x), 0)`.
fn graph(case: &Case) -> Graph {
    let [height, width] = case.extents;
    let mut network = Network::new("winograd", &[case.images, case.depth, height, width]);
    let x = network.value();
    network.padded_conv(case.channels, case.kernel, 1, 1, case.pads);
    if case.residual {
        network.add_value(x);
    }
    network.activate(Activation::Relu);
    network.finish()
}

#[test]
fn results_differ_little_from_direct_sums() {
    let program = cross::device_program();
    let (mut worst, mut worst_of_halves): (f64, f64) = (0.0, 0.0);
    for case in &CASES {
        let graph = graph(case);
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
    let forms = |element: Element| -> BTreeSet<[(i64, i64); 2]> {
        CASES.iter().filter_map(|case| case.points(element)).collect()
    };
    let (singles, halves) = (forms(Element::F32), forms(Element::F16));
    let has = |forms: &BTreeSet<[(i64, i64); 2]>, axis: (i64, i64)| forms.iter().any(|form| form.contains(&axis));
    for axis in [(4, 3), (6, 3), (8, 3), (8, 5), (8, 7)] {
        assert!(has(&singles, axis), "{axis:?} of {singles:?}");
    }
    for axis in [(4, 3), (6, 3)] {
        assert!(has(&halves, axis), "{axis:?} of {halves:?}");
    }
}

#[test]
fn weights_grow_only_where_they_may() {
    let graph = graph(&CASES[2]);
    let [usual, large] = [Way::USUAL, Way::LARGE].map(|way| artifact(&graph, Architecture::Aarch64, way).len());
    assert!(large > usual + 3 * 64 * 64 * 9 * 4 / 2, "{usual} and {large} bytes");
}
