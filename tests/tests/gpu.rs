//! Graphs and models as compute shaders, on whatever adapter there is: Mesa's lavapipe where nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use edgecc::both::CompiledForBoth;
use edgecc::compile::CompileOptions;
use edgecc::shaders::CompiledShaders;
use edgecc_backends::contraction::Element;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::program::{KernelSource, Operand};
use edgecc_backends::schedule::gpu::GpuClass;
use edgecc_device::agreement::Bound;
use edgecc_device::tensor_file::Array;
use edgecc_format::ElementType;
use edgecc_ir::{DType, Graph, Tensor, eval};
use edgecc_passes::precision::Precision;
use edgecc_runtime::gpu::{AnySession, Fastest, Gpu, GpuError, GpuOptions, ShaderModel, fastest};
use edgecc_tests::conformance::{On, check, index};
use edgecc_tests::graphs::{Way, cases};
use edgecc_tests::kernels::random_kernel;
use edgecc_tests::models::{LEAST_COSINE_OF_HALVES, MODELS, QUANTIZED, Row};
use edgecc_tests::networks::{Activation, Network, layers};
use edgecc_tests::report::{say, skipped};
use edgecc_tests::rewritten::rewritten;
use edgecc_tests::winograd::CASES;
use edgecc_tests::{gpu, light, numbers, python, reference, run, sample};

/// Kernels that are drawn.
const KERNELS: u64 = 60;

/// Models whose pipelines a software adapter makes in seconds. `EDGECC_GPU_MODELS=all` takes the others too, any other value
/// those whose names it is a part of.
const QUICK: [&str; 8] = [
    "mnist_cntk",
    "mnist_burn",
    "squeezenet_fp16",
    "super_resolution_10",
    "ultraface_rfb320",
    "mlperftiny_kws_dscnn_fp32",
    "dtln_2",
    "magika_v3_3",
];

/// The rows that run.
fn chosen() -> impl Iterator<Item = &'static Row> {
    let chosen = std::env::var("EDGECC_GPU_MODELS").ok();
    MODELS.iter().filter(move |row| match chosen.as_deref() {
        None => QUICK.contains(&row.name),
        Some("all") => true,
        Some(part) => row.name.contains(part),
    })
}

/// The outputs of a model on this machine's processor.
fn on_processor(model: &Path, inputs: &[Array]) -> Vec<Vec<u8>> {
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(model, host, inputs).expect("compiles");
    run::run_here(&compiled.to_bytes().expect("an artifact"), inputs, 1)
}

/// Compiles and runs one model, prints its row, and tells whether its outputs keep to the bound.
fn agrees(device: &Gpu, folder: &Path, row: &Row) -> bool {
    let name = format!("{}{}", row.name, row.variant);
    let expected = reference::read(&row.reference(folder));
    let compiled = match gpu::compile_for(&row.model(folder), &expected.inputs) {
        Ok(compiled) => compiled,
        Err(error) => {
            say(&format!("{name:<44} {error}"));
            return false;
        }
    };
    let artifact = compiled.to_bytes().expect("an artifact");
    let inputs: Vec<&[u8]> = expected.inputs.iter().map(|input: &Array| input.bytes.as_slice()).collect();
    let start = Instant::now();
    let outputs = gpu::run_on(device, &artifact, &inputs);
    let seconds = start.elapsed().as_secs_f64();
    let agreement = |outputs: &[Vec<u8>]| {
        let pairs = outputs.iter().zip(&expected.outputs);
        let each = pairs.map(|(actual, reference)| run::agree(actual, reference, row.channel, row.bound()));
        each.max_by(|a, b| a.share_of_bound.total_cmp(&b.share_of_bound)).expect("an output")
    };
    let worst = agreement(&outputs);
    let processor = agreement(&on_processor(&row.model(folder), &expected.inputs));
    say(&format!(
        "{name:<44} {:>10} {:>7} {:>10} {:>9.2e} {:>8.1}% {:>8.1}% {:>9.6} {seconds:>7.2} s",
        compiled.shaders.dispatches.len(),
        compiled.shaders.modules.len(),
        compiled.plan.arena_bytes,
        worst.max_absolute,
        worst.share_of_bound * 100.0,
        processor.share_of_bound * 100.0,
        worst.cosine
    ));
    worst.share_of_bound <= 1.0 && outputs.len() == expected.outputs.len()
}

/// The most by which an element may differ, as a part of 1 plus its size. Drivers have 3 units in the last place and more for
/// exponentials, and half of a half's last bit more where values are halves.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F16 { 2e-3 } else { 2e-5 }
}

/// The same where values between are halves: rounding to 11 bits of inputs, weights and results, over some layers.
const TOLERANCE_IN_HALVES: f64 = 1e-2;

/// The same where convolutions may go by Winograd's algorithm.
const TOLERANCE_OF_LARGE_TILES: f64 = 1e-4;

/// How a graph's outputs differ from the evaluator's, if they do.
fn differs(device: &Gpu, graph: &Graph) -> Option<String> {
    differs_in(device, graph, Precision::F32, tolerance)
}

fn differs_in(device: &Gpu, graph: &Graph, precision: Precision, tolerance: fn(DType) -> f64) -> Option<String> {
    let inputs = numbers::inputs(graph);
    let expected = eval::run(graph, &inputs).expect("values");
    let outputs = match gpu::compiled_in(graph, precision) {
        Ok(compiled) => gpu::outputs(device, &compiled, &inputs, &expected),
        Err(error) => return Some(error),
    };
    expected
        .iter()
        .zip(&outputs)
        .find_map(|(expected, actual)| difference(expected, actual, tolerance(expected.dtype())))
}

fn difference(expected: &Tensor, actual: &Tensor, tolerance: f64) -> Option<String> {
    let numbers = |tensor: &Tensor| tensor.scalars().map(|value| value.as_f64()).collect::<Vec<f64>>();
    let pairs = numbers(expected).into_iter().zip(numbers(actual)).enumerate();
    let close = |expected: f64, actual: f64| {
        expected == actual
            || expected.is_nan() && actual.is_nan()
            || (expected - actual).abs() <= tolerance * (1.0 + expected.abs())
    };
    let mut wrong = pairs.filter(|&(_, (expected, actual))| !close(expected, actual));
    let (place, (wanted, got)) = wrong.next()?;
    Some(format!("element {place} is {got} instead of {wanted}, and {} more", wrong.count()))
}

#[test]
fn graphs_compute_what_the_evaluator_does() {
    let Some(device) = gpu::device() else { return };
    let differing =
        cases().into_iter().filter_map(|(name, graph)| Some(format!("{name}: {}", differs(device, &graph)?)));
    let differing: Vec<String> = differing.collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn layers_of_networks_compute_what_the_evaluator_does() {
    let Some(device) = gpu::device() else { return };
    for (graph, _) in layers() {
        assert_eq!(differs(device, &graph), None, "{}", graph.name());
    }
}

/// Dispatches of a graph, all of whose shaders are proved to stay within their operands.
fn dispatches_of(graph: &Graph) -> usize {
    let shaders = gpu::compiled(graph).expect("compiles").shaders;
    let unproved: Vec<_> = shaders.modules.iter().filter_map(|module| module.unproved.as_ref()).collect();
    assert!(unproved.is_empty(), "{}: {unproved:?}", graph.to_text());
    shaders.dispatches.len()
}

/// The first convolution normalises pictures of bytes and reads them where they lie; another dispatch lays out the result.
#[test]
fn pictures_of_bytes_are_normalised_by_the_first_convolution() {
    let Some(device) = gpu::device() else { return };
    for (extents, channels, kernel) in [([1, 3, 15, 18], 8, 3), ([2, 1, 9, 11], 6, 5), ([1, 2, 8, 8], 12, 1)] {
        let mut network = Network::of_pictures("picture", &extents);
        network.conv(channels, kernel, 2, 1, Activation::Relu6);
        let graph = network.finish();
        assert_eq!(dispatches_of(&graph), 2, "{extents:?}");
        assert_eq!(differs(device, &graph), None, "{extents:?}");
    }
}

/// Layout, convolution within channels with their means, two small convolutions, one that multiplies what it reads by gates, layout.
#[test]
fn squeeze_and_excite_takes_no_dispatches_beyond_its_convolutions() {
    let Some(device) = gpu::device() else { return };
    for (extents, stride) in [([2, 6, 7, 9], 1), ([1, 16, 57, 56], 2), ([1, 40, 9, 5], 1), ([3, 72, 14, 14], 2)] {
        let mut network = Network::new("squeezed", &extents);
        network.conv(extents[1], 5, stride, extents[1], Activation::Silu);
        network.squeeze_excite(5);
        network.conv(10, 1, 1, 1, Activation::None);
        let graph = network.finish();
        assert_eq!(dispatches_of(&graph), 6, "{extents:?}");
        assert_eq!(differs(device, &graph), None, "{extents:?}");
        let difference = differs_in(device, &graph, Precision::F16, |_| TOLERANCE_IN_HALVES);
        assert_eq!(difference, None, "{extents:?} in halves");
    }
}

/// A convolution of few channels computes what it sums by the depthwise convolution in front of it, between dispatches of layouts.
#[test]
fn thin_convolutions_compute_the_depthwise_convolution_that_they_read() {
    let Some(device) = gpu::device() else { return };
    let cases = [([1, 32, 56, 58], 3, 1, 16), ([2, 16, 57, 60], 5, 1, 10), ([1, 8, 113, 111], 3, 2, 24)];
    for (extents, kernel, stride, channels) in cases {
        let mut network = Network::new("thin", &extents);
        network.conv(extents[1], kernel, stride, extents[1], Activation::Relu6);
        network.conv(channels, 1, 1, 1, Activation::Silu);
        let graph = network.finish();
        assert_eq!(dispatches_of(&graph), 3, "{extents:?}");
        assert_eq!(differs(device, &graph), None, "{extents:?}");
        let difference = differs_in(device, &graph, Precision::F16, |_| TOLERANCE_IN_HALVES);
        assert_eq!(difference, None, "{extents:?} in halves");
    }
}

/// A convolution of integers whose image is quantised, and padded by a zero point that is not 0.
fn padded_integers(extents: [usize; 4], channels: usize, kernel: usize, groups: usize, stride: usize) -> Graph {
    let [images, depth, height, width] = extents;
    let (padded, filters) = ([height + 3, width + 2], channels * (depth / groups) * kernel * kernel);
    let mut state = 7u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{:02x}", state >> 24)
    };
    let weights: String = (0..filters).map(|_| byte()).collect();
    let result = padded.map(|extent| (extent - kernel) / stride + 1);
    let text = format!(
        "graph integers(%x: f32[{images}x{depth}x{height}x{width}]) {{
  %0 = map %x expr=i8(round(a0 * 128.0) + 3.0) : i8[{images}x{depth}x{height}x{width}]  ; quantize
  @0 = const i8[] 3  ; zero
  %1 = pad %0, @0 before=[0, 0, 1, 1] after=[0, 0, 2, 1] : i8[{images}x{depth}x{}x{}]  ; pad
  @1 = const i8[{channels}x{}x{kernel}x{kernel}] hex \"{weights}\"  ; weights
  %2 = conv %1, @1 kernel=[{kernel}, {kernel}] strides=[{stride}, {stride}] groups={groups} \
         epilogue=i8(round(f32(acc) * 0.0078125)) : i8[{images}x{channels}x{}x{}]  ; conv
  return %2 as y
}}
",
        padded[0],
        padded[1],
        depth / groups,
        result[0],
        result[1]
    );
    Graph::from_text(&text).expect("a graph")
}

/// Taps outside of an image of integers meet the zero point where they are: nothing is padded by a dispatch of its own.
#[test]
fn integers_are_padded_where_they_are_read() {
    let Some(device) = gpu::device() else { return };
    let cases = [
        ([1, 1, 8, 8], 16, 3, 1, 1),
        ([2, 3, 9, 7], 8, 3, 1, 2),
        ([1, 5, 6, 9], 6, 5, 1, 1),
        ([1, 16, 7, 7], 20, 3, 1, 1),
        ([1, 20, 9, 6], 12, 3, 1, 2),
        ([1, 8, 7, 5], 12, 3, 2, 1),
        ([2, 16, 8, 9], 16, 3, 16, 1),
        ([1, 6, 9, 7], 6, 5, 6, 2),
    ];
    for (extents, channels, kernel, groups, stride) in cases {
        let graph = padded_integers(extents, channels, kernel, groups, stride);
        // The convolution and the layout of its result; of more channels the quantisation and the layout of the image.
        let most = if extents[1] < 4 { 2 } else { 4 };
        assert!(dispatches_of(&graph) <= most, "{}", graph.to_text());
        assert_eq!(differs(device, &graph), None, "{}", graph.to_text());
    }
}

/// Quantisation, layout and padding of an image whose channels lie side by side are done by the convolution, behind a transpose too.
#[test]
fn images_with_channels_last_are_padded_where_they_are_read() {
    let Some(device) = gpu::device() else { return };
    let text = "graph transposed(%x: f32[1x5x6x3]) {
  %0 = map %x expr=i8(round(a0 * 128.0) + 3.0) : i8[1x5x6x3]  ; quantize
  @0 = const i8[] 3  ; zero
  %1 = pad %0, @0 before=[0, 0, 1, 0] after=[0, 1, 1, 0] : i8[1x6x8x3]  ; pad
  %2 = transpose %1 perm=[0, 3, 1, 2] : i8[1x3x6x8]  ; channels
  @1 = const i8[4x3x2x2] hex \"\
    0102fc05f607fe11c20310f9050681fa7f01020304fb0607f80910f10213f4150617e81920f12203f4252607d8293031\"  ; weights
  %3 = conv %2, @1 kernel=[2, 2] epilogue=i8(round(f32(acc) * 0.03125)) : i8[1x4x5x7]  ; conv
  return %3 as y
}
";
    let graph = Graph::from_text(text).expect("a graph");
    assert_eq!(dispatches_of(&graph), 2);
    assert_eq!(differs(device, &graph), None);
}

/// By the schedules of kinds of GPUs whose tiles are the largest.
#[test]
fn layers_by_large_tiles_compute_what_the_evaluator_does() {
    let Some(device) = gpu::device() else { return };
    for name in ["software", "powervr"] {
        let class = GpuClass::named(name).expect("a row");
        for (graph, _) in layers() {
            let inputs = numbers::inputs(&graph);
            let expected = eval::run(&graph, &inputs).expect("values");
            let compiled =
                gpu::compiled_with(&graph, |usual| CompileOptions { gpu: class, ..usual }).expect("compiles");
            let outputs = gpu::outputs(device, &compiled, &inputs, &expected);
            for (expected, actual) in expected.iter().zip(&outputs) {
                assert_eq!(difference(expected, actual, TOLERANCE_OF_LARGE_TILES), None, "{} on {name}", graph.name());
            }
        }
    }
}

#[test]
fn layers_in_halves_keep_near_what_the_evaluator_computes() {
    let Some(device) = gpu::device() else { return };
    for (graph, _) in layers() {
        let difference = differs_in(device, &graph, Precision::F16, |_| TOLERANCE_IN_HALVES);
        assert_eq!(difference, None, "{}", graph.name());
    }
}

/// The most by which results of sums in halves differ, of sums over few hundred products.
const TOLERANCE_OF_HALF_SUMS: f64 = 3e-2;

#[test]
fn layers_that_sum_in_halves_keep_near_what_the_evaluator_computes() {
    let Some(device) = gpu::device() else { return };
    for (graph, _) in layers() {
        let options = |usual| CompileOptions { precision: Precision::F16, half_sums: true, ..usual };
        let compiled = gpu::compiled_with(&graph, options).expect("compiles");
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        let outputs = gpu::outputs(device, &compiled, &inputs, &expected);
        for (expected, actual) in expected.iter().zip(&outputs) {
            assert_eq!(difference(expected, actual, TOLERANCE_OF_HALF_SUMS), None, "{}", graph.name());
        }
        for module in compiled.in_halves.iter().flat_map(|shaders| &shaders.modules) {
            assert_eq!(module.unproved, None, "{}", module.name);
        }
    }
}

/// Few and long rows, and a vector times a matrix: groups do each row and each sum together.
#[test]
fn groups_compute_long_rows_together() {
    let Some(device) = gpu::device() else { return };
    let rows = "graph rows(%x: f32[3x1000], %y: f32[2x5x300]) {
  %0 = softmax %x axis=1 : f32[3x1000]  ; softmax
  %1 = log_softmax %x axis=1 : f32[3x1000]  ; log
  %2 = normalize %x axes=[1] epsilon=1e-5 : f32[3x1000]  ; normalize
  %3 = reduce_mean %x axes=[1] : f32[3x1]  ; mean
  %4 = reduce_max %y axes=[2] : f32[2x5x1]  ; max
  return %0 as a, %1 as b, %2 as c, %3 as d, %4 as e
}
";
    let mut vector = Network::new("vector", &[1, 516]);
    vector.dense(42, Activation::Silu);
    for graph in [Graph::from_text(rows).expect("a graph"), vector.finish()] {
        let compiled = gpu::compiled(&graph).expect("compiles");
        let alone = compiled.shaders.modules.iter().filter(|module| !module.text.contains("var<workgroup>"));
        assert_eq!(
            alone.map(|module| module.name.as_str()).collect::<Vec<_>>(),
            Vec::<&str>::new(),
            "{}",
            graph.name()
        );
        assert_eq!(differs(device, &graph), None, "{}", graph.name());
        let difference = differs_in(device, &graph, Precision::F16, |_| TOLERANCE_IN_HALVES);
        assert_eq!(difference, None, "{} in halves", graph.name());
    }
}

/// The most by which a result of Winograd's algorithm may differ, as a part of the largest: of singles, of halves.
const BOUND_OF_WINOGRAD: [f64; 2] = [1e-5, 2e-2];

/// Its weights are transformed by a step of each inference, or, where the artifact may grow, at compile time.
#[test]
fn winograds_convolution_differs_little_from_direct_sums() {
    let Some(device) = gpu::device() else { return };
    let software = GpuClass::named("software").expect("a row");
    let mut steps = BTreeSet::new();
    for case in &CASES {
        let graph = case.graph();
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for (precision, allow_size) in [(Precision::F32, false), (Precision::F32, true), (Precision::F16, false)] {
            let options = |usual| CompileOptions { gpu: software, precision, allow_size, ..usual };
            let compiled = gpu::compiled_with(&graph, options).expect("compiles");
            let outputs = gpu::outputs(device, &compiled, &inputs, &expected);
            let numbers = |tensor: &Tensor| tensor.scalars().map(|value| value.as_f64()).collect::<Vec<f64>>();
            let bound = BOUND_OF_WINOGRAD[usize::from(precision == Precision::F16)];
            let differs = edgecc_tests::graphs::difference(&expected[0], &numbers(&outputs[0]));
            assert!(differs <= bound, "{differs} of {precision:?}, may grow: {allow_size}, {}", graph.to_text());
            steps.extend(compiled.program.kernels.iter().map(|kernel| match kernel {
                KernelSource::WinogradInput(spec) => (spec.tiling.axes.map(|axis| axis.points), allow_size),
                _ => ([1, 1], allow_size),
            }));
        }
    }
    assert!(steps.contains(&([6, 6], false)) && steps.contains(&([6, 6], true)), "{steps:?}");
}

/// Quantised models, as other tools made them, give the bytes that machine code gives, which are the evaluator's; but for a step
/// behind functions that are approximate.
#[test]
fn quantised_models_compute_what_machine_code_does() {
    let (Some(folder), Some(device)) = (reference::shared("models"), gpu::device()) else { return };
    for row in QUANTIZED.iter().filter(|row| row.name.starts_with("mlperftiny")) {
        let inputs = reference::read(&row.reference(&folder)).inputs;
        let compiled = gpu::compile_for(&row.model(&folder), &inputs).expect("compiles");
        let sums = compiled.program.kernels.iter().filter(|kernel| sums_integers(kernel)).count();
        let bytes: Vec<&[u8]> = inputs.iter().map(|input| input.bytes.as_slice()).collect();
        let outputs = gpu::run_on(device, &compiled.to_bytes().expect("an artifact"), &bytes);
        let host = Architecture::host().expect("a host that code is emitted for");
        let processors = run::compile_for(&row.model(&folder), host, &inputs).expect("compiles");
        let expected = run::run_here(&processors.to_bytes().expect("an artifact"), &inputs, 1);
        let pairs = outputs.concat().into_iter().zip(expected.concat());
        let steps = pairs.map(|(actual, expected)| (actual as i8).abs_diff(expected as i8)).max();
        say(&format!("{:<44} {sums} kernels sum integers, outputs {steps:?} steps apart", row.title()));
        assert!(sums > 0 && steps.is_some_and(|steps| steps <= 1), "{}", row.title());
    }
}

fn sums_integers(kernel: &KernelSource) -> bool {
    match kernel {
        KernelSource::Contraction(spec, _) => spec.element == Element::I8,
        KernelSource::Depthwise(spec, _) => spec.element == Element::I8,
        _ => false,
    }
}

/// A convolution with padding and an activation.
fn convolution() -> Graph {
    let mut network = Network::new("convolution", &[1, 4, 6, 6]);
    network.conv(8, 3, 1, 1, Activation::Relu6);
    network.finish()
}

#[test]
fn shaders_of_a_convolution_and_a_product_are_as_the_snapshot_shows() {
    let mut product = Network::new("product", &[3, 5]);
    product.dense(6, Activation::Silu);
    let texts = [convolution(), product.finish()].map(|graph| {
        let compiled = gpu::compiled(&graph).expect("compiles");
        let dispatch = |dispatch: &edgecc_backends::gpu::Dispatch| {
            let module = &compiled.shaders.modules[dispatch.module];
            format!("// {}, groups {:?}\n{}", module.name, dispatch.groups, module.text)
        };
        compiled.shaders.dispatches.iter().map(dispatch).collect::<String>()
    });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("wgsl"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("two_kernels", texts.concat()));
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let bytes = || gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_lost_device_is_an_error() {
    if gpu::device().is_none() {
        return;
    }
    let gpu = Gpu::open(&GpuOptions::default()).expect("the adapter of the other tests");
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let model = ShaderModel::from_bytes(&artifact).expect("a model");
    let mut session = model.session(&gpu).expect("a session");
    session.run().expect("a run");
    gpu.close();
    assert!(matches!(session.run(), Err(GpuError::Lost { .. })), "a run after the loss");
    assert!(matches!(model.session(&gpu), Err(GpuError::Lost { .. })), "a session after the loss");
}

/// How often the device is lost.
const LOSSES: usize = 100;

#[test]
fn a_device_that_is_lost_is_opened_anew_for_the_run() {
    if gpu::device().is_none() {
        return;
    }
    let gpu =
        Gpu::open(&GpuOptions { adapter: std::env::var("EDGECC_ADAPTER").ok(), cache: None }).expect("an adapter");
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let model = ShaderModel::from_bytes(&artifact).expect("a model");
    let (mut session, mut other) = (model.session(&gpu).expect("a session"), model.session(&gpu).expect("another"));
    session.input_mut(0).fill(0x3f);
    other.input_mut(0).fill(0x3f);
    session.run().expect("a run");
    let expected = session.output(0).to_vec();
    for losses in 1..=LOSSES {
        gpu.lose();
        session.run().expect("a run behind the loss");
        assert_eq!((session.output(0), session.losses()), (expected.as_slice(), losses));
    }
    other.run().expect("a run of another session");
    assert_eq!((other.output(0), other.losses()), (expected.as_slice(), 1));
}

/// The device goes while a run is under way, sooner or later in it.
#[test]
fn a_device_that_is_lost_in_the_middle_of_a_run_is_opened_anew_for_it() {
    if gpu::device().is_none() {
        return;
    }
    let gpu =
        Gpu::open(&GpuOptions { adapter: std::env::var("EDGECC_ADAPTER").ok(), cache: None }).expect("an adapter");
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let mut session = ShaderModel::from_bytes(&artifact).expect("a model").session(&gpu).expect("a session");
    session.input_mut(0).fill(0x3f);
    session.run().expect("a run");
    let expected = session.output(0).to_vec();
    let mut met = 0;
    for loss in 0..LOSSES as u64 {
        let before = session.losses();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(loss * 5));
                gpu.lose();
            });
            session.run().expect("a run with a loss in it");
        });
        assert_eq!(session.output(0), expected, "loss {loss}");
        met += session.losses() - before;
        session.run().expect("a run behind a loss");
        assert_eq!((session.output(0), session.losses()), (expected.as_slice(), before + 1), "loss {loss}");
    }
    say(&format!("{met} of {LOSSES} losses were met by a run"));
}

/// Of two runs at once on one device each gets its own outputs; one that is given up leaves the session fit for the next.
#[test]
fn runs_that_are_polled_give_what_runs_that_are_waited_for_do() {
    let Some(device) = gpu::device() else { return };
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let model = ShaderModel::from_bytes(&artifact).expect("a model");
    let mut sessions = [0x3f, 0x40].map(|byte| {
        let mut session = model.session(device).expect("a session");
        session.input_mut(0).fill(byte);
        session
    });
    let expected = sessions.each_mut().map(|session| {
        session.run().expect("a run");
        session.output(0).to_vec()
    });
    assert_ne!(expected[0], expected[1]);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        drop(sessions[0].run_async());
        let mut given_up = pin!(sessions[1].run_async());
        let _ = given_up.as_mut().poll(&mut context);
    }
    let [one, other] = &mut sessions;
    let mut runs = [one, other].map(|session| Box::pin(session.run_async()));
    let started = Instant::now();
    let mut done = [false; 2];
    while done != [true; 2] {
        for (run, done) in runs.iter_mut().zip(&mut done).filter(|(_, done)| !**done) {
            *done = run.as_mut().poll(&mut context).map(|result| result.expect("a run")).is_ready();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{done:?}");
    }
    drop(runs);
    assert_eq!(sessions.each_ref().map(|session| session.output(0).to_vec()), expected);
}

#[test]
fn what_an_adapter_lacks_is_an_error_that_names_it() {
    let Some(device) = gpu::device() else { return };
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let refused = |change: &dyn Fn(&mut edgecc_format::Program)| {
        let changed = rewritten(&artifact, |manifest, _| change(&mut manifest.programs[0]));
        ShaderModel::from_bytes(&changed).expect("a model").session(device).expect_err("refused").to_string()
    };
    let adapter = device.adapter();
    let feature = refused(&|program| program.required_features.push("no-such-feature".into()));
    assert_eq!(feature, format!("adapter {adapter} does not have no-such-feature, which the model needs"));
    let large = refused(&|program| program.arena_bytes = 1 << 50);
    assert!(large.starts_with(&format!("adapter {adapter} has maxBufferSize of ")), "{large}");
    assert!(large.ends_with(", the model needs 1125899906842624"), "{large}");
}

#[test]
fn a_shader_that_the_driver_refuses_is_named() {
    let Some(device) = gpu::device() else { return };
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let changed = rewritten(&artifact, |_, code| code[..3].copy_from_slice(b"bad"));
    let model = ShaderModel::from_bytes(&changed).expect("a model");
    let error = model.session(device).expect_err("refused");
    assert!(matches!(&error, GpuError::Shader { shader, .. } if shader == "relayout_0"), "{error}");
}

#[test]
fn damaged_artifacts_of_shaders_are_refused() {
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    for n in 0..artifact.len() * 8 / 101 {
        let mut damaged = artifact.clone();
        damaged[n * 101 / 8] ^= 1 << (n * 101 % 8);
        // What lies between sections is nobody's.
        assert!(ShaderModel::from_bytes(&damaged).is_err() || is_padding(&artifact, n * 101 / 8), "bit {}", n * 101);
    }
    for end in (0..artifact.len()).step_by(67) {
        assert!(ShaderModel::from_bytes(&artifact[..end]).is_err(), "{end} bytes");
    }
}

/// Whether a byte of an artifact lies in no section.
fn is_padding(artifact: &[u8], at: usize) -> bool {
    let view = edgecc_format::read(artifact).expect("an artifact");
    let sections = [view.code, view.weights].map(|section| section.as_ptr_range());
    let place = artifact[at..].as_ptr();
    at > edgecc_format::HEADER_BYTES && artifact[at] == 0 && !sections.iter().any(|section| section.contains(&place))
}

#[test]
fn what_the_driver_made_of_shaders_is_kept_and_damage_to_it_is_found() {
    if gpu::device().is_none() {
        return;
    }
    let folder = python::generated("shader-cache");
    std::fs::remove_dir_all(&folder).expect("an empty folder");
    let options = GpuOptions { adapter: std::env::var("EDGECC_ADAPTER").ok(), cache: Some(folder.clone()) };
    let artifact = gpu::compiled(&convolution()).expect("compiles").to_bytes().expect("an artifact");
    let answer = || {
        let gpu = Gpu::open(&options).expect("an adapter");
        gpu::run_on(&gpu, &artifact, &[&[0x3f; 4 * 4 * 36]])
    };
    let expected = answer();
    let Some(file) = std::fs::read_dir(&folder).ok().and_then(|mut files| files.next()) else {
        return say("this adapter keeps nothing of shaders");
    };
    let path = file.expect("a file").path();
    let kept = std::fs::read(&path).expect("a cache");
    assert_eq!(answer(), expected, "with the cache");
    let mut damaged = kept.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    std::fs::write(&path, &damaged).expect("a damaged cache");
    assert_eq!(answer(), expected, "with a damaged cache");
    assert_eq!(std::fs::read(&path).expect("a cache").len(), kept.len(), "the damaged cache is replaced");
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_names_those_that_are() {
    let Some(device) = gpu::device() else { return };
    let error =
        Gpu::open(&GpuOptions { adapter: Some("no such adapter".into()), cache: None }).expect_err("no adapter");
    assert!(error.to_string().contains(device.adapter()), "{error}");
}

#[test]
fn an_artifact_of_machine_code_has_no_shaders() {
    let artifact = edgecc_tests::graphs::artifact(&convolution(), Architecture::Aarch64, Way::USUAL);
    let error = ShaderModel::from_bytes(&artifact).expect_err("machine code");
    assert!(error.to_string().contains("programs for aarch64, none of shaders"), "{error}");
}

#[test]
fn the_sample_answers_as_on_the_processor() {
    let Some(device) = gpu::device() else { return };
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits.onnx");
    let input = sample::first_image();
    let expected = on_processor(&model, std::slice::from_ref(&input));
    let artifact = gpu::compile_for(&model, std::slice::from_ref(&input)).expect("compiles").to_bytes();
    let outputs = gpu::run_on(device, &artifact.expect("an artifact"), &[&input.bytes]);
    for (expected, actual) in expected.iter().zip(&outputs) {
        let extents = vec![expected.len() / 4];
        let expected = Array { element_type: ElementType::F32, extents, bytes: expected.clone() };
        assert!(run::agree(actual, &expected, None, Bound::FLOAT).share_of_bound <= 1.0);
    }
}

#[test]
fn what_shaders_cannot_compute_is_listed_at_once() {
    let text = "graph g(%x: f64[4], %y: i64[4]) {
  %0 = map %x, %x expr=a0 * a1 : f64[4]  ; product
  %1 = map %y, %y expr=a0 * a1 : i64[4]  ; square
  return %0 as p, %1 as q
}
";
    let graph = Graph::from_text(text).expect("a graph");
    let error = gpu::compiled(&graph).map(|_| ()).expect_err("refused");
    assert!(error.contains("product: map on f64 in shaders"), "{error}");
    assert!(error.contains("square: map on i64 that are no positions in shaders"), "{error}");
}

#[test]
fn random_kernels_compute_what_the_evaluator_does() {
    let Some(device) = gpu::device() else { return };
    for seed in 0..KERNELS {
        let graph = random_kernel(seed);
        let difference = differs(device, &graph);
        assert!(difference.is_none(), "seed {seed}: {}\n{}", difference.unwrap_or_default(), graph.to_text());
    }
}

/// What the processor's list of tests has too, and what is refused by name: nothing else may fail.
#[test]
#[ignore = "minutes on a software adapter"]
fn node_tests_pass_or_are_refused() {
    let (Some(interpreter), Some(device)) = (python::python(), gpu::device()) else { return };
    let folder = python::generated("conformance");
    python::tool(&interpreter, "conformance.py", &[&folder.to_string_lossy(), "--phone-only"]);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/not_passing.txt");
    let known = std::fs::read_to_string(list).expect("the list");
    let is_known = |name: &str| known.lines().any(|line| line.split(':').next() == Some(name));
    let (mut passed, mut refused, mut failed) = (0, 0, Vec::new());
    for case in index(&folder) {
        match check(&folder, &case, On::Gpu(device)) {
            Ok(()) => passed += 1,
            Err(reason) if reason.contains("in shaders") || is_known(&case.name) => refused += 1,
            Err(reason) => failed.push(format!("{}: {reason}", case.name)),
        }
    }
    say(&format!("as shaders {passed} node tests pass, {refused} are refused or fail on the processor too"));
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn models_agree_with_onnxruntime() {
    let (Some(folder), Some(device)) = (reference::shared("models"), gpu::device()) else { return };
    say(&format!(
        "{:<44} {:>10} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "model", "dispatches", "shaders", "arena", "max abs", "of bound", "on cpu", "cosine", "first run"
    ));
    let failed: Vec<&Row> = chosen().filter(|row| !agrees(device, &folder, row)).collect();
    assert!(failed.is_empty(), "out of bounds or not compiled: {failed:?}");
}

/// One artifact for processors and GPUs answers alike on both, and holds the weights that both read once.
#[test]
fn an_artifact_for_both_answers_alike_and_holds_weights_once() {
    let Some(device) = gpu::device() else { return };
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample/digits.onnx");
    let input = sample::first_image();
    let inputs = std::slice::from_ref(&input);
    let host = Architecture::host().expect("a host that code is emitted for");
    let processors = run::compile_for(&model, host, inputs).expect("compiles");
    let alone = processors.to_bytes().expect("an artifact");
    let shaders = gpu::compile_beside(&model, inputs, &processors.best.packings).expect("compiles");
    let both = CompiledForBoth { processors, shaders }.to_bytes().expect("an artifact");
    let expected = run::run_here(&alone, inputs, 1);
    assert_eq!(run::run_here(&both, inputs, 1), expected, "machine code of the artifact for both");
    let outputs = gpu::run_on(device, &both, &[&input.bytes]);
    let expected = Array { element_type: ElementType::F32, extents: vec![10], bytes: expected[0].clone() };
    assert!(run::agree(&outputs[0], &expected, None, Bound::FLOAT).share_of_bound <= 1.0);
    let weights = |artifact: &[u8]| edgecc_format::read(artifact).expect("an artifact").weights.len();
    let more = weights(&both) as f64 / weights(&alone) as f64;
    say(&format!("weights of the artifact for both: {more:.3} times those for the processor"));
    assert!(more < 1.2, "{more}");
}

#[test]
fn of_both_the_one_that_answers_sooner_is_taken_and_named() {
    let Some(device) = gpu::device() else { return };
    let graph = convolution();
    let host = Architecture::host().expect("a host that code is emitted for");
    let artifact = edgecc_tests::graphs::artifact(&graph, host, Way::USUAL);
    let session = || run::session_here(&artifact);
    let shaders = gpu::compiled(&graph).expect("compiles").to_bytes().expect("an artifact");
    let model = ShaderModel::from_bytes(&shaders).expect("a model");
    let Fastest { session: faster, cpu, gpu } = fastest(session(), model.session(device)).expect("runs");
    let is_gpu = matches!(faster, AnySession::Gpu(_));
    assert_eq!(is_gpu, gpu.expect("a time") < cpu);
    let lost = GpuError::Lost { adapter: "none".into(), reason: "a test".into() };
    let without = fastest(session(), Err(lost)).expect("runs");
    assert!(matches!((without.session, without.gpu), (AnySession::Cpu(_), Err(GpuError::Lost { .. }))));
}

/// Whole models with values and weights in halves, against onnxruntime's single precision.
#[test]
fn models_in_halves_agree_with_onnxruntime() {
    let (Some(folder), Some(device)) = (reference::shared("models"), gpu::device()) else { return };
    let cosine = |row: &Row| {
        let expected = reference::read(&row.reference(&folder));
        let compiled = gpu::compile_in_halves(&row.model(&folder), &expected.inputs).expect("compiles");
        let inputs: Vec<&[u8]> = expected.inputs.iter().map(|input| input.bytes.as_slice()).collect();
        let outputs = gpu::run_on(device, &compiled.to_bytes().expect("an artifact"), &inputs);
        let pairs = outputs.iter().zip(&expected.outputs);
        let worst = pairs.map(|(actual, expected)| run::agree(actual, expected, row.channel, row.bound()).cosine);
        let (worst, moved) = (worst.fold(1.0, f64::min), bytes_moved(&compiled));
        say(&format!("{:<44} in halves: cosine {worst:.6}, {moved} bytes moved", row.name));
        worst
    };
    let failed: Vec<&str> = chosen().filter(|row| cosine(row) < LEAST_COSINE_OF_HALVES).map(|row| row.name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// The least cosine of whole models whose products are summed in halves.
const LEAST_COSINE_OF_HALF_SUMS: f64 = 0.99;

/// Beside sums in single precision, which adapters without numbers of 16 bits take from the same artifact.
#[test]
fn models_that_sum_in_halves_agree_with_onnxruntime() {
    let (Some(folder), Some(device)) = (reference::shared("models"), gpu::device()) else { return };
    say(&format!("{:<44} {:>8} {:>9} {:>9}", "in halves", "program", "cosine", "max abs"));
    let cosine = |row: &Row| {
        let expected = reference::read(&row.reference(&folder));
        let compiled = gpu::compile_with_half_sums(&row.model(&folder), &expected.inputs).expect("compiles");
        let artifact = compiled.to_bytes().expect("an artifact");
        let model = ShaderModel::from_bytes(&artifact).expect("a model");
        let sums = model.session(device).expect("a session").program().expect("a program").required_features.clone();
        let inputs: Vec<&[u8]> = expected.inputs.iter().map(|input| input.bytes.as_slice()).collect();
        let outputs = gpu::run_on(device, &artifact, &inputs);
        let pairs = outputs.iter().zip(&expected.outputs);
        let each = pairs.map(|(actual, expected)| run::agree(actual, expected, row.channel, row.bound()));
        let (cosine, most) =
            each.fold((1.0f64, 0.0f64), |(cosine, most), each| (cosine.min(each.cosine), most.max(each.max_absolute)));
        let program = if sums.is_empty() { "f32" } else { "f16" };
        say(&format!("{:<44} {program:>8} {cosine:>9.6} {most:>9.2e}", row.name));
        cosine
    };
    let failed: Vec<&str> =
        chosen().filter(|row| cosine(row) < LEAST_COSINE_OF_HALF_SUMS).map(|row| row.name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Bytes that steps read and write; of an operand that stands in another's place too, once.
fn bytes_moved(compiled: &CompiledShaders) -> usize {
    let of_step = |operands: &[Operand]| {
        let first = operands.iter().enumerate().filter(|(place, operand)| !operands[..*place].contains(operand));
        first.map(|(_, operand)| operand.length).sum::<usize>()
    };
    compiled.program.steps.iter().map(|step| of_step(&step.operands)).sum()
}

/// Networks of convolutions within channels and between them, whose dispatches beyond convolutions and matrix products are few:
/// models of the shared material, networks of its peers.
const MOBILE: [&str; 2] = ["mlperftiny_vww96_fp32", "mobilenet_v2"];
const PEERS: [&str; 4] = ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"];
const MORE_DISPATCHES: f64 = 0.1;

#[test]
fn dispatches_and_bytes_moved_are_as_the_snapshot_shows() {
    let (Some(folder), Some(peers)) = (reference::shared("models"), reference::shared("peers/models")) else { return };
    let names = QUICK.iter().chain(&MOBILE);
    let models = MODELS.iter().filter(|row| names.clone().any(|name| *name == row.name));
    let of_model = |row: &Row| (row.name, row.model(&folder), reference::read(&row.reference(&folder)).inputs);
    let of_peer = |name: &&'static str| (*name, peers.join(format!("{name}.onnx")), vec![light::image()]);
    let mut table = String::new();
    for (name, model, inputs) in models.map(of_model).chain(PEERS.iter().map(of_peer)) {
        let compiled = gpu::compile_for(&model, &inputs).expect("compiles");
        let sums = compiled.graph.ids().filter(|&id| compiled.graph.op(id).epilogue().is_some()).count();
        let (dispatches, moved) = (compiled.shaders.dispatches.len(), bytes_moved(&compiled));
        table.push_str(&format!(
            "{name:<32} {dispatches:>4} dispatches for {sums:>3} convolutions and products, {moved:>10} bytes, {:.2} times each once\n",
            moved as f64 / gpu::bytes_once(&compiled.graph) as f64
        ));
        if MOBILE.contains(&name) || PEERS.contains(&name) {
            let most = sums as f64 * (1.0 + MORE_DISPATCHES);
            assert!(dispatches as f64 <= most.ceil(), "{name}: {dispatches} dispatches, {sums} sums");
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("wgsl"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("dispatches", table));
}

/// Chromium's SwiftShader, which keeps to WebGPU's least limits.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

#[test]
fn swiftshader_computes_the_same() {
    if std::env::var_os("EDGECC_ADAPTER").is_some() {
        return;
    }
    if !Path::new(SWIFTSHADER).exists() {
        return skipped("SwiftShader: it comes with Chromium (tests/setup/setup.sh installs it)");
    }
    let tests = [
        "graphs_compute",
        "groups_compute",
        "images_",
        "integers_are",
        "layers_",
        "pictures_",
        "random_kernels",
        "squeeze_",
        "the_sample_answers",
        "thin_",
        "an_artifact_for_both",
        "winograds_",
    ];
    let models = std::env::var_os("EDGECC_GPU_MODELS").map(|_| "models_");
    let output = Command::new(std::env::current_exe().expect("a running program"))
        .args(tests.into_iter().chain(models))
        .env("EDGECC_ADAPTER", "SwiftShader")
        .env("VK_ICD_FILENAMES", SWIFTSHADER)
        .output()
        .expect("the tests start");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("shaders run on SwiftShader"), "{said}");
}
