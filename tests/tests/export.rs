//! Models that are written as ONNX: onnxruntime loads them and computes what the evaluator does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgecc::array::to_tensor;
use edgecc::compile::prepare;
use edgecc::onnx::export;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_ir::{DType, Graph, Tensor, eval};
use edgecc_passes::prune::{Recipe, prune};
use edgecc_tests::graphs::{array, cases};
use edgecc_tests::models::{MODELS, Row};
use edgecc_tests::reference::{self, shared};
use edgecc_tests::report::say;
use edgecc_tests::{conformance, numbers, python, run};

/// A graph with inputs, written for onnxruntime.
struct Case {
    name: String,
    graph: Graph,
    inputs: Vec<Tensor>,
}

impl Case {
    fn file(&self, folder: &Path, end: &str) -> PathBuf {
        folder.join(format!("{}.{end}", self.name.replace('/', "-")))
    }

    /// Writes the model and its inputs; the words of `run_onnx.py`.
    fn write(&self, folder: &Path) -> Result<[String; 3], String> {
        let bytes = export(&self.graph).map_err(|error| error.to_string())?;
        std::fs::write(self.file(folder, "onnx"), bytes).expect("the model is written");
        let named = self.inputs.iter().enumerate().map(|(place, tensor)| (format!("in_{place}"), array(tensor)));
        write_npz(&self.file(folder, "in.npz"), &named.collect::<Vec<_>>()).expect("the inputs are written");
        Ok(["onnx", "in.npz", "out.npz"].map(|end| self.file(folder, end).to_string_lossy().into_owned()))
    }

    /// Compares what onnxruntime has written with the evaluator's values.
    fn compare(&self, folder: &Path, bound: f64) -> Result<(), String> {
        let arrays = read_npz(&self.file(folder, "out.npz")).map_err(|error| error.to_string())?;
        let expected = eval::run(&self.graph, &self.inputs).expect("values");
        assert_eq!(expected.len(), arrays.len(), "{}", self.name);
        let apart = expected.iter().zip(&arrays).map(|(expected, (_, actual))| apart(expected, actual));
        let apart = apart.fold(0.0, f64::max);
        if apart <= bound { Ok(()) } else { Err(format!("{apart} apart")) }
    }
}

/// The cases that cannot be written or that onnxruntime does not compute as the evaluator does, and why.
fn failures(python: &Path, folder: &Path, cases: &[Case], bound: f64) -> Vec<String> {
    let mut words = Vec::new();
    let mut failures = Vec::new();
    let mut written = Vec::new();
    for case in cases {
        let _ = std::fs::remove_file(case.file(folder, "out.npz"));
        match case.write(folder) {
            Ok(case_words) => {
                words.extend(case_words);
                written.push(case);
            }
            Err(what) => failures.push(format!("{}: {what}", case.name)),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let refused = python::tool(python, "run_onnx.py", &words);
    failures.extend(refused.lines().map(str::to_string));
    let is_run = |case: &&&Case| case.file(folder, "out.npz").exists();
    let wrong = written.iter().filter(is_run).filter_map(|case| Some((case, case.compare(folder, bound).err()?)));
    failures.extend(wrong.map(|(case, what)| format!("{}: {what}", case.name)));
    failures
}

/// The largest difference, as a share of the largest element, or of 1e-3: functions of onnxruntime err by absolute amounts.
fn apart(expected: &Tensor, actual: &Array) -> f64 {
    assert_eq!(expected.shape().extents(), actual.extents);
    let pairs = || expected.scalars().map(|value| value.as_f64()).zip(actual.to_f64());
    let largest = pairs().map(|(value, _)| value.abs()).filter(|size| size.is_finite()).fold(1e-3, f64::max);
    let difference = |(a, b): (f64, f64)| if a == b || a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
    pairs().map(difference).fold(0.0, f64::max) / largest
}

fn check(folder: &str, cases: &[Case], bound: f64) {
    let Some(python) = python::python() else { return };
    let failures = failures(&python, &python::generated(folder), cases, bound);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    say(&format!("{folder}: onnxruntime agrees on {} models", cases.len()));
}

#[test]
fn graphs_are_written() {
    let is_f32 = |graph: &Graph| graph.inputs().iter().all(|&id| graph.ty(id).dtype == DType::F32);
    let case = |(name, mut graph): (String, Graph)| {
        edgecc_passes::prepare(&mut graph, &edgecc_passes::Options::default(), &mut |_, _| {}).expect("sound passes");
        Case { name, inputs: numbers::inputs(&graph), graph }
    };
    let cases: Vec<Case> = cases().into_iter().filter(|(_, graph)| is_f32(graph)).map(case).collect();
    check("export-graphs", &cases, 1e-4);
}

/// A node test of ONNX that the front end reads without the values of its inputs.
fn node_test(folder: &Path, name: &str) -> Option<Case> {
    let io = Some(folder.join(name).join("io.npz")).filter(|io| io.exists())?;
    let given = reference::read(&io).inputs;
    let path = folder.join(name).join("model.onnx");
    let options = run::options(Architecture::host()?, &run::shapes(&path, &given).ok()?);
    let (graph, _) = prepare(&path, &options, &mut |_| {}).ok()?;
    let inputs: Option<Vec<Tensor>> = given.iter().map(|array| to_tensor(array).ok()).collect();
    Some(Case { name: name.into(), graph, inputs: inputs? })
}

#[test]
fn node_tests_are_written() {
    let Some(python) = python::python() else { return };
    let folder = python::generated("export-nodes");
    python::tool(&python, "conformance.py", &[&folder.to_string_lossy(), "--phone-only"]);
    let names = conformance::index(&folder).into_iter().map(|case| case.name);
    let cases: Vec<Case> = names.filter_map(|name| node_test(&folder, &name)).collect();
    let mut failures = failures(&python, &folder, &cases, 1e-4);
    say(&format!("{} of {} node tests are written", cases.len() - failures.len(), cases.len()));
    // Integers of some widths, which onnxruntime has no kernels for.
    failures.retain(|failure| !failure.contains("NOT_IMPLEMENTED"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A model of the shared material as it is simplified, and of half the multiply-adds.
fn model(folder: &Path, row: &Row) -> [Case; 2] {
    let given = reference::read(&row.reference(folder)).inputs;
    let path = row.model(folder);
    let shapes = run::shapes(&path, &given).expect("a model");
    let options = run::options(Architecture::host().expect("a host"), &shapes);
    let (graph, _) = prepare(&path, &options, &mut |_| {}).expect("a model");
    let smaller = prune(&graph, &Recipe::of(0.5), &BTreeMap::new()).expect("a sound graph").graph;
    let inputs: Vec<Tensor> = given.iter().map(|array| to_tensor(array).expect("a tensor")).collect();
    [(row.name.to_string(), graph), (format!("{}-half", row.name), smaller)].map(|(name, graph)| Case {
        name,
        graph,
        inputs: inputs.clone(),
    })
}

fn check_models(folder_name: &str, names: &[&str]) {
    let Some(folder) = shared("models") else { return };
    let rows = MODELS.iter().filter(|row| names.is_empty() || names.contains(&row.name));
    let cases: Vec<Case> = rows.flat_map(|row| model(&folder, row)).collect();
    check(folder_name, &cases, 2e-3);
}

#[test]
fn small_models_are_written_whole_and_pruned() {
    check_models("export-small", &["mnist_cntk", "blazeface_front_128", "mlperftiny_kws_dscnn_fp32", "dtln_2"]);
}

/// `cargo test -p edgecc-tests --test export -- --ignored`: a minute.
#[test]
#[ignore = "a minute"]
fn models_are_written_whole_and_pruned() {
    check_models("export-models", &[]);
}
