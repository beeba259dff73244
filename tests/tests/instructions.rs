//! Executed aarch64 instructions of one inference, counted by a plugin of the emulator; they do not vary. Prints a table
//! beside what others execute, and holds every kernel of some small networks to a snapshot.

use std::path::{Path, PathBuf};

use edgecc::compile::{CompileOptions, Compiled, compile_graph};
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_device::agreement::{Bound, agreement};
use edgecc_device::tensor_file::{Array, read_npz};
use edgecc_format::ElementType;
use edgecc_passes::precision::Precision;
use edgecc_tests::executed::{Bench, Class, by_kernel, total};
use edgecc_tests::networks::layers;
use edgecc_tests::report::say;
use edgecc_tests::{numbers, python, reference, run};

/// A network, its input, what the best of ncnn and MNN executes for it in f32, and the most that ours may: in millions
/// (`peers/MEASURED.md` in the shared material).
struct Measured {
    name: &'static str,
    shape: &'static [usize],
    best_peer: f64,
    most: f64,
    /// Weights may grow: Winograd's convolution.
    allow_size: bool,
}

const IMAGE: &[usize] = &[1, 3, 224, 224];

const fn image(name: &'static str, best_peer: f64, most: f64) -> Measured {
    Measured { name, shape: IMAGE, best_peer, most, allow_size: false }
}

const MEASURED: [Measured; 9] = [
    image("mobilenet_v2", 101.2, 90.0),
    image("mobilenet_v3_small", 24.1, 20.0),
    image("mobilenet_v3_large", 78.9, 67.0),
    image("efficientnet_b0", 178.1, 150.0),
    image("shufflenet_v2_x1_0", 50.6, 43.0),
    Measured { allow_size: true, ..image("squeezenet1_1", 75.6, 63.0) },
    Measured { name: "encoder", shape: &[1, 128, 256], ..image("", 136.9, 126.0) },
    Measured { allow_size: true, ..image("resnet18", 239.4, 195.0) },
    Measured { allow_size: true, ..image("resnet50", 910.0, 810.0) },
];

/// The same for halves, where ncnn is the only one that has them.
const OF_HALVES: [Measured; 8] = [
    image("mobilenet_v2", 54.0, 47.0),
    image("mobilenet_v3_small", 12.8, 11.0),
    image("mobilenet_v3_large", 41.7, 36.0),
    image("efficientnet_b0", 92.2, 78.0),
    image("shufflenet_v2_x1_0", 36.5, 26.0),
    Measured { allow_size: true, ..image("squeezenet1_1", 43.9, 34.0) },
    Measured { name: "encoder", shape: &[1, 128, 256], ..image("", 197.8, 70.0) },
    Measured { allow_size: true, ..image("resnet18", 130.1, 106.0) },
];

/// What Cranelift alone may take of what our encoders do.
const MOST_CLIF: f64 = 1.3;

/// Where a network's files lie: those of the peers, or a residual network of a seeded generator.
struct Files {
    model: PathBuf,
    input: Vec<u8>,
    output: Vec<u8>,
}

fn of_peers(peers: &Path, name: &str) -> Files {
    let file = |ending: &str| peers.join(format!("models/{name}.{ending}"));
    let read = |ending: &str| std::fs::read(file(ending)).expect("a file of the peers");
    Files { model: file("onnx"), input: read("x.f32"), output: read("y.f32") }
}

fn files(peers: &Path, name: &str) -> Option<Files> {
    let Some(depth) = name.strip_prefix("resnet") else { return Some(of_peers(peers, name)) };
    let interpreter = python::python()?;
    let model = python::generated("instructions").join(format!("{name}.onnx"));
    if !model.with_extension("npz").exists() {
        python::tool(&interpreter, "make_resnet.py", &[&model.to_string_lossy(), "--depth", depth]);
    }
    let mut arrays = read_npz(&model.with_extension("npz")).expect("a reference");
    let mut take = |name: &str| {
        let place = arrays.iter().position(|(other, _)| other == name).expect("an array");
        arrays.swap_remove(place).1.bytes
    };
    Some(Files { input: take("in_0"), output: take("out_0"), model })
}

fn to_f64(bytes: &[u8]) -> Vec<f64> {
    let array = Array { element_type: ElementType::F32, extents: vec![bytes.len() / 4], bytes: bytes.to_vec() };
    array.to_f64()
}

/// Millions of instructions of the second of two runs, and the output.
fn count(bench: &Bench, compiled: &Compiled, input: &[u8], shape: &[usize]) -> (f64, Vec<u8>) {
    let (trace, output) = bench.trace(&bench.plugin, "cortex-a76", compiled, input, shape);
    (total(&trace).total() as f64 / 1e6, output)
}

#[test]
fn networks_execute_few_instructions() {
    let Some(peers) = reference::shared("peers") else { return };
    let Some(bench) = Bench::new() else { return };
    say(&format!(
        "{:<20} {:>9} {:>9} {:>9} {:>6} {:>6} {:>10} {:>9}",
        "network", "edgecc M", "clif M", "peer M", "ratio", "clif", "cosine", "weights"
    ));
    for network in &MEASURED {
        let Some(Files { model, input, output }) = files(&peers, network.name) else { continue };
        let (element_type, extents) = (ElementType::F32, network.shape.to_vec());
        let array = Array { element_type, extents, bytes: input.clone() };
        let compile = |kernels: Kernels| {
            let adjust = |options| CompileOptions { kernels, allow_size: network.allow_size, ..options };
            run::compile_with(&model, Architecture::Aarch64, std::slice::from_ref(&array), adjust).expect("compiles")
        };
        let compiled = compile(Kernels::Encoded);
        let (millions, actual) = count(&bench, &compiled, &input, network.shape);
        // The residual networks take long in the emulator.
        let is_short = millions < 200.0;
        let clif = if is_short { count(&bench, &compile(Kernels::Clif), &input, network.shape).0 } else { f64::NAN };
        let (actual, expected) = (to_f64(&actual), to_f64(&output));
        let cosine = agreement(&actual, &expected, &[actual.len()], None, Bound::FLOAT).cosine;
        let size = compiled.to_bytes().expect("an artifact").len() as f64;
        let growth = size / std::fs::metadata(&model).expect("the model").len() as f64;
        let (ratio, of_clif) = (millions / network.best_peer, clif / millions);
        say(&format!(
            "{:<20} {millions:>9.1} {clif:>9.1} {:>9.1} {ratio:>6.2} {of_clif:>6.2} {cosine:>10.6} {growth:>8.2}x",
            network.name, network.best_peer
        ));
        assert!(cosine > 0.99999, "{}: {cosine}", network.name);
        assert!(millions <= network.most, "{}: {millions} M instead of {}", network.name, network.most);
        assert!(!is_short || of_clif <= MOST_CLIF, "{}: Cranelift alone takes {of_clif}", network.name);
        assert!(network.allow_size || growth <= 1.05, "{}: the artifact is {growth} of the model", network.name);
    }
}

#[test]
fn networks_of_halves_execute_few_instructions() {
    let Some(peers) = reference::shared("peers") else { return };
    let Some(bench) = Bench::new() else { return };
    say(&format!(
        "{:<20} {:>9} {:>9} {:>6} {:>10} {:>9}",
        "of halves", "edgecc M", "peer M", "ratio", "cosine", "weights"
    ));
    for network in &OF_HALVES {
        let Some(Files { model, input, output }) = files(&peers, network.name) else { continue };
        let (element_type, extents) = (ElementType::F32, network.shape.to_vec());
        let array = Array { element_type, extents, bytes: input.clone() };
        let adjust = |options| CompileOptions { precision: Precision::F16, allow_size: network.allow_size, ..options };
        let compiled = run::compile_with(&model, Architecture::Aarch64, &[array], adjust).expect("compiles");
        let (millions, actual) = count(&bench, &compiled, &input, network.shape);
        let (actual, expected) = (to_f64(&actual), to_f64(&output));
        let cosine = agreement(&actual, &expected, &[actual.len()], None, Bound::FLOAT).cosine;
        let size = compiled.to_bytes().expect("an artifact").len() as f64;
        let growth = size / std::fs::metadata(&model).expect("the model").len() as f64;
        say(&format!(
            "{:<20} {millions:>9.1} {:>9.1} {:>6.2} {cosine:>10.6} {growth:>8.2}x",
            network.name,
            network.best_peer,
            millions / network.best_peer
        ));
        assert!(cosine >= 0.9995, "{}: {cosine}", network.name);
        assert!(millions <= network.most, "{}: {millions} M instead of {}", network.name, network.most);
        assert!(network.allow_size || growth <= 0.65, "{}: the artifact is {growth} of the model", network.name);
    }
}

#[test]
fn kernels_execute_as_many_instructions_as_the_snapshot_shows() {
    hold_to_snapshot("kernels", Precision::F32);
}

#[test]
fn kernels_of_halves_execute_as_many_instructions_as_the_snapshot_shows() {
    hold_to_snapshot("halves", Precision::F16);
}

fn hold_to_snapshot(name: &str, precision: Precision) {
    let Some(bench) = Bench::new() else { return };
    let mut text = String::new();
    for (graph, allow_size) in layers() {
        let options = CompileOptions { allow_size, precision, ..run::options(Architecture::Aarch64, &[]) };
        let inputs = numbers::inputs(&graph);
        let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
        let shape = inputs[0].shape().extents();
        let trace = bench.trace(&bench.plugin, "cortex-a76", &compiled, &inputs[0].bytes(), &shape).0;
        let kernels = &compiled.best.emitted.kernels;
        let counts = by_kernel(&trace, &compiled.best.emitted.code, kernels).expect("the code in the process");
        text.push_str(&format!("{}{}\n", graph.name(), if allow_size { ", weights may grow" } else { "" }));
        for (kernel, counts) in kernels.iter().zip(&counts) {
            let (name, all, products) = (&kernel.name, counts.total(), counts.of(Class::MultiplyAdd));
            let writer = if kernel.encoded { "encoded" } else { "clif" };
            text.push_str(&format!("  {name:<16} {writer:<8} {all:>9} instructions, {products:>9} multiply-adds\n"));
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions"));
    settings.bind(|| insta::assert_snapshot!(name, text));
}
