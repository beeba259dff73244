//! Samples from files, and values inside of a network as compiled code computes them.

use std::path::{Path, PathBuf};

use edgecc::calibrate::capture::capture;
use edgecc::calibrate::samples::{SampleError, Samples};
use edgecc::calibrate::synthetic::synthetic;
use edgecc::picture::Normalisation;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, write_npz};
use edgecc_format::ElementType;
use edgecc_ir::{Graph, NodeId, Op, Shape, Tensor, eval};
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::run;

/// Two convolutions and a sum; everything is named by place.
fn network() -> Graph {
    let mut network = Network::new("network", &[1, 3, 12, 10]);
    network.conv(8, 3, 1, 1, Activation::Relu);
    let entry = network.value();
    network.conv(8, 3, 1, 8, Activation::Silu);
    network.conv(8, 1, 1, 1, Activation::None);
    network.add_value(entry);
    network.max_pool();
    let mut graph = network.finish();
    edgecc_passes::prepare(&mut graph, &edgecc_passes::Options::default(), &mut |_, _| {}).expect("sound passes");
    graph
}

fn f32s(extents: &[usize], values: impl Fn(usize) -> f32) -> Array {
    let bytes = (0..extents.iter().product()).flat_map(|place| values(place).to_le_bytes()).collect();
    Array { element_type: ElementType::F32, extents: extents.to_vec(), bytes }
}

fn file(name: &str, arrays: &[(&str, Array)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("calibrate");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    let arrays: Vec<(String, Array)> = arrays.iter().map(|(name, array)| (name.to_string(), array.clone())).collect();
    write_npz(&path, &arrays).expect("the arrays are written");
    path
}

fn read(paths: &[PathBuf]) -> Result<Samples, SampleError> {
    Samples::read(&network(), paths, &Normalisation::default())
}

#[test]
fn captured_values_are_those_of_the_evaluator() {
    let graph = network();
    let samples = synthetic(&graph, &Normalisation::default(), 3, 7).expect("samples");
    let values: Vec<NodeId> =
        graph.order().into_iter().filter(|&id| !matches!(graph.op(id), Op::Constant(_))).collect();
    let options = run::options(Architecture::host().expect("a host"), &[]);
    let mut captured = Vec::new();
    capture(&graph, &options, &values, &samples, 2, &mut |value| {
        captured.push((value.run, value.node, value.shape.clone(), value.elements.to_vec()));
    })
    .expect("values");
    assert_eq!(captured.len(), 3 * values.len());
    for (run, inputs) in samples.runs.iter().enumerate() {
        let x = Tensor::dense(edgecc_ir::DType::F32, Shape::new(&inputs[0].extents), inputs[0].bytes.clone().into());
        let mut compared = 0;
        eval::run_with(&graph, &[x.expect("a tensor")], |id, results| {
            let mine = captured.iter().filter(|(other, node, ..)| *other == run && *node == id);
            for (_, _, shape, elements) in mine {
                assert_eq!(shape, results[0].shape());
                let apart = results[0].to_f32().iter().zip(elements).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{id:?} {} is {apart} apart", graph.op(id).name());
                compared += 1;
            }
        })
        .expect("a run");
        assert!(compared >= values.len() - graph.inputs().len());
    }
}

#[test]
fn arrays_of_several_samples_are_cut() {
    let several = f32s(&[4, 3, 12, 10], |place| place as f32);
    let path = file("several.npz", &[("in_0", several), ("out_0", f32s(&[1], |_| 0.0))]);
    let samples = read(&[path.clone(), path]).expect("samples");
    assert_eq!(samples.runs.len(), 8);
    assert_eq!(samples.runs[1][0].extents, [1, 3, 12, 10]);
    assert_eq!(samples.runs[5][0].to_f64()[0], 360.0);
}

#[test]
fn samples_that_do_not_fit_are_refused_with_file_and_input() {
    let refused = |path: PathBuf| read(&[path]).expect_err("no samples").to_string();
    let folder = file("a.npz", &[]).with_file_name("none");
    std::fs::create_dir_all(&folder).expect("a folder");
    let cases = [
        (folder, "none: no samples"),
        (file("empty.npz", &[]), "empty.npz: no array for input `x`"),
        (file("shape.npz", &[("x", f32s(&[1, 3, 12, 11], |_| 0.0))]), "shape.npz: input `x` is f32[1x3x12x10]"),
        (file("none.npz", &[("x", f32s(&[0, 3, 12, 10], |_| 0.0))]), "the file holds f32[0x3x12x10]"),
        (
            file("nan.npz", &[("x", f32s(&[1, 3, 12, 10], |place| if place == 5 { f32::NAN } else { 0.0 }))]),
            "NaN at element 5",
        ),
        (file("name.npz", &[("z", f32s(&[1, 3, 12, 10], |_| 0.0))]), "no input `z`"),
    ];
    for (path, part) in cases {
        let message = refused(path);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn made_up_samples_depend_on_the_seed_alone() {
    let bytes =
        |seed| synthetic(&network(), &Normalisation::default(), 2, seed).expect("samples").runs[1][0].bytes.clone();
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}
