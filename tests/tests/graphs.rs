//! What each pass makes of the graphs in `graphs/<pass>/<case>.eir`; those in `graphs/pipeline` go through all passes.
//! The snapshot beside a case shows the graph before and after, and both compute the same.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use edgecc_ir::{DType, Graph, NodeId, Type, eval, verify};
use edgecc_passes::precision::Precision;
use edgecc_passes::{FINISH, INTEGERS, Options, PREPARE, Phase, finish, prepare};
use edgecc_tests::numbers;

/// The most by which an element may differ, as a part of 1 plus its size: passes reorder sums.
const TOLERANCE: f64 = 1e-5;
/// The same where numbers are, or become, halves.
const TOLERANCE_OF_HALVES: f64 = 1e-3;

#[test]
fn passes_make_of_the_cases_what_the_snapshots_show() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    for pass in entries(&folder) {
        for case in entries(&pass).iter().filter(|path| path.extension().is_some_and(|extension| extension == "eir")) {
            check(&name(&pass), case);
        }
    }
}

#[test]
fn every_pass_has_a_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let without: Vec<&str> = phases().map(|phase| phase.name).filter(|pass| !folder.join(pass).is_dir()).collect();
    assert_eq!(without, Vec::<&str>::new());
}

#[test]
fn every_pass_has_a_case_that_it_leaves_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let leaves_alone = |pass: &str| {
        entries(&folder.join(pass))
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
            .any(|path| std::fs::read_to_string(path).unwrap().contains(&format!("{pass}: unchanged")))
    };
    let without: Vec<&str> = phases().map(|phase| phase.name).filter(|pass| !leaves_alone(pass)).collect();
    assert_eq!(without, Vec::<&str>::new());
}

fn check(pass: &str, case: &Path) {
    let text = std::fs::read_to_string(case).unwrap();
    let before = Graph::from_text(&text).unwrap_or_else(|error| panic!("{}:{error}", case.display()));
    let mut snapshot = format!("{}\n", before.to_snapshot());
    let after = run(pass, before.clone(), &mut snapshot);
    verify(&after).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    assert_eq!(Graph::from_text(&after.to_text()).unwrap().to_text(), after.to_text());
    assert_same_values(&before, &after, case);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(case.with_file_name(""));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name(&case.with_extension("")), snapshot));
}

/// Runs one pass, or all; `snapshot` gets the graph behind every pass that rewrote it.
fn run(pass: &str, mut graph: Graph, snapshot: &mut String) -> Graph {
    let mut show = |name: &str, graph: &Graph| write!(snapshot, "{name}\n{}\n", graph.to_snapshot()).unwrap();
    if pass == "pipeline" {
        prepare(&mut graph, &Options::default(), &mut |name, graph| show(name, graph)).unwrap();
        finish(&mut graph, &Options::default(), &mut |name, graph| show(name, graph)).unwrap();
        return graph;
    }
    let phase = phases().find(|phase| phase.name == pass).unwrap_or_else(|| panic!("no pass is called {pass}"));
    // Of one pass the options are those under which it does something.
    match (phase.run)(&mut graph, &Options { precision: Precision::F16, ..Options::default() }) {
        0 => snapshot.push_str(&format!("{pass}: unchanged\n")),
        rewrites => show(&format!("{pass}: {rewrites}"), &graph),
    }
    graph
}

fn phases() -> impl Iterator<Item = &'static Phase> {
    INTEGERS.iter().chain(PREPARE).chain(FINISH).flat_map(|group| group.phases)
}

fn assert_same_values(before: &Graph, after: &Graph, case: &Path) {
    let inputs = numbers::inputs(before);
    let (expected, actual) = (eval::run(before, &inputs).unwrap(), eval::run(after, &inputs).unwrap());
    assert_eq!(expected.len(), actual.len());
    let tolerance = if has_halves(after) { TOLERANCE_OF_HALVES } else { TOLERANCE };
    for (expected, actual) in expected.iter().zip(&actual) {
        assert_eq!(expected.ty(), actual.ty());
        for (a, b) in expected.scalars().zip(actual.scalars()).map(|(a, b)| (a.as_f64(), b.as_f64())) {
            assert!((a - b).abs() <= tolerance * (1.0 + a.abs()), "{}: {a} became {b}", case.display());
        }
    }
}

fn has_halves(graph: &Graph) -> bool {
    let is_half = |&id: &NodeId| matches!(graph.node(id).ty(), Type::Tensor(ty) if ty.dtype == DType::F16);
    graph.order().iter().any(is_half)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
