//! Transcripts of the command line: commands, what they write, and how they end, in `cli/NAME.snap`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_format::ElementType;
use edgecc_tests::{binary, python, sample};

/// A fresh folder with the sample, two small models and inputs of theirs in it.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(&format!("cli-{name}"));
    std::fs::remove_dir_all(&folder).expect("an old folder goes");
    std::fs::create_dir_all(&folder).expect("a new folder");
    for source in ["../sample", "models/cli"].map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path)) {
        for file in std::fs::read_dir(source).expect("files").flatten().filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
        }
    }
    write_npz(&folder.join("in.npz"), &[("image".into(), sample::first_image())]).expect("an input");
    let two = [("by".into(), vector([10.0, 20.0, 30.0, 40.0])), ("x".into(), vector([-1.0, 2.0, -3.0, 4.0]))];
    write_npz(&folder.join("two.npz"), &two).expect("inputs");
    folder
}

fn vector(values: [f32; 4]) -> Array {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Array { element_type: ElementType::F32, extents: vec![4], bytes }
}

/// Runs commands one after the other in a folder, and keeps what each says: `!` before standard error, `?` before the exit
/// code where it is not 0.
fn transcript(name: &str, commands: &[&str], rewrite: fn(&str) -> String) {
    let folder = folder(name);
    let mut text = String::new();
    for command in commands {
        let output = Command::new(binary::edgecc())
            .args(command.split_whitespace())
            .current_dir(&folder)
            .output()
            .expect("edgecc starts");
        text.push_str(&format!("$ edgecc {command}\n{}", rewrite(&String::from_utf8_lossy(&output.stdout))));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        errors.lines().for_each(|line| text.push_str(&format!("! {}\n", rewrite(line))));
        match output.status.code() {
            Some(0) => {}
            code => text.push_str(&format!("? {}\n", code.unwrap_or(-1))),
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("cli"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn as_it_is(text: &str) -> String {
    text.to_string()
}

/// Sizes of code for this machine differ from one machine to the other.
fn without_sizes_here(text: &str) -> String {
    if text.starts_with("here.bin:") { without_numbers(text) } else { text.to_string() }
}

/// Every number as `N`: times differ from run to run. Spaces before numbers that are aligned to the right go too.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for c in text.chars() {
        let in_number = result.ends_with('N') && (c.is_ascii_digit() || c == '.');
        if in_number || c == ' ' && result.ends_with(' ') {
            continue;
        }
        result.push(if c.is_ascii_digit() { 'N' } else { c });
    }
    result
}

#[test]
fn help_is_short() {
    let commands = [
        "--help",
        "quantize --help",
        "run --help",
        "compare --help",
        "inspect --help",
        "bench --help",
        "tune --help",
        "ops --help",
        "targets --help",
    ];
    transcript("help", &commands, as_it_is);
}

#[test]
fn the_sample_is_compiled_run_and_inspected() {
    let commands = [
        "digits.onnx --target aarch64 -o phone.bin",
        "inspect phone.bin",
        "inspect --json phone.bin",
        "digits.onnx --dim N=1 --labels digits-labels.txt -o here.bin",
        "run here.bin --input seven.png",
        "run here.bin --input image=seven.png --threads 2 --output seven.npz",
        "run digits.onnx --labels digits-labels.txt --input three.png",
        "digits.onnx --shape image=2x1x8x8 --target aarch64 --emit header",
    ];
    transcript("sample", &commands, without_sizes_here);
}

#[test]
fn models_are_pruned_and_written() {
    let commands = [
        "digits.onnx --dim N=1 --prune 0.4 --prune-multiple 4 --target aarch64 -o phone.bin",
        "digits.onnx --dim N=1 --prune 0.4 --prune-keep conv3 --data seven.png --data in.npz --target aarch64 -o phone.bin",
        "digits.onnx --dim N=1 --prune 0.4 --prune-ranking local --prune-multiple 4 --emit onnx -o half.onnx",
        "run half.onnx --input seven.png",
    ];
    transcript("prune", &commands, as_it_is);
}

#[test]
fn models_are_quantised() {
    let commands = [
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --data in.npz --report - --target aarch64 -o phone.bin",
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --quantize-keep head --report report.json -o here.bin",
        "run here.bin --input seven.png",
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --quantize-keep nowhere -o x.bin",
        "digits.onnx --dim N=1 --quantize int8 --target aarch64 -o made_up.bin",
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --emit onnx -o int8.onnx",
        "run int8.onnx --input seven.png",
        "digits.onnx --dim N=1 --quantize int8 --data . --max-drop 7 -o x.bin",
        "digits.onnx --dim N=1 --max-drop 1% -o x.bin",
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --max-drop 60dB -o here.bin",
        "digits.onnx --dim N=1 --quantize int8 --data seven.png --max-drop 0.5% --labels-of-data digits-labels.txt -o x.bin",
        "quantize digits.onnx --dim N=1 --data seven.png --data in.npz --cpu cortex-a76 --quantize-keep head",
        "quantize digits.onnx --dim N=1 --data seven.png --report quantize.json",
        "digits.onnx --dim N=1 --quantize weights-int4 --report -",
        "digits.onnx --dim N=1 --quantize weights-int8 --data seven.png -o x.bin",
        "digits.onnx --dim N=1 --report - -o x.bin",
    ];
    transcript("quantize", &commands, as_it_is);
}

/// The processor of the machine stands in an error.
#[test]
fn shaders_are_compiled_and_inspected() {
    let commands = [
        "digits.onnx --dim N=1 --target wgsl -o gpu.bin",
        "inspect gpu.bin",
        "run gpu.bin --input seven.png",
        "two_outputs.onnx --target wgsl --emit wgsl",
        "two_outputs.onnx --target wgsl --emit asm",
        "two_outputs.onnx --target wgsl --precision fp16 -o x.bin",
        "two_outputs.onnx --target wgsl --kernels clif -o x.bin",
        "digits.onnx --dim N=1 --target aarch64,wgsl -o both.bin",
        "digits.onnx --dim N=1 --target aarch64,wgsl --prune 0.4 --quantize int8 --data seven.png -o small.bin",
        "digits.onnx --target aarch64,x86_64 -o x.bin",
        "two_outputs.onnx --target aarch64 --emit wgsl",
        "two_outputs.onnx --target aarch64 -o phone.bin",
        "run phone.bin --device gpu --input two.npz",
    ];
    transcript("shaders", &commands, |text| text.replace(std::env::consts::ARCH, "ARCH"));
}

#[test]
fn times_are_told() {
    let commands = ["digits.onnx -o here.bin", "bench here.bin --runs 10"];
    transcript("bench", &commands, |text| {
        // The slowest step stands first: the order differs from run to run.
        let mut lines: Vec<String> = without_numbers(text).lines().map(str::to_string).collect();
        lines.iter_mut().skip(1).for_each(|line| *line = line.trim().to_string());
        lines.get_mut(1..).unwrap_or_default().sort();
        lines.into_iter().map(|line| line + "\n").collect()
    });
}

#[test]
fn lists_are_given() {
    transcript("lists", &["ops", "ops digits.onnx", "targets"], as_it_is);
}

#[test]
fn wrong_flags_are_explained() {
    let commands = [
        "digits.onnx",
        "digits.onnx --target arch64 -o x.bin",
        "digits.onnx --cpu cortex-z -o x.bin",
        "digits.onnx --schedules schedules.txt -o x.bin",
        "tune digits.onnx",
        "digits.onnx --dim N -o x.bin",
        "digits.onnx --dim M=1 -o x.bin",
        "digits.onnx --shape picture=1x1x8x8 -o x.bin",
        "digits.onnx --shape image=1x1x9x9 -o x.bin",
        "digits.onnx --emit everything -o x.bin",
        "digits.onnx --constant picture=seven.npy -o x.bin",
        "nothing.onnx -o x.bin",
        "digits.onnx -o nowhere/x.bin",
        "digits.onnx --labels nothing.txt -o x.bin",
        "run digits.onnx",
        "run digits.onnx --input picture=seven.png",
        "run digits.onnx --input nothing.npz",
        "run digits.onnx --input seven.png --mean 1,2,3",
        "run digits-labels.txt --input seven.png",
        "inspect digits.onnx",
        "",
        "digits.onnx --dim N=1 --dim N=2 -o x.bin",
        "run digits.onnx --input in.npz --threads 0",
        "bench digits.onnx --runs 0",
        "digits.onnx --target aarch64 --dim N=1 -o phone.bin",
        "run phone.bin --input in.npz --dim N=2",
        "bench phone.bin --shape image=2x1x8x8",
        "compare digits.onnx digits.onnx --input in.npz",
        "digits.onnx --data in.npz -o x.bin",
        "digits.onnx --prune 1 -o x.bin",
        "digits.onnx --dim N=1 --prune 0.5 --prune-keep other -o x.bin",
        "digits.onnx --dim N=1 --prune 0.5 --data digits-labels.txt -o x.bin",
        "digits.onnx --dim N=1 --prune 0.5 --data two.npz -o x.bin",
        "digits.onnx --emit onnx",
    ];
    transcript("wrong", &commands, as_it_is);
}

/// Every phase leaves a graph that the parser reads; the last is what `--emit graph` writes.
#[test]
fn graphs_of_every_phase_are_written() {
    let folder = folder("dump");
    let output = Command::new(binary::edgecc())
        .args(["digits.onnx", "--dim", "N=1", "--emit", "graph", "--dump", "phases"])
        .current_dir(&folder)
        .output()
        .expect("edgecc starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut phases: Vec<PathBuf> = std::fs::read_dir(folder.join("phases"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    phases.sort();
    let texts: Vec<String> = phases.iter().map(|path| std::fs::read_to_string(path).expect("a graph")).collect();
    for (path, text) in phases.iter().zip(&texts) {
        edgecc_ir::Graph::from_text(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    assert!(phases[0].ends_with("00-import.eir") && phases.len() > 3, "{phases:?}");
    assert_eq!(texts.last().map(String::as_bytes), Some(&output.stdout[..]));
}

#[test]
fn what_is_not_supported_is_listed_at_once() {
    transcript("unsupported", &["unsupported.onnx -o x.bin", "ops unsupported.onnx"], as_it_is);
}

#[test]
fn artifacts_are_compared_with_the_model() {
    let commands = [
        "digits.onnx --dim N=1 -o here.bin",
        "compare digits.onnx here.bin --input in.npz",
        "compare digits.onnx here.bin --input in.npz --json",
        "compare digits.onnx here.bin --input in.npz --relative 0 --of-channel 0",
        "compare two_outputs.onnx here.bin --input two.npz",
    ];
    transcript("compare", &commands, |text| without_numbers(text).replace("e-N", "").replace("eN", ""));
}

#[test]
fn stages_are_written_as_text() {
    let commands = [
        "two_outputs.onnx --emit graph",
        "two_outputs.onnx --target aarch64 --cpu cortex-a53 --emit clif",
        "two_outputs.onnx --target aarch64 --emit asm",
        "two_outputs.onnx --emit graph -o two.eir",
        "run two_outputs.onnx --input two.npz",
    ];
    transcript("stages", &commands, as_it_is);
}

#[test]
fn outputs_are_written_in_graph_order() {
    let folder = folder("outputs");
    let paths = ["two_outputs.onnx", "two.npz", "out.npz"].map(|name| folder.join(name).into_os_string());
    let [model, inputs, outputs] = &paths;
    let run: [&std::ffi::OsStr; 6] = ["run".as_ref(), model, "--input".as_ref(), inputs, "--output".as_ref(), outputs];
    assert!(binary::run(&run).status.success());
    let expected = [("zeta", [9.0, 22.0, 27.0, 44.0]), ("alpha", [0.0, 2.0, 0.0, 4.0])];
    let expected = expected.map(|(name, values)| (name.to_string(), vector(values)));
    assert_eq!(read_npz(&folder.join("out.npz")).expect("outputs"), expected);
}

/// The link would go if results were renamed onto devices.
#[cfg(unix)]
#[test]
fn results_for_a_device_leave_it_one() {
    let folder = folder("device");
    let null = folder.join("null.npz");
    std::os::unix::fs::symlink("/dev/null", &null).expect("a link");
    let model = folder.join("two_outputs.onnx");
    let inputs = folder.join("two.npz");
    let run = ["run".as_ref(), model.as_os_str(), "--input".as_ref(), inputs.as_os_str(), "--output".as_ref()];
    assert!(binary::run(&[&run[..], &[null.as_os_str()]].concat()).status.success());
    assert!(std::fs::symlink_metadata(&null).expect("a link").is_symlink());
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_is_no_error() {
    let mut child = Command::new(binary::edgecc())
        .arg("ops")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("edgecc starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("edgecc ends");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
