//! Python for generators of models.

use crate::report::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter with the tests' packages: `EDGECC_PYTHON`, or the workspace's `.venv`. `None`, after a visible line,
/// where there is none.
pub fn python() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = std::env::var_os("EDGECC_PYTHON").map_or(local, PathBuf::from);
    let works = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skipped("no Python with onnx and onnxruntime (tests/setup/setup.sh makes .venv)");
    None
}

/// Runs a script of `tests/tools`, which must succeed, and gives what it writes.
pub fn tool(python: &Path, script: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(script);
    let output = Command::new(python).arg(&script).args(arguments).output().expect("the interpreter starts");
    assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder of the build for what a generator writes.
pub fn generated(name: &str) -> PathBuf {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/generated")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder of the build");
    folder
}
