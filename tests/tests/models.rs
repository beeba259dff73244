//! Real models against onnxruntime's outputs, on this machine. Prints a table.

use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Bound;
use edgecc_tests::{reference, run};

/// Models without recurrent operators, with the reference that they are held to and the axis of channels where that is not
/// the last.
const MODELS: [(&str, &str, Option<usize>); 22] = [
    ("mnist_cntk", "", None),
    ("mnist_burn", "", None),
    ("squeezenet_fp16", "", None),
    ("bodypix_mobilenetv1_050_s16", "", None),
    ("deeplab_dm05_513", "", None),
    ("portrait_mnv3_fp32", "", None),
    ("yolox_nano", "", None),
    ("fastestdet", "", None),
    ("ultraface_slim320", "", None),
    ("ultraface_rfb320", "", None),
    ("yunet_n_dynamic", "", None),
    ("blazeface_front_128", "", None),
    ("mp_face_landmark", "", None),
    ("super_resolution_10", "", None),
    ("ch_ppocr_mobile_v2.0_cls_infer", "", None),
    // On noise onnxruntime itself leaves the bound between its optimisation levels.
    ("ch_PP-OCRv4_det_infer", ".real_page", Some(1)),
    ("ch_PP-OCRv4_rec_infer", "", None),
    ("mlperftiny_kws_dscnn_fp32", "", None),
    ("mlperftiny_vww96_fp32", "", None),
    ("dtln_2", "", None),
    ("dnsmos_model_v8", "", None),
    ("magika_v3_3", "", None),
];

/// Half precision has 11 bits.
const HALF: Bound = Bound { relative: 1e-2, of_channel: 1e-2 };

#[test]
fn models_agree_with_onnxruntime() {
    let Some(folder) = reference::shared("models") else { return };
    let host = Architecture::host().expect("a host that code is emitted for");
    let mut failed = Vec::new();
    println!(
        "{:<34} {:>5} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "model", "steps", "macs", "arena", "code", "max abs", "of bound", "cosine"
    );
    for (name, variant, channel) in MODELS {
        let expected = reference::read(&folder.join(format!("io/{name}{variant}.npz")));
        let compiled = match run::compile_for(&folder.join(format!("models/{name}.onnx")), host, &expected.inputs) {
            Ok(compiled) => compiled,
            Err(error) => {
                println!("{name:<34} {error}");
                failed.push(name);
                continue;
            }
        };
        let artifact = compiled.to_bytes().expect("an artifact");
        let single = run::run_here(&artifact, &expected.inputs, 1);
        assert!(
            single == run::run_here(&artifact, &expected.inputs, 2),
            "{name}: results depend on the number of threads"
        );
        let bound = if name.ends_with("fp16") { HALF } else { Bound::FLOAT };
        let agreements: Vec<_> = single
            .iter()
            .zip(&expected.outputs)
            .map(|(actual, reference)| run::agree(actual, reference, channel, bound))
            .collect();
        let worst = agreements.iter().max_by(|a, b| a.share_of_bound.total_cmp(&b.share_of_bound)).expect("an output");
        println!(
            "{name:<34} {:>5} {:>9} {:>9} {:>8} {:>9.2e} {:>8.1}% {:>9.6}",
            compiled.program.steps.len(),
            compiled.program.steps.iter().map(|step| step.macs).sum::<u64>(),
            compiled.plan.arena_bytes,
            compiled.emitted.code.len(),
            worst.max_absolute,
            worst.share_of_bound * 100.0,
            worst.cosine
        );
        if worst.share_of_bound > 1.0 || single.len() != expected.outputs.len() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "out of bounds or not compiled: {}", failed.join(", "));
}
