//! What compiling costs, and how large what comes out is. Prints the figures.
#![allow(unsafe_code)]

use edgecc_tests::report::say;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgecc_runtime::{LoadOptions, Model};
use edgecc_tests::{binary, python};

const MEGABYTE: u64 = 1_000_000;

/// What one run of `edgecc` took and left.
struct Cost {
    time: Duration,
    peak_bytes: u64,
    model_bytes: u64,
    artifact_bytes: u64,
    code_bytes: u64,
    artifact: PathBuf,
}

fn compile(interpreter: &Path, model: &Path, target: &str) -> Cost {
    let artifact = model.with_extension(format!("{target}.bin"));
    let program = binary::edgecc();
    let command = [&program, model, "--target".as_ref(), target.as_ref(), "-o".as_ref(), &artifact];
    let measured = python::tool(interpreter, "peak_memory.py", &command.map(|part| part.to_str().expect("UTF-8")));
    let (seconds, peak) = measured.trim().split_once(' ').expect("two figures");
    let bytes = |path: &Path| std::fs::metadata(path).expect("a file").len();
    let cost = Cost {
        time: Duration::from_secs_f64(seconds.parse().expect("seconds")),
        peak_bytes: peak.parse().expect("bytes"),
        model_bytes: bytes(model),
        artifact_bytes: bytes(&artifact),
        code_bytes: code_bytes(&artifact),
        artifact,
    };
    say(&format!(
        "{:<14} {target:<8} {:.2} s, peak {:.0} MB; model {:.1} MB, artifact {:.1} MB, code {:.0} kB",
        model.file_stem().unwrap_or_default().to_string_lossy(),
        cost.time.as_secs_f64(),
        cost.peak_bytes as f64 / 1e6,
        cost.model_bytes as f64 / 1e6,
        cost.artifact_bytes as f64 / 1e6,
        cost.code_bytes as f64 / 1e3
    ));
    cost
}

fn code_bytes(artifact: &Path) -> u64 {
    let output = binary::run(&["inspect".as_ref(), "--json".as_ref(), artifact.as_os_str()]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["programs"][0]["code_bytes"].as_u64().expect("the size of the code")
}

/// Peak memory: 2.5 times the weights, which are nearly all of a model's file, and 64 MB. Artifact: the model and 5 %.
fn check(cost: &Cost, seconds: u64) {
    assert!(cost.time < Duration::from_secs(seconds), "{:?}", cost.time);
    assert!(cost.peak_bytes <= cost.model_bytes * 5 / 2 + 64 * MEGABYTE, "{} bytes", cost.peak_bytes);
    assert!(cost.artifact_bytes * 100 <= cost.model_bytes * 105, "{} bytes", cost.artifact_bytes);
}

/// The shortest of some loads: header, manifest and code are verified in each.
fn check_load(artifact: &Path) {
    let open = || {
        let start = Instant::now();
        // SAFETY: the compiler wrote the file, and nothing changes it.
        let model = unsafe { Model::open(artifact, LoadOptions::default()) }.expect("loads");
        (start.elapsed(), model)
    };
    let shortest = (0..20).map(|_| open().0).min().unwrap_or_default();
    let model = open().1;
    let start = Instant::now();
    model.verify_weights().expect("intact weights");
    let speed = std::fs::metadata(artifact).expect("a file").len() as f64 / start.elapsed().as_secs_f64() / 1e9;
    say(&format!("loads in {:.3} ms; weights hashed at {speed:.1} GB/s", shortest.as_secs_f64() * 1e3));
    assert!(shortest < Duration::from_millis(2), "{shortest:?}");
}

#[test]
fn compiling_and_loading_stay_within_their_limits() {
    let Some(interpreter) = python::python() else { return };
    let folder = python::generated("cost");
    let mobilenet = python::generated("mobilenet").join("opset17.onnx");
    if !mobilenet.exists() {
        python::tool(&interpreter, "make_mobilenet.py", &[&python::generated("mobilenet").to_string_lossy()]);
    }
    for target in ["aarch64", "host"] {
        let cost = compile(&interpreter, &mobilenet, target);
        check(&cost, 3);
        assert!(cost.code_bytes <= 256_000, "{} bytes of code", cost.code_bytes);
    }
    check_load(&mobilenet.with_extension("host.bin"));
    let resnet = folder.join("resnet50.onnx");
    python::tool(&interpreter, "make_resnet.py", &[&resnet.to_string_lossy()]);
    let cost = compile(&interpreter, &resnet, "aarch64");
    check(&cost, 20);
    std::fs::remove_file(cost.artifact).expect("the artifact goes");
}
