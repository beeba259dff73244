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
    let folder = profile_folder();
    let profile = if folder.ends_with("release") { "release" } else { "dev" };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "edgecc", "--bin", "edgecc", "--features", "gpu", "--profile", profile])
        .arg("--target-dir")
        .arg(target_folder())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "edgecc does not build");
    folder.join(format!("edgecc{}", std::env::consts::EXE_SUFFIX))
}

/// The folder of the build.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().map(Path::to_path_buf).expect("a target directory")
}

/// `target/PROFILE`: test programs lie in its `deps`.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program");
    program.ancestors().nth(2).map(Path::to_path_buf).expect("a folder of the build")
}

/// Runs `edgecc` with these arguments and waits for its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(edgecc()).args(arguments).output().expect("edgecc starts")
}
