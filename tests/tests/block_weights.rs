//! Products with weights of 4 and 8 bits in blocks, as machine code here and on emulated aarch64, against the evaluator.

use edgecc_backends::cpu::isa::Kernels;
use edgecc_ir::eval;
use edgecc_tests::block_weights::{Behind, Product};
use edgecc_tests::graphs::{Way, difference, outputs_emulated, outputs_here};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers};

/// The most by which a result may differ, as a part of the largest: numbers have 24 bits, and sums are in another order.
const BOUND: f64 = 2e-6;

/// Rows alone, in pairs and odd; channels of whole and of small panels; blocks in a loop and not, and a depth that no piece divides.
const PRODUCTS: [Product; 9] = [
    product(1, 256, 64, 8, 32),
    product(1, 256, 40, 4, 64),
    Product { behind: Behind::BiasAndRelu, ..product(1, 1024, 36, 8, 128) },
    Product { behind: Behind::ResidualAndSilu, ..product(1, 512, 64, 4, 16) },
    Product { behind: Behind::ResidualAndSilu, ..product(5, 256, 64, 8, 32) },
    Product { behind: Behind::BiasAndRelu, ..product(8, 128, 36, 4, 32) },
    product(64, 256, 64, 4, 128),
    Product { behind: Behind::BiasAndRelu, ..product(2, 100, 64, 8, 100) },
    product(17, 200, 32, 4, 200),
];

const fn product(rows: usize, depth: usize, channels: usize, bits: u32, block: usize) -> Product {
    Product { rows, depth, channels, integers: Some((bits, block)), behind: Behind::Nothing }
}

#[test]
fn products_compute_here_what_the_evaluator_does() {
    let mut worst: f64 = 0.0;
    for product in PRODUCTS {
        let graph = product.graph();
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for outputs in outputs_here(&graph, &inputs, &expected, Way::USUAL) {
            worst = worst.max(difference(&expected[0], &outputs[0]));
        }
    }
    say(&format!("weights in blocks here: at most {worst:.1e} of the largest result away"));
    assert!(worst <= BOUND, "{worst}");
}

#[test]
fn products_compute_on_aarch64_what_the_evaluator_does() {
    let Some(program) = cross::device_program() else { return };
    let mut worst: f64 = 0.0;
    for product in PRODUCTS {
        let graph = product.graph();
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for (way, processors) in [
            (Way::USUAL, &["cortex-a72", "cortex-a76", "max"][..]),
            (Way::IN_ORDER, &["cortex-a53", "max"]),
            (Way { kernels: Kernels::Clif, ..Way::USUAL }, &["cortex-a76"]),
        ] {
            for outputs in outputs_emulated(&program, &graph, &inputs, way, processors) {
                let away = difference(&expected[0], &outputs[0]);
                assert!(away <= BOUND, "{product:?} {way:?}: {away}");
                worst = worst.max(away);
            }
        }
    }
    say(&format!("weights in blocks on aarch64: at most {worst:.1e} of the largest result away"));
}
