//! Programs for aarch64 and the emulator that runs them.

use crate::report::skipped;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The target of what runs in the emulator.
const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";

/// `edgecc-device` as one static executable for aarch64. `None`, after a visible line, without a cross compiler and the
/// emulator.
pub fn device_program() -> Option<PathBuf> {
    build(&["-p", "edgecc-device", "--bin", "edgecc-device"], "edgecc-device")
}

/// The runtime's example `line` for aarch64, which marks its runs for a plugin that counts instructions.
pub fn line_program() -> Option<PathBuf> {
    build(&["-p", "edgecc-runtime", "--example", "line"], "examples/line")
}

/// Builds a static program for aarch64; `path` is where it lies among what is built.
fn build(arguments: &[&str], path: &str) -> Option<PathBuf> {
    let rustc = rustc().filter(|_| starts(LINKER) && starts(EMULATOR));
    let Some(rustc) = rustc else {
        skipped(&format!("no {EMULATOR}, {LINKER} or standard library of Rust for aarch64 (tests/setup/setup.sh)"));
        return None;
    };
    let target = crate::binary::target_folder().join("cross");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "device", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .args(arguments)
        .env("RUSTC", rustc)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "{path} does not build for {TARGET}");
    Some(target.join(TARGET).join("device").join(path))
}

/// Whether the emulator is there; says so if not.
pub fn has_emulator() -> bool {
    let found = starts(EMULATOR);
    if !found {
        skipped(&format!("no {EMULATOR} (tests/setup/setup.sh)"));
    }
    found
}

/// Runs a program for aarch64 as a processor of this name.
pub fn emulate<S: AsRef<std::ffi::OsStr>>(processor: &str, program: &Path, arguments: &[S]) -> Output {
    emulator(processor).arg(program).args(arguments).output().expect("the emulator starts")
}

/// The emulator of a processor, without its program.
pub fn emulator(processor: &str) -> Command {
    let mut command = Command::new(EMULATOR);
    command.args(["-cpu", processor]);
    command
}

/// A Rust compiler with a standard library for aarch64: `EDGECC_AARCH64_RUSTC`, the one in use, or Debian's.
fn rustc() -> Option<PathBuf> {
    let named = std::env::var_os("EDGECC_AARCH64_RUSTC").map(PathBuf::from);
    let candidates = named.map_or(vec!["rustc".into(), "/usr/bin/rustc".into()], |named| vec![named]);
    candidates.into_iter().find(|rustc: &PathBuf| has_target(rustc))
}

fn has_target(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output() else {
        return false;
    };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(libraries) = std::fs::read_dir(folder) else { return false };
    libraries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
