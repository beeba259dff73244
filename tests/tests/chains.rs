//! Chains against the same steps one by one, bit by bit where sums do not depend on tiles, and against the evaluator: here on one
//! to four threads, and on emulated aarch64; by our encoders and by Cranelift alone, in f32 and in halves.

use edgecc::compile::{CompileOptions, compile_graph};
use edgecc_backends::chain::Limits;
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_backends::program::KernelSource;
use edgecc_device::tensor_file::Array;
use edgecc_ir::{DType, Graph, Op, Origin, Shape, Tensor, TensorType, eval};
use edgecc_passes::precision::Precision;
use edgecc_tests::graphs::{Way, array, artifact, outputs_emulated};
use edgecc_tests::networks::{Activation, Network};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers, run};

/// The most by which an element may differ from the evaluator's, as a part of 1 plus its size.
const TOLERANCE: f64 = 1e-5;
const HALVES_TOLERANCE: f64 = 2e-2;

const CHAINED: [Limits; 2] = [Limits::ALWAYS, Limits::SHORTEST_TURNS];

struct Bottleneck {
    images: usize,
    extents: [usize; 2],
    channels: [usize; 3],
    /// Size and stride of the depthwise kernel.
    kernel: [usize; 2],
    residual: bool,
    activation: Activation,
}

const PLAIN: Bottleneck = Bottleneck {
    images: 1,
    extents: [24, 24],
    channels: [16, 96, 24],
    kernel: [3, 1],
    residual: false,
    activation: Activation::Relu6,
};

/// A convolution that widens, one within channels, one that narrows.
fn bottleneck(case: &Bottleneck) -> Graph {
    let ([height, width], [input, wide, output], [kernel, stride]) = (case.extents, case.channels, case.kernel);
    let mut network = Network::new("bottleneck", &[case.images, input, height, width]);
    // An input of its own is dense row-major: this one lies in the arena with its channels together.
    network.conv(input, 1, 1, 1, Activation::None);
    let entry = network.value();
    network.conv(wide, 1, 1, 1, case.activation);
    network.conv(wide, kernel, stride, wide, case.activation);
    network.conv(output, 1, 1, 1, Activation::None);
    if case.residual {
        network.add_value(entry);
    }
    network.finish()
}

/// A convolution of every third row and column, one within channels, one that narrows.
fn stem() -> Graph {
    let mut network = Network::new("stem", &[2, 3, 41, 39]);
    network.conv(16, 3, 2, 1, Activation::Relu6);
    network.conv(16, 3, 1, 16, Activation::Relu6);
    network.conv(8, 1, 1, 1, Activation::None);
    network.finish()
}

/// What widens and works within channels, before taps that are read from the arena.
fn two_stages() -> Graph {
    let mut network = Network::new("two", &[1, 12, 20, 20]);
    network.conv(72, 1, 1, 1, Activation::Silu);
    network.conv(72, 5, 1, 72, Activation::Relu);
    network.conv(12, 3, 1, 1, Activation::None);
    network.finish()
}

/// Deep taps that widen: tiles at the border cut their sums of halves elsewhere than others. Odd channels are none for Winograd's
/// algorithm.
fn deep_taps() -> Graph {
    let mut network = Network::new("deep taps", &[1, 45, 15, 22]);
    network.conv(45, 1, 1, 1, Activation::None);
    network.conv(96, 3, 1, 1, Activation::Relu6);
    network.conv(96, 3, 1, 96, Activation::Relu6);
    network.conv(16, 1, 1, 1, Activation::None);
    network.finish()
}

/// `softmax(q k^T) v` of so many images, heads, positions and channels.
fn attention(extents: &[usize; 4]) -> Graph {
    let mut graph = Graph::new("attention");
    let input = |graph: &mut Graph, name: &str, extents: &[usize]| {
        graph.input(name, TensorType::new(DType::F32, Shape::new(extents)))
    };
    let [q, k, v] = ["q", "k", "v"].map(|name| input(&mut graph, name, extents));
    let mut add = |op: Op, operands: &[_]| graph.add(op, operands, Origin::named("attention")).expect("they agree");
    let product =
        |transpose_b| Op::MatMul { transpose_a: false, transpose_b, epilogue: Op::plain_epilogue(DType::F32) };
    let scores = add(product(true), &[q, k]);
    let weights = add(Op::Softmax { axis: 3, log: false }, &[scores]);
    let values = add(product(false), &[weights, v]);
    graph.output("y", values);
    graph
}

/// Each graph with the stages of the chains that it becomes.
fn cases() -> Vec<(&'static str, Graph, usize)> {
    let silu = Activation::Silu;
    vec![
        ("plain", bottleneck(&PLAIN), 3),
        ("residual", bottleneck(&Bottleneck { residual: true, channels: [16, 96, 16], ..PLAIN }), 3),
        ("images", bottleneck(&Bottleneck { images: 2, extents: [19, 23], kernel: [3, 2], ..PLAIN }), 3),
        ("stride", bottleneck(&Bottleneck { extents: [33, 28], kernel: [3, 2], activation: silu, ..PLAIN }), 3),
        (
            "wide kernel",
            bottleneck(&Bottleneck { extents: [29, 14], kernel: [5, 1], channels: [24, 60, 20], ..PLAIN }),
            3,
        ),
        ("wide stride", bottleneck(&Bottleneck { images: 2, extents: [22, 31], kernel: [5, 2], ..PLAIN }), 3),
        ("few rows", bottleneck(&Bottleneck { extents: [3, 56], kernel: [5, 1], ..PLAIN }), 3),
        ("odd channels", bottleneck(&Bottleneck { extents: [17, 17], channels: [9, 51, 7], ..PLAIN }), 3),
        ("stem", stem(), 3),
        ("two stages", two_stages(), 2),
        ("deep taps", deep_taps(), 3),
        ("attention", attention(&[2, 3, 75, 16]), 3),
    ]
}

fn stages(graph: &Graph, architecture: Architecture, way: Way) -> Vec<usize> {
    let Way { kernels, allow_size, core, precision, chains } = way;
    let options = CompileOptions { kernels, allow_size, core, precision, chains, ..run::options(architecture, &[]) };
    let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
    let kernels = compiled.best.program.kernels.iter();
    kernels
        .filter_map(|kernel| match kernel {
            KernelSource::Chain(chain) => Some(chain.stages.len()),
            _ => None,
        })
        .collect()
}

fn assert_close(name: &str, way: Way, expected: &Tensor, actual: &[f64]) {
    let tolerance = match way.precision {
        Precision::F32 => TOLERANCE,
        Precision::F16 => HALVES_TOLERANCE,
    };
    for (expected, actual) in expected.scalars().map(|value| value.as_f64()).zip(actual) {
        let bound = tolerance * (1.0 + expected.abs());
        assert!((expected - actual).abs() <= bound, "{name}, {way:?}: {actual} instead of {expected}");
    }
}

/// Whether the order of a sum depends on the rows of its tile: our encoder of x86-64 sums in turns where these are few.
fn sums_by_tile(architecture: Architecture, way: Way) -> bool {
    (architecture, way.kernels, way.precision) == (Architecture::X86_64, Kernels::Encoded, Precision::F32)
}

#[test]
fn chains_compute_here_what_their_steps_do() {
    let host = Architecture::host().expect("a host that code is emitted for");
    for (name, graph, length) in cases() {
        let inputs = numbers::inputs(&graph);
        let arrays: Vec<Array> = inputs.iter().map(array).collect();
        let expected = eval::run(&graph, &inputs).expect("values");
        for way in [Way::USUAL, Way::CLIF, Way::HALVES] {
            let apart = run::run_here(&artifact(&graph, host, Way { chains: None, ..way }), &arrays, 2);
            let numbers_of = |outputs: &[Vec<u8>]| Array { bytes: outputs[0].clone(), ..array(&expected[0]) }.to_f64();
            assert_close(name, way, &expected[0], &numbers_of(&apart));
            for limits in CHAINED {
                let way = Way { chains: Some(limits), ..way };
                assert_eq!(stages(&graph, host, way), [length], "{name}, {way:?}");
                let chained = artifact(&graph, host, way);
                let alone = run::run_here(&chained, &arrays, 1);
                assert_close(name, way, &expected[0], &numbers_of(&alone));
                assert!(alone == apart || sums_by_tile(host, way), "{name}, {way:?}");
                for threads in 2..=4 {
                    assert!(run::run_here(&chained, &arrays, threads) == alone, "{name}, {way:?}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn chains_compute_on_aarch64_what_their_steps_do() {
    let Some(program) = cross::device_program() else { return };
    for (name, graph, length) in cases() {
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        for (way, processors) in [
            (Way::USUAL, &["cortex-a72"][..]),
            (Way::CLIF, &["cortex-a72"]),
            (Way::IN_ORDER, &["cortex-a53"]),
            (Way::HALVES, &["cortex-a72", "max"]),
        ] {
            let apart = outputs_emulated(&program, &graph, &inputs, Way { chains: None, ..way }, processors);
            apart.iter().for_each(|outputs| assert_close(name, way, &expected[0], &outputs[0]));
            let way = Way { chains: Some(Limits::SHORTEST_TURNS), ..way };
            assert_eq!(stages(&graph, Architecture::Aarch64, way), [length], "{name}, {way:?}");
            let chained = outputs_emulated(&program, &graph, &inputs, way, processors);
            assert!(chained == apart, "{name}, {way:?}");
        }
    }
}

/// Bytes of the arena and of a worker's scratch.
fn memory(graph: &Graph, chains: Option<Limits>) -> [usize; 2] {
    let options = CompileOptions { chains, ..run::options(Architecture::Aarch64, &[]) };
    let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
    let scratch = compiled.best.program.steps.iter().map(|step| step.scratch).max().unwrap_or(0);
    [compiled.best.plan.arena_bytes, scratch]
}

#[test]
fn scores_of_attention_are_not_in_the_arena() {
    let (heads, positions, channels) = (4, 256, 32);
    let graph = attention(&[1, heads, positions, channels]);
    let (scores, result) = (heads * positions * positions * 4, heads * positions * channels * 4);
    let [apart, chained] = [None, Some(Limits::USUAL)].map(|chains| memory(&graph, chains));
    say(&format!(
        "attention of {heads} heads, {positions} positions: arena {} bytes, scratch {}; apart {} bytes",
        chained[0], chained[1], apart[0]
    ));
    assert!(apart[0] >= scores, "{apart:?}");
    // Queries, keys, values and the result.
    assert!(chained[0] <= 4 * result + result / 8, "{chained:?}");
    assert!(chained[1] <= scores / 4, "{chained:?}");
}
