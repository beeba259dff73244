//! GPUs as users and apps meet them: the command line's `--device gpu`, and the C library.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use edgecc::compile::CompileOptions;
use edgecc::tune::gpu::tune;
use edgecc::tune::journal::Journal;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::schedule::choices::{Choices, SHADERS};
use edgecc_backends::schedule::gpu::GpuClass;
use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;
use edgecc_passes::precision::Precision;
use edgecc_tests::networks::{Activation, Network, layers};
use edgecc_tests::report::skipped;
use edgecc_tests::{binary, gpu, numbers, python, run, sample};

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs `edgecc` with words, of which `digits` is the sample, and the adapter of the tests.
fn command(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(binary::edgecc());
    let sample = workspace("sample");
    command.current_dir(folder).args(words.split(' ').map(|word| match word {
        "digits" => sample.join("digits.onnx").into_os_string(),
        "seven" => sample.join("seven.png").into_os_string(),
        word => word.into(),
    }));
    if let (true, Ok(adapter)) = (words.contains("--device"), std::env::var("EDGECC_ADAPTER")) {
        command.args(["--adapter", &adapter]);
    }
    command
}

fn edgecc(folder: &Path, words: &str) -> (String, String) {
    let output = command(folder, words).output().expect("edgecc starts");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    texts(&output)
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// An empty folder; none, after a visible line, without an adapter.
fn folder(name: &str) -> Option<PathBuf> {
    gpu::device()?;
    let folder = python::generated(name);
    std::fs::remove_dir_all(&folder).expect("an empty folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    Some(folder)
}

#[test]
fn a_model_is_run_compared_and_timed() {
    let Some(folder) = folder("on-gpu") else { return };
    edgecc(&folder, "digits --dim N=1 --target wgsl -o gpu.bin");
    let (answer, said) = edgecc(&folder, "run gpu.bin --device gpu --input seven");
    assert!(answer.contains('7') && said.contains("note: runs on "), "{answer}{said}");
    let (table, _) = edgecc(&folder, "compare digits gpu.bin --dim N=1 --device gpu --input seven");
    assert!(table.contains("probabilities"), "{table}");
    let (json, said) = edgecc(&folder, "bench gpu.bin --device gpu --runs 3 --json");
    assert!(said.contains("from load to first answer") && said.contains("note: steps are timed by "), "{said}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let steps = json["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 9, "{json}");
    assert!(steps.iter().any(|step| step["ns"].as_u64() > Some(0)), "{json}");
    assert_eq!((&steps[0]["name"], &steps[0]["macs"]), (&"0.conv".into(), &9216.into()), "{json}");
}

#[test]
fn of_an_artifact_for_both_each_runs_and_the_fastest_is_named() {
    let Some(folder) = folder("on-both") else { return };
    edgecc(&folder, "digits --dim N=1 --target host,wgsl -o both.bin");
    let answers = ["cpu", "gpu", "fastest"].map(|device| {
        let (answer, said) = edgecc(&folder, &format!("run both.bin --device {device} --input seven"));
        assert!(device != "fastest" || said.contains("ms: runs on "), "{said}");
        answer.lines().nth(1).map(|best| best.trim_start().starts_with('7'))
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
}

#[test]
fn what_tune_measures_on_a_gpu_compiles_reproducibly_and_computes_the_same() {
    let Some(folder) = folder("tune-gpu") else { return };
    let (table, said) = edgecc(&folder, "tune digits --dim N=1 --device gpu -o schedules.txt --budget 0");
    assert!(table.contains("the whole model") && table.contains("contraction f32"), "{table}");
    assert!(said.contains("note: measures on "), "{said}");
    assert!(!folder.join("schedules.txt.journal").exists(), "nothing was excluded");
    for artifact in ["one.bin", "two.bin"] {
        edgecc(&folder, &format!("digits --dim N=1 --target wgsl --schedules schedules.txt -o {artifact}"));
    }
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    assert_eq!(read("one.bin"), read("two.bin"));
    edgecc(&folder, "compare digits one.bin --dim N=1 --device gpu --input seven");
}

/// A convolution that may go by Winograd's algorithm is measured both ways, and what is chosen compiles.
#[test]
fn tune_measures_algorithms_beside_tiles() {
    let (Some(folder), Some(device)) = (folder("tune-algorithms"), gpu::device()) else { return };
    let mut network = Network::new("two", &[1, 32, 20, 20]);
    network.conv(32, 3, 1, 1, Activation::Relu);
    network.conv(16, 1, 1, 1, Activation::Relu);
    let graph = network.finish();
    let options = CompileOptions { gpu: GpuClass::named("software").expect("a row"), ..gpu::options_of_graph() };
    let prepared = gpu::compiled_with(&graph, |_| options.clone()).expect("compiles");
    let mut journal = Journal::open(folder.join("journal")).expect("a journal");
    let (choices, tuned) =
        tune(&prepared.graph, &options, device, &mut journal, Duration::ZERO, &mut |_| {}).expect("measured");
    let both = tuned.layers.iter().filter(|layer| [layer.first.0, layer.best.0].iter().any(|one| one.is_algorithm()));
    let both: Vec<&str> = both.map(|measured| measured.layer.as_str()).collect();
    let either: Vec<&str> = prepared
        .program
        .decisions
        .iter()
        .filter(|(_, decision)| decision.possible.iter().any(|choice| choice.is_algorithm()))
        .map(|(layer, _)| layer.as_str())
        .collect();
    assert_eq!((both.clone(), either.len()), (either.clone(), 1), "{tuned:?}");
    assert!(choices.get(SHADERS, either[0]).is_some(), "{choices}");
    let chosen = CompileOptions { schedules: choices, ..options };
    let compiled = gpu::compiled_with(&graph, |_| chosen).expect("compiles");
    assert_eq!(compiled.notes, Vec::<String>::new());
}

/// Every schedule that there is for each layer of the sample computes what the first does.
#[test]
fn all_schedules_of_shaders_compute_the_same() {
    let Some(device) = gpu::device() else { return };
    let (model, image) = (workspace("sample/digits.onnx"), sample::first_image());
    let input = std::slice::from_ref(&image);
    let usual = gpu::compile_for(&model, input).expect("compiles");
    let answer = |choices: Choices| {
        let compiled = gpu::compile_with(&model, input, choices).expect("compiles");
        let outputs = gpu::run_on(device, &compiled.to_bytes().expect("an artifact"), &[&image.bytes]);
        (outputs.into_iter().next().expect("an output"), compiled.shaders)
    };
    let (expected, first) = answer(Choices::default());
    assert_eq!(first, usual.shaders);
    let expected = Array { element_type: ElementType::F32, extents: vec![1, expected.len() / 4], bytes: expected };
    let most = usual.program.decisions.values().map(|decision| decision.possible.len()).max().expect("layers");
    for place in 0..most {
        let mut choices = Choices::default();
        for (layer, decision) in &usual.program.decisions {
            choices.set(SHADERS, layer, decision.possible[place.min(decision.possible.len() - 1)]);
        }
        let (actual, shaders) = answer(choices);
        assert_eq!(place == 0, shaders == first, "schedules {place}");
        let agreement = run::agree(&actual, &expected, None, Bound { relative: 1e-5, of_channel: 1e-5 });
        assert!(agreement.share_of_bound <= 1.0, "schedules {place}: {agreement:?}");
    }
}

/// What checks would change shows in the answer: nothing is out of place.
#[test]
fn shaders_without_checks_give_the_same_bytes() {
    let Some(device) = gpu::device() else { return };
    for (name, graph) in layers().into_iter().map(|(graph, _)| (graph.name().to_string(), graph)) {
        let inputs: Vec<Vec<u8>> = numbers::inputs(&graph).iter().map(|input| input.bytes().to_vec()).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for precision in [Precision::F32, Precision::F16] {
            let artifact = gpu::compiled_in(&graph, precision).expect("compiles").to_bytes().expect("an artifact");
            let checked = gpu::run_on(device, &artifact, &inputs);
            assert!(gpu::run_unchecked(device, &artifact, &inputs) == checked, "{name} {precision:?}");
        }
    }
}

#[test]
fn a_schedule_that_no_shader_has_is_refused_with_its_line() {
    let (model, image) = (workspace("sample/digits.onnx"), sample::first_image());
    let input = std::slice::from_ref(&image);
    let usual = gpu::compile_for(&model, input).expect("compiles");
    let layer = usual.program.decisions.keys().find(|layer| layer.starts_with("contraction")).expect("a layer");
    let text = format!("[wgsl]\n{layer} = tile 9x9 blocks 1x1\n");
    let error = gpu::compile_with(&model, input, text.parse().expect("choices")).map(|_| ()).unwrap_err();
    assert!(error.contains("`tile 9x9 blocks 1x1`, line 2 "), "{error}");
}

/// How long a kernel is waited for.
const LONGEST: Duration = Duration::from_secs(100);

/// The process ends in the middle of a trial, as by a driver: the next one leaves that kernel out and chooses another.
#[test]
fn a_kernel_that_the_process_ended_at_is_left_out_the_next_time() {
    let Some(folder) = folder("tune-journal") else { return };
    let journal = folder.join("schedules.txt.journal");
    let words = "tune digits --dim N=1 --device gpu -o schedules.txt --budget";
    let mut child = command(&folder, &format!("{words} 600")).stderr(Stdio::null()).spawn().expect("edgecc starts");
    let started = Instant::now();
    // A kernel of a layer that has others: tiles of one vector of channels and one pixel may be alone.
    let at_work = || {
        let text = std::fs::read_to_string(&journal).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("trying "))?;
        line.split_once(' ').map(|(_, what)| what.to_string())
    };
    while !at_work().is_some_and(|what| what.contains("depthwise")) && started.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // It may have gone on to another one before it was ended; one that is alone would be missed below.
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let (head, rest) = text.split_once("trying ").expect("a kernel at work");
    let (key, what) = rest.trim_end().split_once(' ').expect("a kernel");
    let (what, key) = match what.contains("depthwise") {
        true => (what.to_string(), key),
        false => return skipped("the kernel that the driver ends at: another one was at work"),
    };
    let (_, said) = edgecc(&folder, &format!("{words} 0"));
    assert!(said.contains(&format!("left out, since a driver failed at it: {what}")), "{said}");
    let schedules = std::fs::read_to_string(folder.join("schedules.txt")).expect("schedules");
    assert!(!schedules.contains(&what), "{what} is chosen in\n{schedules}");
    let kept = std::fs::read_to_string(&journal).expect("the journal is kept");
    assert_eq!(kept, format!("{head}excluded {key} {what}\n"));
}

/// The C example, against the library that is built with GPUs.
#[test]
fn a_c_program_chooses_an_adapter_and_runs_there() {
    let Some(folder) = folder("c-gpu") else { return };
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if cfg!(not(target_os = "linux")) || Command::new(&compiler).arg("--version").output().is_err() {
        return skipped("the C program for GPUs, without a C compiler on Linux");
    }
    let program = c_program(&compiler, &folder);
    let image = sample::first_image();
    std::fs::write(folder.join("image.f32"), &image.bytes).expect("a file");
    edgecc(&folder, "digits --dim N=1 --target wgsl -o gpu.bin");
    edgecc(&folder, "digits --dim N=1 --target host,wgsl -o both.bin");
    edgecc(&folder, "digits --dim N=1 --target host -o cpu.bin");
    let adapter = gpu::device().map(|gpu| gpu.adapter().to_string()).unwrap_or_default();
    let start = |words: &[&str]| {
        let output = Command::new(&program).current_dir(&folder).args(words).output().expect("the program starts");
        (output.status.code(), texts(&output))
    };
    let expected = run::run_here(
        &run::compile_for(
            &workspace("sample/digits.onnx"),
            Architecture::host().expect("a host"),
            std::slice::from_ref(&image),
        )
        .expect("compiles")
        .to_bytes()
        .expect("an artifact"),
        std::slice::from_ref(&image),
        1,
    );
    let expected: Vec<f32> = expected[0].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    for words in [
        ["gpu.bin", "image.f32", "gpu", adapter.as_str()],
        ["gpu.bin", "image.f32", "fastest", adapter.as_str()],
        ["both.bin", "image.f32", "gpu", adapter.as_str()],
        ["both.bin", "image.f32", "fastest", adapter.as_str()],
        ["cpu.bin", "image.f32", "fastest", adapter.as_str()],
    ] {
        let (code, (printed, said)) = start(&words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        let values: Vec<f32> = printed.lines().map(|line| line.parse().expect("a number")).collect();
        let far = expected.iter().zip(&values).any(|(expected, value)| (expected - value).abs() > 1e-4);
        assert!(values.len() == expected.len() && !far, "{words:?}: {printed}");
        assert!(said.contains("adapter 0: "), "{said}");
        match (words[0], words[2]) {
            ("cpu.bin", _) => assert!(said.contains("gpu -1 s\nruns on cpu\n"), "{said}"),
            (_, "gpu") | ("gpu.bin", _) => assert!(said.contains(&format!("runs on {adapter}\n")), "{said}"),
            _ => assert!(said.contains("runs on cpu\n") || said.contains(&format!("runs on {adapter}\n")), "{said}"),
        }
    }
    let refused = |words: &[&str], expected: &str| {
        let (code, (_, said)) = start(words);
        assert_eq!(code, Some(1), "{words:?}");
        assert!(said.lines().last().is_some_and(|line| line.starts_with(expected)), "{words:?}: {said}");
    };
    refused(&["gpu.bin", "image.f32", "gpu", "no such"], "error 8: no GPU adapter is named `no such`; there are: ");
    refused(&["cpu.bin", "image.f32", "gpu", &adapter], "error 5: the artifact has programs for ");
    refused(&["image.f32", "image.f32", "gpu", &adapter], "error 3: ");
    refused(&["missing.bin", "image.f32", "gpu", &adapter], "error 2: cannot read missing.bin");
}

fn c_program(compiler: &str, folder: &Path) -> PathBuf {
    binary::cargo_build(&["--lib", "--features", "edgecc-runtime-capi/gpu"]);
    let program = folder.join("gpu");
    let source: [&OsStr; 2] = ["-o".as_ref(), program.as_os_str()];
    let output = Command::new(compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-I"])
        .args([
            &workspace("runtime/include"),
            &workspace("runtime/examples/c/gpu.c"),
            &binary::profile_folder().join("libedgecc_c.a"),
        ])
        .args(["-lpthread", "-ldl", "-lm"])
        .args(source)
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}
