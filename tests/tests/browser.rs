//! The JavaScript loader in a headless browser: the same answers, the same verdicts on damaged artifacts, clear errors.

use std::path::{Path, PathBuf};

use edgecc::both::CompiledForBoth;
use edgecc::picture::{Normalisation, read as read_picture};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::Array;
use edgecc_format::{ElementType, HEADER_BYTES, Manifest, verify_weights};
use edgecc_runtime::gpu::ShaderModel;
use edgecc_tests::browser::{Files, browser, run as run_page};
use edgecc_tests::models::{MODELS, Row};
use edgecc_tests::report::say;
use edgecc_tests::rewritten::rewritten;
use edgecc_tests::{gpu, reference, run, sample};
use serde_json::json;

/// Models that run in the browser beside the sample: MobileNetV1 and one of separable convolutions.
const IN_BROWSER: [&str; 2] = ["mlperftiny_vww96_fp32", "mlperftiny_kws_dscnn_fp32"];
/// How often the device is lost.
const LOSSES: usize = 100;
/// Damaged artifacts.
const DAMAGED: usize = 300;

fn sample_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample").join(name)
}

/// The sample as shaders, for one picture.
fn sample_artifact() -> Vec<u8> {
    let image = sample::first_image();
    let compiled = gpu::compile_for(&sample_file("digits.onnx"), &[image]).expect("compiles");
    compiled.to_bytes().expect("an artifact")
}

/// An artifact with its inputs, as the page finds them.
fn served(name: &str, artifact: Vec<u8>, inputs: &[Array]) -> Files {
    let inputs = inputs.iter().enumerate().map(|(n, input)| (format!("{name}.in{n}"), input.bytes.clone()));
    inputs.chain([(format!("{name}.bin"), artifact)]).collect()
}

/// What the processor answers.
fn on_processor(model: &Path, inputs: &[Array]) -> Vec<Vec<u8>> {
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(model, host, inputs).expect("compiles");
    run::run_here(&compiled.to_bytes().expect("an artifact"), inputs, 1)
}

#[test]
fn the_sample_answers_as_on_the_processor_whenever_the_device_is_lost() {
    let Some(browser) = browser() else { return };
    let image = sample::first_image();
    let inputs = std::slice::from_ref(&image);
    let served = served("digits", sample_artifact(), inputs);
    let posted = run_page(browser, "sample", &json!([["run", "digits", LOSSES]]), served);
    let expected = on_processor(&sample_file("digits.onnx"), inputs).swap_remove(0);
    let expected = Array { element_type: ElementType::F32, extents: vec![expected.len() / 4], bytes: expected };
    assert!(run::agree(&posted["digits.out0"], &expected, None, Bound::FLOAT).share_of_bound <= 1.0);
}

/// A browser has no use for machine code: of an artifact for both it runs the shaders.
#[test]
fn an_artifact_for_both_answers_as_on_the_processor() {
    let Some(browser) = browser() else { return };
    let image = sample::first_image();
    let (inputs, model) = (std::slice::from_ref(&image), sample_file("digits.onnx"));
    let processors = run::compile_for(&model, Architecture::Aarch64, inputs).expect("compiles");
    let shaders = gpu::compile_beside(&model, inputs, &processors.best.packings).expect("compiles");
    let both = CompiledForBoth { processors, shaders }.to_bytes().expect("an artifact");
    let posted = run_page(browser, "both", &json!([["run", "both", 0]]), served("both", both, inputs));
    let expected = on_processor(&model, inputs).swap_remove(0);
    let expected = Array { element_type: ElementType::F32, extents: vec![expected.len() / 4], bytes: expected };
    assert!(run::agree(&posted["both.out0"], &expected, None, Bound::FLOAT).share_of_bound <= 1.0);
}

#[test]
fn models_agree_with_onnxruntime() {
    let (Some(folder), Some(browser)) = (reference::shared("models"), browser()) else { return };
    let rows = MODELS.iter().filter(|row| IN_BROWSER.contains(&row.name));
    let failed: Vec<&Row> = rows.filter(|row| !agrees(browser, &folder, row)).collect();
    assert!(failed.is_empty(), "out of bounds: {failed:?}");
}

fn agrees(browser: &str, folder: &Path, row: &Row) -> bool {
    let expected = reference::read(&row.reference(folder));
    let compiled = gpu::compile_for(&row.model(folder), &expected.inputs).expect("compiles");
    let served = served(row.name, compiled.to_bytes().expect("an artifact"), &expected.inputs);
    let posted = run_page(browser, row.name, &json!([["run", row.name, 0]]), served);
    let share = |(n, reference): (usize, &Array)| {
        run::agree(&posted[&format!("{}.out{n}", row.name)], reference, row.channel, row.bound()).share_of_bound
    };
    let worst = expected.outputs.iter().enumerate().map(share).fold(0.0, f64::max);
    say(&format!("{:<44} {:>8.1}% of the bound in the browser", row.name, worst * 100.0));
    worst <= 1.0
}

#[test]
fn the_demo_page_sees_a_seven() {
    let Some(browser) = browser() else { return };
    let artifact = sample_artifact();
    let port = ShaderModel::from_bytes(&artifact).expect("a model").inputs()[0].clone();
    let picture = sample_file("seven.png");
    let read = read_picture(&picture, &port, &Normalisation::default()).expect("a picture").bytes;
    let query = "model=/served/digits.bin&picture=/sample/seven.png";
    let shape: Vec<u64> = port.dims.iter().map(|dim| dim.value).collect();
    let described = json!({"name": port.name, "type": "f32", "shape": shape});
    let tasks = json!([["demo", query], ["picture", "/sample/seven.png", described, {}]]);
    let posted = run_page(browser, "demo", &tasks, Files::from([("digits.bin".into(), artifact)]));
    assert_eq!(posted["picture"], read, "the input that the picture becomes");
    let answer = String::from_utf8_lossy(&posted["demo"]).into_owned();
    let best = answer.lines().nth(1).unwrap_or("");
    assert!(best.trim_start().starts_with("7  0.7"), "{answer}");
}

#[test]
fn pictures_become_the_inputs_that_they_become_on_the_command_line() {
    let (Some(folder), Some(browser)) = (reference::shared("models"), browser()) else { return };
    let picture = folder.join("data/coffee.png");
    let bytes = std::fs::read(&picture).expect("a picture");
    for (extents, element, normalisation) in [
        ([1, 3, 96, 224], ElementType::F32, Normalisation::default()),
        ([1, 50, 70, 1], ElementType::U8, Normalisation::default()),
        (
            [1, 700, 650, 3],
            ElementType::F32,
            Normalisation {
                scale: 1.0,
                mean: vec![123.68, 116.28, 103.53],
                deviation: vec![58.4, 57.1, 57.4],
                bgr: true,
            },
        ),
    ] {
        let dims = extents.iter().map(|&extent| edgecc_format::Dim::fixed(extent)).collect();
        let port = edgecc_format::Port { name: "image".into(), element_type: element as i32, dims };
        let described = json!({"name": "image", "type": element.name(), "shape": extents});
        let Normalisation { scale, mean, deviation, bgr } = &normalisation;
        let figures = json!({"scale": scale, "mean": mean, "deviation": deviation, "bgr": bgr});
        let tasks = json!([["picture", "/served/picture.png", described, figures]]);
        let posted = run_page(browser, "picture", &tasks, Files::from([("picture.png".into(), bytes.clone())]));
        let expected = read_picture(&picture, &port, &normalisation).expect("a picture").bytes;
        assert_eq!(posted["picture"].len(), expected.len());
        let differing = posted["picture"].iter().zip(&expected).filter(|(a, b)| a != b).count();
        // Greys are sums in single precision there and in double precision here, and may round to neighbours.
        let allowed = if extents[3] == 1 { expected.len() / 100 } else { 0 };
        assert!(differing <= allowed, "{differing} of {} bytes to {extents:?}", expected.len());
    }
}

#[test]
fn adapters_that_are_missing_or_too_small_are_clear_errors() {
    let Some(browser) = browser() else { return };
    let artifact = sample_artifact();
    let needy = |manifest: &mut Manifest, _: &mut Vec<u8>| {
        manifest.programs[0].required_features.push("no-such-feature".into());
    };
    let needy = rewritten(&artifact, needy);
    let broken = rewritten(&artifact, |_, code| code[..3].copy_from_slice(b"bad"));
    let named = [("digits.bin", artifact), ("digits-needy.bin", needy), ("digits-broken.bin", broken)];
    let served = Files::from(named.map(|(name, bytes)| (name.into(), bytes)));
    let posted = run_page(browser, "refusals", &json!([["refusals", "digits"]]), served);
    let said = String::from_utf8_lossy(&posted["refusals"]).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "adapter: this browser has no WebGPU, or the page is not served securely");
    assert_eq!(lines[1], "adapter: this browser finds no GPU adapter that it may use");
    assert!(lines[2].starts_with("limit: adapter"), "{said}");
    assert!(lines[2].contains("has maxStorageBufferBindingSize of 64, the model needs"), "{said}");
    assert!(lines[3].starts_with("feature: adapter"), "{said}");
    assert!(lines[3].ends_with("does not have no-such-feature, which the model needs"), "{said}");
    assert!(lines[4].starts_with("shader: adapter") && lines[4].contains("refuses shader `conv_0`"), "{said}");
    assert_eq!(lines.last(), Some(&"lost: the device was given back"), "{said}");
}

/// The text without the numbers that JavaScript does not hold to the last digit.
fn without_huge_numbers(text: &str) -> String {
    let is_digit = |letter: char| letter.is_ascii_digit();
    text.split(' ')
        .map(|word| if word.matches(is_digit).count() > 15 { "huge" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// An artifact with one byte changed and, where that is of what is hashed, another hash, so that the fault itself is found.
fn damage(artifact: &[u8], seed: usize) -> Vec<u8> {
    let mut bytes = artifact.to_vec();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
    let [manifest, code] = [0, 1].map(|row| {
        let at = HEADER_BYTES + row * 32 + 8;
        number(at)..number(at) + number(at + 8)
    });
    let draw = |n: usize| seed.wrapping_mul(2654435761).wrapping_add(n.wrapping_mul(40503)) >> 3;
    let table_end = HEADER_BYTES + 3 * 32;
    let at = match seed % 8 {
        0 => draw(1) % table_end,
        1 => draw(1) % bytes.len(),
        _ => manifest.start + draw(1) % manifest.len(),
    };
    bytes[at] = if seed.is_multiple_of(3) { bytes[at] ^ (1 << (draw(2) % 8)) } else { (draw(2) % 256) as u8 };
    if !seed.is_multiple_of(5) {
        let mut hasher = blake3::Hasher::new();
        for part in [0..32, HEADER_BYTES..table_end, manifest, code] {
            hasher.update(&bytes[part]);
        }
        bytes[32..64].copy_from_slice(hasher.finalize().as_bytes());
    }
    bytes
}

#[test]
fn damaged_artifacts_are_refused_as_by_the_loader_in_rust() {
    let Some(browser) = browser() else { return };
    let artifact = sample_artifact();
    let damaged: Vec<Vec<u8>> = (0..DAMAGED).map(|seed| damage(&artifact, seed)).collect();
    let served = damaged.iter().enumerate().map(|(n, bytes)| (format!("damaged{n}.bin"), bytes.clone())).collect();
    let posted = run_page(browser, "damaged", &json!([["verdicts", DAMAGED]]), served);
    let said = String::from_utf8_lossy(&posted["verdicts"]).into_owned();
    let verdict = |bytes: &[u8]| match ShaderModel::from_bytes(bytes) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let decoding = "the artifact's manifest cannot be decoded";
    let mut refused = 0;
    for (n, (bytes, said)) in damaged.iter().zip(said.split('\n')).enumerate() {
        let expected = verdict(bytes);
        refused += usize::from(!expected.is_empty());
        let is_same = match expected.starts_with(decoding) {
            true => said.starts_with(decoding),
            false => without_huge_numbers(said) == without_huge_numbers(&expected),
        };
        assert!(is_same, "artifact {n}: `{said}` in the browser, `{expected}` in Rust");
    }
    say(&format!("{refused} of {DAMAGED} damaged artifacts are refused, in the same words"));
    let view = edgecc_format::read(&artifact).expect("undamaged");
    verify_weights(&view.manifest, view.weights).expect("undamaged");
}
