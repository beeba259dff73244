//! Products with weights of 4 and 8 bits in blocks against the evaluator: as machine code here and on emulated aarch64, and as shaders;
//! and `--quantize weights-int8` and `weights-int4`, which make such products.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgecc::array::to_tensor;
use edgecc::compile::prepare;
use edgecc::onnx::export;
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_device::tensor_file::{read_npz, write_npz};
use edgecc_ir::{BlockWeights, Graph, Tensor, eval};
use edgecc_tests::block_weights::{Behind, Product};
use edgecc_tests::graphs::{Way, array, difference, outputs_emulated, outputs_here};
use edgecc_tests::report::say;
use edgecc_tests::{binary, cross, gpu, numbers, python, run};

/// The most by which a result may differ, as a part of the largest: numbers have 24 bits, and sums are in another order.
const BOUND: f64 = 2e-6;

/// Rows alone, in pairs and odd; channels of whole and of small panels; blocks in a loop and not, and a depth that no piece divides.
const PRODUCTS: [Product; 11] = [
    product(1, 256, 64, 8, 32),
    product(1, 256, 40, 4, 64),
    Product { behind: Behind::BiasAndRelu, ..product(1, 1024, 36, 8, 128) },
    Product { behind: Behind::ResidualAndSilu, ..product(1, 512, 64, 4, 16) },
    Product { behind: Behind::ResidualAndSilu, ..product(5, 256, 64, 8, 32) },
    Product { behind: Behind::BiasAndRelu, ..product(8, 128, 36, 4, 32) },
    product(64, 256, 64, 4, 128),
    Product { behind: Behind::BiasAndRelu, ..product(2, 100, 64, 8, 100) },
    product(17, 200, 32, 4, 200),
    Product { has_zeros: true, behind: Behind::BiasAndRelu, ..product(1, 256, 64, 4, 32) },
    Product { has_zeros: true, behind: Behind::ResidualAndSilu, ..product(6, 128, 64, 4, 16) },
];

const fn product(rows: usize, depth: usize, channels: usize, bits: u32, block: usize) -> Product {
    Product { rows, depth, channels, integers: Some((bits, block)), has_zeros: false, behind: Behind::Nothing }
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

#[test]
fn products_compute_on_a_gpu_what_the_evaluator_does() {
    let Some(device) = gpu::device() else { return };
    for product in PRODUCTS {
        let graph = product.graph();
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        let compiled = gpu::compiled(&graph).expect("compiles");
        let outputs = gpu::outputs(device, &compiled, &inputs, &expected);
        let values: Vec<f64> = outputs[0].scalars().map(|value| value.as_f64()).collect();
        let away = difference(&expected[0], &values);
        assert!(away <= BOUND, "{product:?}: {away}");
        let (bits, _) = product.integers.expect("integers");
        let weights = product.depth * product.channels * bits as usize / 8;
        let bytes = compiled.to_bytes().expect("an artifact").len();
        assert!(bytes <= weights + weights / 2 + (64 << 10), "{product:?}: {bytes} bytes");
    }
}

/// A fresh folder with a product of numbers as a model.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(&format!("block-weights-{name}"));
    std::fs::remove_dir_all(&folder).expect("an old folder goes");
    std::fs::create_dir_all(&folder).expect("a new folder");
    let product = Product { integers: None, behind: Behind::BiasAndRelu, ..product(1, 1024, 256, 0, 0) };
    std::fs::write(folder.join("product.onnx"), export(&product.graph()).expect("a model")).expect("a file");
    folder
}

fn edgecc(folder: &Path, arguments: &str) -> Output {
    let output = Command::new(binary::edgecc()).args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.expect("edgecc starts");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn size(folder: &Path, file: &str) -> usize {
    std::fs::metadata(folder.join(file)).expect("a file").len() as usize
}

/// The graph of a written model.
fn graph_of(folder: &Path, file: &str) -> Graph {
    let options = run::options(Architecture::host().expect("a host"), &[]);
    prepare(&folder.join(file), &options, &mut |_| {}).expect("a model").0
}

#[test]
fn weights_become_integers_without_samples() {
    let folder = folder("flags");
    edgecc(&folder, "product.onnx --target aarch64 -o numbers.bin");
    for (flag, share) in [("weights-int8", 0.30), ("weights-int4", 0.20)] {
        for target in ["aarch64", "x86_64", "wgsl", "aarch64,wgsl", "x86_64,wgsl"] {
            edgecc(
                &folder,
                &format!("product.onnx --target {target} --quantize {flag} --write-recipe edgecc.toml -o first.bin"),
            );
            edgecc(&folder, &format!("product.onnx --target {target} --recipe edgecc.toml -o second.bin"));
            let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
            assert!(read("first.bin") == read("second.bin"), "the recipe compiles to other bytes");
            let [bytes, of_numbers] = ["first.bin", "numbers.bin"].map(|file| size(&folder, file));
            say(&format!("{flag:<14} {target:<14} {bytes} bytes, {of_numbers} in numbers"));
            assert!((bytes as f64) < share * of_numbers as f64, "{flag} {target}: {bytes} of {of_numbers}");
        }
        let text = std::fs::read_to_string(folder.join("edgecc.toml")).expect("a recipe");
        assert!(text.contains(&format!("integers = \"{flag}\"")), "{text}");
        assert!(text.contains(&format!("product = {{ precision = \"{flag}\" }}")), "{text}");
        let report = edgecc(&folder, &format!("product.onnx --quantize {flag} --report -"));
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.contains("1 layers with weights of a few bits, 100.0 %"), "{report}");
    }
}

/// What is written is read back with the same integers, and onnxruntime computes the same.
#[test]
fn weights_of_a_few_bits_are_written_as_onnx() {
    let folder = folder("onnx");
    let mut cases: Vec<(Graph, Vec<Tensor>)> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    for flag in ["weights-int8", "weights-int4"] {
        edgecc(&folder, &format!("product.onnx --quantize {flag} --emit onnx -o {flag}.onnx"));
        let graph = graph_of(&folder, &format!("{flag}.onnx"));
        assert!(graph.ids().any(|id| BlockWeights::of(&graph, id).is_some()), "{flag}");
        let inputs = numbers::inputs(&graph);
        write_npz(&folder.join(format!("{flag}.in.npz")), &[("in_0".into(), array(&inputs[0]))]).expect("inputs");
        let file = |end: &str| folder.join(format!("{flag}.{end}")).to_string_lossy().into_owned();
        words.extend(["onnx", "in.npz", "out.npz"].map(file));
        cases.push((graph, inputs));
    }
    let Some(interpreter) = python::python() else { return };
    let refused = python::tool(&interpreter, "run_onnx.py", &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.is_empty(), "{refused}");
    for ((graph, inputs), output) in cases.iter().zip(words.chunks(3)) {
        let expected = eval::run(graph, inputs).expect("values");
        let arrays = read_npz(Path::new(&output[2])).expect("outputs");
        let actual = to_tensor(&arrays[0].1).expect("a tensor");
        let values: Vec<f64> = actual.scalars().map(|value| value.as_f64()).collect();
        let away = difference(&expected[0], &values);
        assert!(away <= BOUND, "{}: {away}", output[0]);
    }
}
