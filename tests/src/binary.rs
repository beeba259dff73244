//! The `edgecc` program in tests, as its users start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The program, built with the profile of the tests.
pub fn edgecc() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    cargo_build(&["--bin", "edgecc", "--features", "edgecc/gpu"]);
    profile_folder().join(format!("edgecc{}", std::env::consts::EXE_SUFFIX))
}

/// Builds targets of the workspace with the profile of the tests. All packages are selected, and a small test beside what is asked for,
/// because Cargo then unites features as for `cargo test --workspace`, and takes what that has built.
pub fn cargo_build(targets: &[&str]) {
    let profile = if profile_folder().ends_with("release") { "release" } else { "dev" };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--test", "eval", "--profile", profile])
        .args(targets)
        .arg("--target-dir")
        .arg(target_folder())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "cargo build {}", targets.join(" "));
}

/// The folder of the build.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().map(Path::to_path_buf).expect("a target directory")
}

/// `target/PROFILE`: test programs lie in its `deps`.
pub fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program");
    program.ancestors().nth(2).map(Path::to_path_buf).expect("a folder of the build")
}

/// Runs `edgecc` with these arguments and waits for its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(edgecc()).args(arguments).output().expect("edgecc starts")
}
