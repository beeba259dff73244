//! What the README tells its readers to type works.

use edgecc_tests::report::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc_device::tensor_file::write_npz;
use edgecc_tests::{binary, python, sample};

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace("README.md")).expect("the README");
    let fences = readme.split("```").skip(1).step_by(2);
    fences.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_string).collect()
}

fn lines(block: &str) -> impl Iterator<Item = &str> {
    block.lines().map(|line| line.split("  #").next().unwrap_or("").trim()).filter(|line| !line.is_empty())
}

/// A folder with the files that the README's commands name: the sample's.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(name);
    std::fs::copy(workspace("sample/digits.onnx"), folder.join("model.onnx")).expect("a model");
    std::fs::copy(workspace("sample/seven.png"), folder.join("picture.png")).expect("a picture");
    std::fs::create_dir_all(folder.join("samples")).expect("a folder");
    std::fs::copy(workspace("sample/three.png"), folder.join("samples/three.png")).expect("a picture");
    write_npz(&folder.join("in.npz"), &[("image".into(), sample::first_image())]).expect("an input");
    folder
}

#[test]
fn commands_of_the_tool_end_well() {
    let folder = folder("readme-commands");
    let mut ran = 0;
    for command in blocks("sh").iter().flat_map(|block| lines(block)).filter_map(|line| line.strip_prefix("edgecc ")) {
        let output = Command::new(binary::edgecc())
            .args(command.split_whitespace())
            .current_dir(&folder)
            .output()
            .expect("edgecc starts");
        assert!(output.status.success(), "edgecc {command}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 8, "{ran} commands");
}

/// Commands that stand in the README and are run elsewhere: the two of a fresh machine by `.ci/run`, those of a phone by the
/// tests of `edgecc-device` in the emulator. Exporters are other projects'.
#[test]
fn other_commands_are_known() {
    let elsewhere = ["cargo run --release -p edgecc -- ", "tests/setup/test.sh", "adb ", "python -m tf2onnx"];
    let blocks = blocks("sh");
    let unknown = blocks
        .iter()
        .flat_map(|block| lines(block))
        .filter(|line| !line.starts_with("edgecc ") && !elsewhere.iter().any(|known| line.starts_with(known)));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&str>::new());
    let ci = std::fs::read_to_string(workspace(".ci/run")).expect("what CI runs");
    for command in blocks
        .iter()
        .flat_map(|block| lines(block))
        .filter(|line| line.starts_with("cargo ") || line.starts_with("tests/"))
    {
        assert!(ci.contains(command), "{command}");
    }
}

/// The README shows parts of programs that are compiled: one with the runtime's examples, one below.
#[test]
fn programs_in_the_readme_are_parts_of_programs_that_compile() {
    for (language, file) in [("rust", "runtime/examples/app.rs"), ("c", "tests/c/app.c")] {
        let whole = std::fs::read_to_string(workspace(file)).expect(file);
        let mut rest = whole.lines().map(str::trim);
        for line in blocks(language).iter().flat_map(|block| block.lines().map(str::trim)) {
            assert!(rest.any(|candidate| candidate == line), "{file} has no line `{line}`");
        }
    }
    let Ok(found) = Command::new("cc").arg("--version").output() else {
        skipped("the README's C program, without a C compiler");
        return;
    };
    assert!(found.status.success());
    let folder = folder("readme-programs");
    let header = folder.join("model.h");
    let model = workspace("sample/digits.onnx");
    let arguments: [&std::ffi::OsStr; 5] =
        [model.as_ref(), "--emit".as_ref(), "header".as_ref(), "-o".as_ref(), header.as_ref()];
    assert!(binary::run(&arguments).status.success());
    for compiler in [["cc", "-std=c11"], ["c++", "-xc++"]] {
        let source = if compiler[0] == "cc" { workspace("tests/c/app.c") } else { header.clone() };
        let output = Command::new(compiler[0])
            .args([compiler[1], "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
            .args([&folder, Path::new("-I"), &workspace("runtime/include"), &source])
            .output();
        let Ok(output) = output else { continue };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
