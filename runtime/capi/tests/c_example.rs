//! The C example, compiled by the system's C compiler against the static library, and run; for aarch64 too, in the
//! emulator, and there the library's size is kept.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{OFFSET, TemporaryFile, artifact, artifact_for, to_bytes, weight};

const ELEMENTS: u64 = 40;

const AARCH64: &str = "aarch64-unknown-linux-gnu";
/// The most bytes of the stripped shared library for aarch64.
const SIZE_LIMIT: u64 = 400_000;

fn runtime_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A build of this package into a folder of this test's target folder, and that folder.
fn cargo(folder: &str, arguments: &[&str]) -> (Command, PathBuf) {
    let test = std::env::current_exe().expect("the test is a file");
    let target = test.ancestors().nth(3).expect("the test is in TARGET/PROFILE/deps").join(folder);
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "-p", env!("CARGO_PKG_NAME"), "--target-dir"]).arg(&target).args(arguments);
    (cargo, target)
}

/// Written past the capture of tests, so that it is seen.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compiles the example with a library.
fn compile(compiler: &str, name: &str, library: &Path, flags: &[&str]) -> TemporaryFile {
    let program = TemporaryFile::new(name, &[]);
    let output = Command::new(compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-Wl,--gc-sections", "-I"])
        .args([&runtime_folder().join("include"), &runtime_folder().join("examples/c/main.c"), library])
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program.0)
        .args(flags)
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// The example for this processor; none, with a line that says so, without a C compiler.
fn compile_here(name: &str) -> Option<TemporaryFile> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if cfg!(not(target_os = "linux")) || std::env::var_os("EDGECC_EMULATED").is_some() || !starts(&compiler) {
        skipped("the C example, without a C compiler on Linux");
        return None;
    }
    let (mut cargo, target) = cargo("", &[]);
    assert!(cargo.status().expect("cargo starts").success(), "the library must build");
    Some(compile(&compiler, name, &target.join("debug/libedgecc_c.a"), &[]))
}

/// A Rust compiler with a standard library for aarch64: EDGECC_AARCH64_RUSTC or Debian's.
fn aarch64_rustc() -> Option<String> {
    let rustc = std::env::var("EDGECC_AARCH64_RUSTC").unwrap_or_else(|_| "/usr/bin/rustc".into());
    let output = Command::new(&rustc).args(["--print", "target-libdir", "--target", AARCH64]).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let libraries = std::fs::read_dir(folder).ok()?;
    let mut names = libraries.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libstd-")).then_some(rustc)
}

fn run(program: &TemporaryFile, arguments: &[&Path]) -> Output {
    Command::new(&program.0).args(arguments).output().expect("the example starts")
}

/// What the example prints for the tests' model on the input 0, 1, 2, …
fn expected() -> String {
    let mut text = "input x [1x40] 160 bytes\noutput y [1x40] 160 bytes\noutput runs [1x40] 160 bytes\ny:\n".to_owned();
    // (x + w)² grows with the index from the sixth on.
    for index in (ELEMENTS - 5..ELEMENTS).rev() {
        let value = (index as f32 + weight(index)).powi(2) + OFFSET as f32;
        text += &format!("  {index} - {value}\n");
    }
    text + "runs:\n"
}

/// Words, with numbers as integers: C prints six digits.
fn words(text: &str) -> Vec<String> {
    let word = |word: &str| word.parse::<f32>().map_or(word.to_owned(), |number| format!("{number:.0}"));
    text.split_whitespace().map(word).collect()
}

fn input() -> Vec<u8> {
    to_bytes((0..ELEMENTS).map(|index| index as f32))
}

#[test]
fn the_example_prints_the_largest_values() {
    let Some(program) = compile_here("classify") else { return };
    let model = TemporaryFile::new("classify.bin", &artifact(ELEMENTS));
    let input = TemporaryFile::new("classify.f32", &input());
    let output = run(&program, &[&model.0, &input.0]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(words(&String::from_utf8_lossy(&output.stdout)), words(&expected()));
}

#[test]
fn the_example_runs_on_aarch64_with_a_small_library() {
    let (compiler, emulator) = ("aarch64-linux-gnu-gcc", "qemu-aarch64");
    let Some(rustc) = aarch64_rustc().filter(|_| starts(compiler) && starts(emulator)) else {
        skipped("the C example for aarch64, without its compilers and qemu-aarch64");
        return;
    };
    let (mut cargo, target) = cargo("cross", &["--profile", "device", "--target", AARCH64]);
    cargo.env("RUSTC", rustc).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", compiler);
    assert!(cargo.status().expect("cargo starts").success(), "the library must build for aarch64");
    let libraries = target.join(AARCH64).join("device");
    let size = std::fs::metadata(libraries.join("libedgecc_c.so")).expect("the shared library is built").len();
    println!("the shared library for aarch64 has {size} bytes");
    assert!(size <= SIZE_LIMIT, "{size} bytes");

    let program = compile(compiler, "classify-aarch64", &libraries.join("libedgecc_c.a"), &["-static", "-s"]);
    let model = TemporaryFile::new("classify-aarch64.bin", &artifact_for("aarch64", ELEMENTS));
    let input = TemporaryFile::new("classify-aarch64.f32", &input());
    let arguments = [&program.0, &model.0, &input.0];
    let output = Command::new(emulator).args(arguments).output().expect("the emulator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(words(&String::from_utf8_lossy(&output.stdout)), words(&expected()));
}

#[test]
fn the_example_says_what_is_wrong() {
    let Some(program) = compile_here("classify-errors") else { return };
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
    assert!(stderr(&damaged).starts_with("error 3: the artifact is corrupt, its weights"));
    let mut newer = bytes;
    newer[8] = 9;
    assert!(stderr(&newer).starts_with("error 4: artifact format 9.0"));
    let missing = run(&program, &[Path::new("/nonexistent/model.bin")]);
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("error 2: cannot read /nonexistent/model.bin"));
}
