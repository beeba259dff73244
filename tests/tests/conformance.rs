//! The ONNX node tests whose operators all occur in phone models: which do not pass is written down in
//! `conformance/not_passing.txt`, and nothing else may fail.

use edgecc_tests::report::say;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgecc_tests::conformance::{Case, On, check, index};
use edgecc_tests::{python, reference};

/// Of 826 tests.
const LEAST: usize = 600;

/// Outcomes by name; two at a time.
fn outcomes(folder: &Path, cases: &[Case]) -> BTreeMap<String, Result<(), String>> {
    let run = |cases: &[Case]| -> Vec<(String, Result<(), String>)> {
        cases.iter().map(|case| (case.name.clone(), check(folder, case, On::Processor))).collect()
    };
    let (first, second) = cases.split_at(cases.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(second));
        let mut all = run(first);
        all.extend(other.join().expect("outcomes"));
        all.into_iter().collect()
    })
}

fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/not_passing.txt")
}

/// `name: reason` of what does not pass.
fn not_passing(outcomes: &BTreeMap<String, Result<(), String>>) -> String {
    let failed = outcomes.iter().filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)));
    failed.map(|(name, reason)| format!("{name}: {reason}\n")).collect()
}

fn names(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.split(':').next()).collect()
}

#[test]
fn node_tests_pass_but_for_those_in_the_list() {
    let Some(interpreter) = python::python() else { return };
    let folder = python::generated("conformance");
    python::tool(&interpreter, "conformance.py", &[&folder.to_string_lossy(), "--phone-only"]);
    let cases = index(&folder);
    let outcomes = outcomes(&folder, &cases);
    let failed = not_passing(&outcomes);
    if std::env::var_os("EDGECC_UPDATE").is_some() {
        std::fs::create_dir_all(list().parent().expect("a folder")).expect("a folder");
        std::fs::write(list(), &failed).expect("the list");
    }
    let passed = outcomes.values().filter(|outcome| outcome.is_ok()).count();
    say(&format!("{passed} of {} node tests pass", outcomes.len()));
    assert!(!failed.contains(": panic"), "{failed}");
    let known = std::fs::read_to_string(list()).expect("the list");
    let (now, before) = (names(&failed), names(&known));
    let worse: Vec<&&str> = now.iter().filter(|name| !before.contains(name)).collect();
    let better: Vec<&&str> = before.iter().filter(|name| !now.contains(name)).collect();
    assert!(worse.is_empty(), "no longer pass: {worse:?}\n{failed}");
    assert!(better.is_empty(), "pass now; run again with EDGECC_UPDATE=1 to take them off the list: {better:?}");
    assert!(passed >= LEAST, "{passed} pass");
}

#[test]
fn node_tests_of_older_releases_do_not_panic() {
    let Some(interpreter) = python::python() else { return };
    let Some(archives) = reference::shared("conformance") else { return };
    for release in ["1.7.0", "1.12.0", "1.16.2"] {
        let folder = python::generated(&format!("conformance-{release}"));
        let arguments = [
            &folder.to_string_lossy(),
            "--archives",
            &archives.to_string_lossy(),
            "--release",
            release,
            "--phone-only",
        ];
        python::tool(&interpreter, "conformance.py", &arguments.map(|argument: &str| argument));
        let outcomes = outcomes(&folder, &index(&folder));
        let failed = not_passing(&outcomes);
        say(&format!("{release}: {} of {} pass", outcomes.len() - failed.lines().count(), outcomes.len()));
        assert!(!failed.contains(": panic"), "{failed}");
    }
}
