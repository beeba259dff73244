//! Models that must be refused, or survived, by the program as its users start it (`tests/tools/bad_models.py`).

#![cfg(unix)]

use edgecc_tests::report::say;
use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgecc_tests::{binary, python};
use serde_json::Value;

/// Largest address space and processor time of one run: 4 GiB and 30 s.
const LIMITS: &str = "ulimit -v 4194304 2>/dev/null; ulimit -t 30; exec \"$0\" \"$@\"";
/// What an output file holds before a run.
const EARLIER: &str = "what was there before";

/// How a model must end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expectation {
    Compiles,
    IsRefused,
    EndsInOrder,
}

struct Case {
    model: PathBuf,
    expectation: Expectation,
    culprits: Vec<String>,
}

fn case(folder: &Path, name: &str, row: &Value) -> Case {
    let expectation = match row["expect"].as_str() {
        Some("ok") => Expectation::Compiles,
        Some("error") => Expectation::IsRefused,
        Some("either") => Expectation::EndsInOrder,
        other => panic!("{name}: {other:?}"),
    };
    let culprits = row["culprits"].as_array().expect("culprits").iter().filter_map(Value::as_str);
    Case { model: folder.join(format!("{name}.onnx")), expectation, culprits: culprits.map(str::to_string).collect() }
}

fn cases(interpreter: &Path) -> Vec<Case> {
    let folder = python::generated("bad_models");
    python::tool(interpreter, "bad_models.py", &[&folder.to_string_lossy()]);
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let rows: BTreeMap<String, Value> = serde_json::from_str(&manifest).expect("JSON");
    rows.iter().map(|(name, row)| case(&folder, name, row)).collect()
}

fn compile(model: &Path, output: &Path) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", LIMITS]).arg(binary::edgecc()).arg(model).arg("-o").arg(output);
    command.output().expect("a shell")
}

/// What is wrong with how the program ended.
fn faults(case: &Case, output: &Output, folder: &Path) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut faults = Vec::new();
    let mut check = |right: bool, what: String| {
        if !right {
            faults.push(what)
        }
    };
    let code = output.status.code();
    let expected: &[i32] = match case.expectation {
        Expectation::Compiles => &[0],
        Expectation::IsRefused => &[1, 4, 5],
        Expectation::EndsInOrder => &[0, 1, 4, 5],
    };
    check(code.is_some_and(|code| expected.contains(&code)), format!("ends with {}", output.status));
    check(output.stdout.is_empty(), "writes to standard output".into());
    check(!said.contains("panicked"), "panics".into());
    for culprit in &case.culprits {
        check(said.contains(culprit), format!("does not name `{culprit}`"));
    }
    let entries = std::fs::read_dir(folder).expect("a folder").count();
    check(entries == 1, format!("leaves {entries} files"));
    let content = std::fs::read(folder.join("out.bin")).expect("the output is still there");
    let kept = content == EARLIER.as_bytes();
    check(kept != (code == Some(0)), "does not keep the earlier output on failure alone".into());
    if !faults.is_empty() {
        faults.push(said.into_owned());
    }
    faults
}

/// The faults of one model; its run has a folder of its own.
fn check(case: &Case) -> Option<String> {
    let name = case.model.file_stem().expect("a name").to_string_lossy();
    let folder = python::generated("bad_models_out").join(&*name);
    // The folder of a run that was cut short may be there.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.join("out.bin");
    std::fs::write(&path, EARLIER).expect("an earlier output");
    let output = compile(&case.model, &path);
    let faults = faults(case, &output, &folder);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    (!faults.is_empty()).then(|| format!("{name}: {}", faults.join("; ")))
}

#[test]
fn bad_models_are_refused_and_named_and_nothing_is_written() {
    let Some(interpreter) = python::python() else { return };
    let cases = cases(&interpreter);
    let faults: Vec<String> = cases.iter().filter_map(check).collect();
    say(&format!("{} models, {} faults", cases.len(), faults.len()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_device_is_written_to_and_stays_one() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let null = Path::new("/dev/null");
    assert_eq!(compile(&sample.join("digits.onnx"), null).status.code(), Some(0));
    assert_eq!(compile(&sample.join("train_digits.py"), null).status.code(), Some(1));
    assert!(std::fs::metadata(null).expect("a device").file_type().is_char_device());
}
