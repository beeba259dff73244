//! What the first answer costs over a later one, in time and in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_tests::report::{say, skipped};
use edgecc_tests::{binary, python, run};

/// Fresh processes, of which the least disturbed counts.
const PROCESSES: usize = 40;
const MOST_NANOSECONDS: u64 = 2_000_000;
/// Resident bytes beside the mapped file and the arena.
const MOST_BYTES: u64 = 2 << 20;

/// The runtime's example `startup` as it ships in an app.
fn program() -> PathBuf {
    let target = binary::target_folder();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--profile",
            "device",
            "-p",
            "edgecc-runtime",
            "--example",
            "startup",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the example does not build");
    target.join("device/examples/startup")
}

/// The figures of one process: nanoseconds of the first answer and of a later one, resident bytes before and after, of the
/// mapped file, and of the arena.
fn figures(program: &Path, artifact: &Path) -> [u64; 6] {
    let output = Command::new(program).arg(artifact).output().expect("the example starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    fields.try_into().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_first_answer_comes_as_fast_as_any_other() {
    if !cfg!(target_os = "linux") {
        return skipped("resident memory is read as Linux tells it");
    }
    let Some(interpreter) = python::python() else { return };
    let model = python::generated("mobilenet").join("opset17.onnx");
    if !model.exists() {
        python::tool(&interpreter, "make_mobilenet.py", &[&python::generated("mobilenet").to_string_lossy()]);
    }
    let compiled = run::compile_for(&model, Architecture::host().expect("a target"), &[]).expect("compiles");
    let artifact = python::generated("startup").join("mobilenet.bin");
    std::fs::write(&artifact, compiled.to_bytes().expect("an artifact")).expect("the artifact is written");
    let program = program();
    let all: Vec<[u64; 6]> = (0..PROCESSES).map(|_| figures(&program, &artifact)).collect();
    let least = |of: fn(&[u64; 6]) -> u64| all.iter().map(of).min().unwrap_or(0);
    let [first, steady] = [least(|figures| figures[0]), least(|figures| figures[1])];
    let beside = least(|&[_, _, before, after, mapped, _]| after - before - mapped);
    let whole = least(|&[_, _, _, after, mapped, _]| after - mapped);
    let arena = all[0][5];
    say(&format!(
        "MobileNetV2: load to first answer {:.2} ms, a later answer {:.2} ms; resident beside the mapped file {:.2} MB, of \
         which arena {:.2} MB (whole process {:.2} MB)",
        first as f64 / 1e6,
        steady as f64 / 1e6,
        beside as f64 / 1e6,
        arena as f64 / 1e6,
        whole as f64 / 1e6
    ));
    assert!(first - steady < MOST_NANOSECONDS, "{} ns", first - steady);
    assert!(beside <= arena + MOST_BYTES, "{beside} bytes");
}
