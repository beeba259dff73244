//! One network as four exporters write it compiles to the same program.

use edgecc_tests::report::say;
use std::path::Path;

use edgecc::compile::CompileOptions;
use edgecc_backends::chain::Limits;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Bound;
use edgecc_tests::{python, reference, run};

/// MobileNetV2's widest step reads 4.6 MiB and writes 1.1 MiB; the planner adds next to nothing.
const ARENA_WITHOUT_CHAINS: usize = (58 << 20) / 10;
/// Chains leave of that their first inputs and last results, and the worker's strips.
const ARENA_AND_SCRATCH: usize = (26 << 20) / 10;

/// Random logits come near 0, so all of an image's share one scale.
const WHOLE_IMAGE: Option<usize> = Some(0);

/// Steps and arena of one export, which must answer as onnxruntime does, and the scratch of a worker.
fn program(folder: &Path, name: &str, chains: Option<Limits>) -> (usize, usize, usize) {
    let expected = reference::read(&folder.join(format!("{name}.npz")));
    let host = Architecture::host().expect("a host that code is emitted for");
    let adjust = |options| CompileOptions { chains, ..options };
    let compiled = run::compile_with(&folder.join(format!("{name}.onnx")), host, &expected.inputs, adjust).expect(name);
    let outputs = run::run_here(&compiled.to_bytes().expect("an artifact"), &expected.inputs, 1);
    let agreement = run::agree(&outputs[0], &expected.outputs[0], WHOLE_IMAGE, Bound::FLOAT);
    assert!(agreement.share_of_bound <= 1.0, "{name}: {agreement:?}");
    let (steps, arena) = (compiled.best.program.steps.len(), compiled.best.plan.arena_bytes);
    let scratch = compiled.best.program.steps.iter().map(|step| step.scratch).max().unwrap_or(0);
    say(&format!(
        "{name:<10} {steps:>3} steps, {arena} bytes of arena, {scratch} of scratch, {:.1}% of the bound",
        agreement.share_of_bound * 100.0
    ));
    (steps, arena, scratch)
}

/// The arena and a worker's scratch. An image given as NHWC needs no change of layout at the start: one step less.
fn check_exports(folder: &Path, chains: Option<Limits>) -> (usize, usize) {
    let (steps, arena, scratch) = program(folder, "opset11", chains);
    for name in ["opset17", "nchw_image", "functions"] {
        assert_eq!(program(folder, name, chains), (steps, arena, scratch), "{name}");
    }
    let nhwc = program(folder, "nhwc", chains);
    assert!(nhwc.0 == steps - 1 && nhwc.1 <= arena && nhwc.2 == scratch, "{nhwc:?}");
    (arena, scratch)
}

#[test]
fn exports_of_a_small_network_are_one_program() {
    check_exports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mobilenet_small"), Some(Limits::USUAL));
}

#[test]
fn exports_of_a_network_are_one_program_within_its_arena() {
    let Some(interpreter) = python::python() else { return };
    let folder = python::generated("mobilenet");
    python::tool(&interpreter, "make_mobilenet.py", &[&folder.to_string_lossy()]);
    let (arena, scratch) = check_exports(&folder, Some(Limits::USUAL));
    assert!(arena + scratch <= ARENA_AND_SCRATCH, "{arena} bytes of arena, {scratch} of scratch");
    let (_, arena, _) = program(&folder, "opset17", None);
    assert!(arena <= ARENA_WITHOUT_CHAINS, "{arena} bytes of arena");
}

#[test]
fn two_compiles_give_equal_bytes() {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits.onnx");
    for architecture in [Architecture::Aarch64, Architecture::X86_64] {
        let bytes = || {
            let options = run::options(architecture, &[]);
            let compiled = edgecc::compile::compile(&digits, &options, &mut |_| {}).expect("the sample compiles");
            compiled.to_bytes().expect("an artifact")
        };
        assert!(bytes() == bytes(), "{architecture:?}");
    }
}

#[test]
fn the_sample_recognises_its_test_split() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let arrays = edgecc_device::tensor_file::read_npz(&folder.join("digits-test.npz")).expect("the test split");
    let find = |name: &str| &arrays.iter().find(|(found, _)| found == name).expect(name).1;
    let (images, labels, probabilities) = (find("image"), find("labels"), find("probabilities"));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled =
        run::compile_for(&folder.join("digits.onnx"), host, std::slice::from_ref(images)).expect("the sample compiles");
    let outputs = run::run_here(&compiled.to_bytes().expect("an artifact"), std::slice::from_ref(images), 2);
    let agreement = run::agree(&outputs[0], probabilities, None, Bound::FLOAT);
    assert!(agreement.share_of_bound <= 1.0, "{agreement:?}");
    let actual: Vec<f32> = outputs[0].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let best = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("ten classes");
    let right = actual.chunks_exact(10).zip(labels.to_f64()).filter(|(row, label)| best(row) as f64 == *label).count();
    let accuracy = right as f64 / labels.to_f64().len() as f64;
    say(&format!("accuracy {accuracy:.4}"));
    assert!(accuracy >= 0.97, "accuracy {accuracy}");
}
