//! The C example, compiled by the system's C compiler against the static library, and run.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{OFFSET, TemporaryFile, artifact, to_bytes, weight};

const ELEMENTS: u64 = 40;

/// Builds the static library with the cargo and into the target folder of this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the test is a file");
    let target = test.ancestors().nth(3).expect("the test is in TARGET/PROFILE/deps");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let build = ["build", "--quiet", "--offline", "-p", env!("CARGO_PKG_NAME"), "--target-dir"];
    let status = Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(build).arg(target).status();
    assert!(status.expect("cargo starts").success(), "the library must build");
    target.join("debug/libedgecc_c.a")
}

fn runtime_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compiles the example; none, with a line that says so, without a C compiler for this processor.
fn compile(name: &str) -> Option<TemporaryFile> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let emulated = std::env::var_os("EDGECC_EMULATED").is_some();
    if cfg!(not(target_os = "linux")) || emulated || Command::new(&compiler).arg("--version").output().is_err() {
        println!("skipped: the C example, without a C compiler on Linux");
        return None;
    }
    let program = TemporaryFile::new(name, &[]);
    let output = Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .args([runtime_folder().join("include"), runtime_folder().join("examples/c/main.c"), library()])
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program.0)
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

fn run(program: &TemporaryFile, arguments: &[&Path]) -> Output {
    Command::new(&program.0).args(arguments).output().expect("the example starts")
}

#[test]
fn the_example_prints_the_largest_values() {
    let Some(program) = compile("classify") else { return };
    let model = TemporaryFile::new("classify.bin", &artifact(ELEMENTS));
    let input = TemporaryFile::new("classify.f32", &to_bytes((0..ELEMENTS).map(|index| index as f32)));
    let output = run(&program, &[&model.0, &input.0]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut expected =
        "input x [1x40] 160 bytes\noutput y [1x40] 160 bytes\noutput runs [1x40] 160 bytes\ny:\n".to_owned();
    for index in (35..40).rev() {
        // (x + w)² grows with the index from the sixth on.
        let value = (index as f32 + weight(index)).powi(2) + OFFSET as f32;
        expected += &format!("  {index} - {value}\n");
    }
    expected += "runs:\n";
    let rounded = |text: &str| -> Vec<String> {
        let word = |word: &str| word.parse::<f32>().map_or(word.to_owned(), |number| format!("{number:.0}"));
        text.split_whitespace().map(word).collect()
    };
    assert_eq!(rounded(&String::from_utf8_lossy(&output.stdout)), rounded(&expected));
}

#[test]
fn the_example_says_what_is_wrong() {
    let Some(program) = compile("classify-errors") else { return };
    let stderr = |bytes: &[u8]| {
        let model = TemporaryFile::new("broken.bin", bytes);
        let output = run(&program, &[&model.0]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let bytes = artifact(ELEMENTS);
    assert!(stderr(b"no artifact").starts_with("error 3: not an edgecc artifact"));
    assert!(stderr(&bytes[..bytes.len() - 1]).starts_with("error 3: the artifact is truncated"));
    let mut damaged = bytes.clone();
    damaged[3 * 16384] ^= 1;
    assert!(stderr(&damaged).starts_with("error 3: the artifact is corrupt: its weights"));
    let mut newer = bytes;
    newer[8] = 9;
    assert!(stderr(&newer).starts_with("error 4: artifact format 9.0"));
    let missing = run(&program, &[Path::new("/nonexistent/model.bin")]);
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("error 2: cannot read /nonexistent/model.bin"));
}
