//! Executed aarch64 instructions of one inference, counted by a plugin of the emulator; they do not vary. Prints a table.

use std::path::Path;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::{Bound, agreement};
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;
use edgecc_tests::executed::{plugin, total, trace};
use edgecc_tests::report::say;
use edgecc_tests::{cross, python, reference, run};

/// A network, its input, and what ncnn executes for it in f32, in millions (`peers/MEASURED.md` in the shared material).
struct Network {
    name: &'static str,
    shape: [usize; 4],
    ncnn: f64,
}

const fn image(name: &'static str, ncnn: f64) -> Network {
    Network { name, shape: [1, 3, 224, 224], ncnn }
}

const NETWORKS: [Network; 6] = [
    image("mobilenet_v2", 101.2),
    image("mobilenet_v3_small", 24.1),
    image("mobilenet_v3_large", 78.9),
    image("efficientnet_b0", 178.1),
    image("shufflenet_v2_x1_0", 50.6),
    image("squeezenet1_1", 75.6),
];

/// What MobileNetV2 may take of ncnn's count.
const MOST: f64 = 2.0;

fn floats(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn to_f64(bytes: &[u8]) -> Vec<f64> {
    let array = Array { element_type: ElementType::F32, extents: vec![bytes.len() / 4], bytes: bytes.to_vec() };
    array.to_f64()
}

/// Millions of instructions of the second of two runs, and the cosine of the answer with onnxruntime's.
fn count(peers: &Path, plugin: &Path, line: &Path, network: &Network) -> (f64, f64) {
    let folder = python::generated("instructions");
    let file = |ending: &str| peers.join(format!("models/{}.{ending}", network.name));
    let input =
        Array { element_type: ElementType::F32, extents: network.shape.to_vec(), bytes: floats(&file("x.f32")) };
    let compiled = run::compile_for(&file("onnx"), Architecture::Aarch64, &[input]).expect("the network compiles");
    let [artifact, output] = ["model.bin", "output.f32"].map(|name| folder.join(name));
    std::fs::write(&artifact, compiled.to_bytes().expect("an artifact")).expect("the artifact is written");
    let trace = trace(plugin, line, "cortex-a76", [&artifact, &file("x.f32"), &output], &network.shape);
    let total = total(&trace).total() as f64;
    let (actual, expected) = (to_f64(&floats(&output)), to_f64(&floats(&file("y.f32"))));
    let agreement = agreement(&actual, &expected, &[actual.len()], None, Bound::FLOAT);
    (total / 1e6, agreement.cosine)
}

#[test]
fn networks_execute_few_instructions() {
    let Some(peers) = reference::shared("peers") else { return };
    let Some(line) = cross::line_program() else { return };
    let Some(plugin) = plugin() else { return };
    say(&format!("{:<20} {:>10} {:>10} {:>6} {:>10}", "network", "edgecc M", "ncnn M", "ratio", "cosine"));
    for network in &NETWORKS {
        let (millions, cosine) = count(&peers, &plugin, &line, network);
        let ratio = millions / network.ncnn;
        say(&format!("{:<20} {millions:>10.1} {:>10.1} {ratio:>6.2} {cosine:>10.6}", network.name, network.ncnn));
        assert!(cosine > 0.99999, "{}: {cosine}", network.name);
        assert!(network.name != "mobilenet_v2" || ratio <= MOST, "{ratio}");
    }
}
