//! Schedules that are given, and those that `edgecc tune` measures.

use std::path::{Path, PathBuf};

use edgecc::compile::{CompileOptions, Compiled};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::program::Decision;
use edgecc_backends::schedule::choices::{Choice, Choices, heading};
use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;
use edgecc_tests::{binary, python, run, sample};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits.onnx")
}

fn compile(architecture: Architecture, text: &str) -> Result<Compiled, String> {
    let schedules: Choices = text.parse().map_err(|error| format!("{error}"))?;
    let input = [sample::first_image()];
    run::compile_with(&digits(), architecture, &input, |options| CompileOptions {
        schedules,
        allow_size: true,
        ..options
    })
}

/// Choices for every layer of every program.
fn choices(compiled: &Compiled, choose: impl Fn(&Decision) -> Choice) -> String {
    let mut choices = Choices::default();
    for each in std::iter::once(&compiled.best).chain(&compiled.others) {
        let heading = heading(compiled.architecture, Default::default(), each.kind.integers, each.kind.vectors);
        let decisions = &each.program.decisions;
        decisions.iter().for_each(|(layer, decision)| choices.set(&heading, layer, choose(decision)));
    }
    choices.to_string()
}

fn last(decision: &Decision) -> Choice {
    *decision.possible.last().expect("a choice")
}

#[test]
fn the_first_choices_in_words_compile_to_the_same_bytes() {
    for architecture in [Architecture::Aarch64, Architecture::X86_64] {
        let usual = compile(architecture, "").expect("compiles");
        let named = compile(architecture, &choices(&usual, |decision| decision.choice)).expect("compiles");
        assert_eq!(named.to_bytes().expect("bytes"), usual.to_bytes().expect("bytes"));
        assert_eq!(named.notes, Vec::<String>::new());
    }
}

#[test]
fn other_choices_compile_to_other_bytes_and_always_the_same() {
    let usual = compile(Architecture::Aarch64, "").expect("compiles");
    let text = choices(&usual, last);
    let [one, two] =
        [(); 2].map(|()| compile(Architecture::Aarch64, &text).expect("compiles").to_bytes().expect("bytes"));
    assert_eq!(one, two);
    assert_ne!(one, usual.to_bytes().expect("bytes"));
}

/// Sums of aarch64 have one order, whatever the tile; those of x86-64 go in turns where a tile has few rows.
#[test]
fn other_choices_have_the_same_results() {
    let Some(host) = Architecture::host() else { return };
    let usual = compile(host, "").expect("compiles");
    let other = compile(host, &choices(&usual, last)).expect("compiles");
    let input: [Array; 1] = [sample::first_image()];
    let [usual, other] = [usual, other].map(|compiled| {
        let bytes = run::run_here(&compiled.to_bytes().expect("bytes"), &input, 2).swap_remove(0);
        Array { element_type: ElementType::F32, extents: vec![1, bytes.len() / 4], bytes }
    });
    let agreement = run::agree(&other.bytes, &usual, None, Bound { relative: 1e-5, of_channel: 1e-6 });
    assert!(agreement.share_of_bound <= 1.0, "{agreement:?}");
    assert!(host != Architecture::Aarch64 || usual.bytes == other.bytes);
}

#[test]
fn what_no_kernel_does_is_refused_with_its_line() {
    let usual = compile(Architecture::Aarch64, "").expect("compiles");
    let text = choices(&usual, |decision| decision.choice);
    let tile = text.lines().position(|line| line.contains("= tile")).expect("a tile");
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let layer = lines[tile].split_once(" = ").expect("a line").0.to_string();
    for wrong in ["tile 9x9 blocks 1x1", "columns 4", "tile 5x3 packed blocks 1x1"] {
        lines[tile] = format!("{layer} = {wrong}");
        let error = compile(Architecture::Aarch64, &lines.join("\n")).map(|_| ()).unwrap_err();
        assert!(error.contains(&format!("`{wrong}`, line {} ", tile + 1)), "{error}");
    }
}

#[test]
fn lines_of_no_layer_are_named() {
    let usual = compile(Architecture::Aarch64, "").expect("compiles");
    let text = choices(&usual, |decision| decision.choice).replace(" depth 1 ", " depth 11 ");
    let lines =
        text.lines().enumerate().filter(|(_, line)| line.contains(" depth 11 ")).map(|(at, _)| (at + 1).to_string());
    let lines: Vec<String> = lines.collect();
    assert!(!lines.is_empty(), "{text}");
    let notes = compile(Architecture::Aarch64, &text).expect("compiles").notes;
    assert_eq!(notes, [format!("schedules of no layer of this model, by line: {}", lines.join(", "))]);
}

/// A budget of nothing still measures every schedule a few times.
#[test]
fn what_tune_writes_compiles_reproducibly() {
    if Architecture::host().is_none() {
        return;
    }
    let folder = python::generated("tune");
    let [file, one, two] = ["schedules.txt", "one.bin", "two.bin"].map(|name| folder.join(name));
    let model = digits();
    let dim = ["--dim".as_ref(), "N=1".as_ref()];
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = binary::run(&[arguments, &dim].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let tune = ["tune".as_ref(), model.as_os_str(), "-o".as_ref(), file.as_os_str(), "--budget".as_ref(), "0".as_ref()];
    let table = run(&tune);
    assert!(table.contains("the whole model") && table.contains("contraction f32"), "{table}");
    for artifact in [&one, &two] {
        run(&[model.as_os_str(), "--schedules".as_ref(), file.as_os_str(), "-o".as_ref(), artifact.as_os_str()]);
    }
    let [one, two] = [one, two].map(|path| std::fs::read(path).expect("an artifact"));
    assert_eq!(one, two);
    let text = std::fs::read_to_string(file).expect("schedules");
    assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 1, "{text}");
    text.parse::<Choices>().expect("schedules");
}
