//! Nine classic networks: with the constant weights and the outputs that ONNX ships, and with random weights against
//! onnxruntime, since equal weights hide errors of packing.

use edgecc_tests::report::say;
use std::path::{Path, PathBuf};

use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_tests::light::{self, BOUND};
use edgecc_tests::{python, reference, run};

const NAMES: [&str; 9] = [
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
];

/// Random logits come near 0, so all of an image's share one scale.
const WHOLE_IMAGE: Option<usize> = Some(0);

fn compile_and_run(model: &Path, inputs: &[Array]) -> Vec<u8> {
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(model, host, inputs).expect("the network compiles");
    run::run_here(&compiled.to_bytes().expect("an artifact"), inputs, 2).remove(0)
}

#[test]
fn networks_with_equal_weights_answer_as_shipped() {
    let Some(folder) = reference::shared("models/light") else { return };
    for name in NAMES {
        let actual = compile_and_run(&light::model(&folder, name), &[light::image()]);
        let agreement = run::agree(&actual, &light::answer(&folder, name), None, BOUND);
        say(&format!(
            "{name:<14} {:.1e} of {:.1}% of the bound",
            agreement.max_absolute,
            agreement.share_of_bound * 100.0
        ));
        assert!(agreement.share_of_bound <= 1.0, "{name}: {agreement:?}");
    }
}

#[test]
fn networks_with_random_weights_answer_as_onnxruntime_does() {
    let (Some(source), Some(interpreter)) = (reference::shared("models/light"), python::python()) else { return };
    let folder: PathBuf = python::generated("light");
    python::tool(&interpreter, "light_random.py", &[&folder.to_string_lossy(), "--light", &source.to_string_lossy()]);
    for name in NAMES {
        let expected = reference::read(&folder.join(format!("light_{name}.npz")));
        let actual = compile_and_run(&folder.join(format!("light_{name}.onnx")), &expected.inputs);
        let agreement = run::agree(&actual, &expected.outputs[0], WHOLE_IMAGE, BOUND);
        say(&format!(
            "{name:<14} {:.1e}, {:.1}% of the bound, cosine {:.8}",
            agreement.max_absolute,
            agreement.share_of_bound * 100.0,
            agreement.cosine
        ));
        assert!(agreement.share_of_bound <= 1.0, "{name}: {agreement:?}");
    }
}
