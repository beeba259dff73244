//! Networks quantised after training: integers everywhere, the same ones in the evaluator and in compiled code, and a loss
//! that is known.

use std::path::Path;
use std::time::Duration;

use edgecc::calibrate::samples::{Samples, ports};
use edgecc::calibrate::synthetic::synthetic;
use edgecc::compile::{compile_prepared, prepare as prepare_model};
use edgecc::picture::Normalisation;
use edgecc::quantize::{Limit, QuantizeError, QuantizeOptions, Report, quantize};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;
use edgecc_ir::{DType, Graph, NodeId, Shape, Tensor, UnaryOp, eval};
use edgecc_passes::precision::Precision;
use edgecc_passes::{Options, prepare};
use edgecc_tests::graphs::{Way, outputs_emulated};
use edgecc_tests::measured::NETWORKS;
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::processor::processor_time;
use edgecc_tests::reference::shared;
use edgecc_tests::report::say;
use edgecc_tests::sample::digits;
use edgecc_tests::{cross, numbers, run};

/// A stem, two inverted bottlenecks, one with a residual sum, and a head.
fn mobile() -> Graph {
    let mut network = Network::new("mobile", &[1, 3, 32, 32]);
    network.conv(16, 3, 2, 1, Activation::Relu6);
    for _ in 0..2 {
        let entry = network.value();
        network.conv(64, 1, 1, 1, Activation::Relu6);
        network.conv(64, 3, 1, 64, Activation::Silu);
        network.conv(16, 1, 1, 1, Activation::None);
        network.add_value(entry);
    }
    network.max_pool();
    network.conv(24, 1, 1, 1, Activation::Relu);
    ready(network.finish())
}

fn ready(mut graph: Graph) -> Graph {
    prepare(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    graph
}

fn samples(graph: &Graph, count: usize) -> Samples {
    synthetic(graph, &Normalisation::default(), count, 3).expect("samples")
}

fn quantised(graph: &Graph, how: &QuantizeOptions) -> Result<(Graph, Report), QuantizeError> {
    let options = run::options(Architecture::host().expect("a host"), &[]);
    let mut integers = graph.clone();
    let report = quantize(&mut integers, &options, how, &samples(graph, 6), 2, &mut |_| {})?;
    edgecc_passes::integers(&mut integers, &Options::default(), &mut |_, _| {}).expect("sound passes");
    Ok((integers, report))
}

fn contractions(graph: &Graph, dtype: DType) -> usize {
    let is_one = |id: &NodeId| graph.op(*id).epilogue().is_some() && graph.ty(graph.operands(*id)[0]).dtype == dtype;
    graph.order().iter().filter(|id| is_one(id)).count()
}

#[test]
fn every_layer_sums_integers_and_the_answer_stays() {
    let (graph, report) = quantised(&mobile(), &QuantizeOptions::default()).expect("a quantised network");
    assert_eq!(contractions(&graph, DType::F32), 0);
    assert_eq!((report.layers.len(), report.float.len()), (8, 0));
    say(&report.summary());
    assert!(report.outputs[0].cosine > 0.999, "{}", report.outputs[0].cosine);
}

#[test]
fn compiled_code_gives_the_evaluators_integers() {
    let (mut graph, _) = quantised(&mobile(), &QuantizeOptions::default()).expect("a quantised network");
    let host = Architecture::host().expect("a host");
    let options = run::options(host, &[]);
    // The integers in front of the last map.
    let last = graph.outputs()[0].node;
    let extents = graph.ty(last).shape.extents();
    let input = samples(&mobile(), 1).runs[0][0].clone();
    let x = Tensor::dense(DType::F32, Shape::new(&input.extents), input.bytes.clone().into()).expect("a tensor");
    edgecc_passes::finish(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    let expected = eval::run(&graph, &[x]).expect("values")[0].to_f32();
    let compiled = compile_prepared(graph, &options, &mut |_| {}).expect("the network compiles");
    let bytes = run::run_here(&compiled.to_bytes().expect("an artifact"), &[input], 1).swap_remove(0);
    let array = Array { element_type: ElementType::F32, extents, bytes };
    let same = array.to_f64().iter().zip(&expected).filter(|(a, b)| **a as f32 == **b).count();
    // Sigmoids are approximated, and may lie on the other side of a step.
    assert!(same * 1000 >= expected.len() * 995, "{same} of {}", expected.len());
}

#[test]
fn layers_that_are_named_keep_their_numbers() {
    let graph = mobile();
    let layer = graph.order().into_iter().find(|&id| graph.op(id).name() == "conv").expect("a layer");
    let name = graph.node(layer).origin().0.first().expect("a name").to_string();
    let keep = QuantizeOptions { keep: [name].into(), ..QuantizeOptions::default() };
    let (graph, report) = quantised(&graph, &keep).expect("a quantised network");
    assert!(
        contractions(&graph, DType::F32) >= 1 && report.float.iter().all(|layer| layer.reason == "is told to stay")
    );
    let unknown = QuantizeOptions { keep: ["elsewhere".to_string()].into(), ..QuantizeOptions::default() };
    assert!(matches!(quantised(&mobile(), &unknown), Err(QuantizeError::Unknown(name)) if name == "elsewhere"));
}

#[test]
fn measured_ranges_and_corrected_biases_lose_less_than_extremes() {
    let graph = mobile();
    let plain = QuantizeOptions { plain: true, ..QuantizeOptions::default() };
    let [extremes, measured] = [plain, QuantizeOptions::default()]
        .map(|how| quantised(&graph, &how).expect("a quantised network").1.outputs[0].signal_to_noise);
    say(&format!("{extremes:.1} dB by extremes, {measured:.1} dB by measured error and corrected biases"));
    assert!(measured > extremes + 0.5, "{measured} and {extremes}");
}

/// What breaks quantization: channels of unlike ranges, swish with squeeze-and-excite, boxes beside scores.
fn hard() -> Graph {
    let spread = |channels: usize| -> Vec<f32> { (0..channels).map(|n| 3f32.powi((n * 7 % 9) as i32 - 4)).collect() };
    let inverse = |channels: usize| -> Vec<f32> { spread(channels).iter().map(|factor| 1.0 / factor).collect() };
    let mut network = Network::new("hard", &[1, 3, 32, 32]);
    network.conv(32, 3, 2, 1, Activation::None);
    network.scale(&spread(32));
    network.activate(Activation::Relu);
    network.scale(&inverse(32));
    network.conv(32, 3, 1, 32, Activation::None);
    network.scale(&spread(32));
    network.activate(Activation::Relu);
    network.scale(&inverse(32));
    network.conv(48, 1, 1, 1, Activation::None);
    network.scale(&spread(48));
    network.activate(Activation::Silu);
    network.squeeze_excite(12);
    network.scale(&inverse(48));
    network.conv(8, 1, 1, 1, Activation::None);
    network.scale(&[60.0, 60.0, 60.0, 60.0, 1.0, 1.0, 1.0, 1.0]);
    network.part("boxes", 0..4, UnaryOp::Neg);
    network.part("scores", 4..8, UnaryOp::Sigmoid);
    ready(network.finish_parts())
}

#[test]
fn what_collapses_by_extremes_recovers() {
    let graph = hard();
    let plain = QuantizeOptions { plain: true, ..QuantizeOptions::default() };
    let within = QuantizeOptions { max_drop: Some(Limit::Share(5e-4)), ..QuantizeOptions::default() };
    let [extremes, automatic] = [plain, within].map(|how| quantised(&graph, &how).expect("a quantised network").1);
    say(&automatic.to_string());
    let worst =
        |report: &Report| report.outputs.iter().map(|output| output.signal_to_noise).fold(f64::INFINITY, f64::min);
    say(&format!("hard case: {:.1} dB by extremes, {:.1} dB automatically", worst(&extremes), worst(&automatic)));
    assert!(worst(&automatic) > worst(&extremes) + 12.0);
    assert_eq!(automatic.apart.len(), 1);
    assert!(automatic.equalized.len() >= 3 && automatic.float.is_empty() && !automatic.decided.has_tables);
}

#[test]
fn steps_that_are_told_are_taken() {
    let graph = hard();
    let how = |step| QuantizeOptions { equalize: Some(step), fit_rounding: Some(step), ..QuantizeOptions::default() };
    let [without, with] = [false, true].map(|step| quantised(&graph, &how(step)).expect("a quantised network").1);
    assert!(without.equalized.is_empty() && without.steps.len() == 1);
    assert!(with.decided.is_equalized && with.decided.is_fitted && with.steps.len() == 3);
}

#[test]
fn one_sample_is_enough() {
    let graph = mobile();
    let options = run::options(Architecture::host().expect("a host"), &[]);
    let (how, one) = (QuantizeOptions::default(), samples(&graph, 1));
    let report = quantize(&mut graph.clone(), &options, &how, &one, 2, &mut |_| {}).expect("a quantised network");
    assert_eq!((report.samples, report.float.len()), (1, 0));
    assert!(report.outputs[0].cosine > 0.999, "{}", report.outputs[0].cosine);
}

#[test]
fn limits_of_every_kind_are_kept_to_by_giving_layers_back() {
    let graph = mobile();
    let (_, all) = quantised(&graph, &QuantizeOptions::default()).expect("a quantised network");
    let output = &all.outputs[0];
    let limits = [
        Limit::Share(output.drop() / 2.0),
        Limit::Cosine(1.0 - (1.0 - output.cosine) / 3.0),
        Limit::Decibels(output.worst_channel() + 4.0),
    ];
    for limit in limits {
        let how = QuantizeOptions { max_drop: Some(limit), ..QuantizeOptions::default() };
        let (_, some) = quantised(&graph, &how).expect("a quantised network");
        say(&format!("{limit}: {} of {} layers\n{}", some.layers.len(), all.layers.len(), some.summary()));
        assert!(!limit.is_kept_by(&all) && limit.is_kept_by(&some) && !some.layers.is_empty());
    }
}

/// The report of a graph quantised for aarch64.
fn for_phones(graph: &Graph, how: QuantizeOptions) -> Report {
    let options = run::options(Architecture::Aarch64, &[]);
    let how = QuantizeOptions { tell_shares: true, ..how };
    quantize(&mut graph.clone(), &options, &how, &samples(graph, 3), 2, &mut |_| {}).expect("a quantised network")
}

#[test]
fn layers_become_integers_only_where_those_are_faster() {
    // A softmax stays float: what reads its four channels is converted for little arithmetic.
    let mut network = Network::new("island", &[1, 3, 32, 32]);
    network.conv(32, 3, 1, 1, Activation::Relu);
    network.conv(4, 3, 1, 1, Activation::None);
    network.softmax();
    network.conv(4, 1, 1, 1, Activation::None);
    network.softmax();
    let island = ready(network.finish());
    let of = |only_faster| for_phones(&island, QuantizeOptions { only_faster, ..QuantizeOptions::default() });
    let [all, faster] = [of(false), of(true)];
    say(&format!("{all}{faster}"));
    assert!(all.float.is_empty() && !faster.float.is_empty() && !faster.layers.is_empty());
    assert!(faster.float.iter().all(|layer| layer.reason == "is not faster in integers"));
    let [all_cycles, cycles] = [all, faster].map(|report| report.cycles.expect("known cycles")[1]);
    assert!(cycles < all_cycles, "{cycles} and {all_cycles}");
    let integers = for_phones(&mobile(), QuantizeOptions { only_faster: true, ..QuantizeOptions::default() });
    say(&integers.to_string());
    assert!(integers.float.is_empty(), "{integers}");
}

/// Two layers and what is added and gated stay halves.
#[test]
fn integers_stand_beside_halves() {
    let Some(device) = cross::device_program() else { return };
    let keep =
        QuantizeOptions { keep: ["conv#2".to_string(), "conv#6".to_string()].into(), ..QuantizeOptions::default() };
    let (graph, report) = quantised(&mobile(), &keep).expect("a quantised network");
    assert_eq!((report.layers.len(), report.float.len()), (6, 2));
    let inputs = numbers::inputs(&graph);
    let expected = eval::run(&graph, &inputs).expect("values")[0].to_f32();
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs())) as f64;
    let way = Way { precision: Precision::F16, ..Way::USUAL };
    for outputs in outputs_emulated(&device, &graph, &inputs, way, &["cortex-a72", "cortex-a76", "max"]) {
        let away = outputs[0].iter().zip(&expected).map(|(a, &b)| (a - b as f64).abs()).fold(0.0, f64::max);
        say(&format!("integers beside halves: at most {:.4} of the largest element away", away / largest));
        assert!(away <= 0.02 * largest, "{away} of {largest}");
    }
}

/// As two sums of 8 bits each, the same everywhere.
#[test]
fn layers_that_read_16_bits_lose_less() {
    let (_, narrow) = quantised(&mobile(), &QuantizeOptions::default()).expect("a quantised network");
    let wide = QuantizeOptions { wide: narrow.decided.integers.clone(), ..QuantizeOptions::default() };
    let (graph, report) = quantised(&mobile(), &wide).expect("a quantised network");
    assert_eq!((contractions(&graph, DType::I8), contractions(&graph, DType::F32)), (16, 0));
    assert!(report.layers.len() == 8 && report.layers.iter().all(|layer| layer.bits == 16), "{report}");
    let [before, after] = [&narrow, &report].map(|report| report.outputs[0].signal_to_noise);
    say(&format!("{before:.1} dB by 8 bits, {after:.1} dB by 16"));
    assert!(after > before + 6.0, "{before} and {after}");
    let Some(device) = cross::device_program() else { return };
    let inputs = numbers::inputs(&graph);
    let expected = eval::run(&graph, &inputs).expect("values")[0].to_f32();
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs())) as f64;
    for outputs in outputs_emulated(&device, &graph, &inputs, Way::USUAL, &["cortex-a72", "cortex-a76", "max"]) {
        let away = outputs[0].iter().zip(&expected).map(|(a, &b)| (a - b as f64).abs()).fold(0.0, f64::max);
        assert!(away <= 1e-4 * largest, "{away} of {largest}");
    }
}

/// With equalized channels, corrected biases and rounded weights; what is at work is told all the while. Other processes do not count: it
/// is the processors' time, of both.
#[test]
#[ignore = "a minute"]
fn a_large_network_and_a_hundred_samples_take_less_than_three_minutes() {
    let Some(folder) = shared("peers") else { return };
    let options = run::options(Architecture::Aarch64, &[("x".into(), vec![1, 3, 224, 224])]);
    let model = folder.join("models/mobilenet_v2.onnx");
    let (mut graph, _) = prepare_model(&model, &options, &mut |_| {}).expect("a model");
    let samples = samples(&graph, 100);
    let how = QuantizeOptions { only_faster: true, ..QuantizeOptions::default() };
    let spent = |before: Duration| processor_time().map_or(0.0, |now| (now - before).as_secs_f64());
    let (before, mut told) = (processor_time().unwrap_or_default(), Vec::new());
    let mut tell = |work: String| told.push((spent(before), work));
    let report = quantize(&mut graph, &options, &how, &samples, 2, &mut tell).expect("a quantised network");
    let all = spent(before);
    let ends = told.iter().skip(1).map(|(second, _)| *second).chain([all]);
    let longest = told.iter().zip(ends).map(|((start, work), end)| (end - start, work));
    let (silent, work) = longest.max_by(|a, b| a.0.total_cmp(&b.0)).expect("something is told");
    say(&format!("{report}MobileNetV2, 100 samples: {all:.0} s; {} times told, {work} for {silent:.0} s", told.len()));
    assert_eq!(report.steps.len(), 3);
    assert!(all < 180.0);
}

/// Percent of the multiply-adds. EfficientNet's depthwise layers, whose SiLU is a table behind integers, are faster in numbers by the cost model.
const OUTSIDE: [(&str, f64); 4] =
    [("mobilenet_v2", 5.0), ("mobilenet_v3_large", 5.0), ("efficientnet_b0", 5.0), ("resnet50", 5.0)];

/// Of the bench networks, `EDGECC_NETWORK=part of a name` for one of them.
#[test]
#[ignore = "minutes"]
fn little_work_stays_outside_of_integers_and_says_why() {
    let Some(peers) = shared("peers") else { return };
    let only = std::env::var("EDGECC_NETWORK").unwrap_or_default();
    for (name, most) in OUTSIDE.iter().filter(|(name, _)| name.contains(&only)) {
        let network = NETWORKS.iter().find(|network| network.name == *name).expect("a network");
        let Some(files) = network.files(&peers) else { return };
        let input =
            Array { element_type: ElementType::F32, extents: network.shape.to_vec(), bytes: files.input.clone() };
        let shapes = run::shapes(&files.model, std::slice::from_ref(&input)).expect("a model");
        let options = run::options(Architecture::Aarch64, &shapes);
        let (mut graph, _) = prepare_model(&files.model, &options, &mut |_| {}).expect("a model");
        let samples = Samples { ports: ports(&graph), runs: vec![vec![input]] };
        let how = QuantizeOptions { only_faster: true, ..QuantizeOptions::default() };
        let report = quantize(&mut graph, &options, &how, &samples, 2, &mut |_| {}).expect("a quantised network");
        let share = report.float_share * 100.0;
        say(&format!("{}: {share:.2} % of the multiply-adds outside of integers", network.name));
        for layer in &report.float {
            say(&format!("    {} {} ({:.2} M)", layer.origin, layer.reason, layer.macs as f64 / 1e6));
        }
        assert!(
            share <= *most && report.float.iter().all(|layer| !layer.origin.is_empty() && !layer.reason.is_empty())
        );
    }
}

#[test]
fn shares_of_the_loss_are_told() {
    let report = for_phones(&mobile(), QuantizeOptions::default());
    let shares: Vec<f64> = report.layers.iter().filter_map(|layer| layer.share_of_loss).collect();
    assert!(shares.len() == report.layers.len() && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    assert!(report.layers.iter().all(|layer| layer.cycles.is_some_and(|cycles| cycles.iter().all(|&each| each > 0.0))));
}

#[test]
fn constant_inputs_have_a_stated_range_and_those_that_are_not_finite_are_refused() {
    let graph = mobile();
    let options = run::options(Architecture::host().expect("a host"), &[]);
    let mut zeros = samples(&graph, 1);
    zeros.runs[0][0].bytes.fill(0);
    let how = QuantizeOptions::default();
    let report = quantize(&mut graph.clone(), &options, &how, &zeros, 1, &mut |_| {}).expect("a quantised network");
    assert_eq!((report.layers[0].input.low, report.layers[0].input.high), (0.0, 0.0));
    for number in [f32::INFINITY, f32::NAN] {
        let mut others = samples(&graph, 2);
        others.runs[1][0].bytes[..4].copy_from_slice(&number.to_le_bytes());
        let refused = quantize(&mut graph.clone(), &options, &how, &others, 1, &mut |_| {});
        assert!(matches!(refused, Err(QuantizeError::NotFinite { run: 1, .. })));
    }
}

/// Known classes count, and their number is that of the samples.
#[test]
fn what_is_right_is_told_where_classes_are_known() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let (images, labels) = digits();
    let options = run::options(Architecture::host().expect("a host"), &[("image".into(), vec![1, 1, 8, 8])]);
    let (float, _) = prepare_model(&sample.join("digits.onnx"), &options, &mut |_| {}).expect("a model");
    let runs = images[..64].iter().map(|image| vec![image.clone()]).collect();
    let samples = Samples { ports: ports(&float), runs };
    let labels: Vec<usize> = labels[..64].iter().map(|&label| label as usize).collect();
    let how = QuantizeOptions { labels, max_drop: Some(Limit::Share(0.0)), ..QuantizeOptions::default() };
    let report = quantize(&mut float.clone(), &options, &how, &samples, 2, &mut |_| {}).expect("a quantised network");
    say(&report.summary());
    let [before, now] = report.outputs[0].classes.and_then(|classes| classes.right).expect("known classes");
    assert!(before > 0.9 && now >= before);
    let few = QuantizeOptions { labels: vec![0; 3], ..QuantizeOptions::default() };
    let refused = quantize(&mut float.clone(), &options, &few, &samples, 2, &mut |_| {});
    assert!(matches!(refused, Err(QuantizeError::Labels { labels: 3, samples: 64 })));
}

/// Pictures of the sample that a graph names as they are labelled.
fn right(graph: &Graph, images: &[Array], labels: &[f64]) -> usize {
    let options = run::options(Architecture::host().expect("a host"), &[]);
    let compiled = compile_prepared(graph.clone(), &options, &mut |_| {}).expect("the network compiles");
    let artifact = compiled.to_bytes().expect("an artifact");
    let is_right = |(image, label): &(&Array, &f64)| {
        let bytes = run::run_here(&artifact, std::slice::from_ref(*image), 1).swap_remove(0);
        let scores = Array { element_type: ElementType::F32, extents: vec![10], bytes }.to_f64();
        let best = (0..10).fold(0, |best, class| if scores[class] > scores[best] { class } else { best });
        best == **label as usize
    };
    images.iter().zip(labels).filter(is_right).count()
}

/// The first pictures calibrate, all are tested.
#[test]
fn the_sample_loses_no_more_than_one_digit() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let (images, labels) = digits();
    let options = run::options(Architecture::host().expect("a host"), &[("image".into(), vec![1, 1, 8, 8])]);
    let (float, _) = prepare_model(&sample.join("digits.onnx"), &options, &mut |_| {}).expect("a model");
    let mut integers = float.clone();
    let runs = images[..64].iter().map(|image| vec![image.clone()]).collect();
    let report = run::quantized_on(&mut integers, &options, runs).expect("a quantised model");
    assert!(report.float.is_empty());
    let [before, after] = [&float, &integers].map(|graph| right(graph, &images, &labels));
    say(&format!("digits: {before} of {} right in f32, {after} by integers", images.len()));
    assert!(after + 1 >= before);
}
