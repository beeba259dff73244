//! One network as four exporters write it compiles to the same program.

use edgecc_tests::report::say;
use std::path::Path;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Bound;
use edgecc_tests::{python, reference, run};

/// MobileNetV2's widest step reads 4.6 MiB and writes 1.1 MiB; the planner adds next to nothing.
const ARENA: usize = (58 << 20) / 10;

/// Random logits come near 0, so all of an image's share one scale.
const WHOLE_IMAGE: Option<usize> = Some(0);

/// Steps and arena of one export, which must answer as onnxruntime does.
fn program(folder: &Path, name: &str) -> (usize, usize) {
    let expected = reference::read(&folder.join(format!("{name}.npz")));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(&folder.join(format!("{name}.onnx")), host, &expected.inputs).expect(name);
    let outputs = run::run_here(&compiled.to_bytes().expect("an artifact"), &expected.inputs, 1);
    let agreement = run::agree(&outputs[0], &expected.outputs[0], WHOLE_IMAGE, Bound::FLOAT);
    assert!(agreement.share_of_bound <= 1.0, "{name}: {agreement:?}");
    let (steps, arena) = (compiled.best.program.steps.len(), compiled.best.plan.arena_bytes);
    say(&format!(
        "{name:<10} {steps:>3} steps, {arena} bytes of arena, {:.1}% of the bound",
        agreement.share_of_bound * 100.0
    ));
    (steps, arena)
}

/// An image given as NHWC needs no change of layout at the start: one step less.
fn check_exports(folder: &Path) -> usize {
    let first = program(folder, "opset11");
    for name in ["opset17", "nchw_image", "functions"] {
        assert_eq!(program(folder, name), first, "{name}");
    }
    assert_eq!(program(folder, "nhwc"), (first.0 - 1, first.1));
    first.1
}

#[test]
fn exports_of_a_small_network_are_one_program() {
    check_exports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mobilenet_small"));
}

#[test]
fn exports_of_a_network_are_one_program_within_its_arena() {
    let Some(interpreter) = python::python() else { return };
    let folder = python::generated("mobilenet");
    python::tool(&interpreter, "make_mobilenet.py", &[&folder.to_string_lossy()]);
    let arena = check_exports(&folder);
    assert!(arena <= ARENA, "{arena} bytes of arena");
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
