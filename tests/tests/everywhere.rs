//! The graphs of `graphs/` as machine code: here and on emulated aarch64 they compute what the evaluator does.

use std::path::{Path, PathBuf};

use edgecc::compile::compile_graph;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_format::ElementType;
use edgecc_ir::{DType, Graph, Tensor, eval};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers, python, run};

/// The most by which an element may differ, as a part of 1 plus its size: passes and kernels reorder sums.
const TOLERANCE: f64 = 1e-5;
const HALF_TOLERANCE: f64 = 2e-3;

/// Every graph with the name of its folder and its own.
fn cases() -> Vec<(String, Graph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let mut cases: Vec<(String, Graph)> =
        entries(&folder).iter().flat_map(|pass| entries(pass)).filter_map(case).collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

fn case(path: PathBuf) -> Option<(String, Graph)> {
    path.extension().filter(|extension| *extension == "eir")?;
    let text = std::fs::read_to_string(&path).expect("a graph");
    let name =
        [path.parent()?.file_name()?, path.file_stem()?].map(|part| part.to_string_lossy().into_owned()).join("-");
    Some((name, Graph::from_text(&text).expect("a sound graph")))
}

fn array(tensor: &Tensor) -> Array {
    let element_type = match tensor.dtype() {
        DType::F16 => ElementType::F16,
        DType::F32 => ElementType::F32,
        other => panic!("no case has inputs of {other:?} yet"),
    };
    Array { element_type, extents: tensor.shape().extents(), bytes: tensor.bytes().to_vec() }
}

fn assert_close(name: &str, expected: &Tensor, actual: &[f64]) {
    assert_eq!(expected.elements(), actual.len(), "{name}");
    let tolerance = if expected.dtype() == DType::F16 { HALF_TOLERANCE } else { TOLERANCE };
    for (expected, actual) in expected.scalars().map(|value| value.as_f64()).zip(actual) {
        assert!(
            (expected - actual).abs() <= tolerance * (1.0 + expected.abs()),
            "{name}: {actual} instead of {expected}"
        );
    }
}

fn artifact(graph: &Graph, architecture: Architecture) -> Vec<u8> {
    let compiled = compile_graph(graph.clone(), &run::options(architecture, &[]), &mut |_| {}).expect("compiles");
    compiled.to_bytes().expect("an artifact")
}

#[test]
fn graphs_compute_here_what_the_evaluator_does() {
    let host = Architecture::host().expect("a host that code is emitted for");
    for (name, graph) in cases() {
        let tensors = numbers::inputs(&graph);
        let arrays: Vec<Array> = tensors.iter().map(array).collect();
        let outputs = run::run_here(&artifact(&graph, host), &arrays, 1);
        let expected = eval::run(&graph, &tensors).expect("values");
        for (expected, bytes) in expected.iter().zip(outputs) {
            let actual = Array { bytes, ..array(expected) };
            assert_close(&name, expected, &actual.to_f64());
        }
    }
}

#[test]
fn graphs_compute_on_aarch64_what_the_evaluator_does() {
    let Some(program) = cross::device_program() else { return };
    let folder = python::generated("everywhere");
    let cases = cases();
    say(&format!("{} graphs on emulated aarch64", cases.len()));
    for (name, graph) in &cases {
        let tensors = numbers::inputs(graph);
        let named = |(place, tensor): (usize, &Tensor)| (format!("in_{place}"), array(tensor));
        let arrays: Vec<(String, Array)> = tensors.iter().enumerate().map(named).collect();
        let [model, input, output] = ["model.bin", "in.npz", "out.npz"].map(|file| folder.join(file));
        std::fs::write(&model, artifact(graph, Architecture::Aarch64)).expect("the artifact is written");
        write_npz(&input, &arrays).expect("the inputs are written");
        let path = |path: &Path| path.to_str().expect("UTF-8").to_string();
        let arguments = ["run".into(), path(&model), "--input".into(), path(&input), "--output".into(), path(&output)];
        for processor in ["cortex-a72", "max"] {
            let ran = cross::emulate(processor, &program, &arguments);
            assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
            let outputs = read_npz(&output).expect("outputs");
            for (expected, (_, actual)) in eval::run(graph, &tensors).expect("values").iter().zip(&outputs) {
                assert_close(name, expected, &actual.to_f64());
            }
        }
    }
}
