//! Pruned networks compile, compute what the evaluator makes of the smaller graph, and stay near the network before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use edgecc::array::to_tensor;
use edgecc::calibrate::samples::{Samples, ports};
use edgecc::calibrate::synthetic::synthetic;
use edgecc::compile::{CompileOptions, compile_prepared, prepare};
use edgecc::picture::{Normalisation, read as read_picture};
use edgecc::prune::{Calibration, prune, refit, round_again};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_format::{Dim, ElementType, Port};
use edgecc_ir::{DType, Graph, Shape, Tensor, eval};
use edgecc_passes::prune::{Pruned, Ranking, Recipe, prune as cut};
use edgecc_tests::executed::{Bench, total};
use edgecc_tests::graphs::{Way, artifact, outputs_emulated, outputs_here};
use edgecc_tests::measured::{NETWORKS, Network as Measured};
use edgecc_tests::models::{MODELS, Row};
use edgecc_tests::networks::{Activation, Network, layers};
use edgecc_tests::reference::{self, shared};
use edgecc_tests::report::say;
use edgecc_tests::sample::digits;
use edgecc_tests::{cross, numbers, run};

fn options() -> CompileOptions {
    run::options(Architecture::host().expect("a host"), &[])
}

fn simplified(mut graph: Graph) -> Graph {
    edgecc_passes::prepare(&mut graph, &edgecc_passes::Options::default(), &mut |_, _| {}).expect("sound passes");
    graph
}

fn by_weights(graph: &Graph, fraction: f64) -> Pruned {
    cut(graph, &Recipe::of(fraction), &BTreeMap::new()).expect("a sound graph")
}

fn assert_close(name: &str, expected: &[Tensor], actual: &[Vec<f64>]) {
    for (expected, actual) in expected.iter().zip(actual) {
        let pairs = || expected.scalars().map(|value| value.as_f64()).zip(actual);
        let largest = pairs().map(|(value, _)| value.abs()).fold(1e-6, f64::max);
        for (a, b) in pairs() {
            let same = (a - b).abs() <= 1e-3 * largest || a.is_nan() && b.is_nan();
            assert!(same, "{name}: {b} instead of {a}, where the largest is {largest}");
        }
    }
}

#[test]
fn bench_networks_compute_here_and_on_aarch64_what_the_evaluator_does() {
    let device = cross::device_program();
    let mut smaller = 0;
    for (graph, _) in layers() {
        let pruned = by_weights(&simplified(graph), 0.5);
        smaller += (pruned.macs[1] <= 0.51 * pruned.macs[0]) as usize;
        let graph = pruned.graph;
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for outputs in outputs_here(&graph, &inputs, &expected, Way::USUAL) {
            assert_close(graph.name(), &expected, &outputs);
        }
        if let Some(device) = &device {
            for outputs in outputs_emulated(device, &graph, &inputs, Way::USUAL, &["cortex-a72"]) {
                assert_close(graph.name(), &expected, &outputs);
            }
        }
    }
    // One of them is a single layer, which makes the output.
    assert!(smaller >= 4, "{smaller} networks are halved");
}

/// The distance of the outputs on samples, relative to their size.
fn error(before: &Graph, after: &Graph, samples: &Samples) -> f64 {
    let (mut apart, mut size) = (0.0, 0.0);
    for run in &samples.runs {
        let tensor = |array: &Array| {
            Tensor::dense(DType::F32, Shape::new(&array.extents), array.bytes.clone().into()).expect("a tensor")
        };
        let inputs: Vec<Tensor> = run.iter().map(tensor).collect();
        let [expected, actual] =
            [before, after].map(|graph| eval::run(graph, &inputs).expect("values").remove(0).to_f32());
        for (a, b) in expected.iter().zip(&actual) {
            apart += ((a - b) as f64).powi(2);
            size += (*a as f64).powi(2);
        }
    }
    (apart / size.max(1e-30)).sqrt()
}

#[test]
fn fitted_weights_bring_results_near_to_those_before() {
    let mut network = Network::new("fitted", &[2, 3, 16, 16]);
    network.conv(24, 3, 2, 1, Activation::Relu);
    let entry = network.value();
    network.conv(48, 1, 1, 1, Activation::Relu6);
    network.conv(48, 3, 1, 48, Activation::Relu6);
    network.conv(24, 1, 1, 1, Activation::None);
    network.add_value(entry);
    network.conv(32, 3, 1, 2, Activation::Silu);
    network.conv(10, 3, 1, 1, Activation::None);
    let graph = simplified(network.finish());
    let draw = |count, seed| synthetic(&graph, &Normalisation::default(), count, seed).expect("samples");
    let (samples, others) = (draw(12, 1), draw(4, 2));
    let options = options();
    let calibration = Calibration { samples: &samples, options: &options, threads: 2 };
    for ranking in [Ranking::Local, Ranking::Global] {
        let recipe = Recipe { ranking, multiple: 4, ..Recipe::of(0.5) };
        let mut pruned = prune(&graph, &recipe, Some(calibration), &mut |_| {}).expect("a smaller graph");
        let before = error(&graph, &pruned.graph, &others);
        refit(&graph, &mut pruned, calibration, &mut |_| {}).expect("fitted weights");
        edgecc_ir::verify(&pruned.graph).expect("a sound graph");
        let after = error(&graph, &pruned.graph, &others);
        say(&format!("{ranking:?}: error {before:.3} before fitting, {after:.3} behind"));
        assert!(after < 0.5 * before, "{ranking:?}: {before} became {after}");
    }
}

/// The share of the sample's test images that a graph of one image names rightly.
fn accuracy(graph: &Graph, images: &[Array], labels: &[f64]) -> f64 {
    let is_right = |(image, label): (&Array, &f64)| {
        let scores = eval::run(graph, &[to_tensor(image).expect("a tensor")]).expect("scores").remove(0).to_f32();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best == Some(*label as usize)
    };
    let right = images.iter().zip(labels).filter(|&pair| is_right(pair)).count();
    right as f64 / images.len() as f64
}

/// The sample names 98 % of the digits; its layers are narrow, so that half of it knows little until it is fitted.
#[test]
fn half_of_the_sample_still_knows_its_digits() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let (images, labels) = digits();
    let (known, unknown) = images.split_at(images.len() / 2);
    let labels = &labels[known.len()..];
    let options = run::options(Architecture::host().expect("a host"), &[("image".into(), vec![1, 1, 8, 8])]);
    let (graph, _) = prepare(&sample.join("digits.onnx"), &options, &mut |_| {}).expect("a model");
    let samples = Samples { ports: ports(&graph), runs: known.iter().map(|image| vec![image.clone()]).collect() };
    let calibration = Calibration { samples: &samples, options: &options, threads: 2 };
    let recipe = Recipe { multiple: 4, ..Recipe::of(0.5) };
    let mut pruned = prune(&graph, &recipe, Some(calibration), &mut |_| {}).expect("a smaller graph");
    let before = accuracy(&pruned.graph, unknown, labels);
    refit(&graph, &mut pruned, calibration, &mut |_| {}).expect("fitted weights");
    let after = accuracy(&pruned.graph, unknown, labels);
    let whole = accuracy(&graph, unknown, labels);
    say(&format!("digits: {whole:.3} right; of half the multiply-adds {before:.3} before fitting, {after:.3} behind"));
    assert!(pruned.macs[1] <= 0.5 * pruned.macs[0] && after > 0.9 && after > before + 0.2);
}

/// Prunes a model to half, compiles it and compares a run with the evaluator's, on these inputs or on noise; what is left of
/// the multiply-adds.
fn check_model(path: &Path, given: &[Array]) -> Result<f64, String> {
    let shapes = if given.is_empty() { Vec::new() } else { run::shapes(path, given)? };
    let options = run::options(Architecture::host().expect("a host"), &shapes);
    let (graph, _) = prepare(path, &options, &mut |_| {}).map_err(|error| error.to_string())?;
    let pruned = by_weights(&graph, 0.5);
    let given = given.iter().map(to_tensor).collect::<Result<Vec<_>, _>>()?;
    let inputs = if given.is_empty() { numbers::inputs(&pruned.graph) } else { given };
    let expected = eval::run(&pruned.graph, &inputs).map_err(|error| error.to_string())?;
    for outputs in outputs_here(&pruned.graph, &inputs, &expected, Way::USUAL) {
        assert_close(&path.display().to_string(), &expected, &outputs);
    }
    artifact(&pruned.graph, Architecture::Aarch64, Way::USUAL);
    Ok(pruned.macs[1] / pruned.macs[0])
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect();
    files.sort();
    files
}

/// `cargo test -p edgecc-tests --test prune -- --ignored --nocapture`, with more models in `EDGECC_MODELS`: minutes.
#[test]
#[ignore = "minutes"]
fn models_of_half_the_multiply_adds_compute_what_the_evaluator_does() {
    let Some(folder) = shared("models") else { return };
    let reference = |row: &Row| reference::read(&row.reference(&folder)).inputs;
    let mut cases: Vec<(PathBuf, Vec<Array>)> = MODELS.iter().map(|row| (row.model(&folder), reference(row))).collect();
    let mut others = onnx_files(&folder.join("light"));
    others.extend(std::env::var_os("EDGECC_MODELS").into_iter().flat_map(|folder| onnx_files(Path::new(&folder))));
    cases.extend(others.into_iter().map(|file| (file, Vec::new())));
    for (file, inputs) in cases {
        let started = Instant::now();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let left = check_model(&file, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        say(&format!("{name}: {left:.3} of the multiply-adds left, {:.0} s", started.elapsed().as_secs_f64()));
    }
}

/// What half of the multiply-adds may execute of what all of them do.
const MOST_OF_HALF: f64 = 0.6;

/// `cargo test -p edgecc-tests --test prune -- --ignored --nocapture measured`, `EDGECC_NETWORK=part of a name` for one of them: minutes.
#[test]
#[ignore = "minutes"]
fn measured_networks_of_half_the_multiply_adds_execute_little_more_than_half_of_the_instructions() {
    let Some(peers) = shared("peers") else { return };
    let Some(bench) = Bench::new() else { return };
    let only = std::env::var("EDGECC_NETWORK").unwrap_or_default();
    for network in NETWORKS.iter().filter(|network| network.name.contains(&only)) {
        let Some(files) = network.files(&peers) else { continue };
        let [whole, half] = executed_whole_and_half(&bench, network, &files.model, &files.input);
        let ratio = half / whole;
        say(&format!("{:<20} {whole:>8.1} M, {half:>8.1} M of half: {ratio:.3}", network.name));
        assert!(ratio <= MOST_OF_HALF, "{}: {ratio}", network.name);
    }
}

/// Millions of instructions of a network and of its half, whose output is the evaluator's.
fn executed_whole_and_half(bench: &Bench, network: &Measured, model: &Path, input: &[u8]) -> [f64; 2] {
    let bytes = input.to_vec();
    let array = Array { element_type: ElementType::F32, extents: network.shape.to_vec(), bytes };
    let shapes = run::shapes(model, std::slice::from_ref(&array)).expect("a model");
    let options = CompileOptions { allow_size: network.allow_size, ..run::options(Architecture::Aarch64, &shapes) };
    let (graph, _) = prepare(model, &options, &mut |_| {}).expect("a model");
    let pruned = by_weights(&graph, 0.5);
    let left = pruned.macs[1] / pruned.macs[0];
    assert!(left <= 0.5, "{}: {left} of the multiply-adds are left", network.name);
    let expected = eval::run(&pruned.graph, &[to_tensor(&array).expect("a tensor")]).expect("values");
    let [(whole, _), (half, output)] = [graph, pruned.graph].map(|graph| {
        let compiled = compile_prepared(graph, &options, &mut |_| {}).expect("the network compiles");
        let (trace, output) = bench.count("cortex-a76", &compiled, input, network.shape);
        (total(&trace).total() as f64 / 1e6, output)
    });
    let output =
        Array { element_type: ElementType::F32, extents: expected[0].shape().extents().to_vec(), bytes: output };
    assert_close(network.name, &expected, &[output.to_f64()]);
    [whole, half]
}

/// The person detector of MLPerf Tiny, integers from end to end: pruned and fitted as numbers, then integers again, it still
/// prefers the picture with a person.
#[test]
fn a_quantised_model_is_pruned_and_stays_integers() {
    let Some(folder) = shared("models") else { return };
    let dims = [1, 96, 96, 3].map(Dim::fixed).to_vec();
    let port = Port { name: "x".into(), element_type: ElementType::F32 as i32, dims };
    let picture = |name: &str| {
        let picture =
            read_picture(&folder.join("data").join(name), &port, &Normalisation::default()).expect("a picture");
        let bytes = picture.to_f64().iter().map(|sample| ((sample * 255.0).round() - 128.0) as i8 as u8).collect();
        Array { element_type: ElementType::I8, bytes, ..picture }
    };
    let pictures = ["astronaut.png", "china.jpg", "coffee.png", "chelsea.png"].map(picture);
    let model = folder.join("models/mlperftiny_vww96_int8.onnx");
    let host = Architecture::host().expect("a host");
    let options = run::options(host, &run::shapes(&model, &pictures[..1]).expect("an input"));
    let numbers = CompileOptions { integers: false, ..options.clone() };
    let (graph, _) = prepare(&model, &numbers, &mut |_| {}).expect("a model");
    let samples =
        Samples { ports: ports(&graph), runs: pictures.iter().map(|picture| vec![picture.clone()]).collect() };
    let calibration = Calibration { samples: &samples, options: &options, threads: 2 };
    let mut pruned = prune(&graph, &Recipe::of(0.3), Some(calibration), &mut |_| {}).expect("a smaller graph");
    refit(&graph, &mut pruned, calibration, &mut |_| {}).expect("fitted weights");
    round_again(&mut pruned, &options).expect("integers");
    assert!(pruned.macs[1] <= 0.7 * pruned.macs[0]);
    let compiled = compile_prepared(pruned.graph, &options, &mut |_| {}).expect("the network compiles");
    let of_integers = |id: &edgecc_ir::NodeId| {
        let graph = &compiled.graph;
        graph.op(*id).epilogue().is_none() || graph.ty(graph.operands(*id)[0]).dtype == DType::I8
    };
    assert!(compiled.graph.order().iter().all(of_integers), "{}", compiled.graph.to_text());
    let artifact = compiled.to_bytes().expect("an artifact");
    let score = |picture: &Array| {
        let output = run::run_here(&artifact, std::slice::from_ref(picture), 1).swap_remove(0);
        let tensor = eval::run(&compiled.graph, &[to_tensor(picture).expect("a tensor")]).expect("scores").remove(0);
        assert_eq!(output, tensor.bytes().to_vec());
        output[1] as i8 as i64 - output[0] as i8 as i64
    };
    let [person, none] = [score(&pictures[0]), score(&pictures[1])];
    say(&format!("a person {person}, none {none}"));
    assert!(person > none);
}
