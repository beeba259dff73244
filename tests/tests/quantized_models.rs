//! Models that other tools quantised: integer code whose outputs are onnxruntime's within two steps of their scale, and the
//! same to the bit on every processor.

use std::collections::BTreeSet;
use std::path::Path;

use edgecc::picture::{Normalisation, read as read_picture};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, read_npz};
use edgecc_format::{Dim, ElementType, Port};
use edgecc_ir::{DType, Graph, NodeId, Type};
use edgecc_runtime::ProgramChoice;
use edgecc_tests::models::{QUANTIZED, Row};
use edgecc_tests::report::say;
use edgecc_tests::{cross, pictures, python, reference, run};

/// Steps that an element may be away from onnxruntime's, which rounds products of scales elsewhere.
const STEPS: f64 = 2.0;
/// Share of the elements that keeps to them.
const SHARE: f64 = 0.99;
/// Above this many multiply-adds a model is not emulated.
const MOST_EMULATED: u64 = 200_000_000;

/// Distance between neighbouring values of an output: 1 of integers, else the least that occurs.
fn step(reference: &Array) -> f64 {
    if reference.element_type != ElementType::F32 {
        return 1.0;
    }
    let mut values = reference.to_f64();
    values.sort_by(f64::total_cmp);
    let distances = values.windows(2).map(|pair| pair[1] - pair[0]).filter(|&distance| distance > 1e-9);
    distances.fold(f64::INFINITY, f64::min)
}

/// Share of the elements within [`STEPS`] of the reference.
fn share(actual: &[u8], reference: &Array) -> f64 {
    let actual = Array { bytes: actual.to_vec(), ..reference.clone() }.to_f64();
    let step = step(reference);
    let near = actual.iter().zip(reference.to_f64()).filter(|(a, b)| (*a - b).abs() <= STEPS * step * 1.001).count();
    near as f64 / actual.len() as f64
}

/// Contractions, and those of them that do not sum integers.
fn contractions(graph: &Graph) -> (usize, usize) {
    let all = graph.order().into_iter().filter(|&id| graph.op(id).epilogue().is_some());
    let float = |id: &edgecc_ir::NodeId| graph.ty(graph.operands(*id)[0]).dtype != DType::I8;
    let all: Vec<_> = all.collect();
    (all.len(), all.iter().filter(|id| float(id)).count())
}

/// Values of numbers between contractions of integers.
fn islands(graph: &Graph) -> Vec<String> {
    let order = graph.order();
    let sums = |id: NodeId| graph.op(id).epilogue().is_some() && graph.ty(graph.operands(id)[0]).dtype == DType::I8;
    let (mut behind, mut before) = (BTreeSet::new(), BTreeSet::new());
    for &id in &order {
        if graph.operands(id).iter().any(|operand| sums(*operand) || behind.contains(operand)) {
            behind.insert(id);
        }
    }
    for &id in order.iter().rev() {
        if graph.users(id).iter().any(|user| sums(*user) || before.contains(user)) {
            before.insert(id);
        }
    }
    let is_island = |&id: &NodeId| {
        let is_number = matches!(graph.node(id).ty(), Type::Tensor(ty) if ty.dtype.is_float());
        is_number && (behind.contains(&id) || sums(id)) && before.contains(&id)
    };
    let name = |id: NodeId| format!("{} of {}", graph.op(id).name(), graph.node(id).origin());
    order.into_iter().filter(is_island).map(name).collect()
}

/// The outputs of the artifact's programs for this machine, which are equal.
fn run_on_host(folder: &Path, row: &Row) -> Vec<Vec<u8>> {
    let expected = reference::read(&row.reference(folder));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(&row.model(folder), host, &expected.inputs).expect("the model compiles");
    let (all, float) = contractions(&compiled.graph);
    assert_eq!(float, 0, "{}: {float} of {all} contractions in floating point", row.title());
    // Gates hand on the state of a recurrent cell, and what they add to it, as numbers.
    let handed_on = if row.name == "tract_qlstm" { 3 } else { 0 };
    let islands = islands(&compiled.graph);
    assert_eq!(islands.len(), handed_on, "{}: {islands:?}", row.title());
    let artifact = compiled.to_bytes().expect("an artifact");
    let outputs = run::run_here(&artifact, &expected.inputs, 2);
    assert!(outputs == run::run_program_here(&artifact, &expected.inputs, 1, ProgramChoice::LeastAble));
    let shares: Vec<f64> =
        outputs.iter().zip(&expected.outputs).map(|(actual, expected)| share(actual, expected)).collect();
    let equal = outputs.iter().zip(&expected.outputs).map(|(actual, expected)| {
        let same = actual.iter().zip(&expected.bytes).filter(|(a, b)| a == b).count();
        same as f64 / actual.len() as f64
    });
    let equal: Vec<String> = equal.map(|share| format!("{:.2} %", share * 100.0)).collect();
    let worst = shares.iter().copied().fold(1.0, f64::min);
    let title = row.title();
    say(&format!(
        "{title:<48} {all:>3} contractions, {:>7.3} % within {STEPS} steps, bytes equal {}",
        worst * 100.0,
        equal.join(", ")
    ));
    assert!(worst >= SHARE, "{title}: {shares:?}");
    outputs
}

#[test]
fn quantised_models_agree_with_onnxruntime_within_two_steps() {
    let Some(folder) = reference::shared("models") else { return };
    QUANTIZED.iter().for_each(|row| {
        run_on_host(&folder, row);
    });
}

#[test]
fn every_processor_gives_the_same_integers() {
    let Some(folder) = reference::shared("models") else { return };
    let Some(program) = cross::device_program() else { return };
    let place = python::generated("quantized-models");
    for row in &QUANTIZED {
        let npz = row.reference(&folder);
        let inputs = reference::read(&npz).inputs;
        let compiled =
            run::compile_for(&row.model(&folder), Architecture::Aarch64, &inputs).expect("the model compiles");
        if compiled.best.program.steps.iter().map(|step| step.macs).sum::<u64>() > MOST_EMULATED {
            continue;
        }
        let (artifact, written) = (place.join("model.bin"), place.join("outputs.npz"));
        std::fs::write(&artifact, compiled.to_bytes().expect("an artifact")).expect("written");
        let expected = run_on_host(&folder, row);
        for processor in ["cortex-a72", "cortex-a76", "max"] {
            let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_string();
            let arguments =
                ["run".into(), text(&artifact), "--input".into(), text(&npz), "--output".into(), text(&written)];
            let ran = cross::emulate(processor, &program, &arguments);
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let outputs = read_npz(&written).expect("outputs");
            let equal = outputs.iter().zip(&expected).all(|((_, actual), expected)| actual.bytes == *expected);
            assert!(equal, "{} on {processor}", row.title());
        }
    }
}

/// The score that the person detector gives a picture: of a person, less of none.
fn person(folder: &Path, picture: &str) -> i64 {
    let dims = [1, 96, 96, 3].map(Dim::fixed).to_vec();
    let port = Port { name: "x".into(), element_type: ElementType::F32 as i32, dims };
    let picture =
        read_picture(&folder.join("data").join(picture), &port, &Normalisation::default()).expect("a picture");
    let bytes = picture.to_f64().iter().map(|sample| ((sample * 255.0).round() - 128.0) as i8 as u8).collect();
    let input = Array { element_type: ElementType::I8, bytes, ..picture };
    let host = Architecture::host().expect("a host that code is emitted for");
    let model = folder.join("models/mlperftiny_vww96_int8.onnx");
    let compiled = run::compile_for(&model, host, std::slice::from_ref(&input)).expect("the model compiles");
    let outputs = run::run_here(&compiled.to_bytes().expect("an artifact"), &[input], 1);
    outputs[0][1] as i8 as i64 - outputs[0][0] as i8 as i64
}

#[test]
fn a_person_is_seen_where_there_is_one_and_the_face_is_found() {
    let Some(folder) = reference::shared("models") else { return };
    assert!(person(&folder, "astronaut.png") > 0 && person(&folder, "china.jpg") < 0);
    let face = &QUANTIZED[3];
    let expected = reference::read(&face.reference(&folder)).outputs;
    let values = |(bytes, array): (Vec<u8>, &Array)| Array { bytes, ..array.clone() }.to_f64();
    let outputs: Vec<Vec<f64>> = run_on_host(&folder, face).into_iter().zip(&expected).map(values).collect();
    // The corners are within a step, which is 0.043.
    pictures::assert_face_within(&outputs, &folder, 0.02, 0.043);
}
