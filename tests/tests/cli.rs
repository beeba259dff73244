//! Transcripts of the command line: commands, what they write, and how they end, in `cli/NAME.snap`.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc_tests::{binary, python};

/// A fresh folder with the sample in it.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(&format!("cli-{name}"));
    std::fs::remove_dir_all(&folder).expect("an old folder goes");
    std::fs::create_dir_all(&folder).expect("a new folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    for file in std::fs::read_dir(sample).expect("the sample").flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
    }
    folder
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
    let commands = ["--help", "run --help", "compare --help", "inspect --help", "bench --help", "ops --help"];
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
