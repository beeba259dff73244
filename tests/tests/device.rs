//! `edgecc-device` and compiled models on an emulated aarch64 processor: the program and the code that a phone runs.

use edgecc_tests::report::say;
use std::path::{Path, PathBuf};
use std::process::Output;

use edgecc::compile::CompileOptions;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_passes::precision::Precision;
use edgecc_tests::models::{LEAST_COSINE_OF_HALVES, MODELS, PICTURES, Row};
use edgecc_tests::{cross, light, pictures, python, reference, run};
use serde_json::Value;

/// A core without dot products or half precision, and everything that the emulator knows.
const PROCESSORS: [&str; 2] = ["cortex-a72", "max"];
/// Models above this many multiply-adds run on the first processor only: emulating them takes many seconds.
const MOST_ON_ALL: u64 = 150_000_000;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample").join(name)
}

/// Compiles for aarch64 and writes the artifact to the folder; its path and its multiply-adds.
fn compile(model: &Path, inputs: &[Array], folder: &Path) -> (PathBuf, u64) {
    compile_in(Precision::F32, model, inputs, folder)
}

fn compile_in(precision: Precision, model: &Path, inputs: &[Array], folder: &Path) -> (PathBuf, u64) {
    let adjust = |options| CompileOptions { precision, ..options };
    let compiled = run::compile_with(model, Architecture::Aarch64, inputs, adjust).expect("the model compiles");
    let path = folder.join(model.file_stem().expect("a name")).with_extension("bin");
    std::fs::write(&path, compiled.to_bytes().expect("an artifact")).expect("the artifact is written");
    (path, compiled.best.program.steps.iter().map(|step| step.macs).sum())
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_string()
}

/// Arguments of `compare`.
fn comparison(artifact: &Path, npz: &Path, channel: Option<usize>, bound: Bound) -> Vec<String> {
    let mut arguments = vec!["compare".into(), text(artifact), "--json".into()];
    arguments.extend(["--input".into(), text(npz)]);
    arguments.extend(["--relative".into(), bound.relative.to_string()]);
    arguments.extend(["--of-channel".into(), bound.of_channel.to_string()]);
    arguments.extend(channel.into_iter().flat_map(|axis| ["--channel".into(), axis.to_string()]));
    arguments
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The largest share of the bound over all outputs.
fn worst(report: &Value) -> f64 {
    let shares = report["outputs"].as_array().expect("outputs").iter().map(|row| row["share_of_bound"].as_f64());
    shares.map(|share| share.unwrap_or(f64::INFINITY)).fold(0.0, f64::max)
}

/// One digit with the probabilities that onnxruntime gives it, as a reference file.
fn one_digit(folder: &Path) -> (PathBuf, Vec<Array>) {
    let arrays = read_npz(&sample("digits-test.npz")).expect("the test split");
    let first = |name: &str| {
        let array = &arrays.iter().find(|(found, _)| found == name).expect(name).1;
        let extents = [&[1], &array.extents[1..]].concat();
        let bytes = array.bytes[..array.bytes.len() / array.extents[0]].to_vec();
        Array { extents, bytes, ..array.clone() }
    };
    let (image, probabilities) = (first("image"), first("probabilities"));
    let path = folder.join("one-digit.npz");
    let named = [("image".to_string(), image.clone()), ("probabilities".to_string(), probabilities)];
    write_npz(&path, &named[..1]).expect("a reference file");
    let expected = folder.join("one-digit-expected.npz");
    write_npz(&expected, &named[1..]).expect("a reference file");
    (path, vec![image])
}

#[test]
fn the_device_program_runs_times_compares_and_profiles_the_sample() {
    let Some(program) = cross::device_program() else { return };
    say(&format!("edgecc-device for aarch64: {} bytes", std::fs::metadata(&program).expect("a program").len()));
    let folder = python::generated("device");
    let (input, arrays) = one_digit(&folder);
    let (artifact, _) = compile(&sample("digits.onnx"), &arrays, &folder);
    let device = |arguments: &[&str]| {
        let all: Vec<String> = [arguments[0].into(), text(&artifact)]
            .into_iter()
            .chain(arguments[1..].iter().map(|a| a.to_string()))
            .collect();
        cross::emulate("cortex-a72", &program, &all)
    };
    let (input, expected) = (text(&input), text(&folder.join("one-digit-expected.npz")));

    let ran = device(&["run", "--input", &input, "--threads", "2"]);
    let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && stdout.starts_with("probabilities: f32[1x10]\n      1    0.996"), "{stdout}");

    let written = text(&folder.join("out.npz"));
    assert!(device(&["run", "--input", &input, "--output", &written]).status.success());
    let outputs = read_npz(Path::new(&written)).expect("outputs");
    assert_eq!((outputs[0].0.as_str(), &outputs[0].1.extents[..]), ("probabilities", &[1, 10][..]));

    let compared = device(&["compare", "--input", &input, "--expected", &expected, "--json"]);
    assert!(compared.status.success() && worst(&json(&compared)) <= 1.0);
    let strict =
        device(&["compare", "--input", &input, "--expected", &expected, "--relative", "0", "--of-channel", "0"]);
    assert_eq!(strict.status.code(), Some(3));

    let timed = json(&device(&["bench", "--runs", "20", "--json"]));
    assert_eq!((timed["runs"].as_u64(), timed["tenths"].as_array().map(Vec::len)), (Some(20), Some(0)));
    assert!(timed["p50_ns"].as_u64() >= timed["min_ns"].as_u64());
    let sustained = json(&device(&["bench", "--sustain", "0.2s", "--json"]));
    assert!(sustained["runs"].as_u64() > Some(0) && sustained["mean_ns"].as_u64() < Some(200_000_000));
    let tenths = sustained["tenths"].as_array().expect("tenths");
    let runs: u64 = tenths.iter().filter_map(|tenth| tenth["runs"].as_u64()).sum();
    assert!(
        Some(runs) == sustained["runs"].as_u64() && tenths.iter().all(|t| t["p99_ns"].as_u64() >= t["p50_ns"].as_u64())
    );

    let profile = json(&device(&["profile", "--json"]));
    let steps = profile["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["origins"].as_str().is_some_and(|origins| origins.contains("conv0"))));
}

#[test]
fn the_device_program_says_what_is_wrong() {
    let Some(program) = cross::device_program() else { return };
    let folder = python::generated("device-errors");
    let (input, arrays) = one_digit(&folder);
    let (artifact, _) = compile(&sample("digits.onnx"), &arrays, &folder);
    let fails = |arguments: &[&str], code: i32, words: &str| {
        let output = cross::emulate("max", &program, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    };
    let (artifact, input) = (text(&artifact), text(&input));
    fails(&["run", "/nonexistent.bin"], 4, "/nonexistent.bin");
    fails(&["run", &artifact], 2, "input `image` (f32[1x1x8x8]) is not given");
    fails(&["run", &artifact, "--input", "picture.png"], 2, "pictures are read by `edgecc run`");
    fails(&["run", &input], 1, "not an edgecc artifact");
    fails(&["compare", &artifact, "--input", &input], 2, "no output `image`");
    fails(&["compare", &artifact], 2, "needs --expected");
    fails(&["bench", &artifact, "--threads", "0"], 2, "threads, not 0");
    let mut damaged = std::fs::read(&artifact).expect("the artifact");
    *damaged.last_mut().expect("weights") ^= 1;
    let path = folder.join("damaged.bin");
    std::fs::write(&path, damaged).expect("written");
    fails(&["bench", &text(&path)], 1, "damaged.bin");
    fails(&["jump", &artifact], 2, "there are run, bench, compare and profile");
    fails(&["bench", &artifact, "--sustain", "long"], 2, "90s or 10m");
    let host = Architecture::host().expect("a host that code is emitted for");
    let other = run::compile_for(&sample("digits.onnx"), host, &arrays).expect("compiles").to_bytes().expect("bytes");
    let path = folder.join("host.bin");
    std::fs::write(&path, other).expect("written");
    if host != Architecture::Aarch64 {
        fails(&["bench", &text(&path)], 1, "x86_64");
    }
}

#[test]
fn models_agree_with_onnxruntime_on_aarch64() {
    let Some(folder) = reference::shared("models") else { return };
    let Some(program) = cross::device_program() else { return };
    let artifacts = python::generated("device-models");
    say(&format!("{:<44} {:>10} {:>12} {:>12}", "model", "macs", PROCESSORS[0], PROCESSORS[1]));
    let check = |row: &Row| -> bool {
        let npz = row.reference(&folder);
        let (artifact, macs) = compile(&row.model(&folder), &reference::read(&npz).inputs, &artifacts);
        let processors = if macs > MOST_ON_ALL { &PROCESSORS[..1] } else { &PROCESSORS[..] };
        let share = |processor: &&str| {
            let arguments = comparison(&artifact, &npz, row.channel, row.bound());
            worst(&json(&cross::emulate(processor, &program, &arguments)))
        };
        let shares: Vec<f64> = processors.iter().map(share).collect();
        let cells: String = shares.iter().map(|share| format!(" {:>11.1}%", share * 100.0)).collect();
        say(&format!("{:<44} {macs:>10}{cells}", row.title()));
        std::fs::remove_file(artifact).expect("the artifact goes");
        shares.iter().all(|&share| share <= 1.0)
    };
    let failed: Vec<&Row> = MODELS.iter().chain(&PICTURES).filter(|row| !check(row)).collect();
    assert!(failed.is_empty(), "out of bounds: {failed:?}");
}

#[test]
fn models_keep_their_answers_with_halves_on_aarch64() {
    let Some(folder) = reference::shared("models") else { return };
    let Some(program) = cross::device_program() else { return };
    let artifacts = python::generated("device-halves");
    say(&format!("{:<44} {:>10} {:>12}", "model, with halves", "macs", "cosine"));
    let check = |row: &Row| -> bool {
        let npz = row.reference(&folder);
        let inputs = reference::read(&npz).inputs;
        let (artifact, macs) = compile_in(Precision::F16, &row.model(&folder), &inputs, &artifacts);
        if macs > MOST_ON_ALL {
            return true;
        }
        let report = json(&cross::emulate("max", &program, &comparison(&artifact, &npz, row.channel, row.bound())));
        let outputs = report["outputs"].as_array().expect("outputs");
        let cosine = outputs.iter().filter_map(|output| output["cosine"].as_f64()).fold(1.0, f64::min);
        say(&format!("{:<44} {macs:>10} {cosine:>12.6}", row.title()));
        cosine >= LEAST_COSINE_OF_HALVES
    };
    let failed: Vec<&Row> = MODELS.iter().filter(|row| !check(row)).collect();
    assert!(failed.is_empty(), "out of bounds: {failed:?}");
}

/// The outputs of a run on an emulated processor.
fn outputs(program: &Path, row: &Row, folder: &Path) -> Vec<Vec<f64>> {
    let npz = row.reference(folder);
    let place = python::generated("device-pictures");
    let (artifact, _) = compile(&row.model(folder), &reference::read(&npz).inputs, &place);
    let arguments = ["run".into(), text(&artifact), "--json".into(), "--input".into(), text(&npz)];
    let report = json(&cross::emulate("cortex-a72", program, &arguments));
    let values =
        |output: &Value| output["values"].as_array().expect("values").iter().filter_map(Value::as_f64).collect();
    report["outputs"].as_array().expect("outputs").iter().map(values).collect()
}

#[test]
fn the_cat_and_the_face_are_found_on_aarch64() {
    let Some(folder) = reference::shared("models") else { return };
    let Some(program) = cross::device_program() else { return };
    let [cat, _, _, face, ..] = PICTURES;
    pictures::assert_cat(&outputs(&program, &cat, &folder));
    pictures::assert_face(&outputs(&program, &face, &folder), &folder);
}

/// Two of ONNX's networks with constant weights that an emulator is fast enough for.
#[test]
fn classic_networks_answer_as_shipped_on_aarch64() {
    let Some(source) = reference::shared("models/light") else { return };
    let Some(program) = cross::device_program() else { return };
    let folder = python::generated("device-light");
    for name in ["squeezenet", "shufflenet"] {
        let (image, answer) = (light::image(), light::answer(&source, name));
        let (artifact, _) = compile(&light::model(&source, name), std::slice::from_ref(&image), &folder);
        let npz = folder.join(name).with_extension("npz");
        write_npz(&npz, &[("in_0".into(), image), ("out_0".into(), answer)]).expect("a reference file");
        let compared = cross::emulate("cortex-a72", &program, &comparison(&artifact, &npz, None, light::BOUND));
        let share = worst(&json(&compared));
        say(&format!("{:<44} {:>22.1}%", format!("light_{name}"), share * 100.0));
        assert!(share <= 1.0 && compared.status.success(), "{name}: {share}");
    }
}
