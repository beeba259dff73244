//! Winograd's convolution against the evaluator, which sums directly: here and on emulated aarch64, by our encoders and by
//! Cranelift alone. Prints the largest difference as a part of the largest result.

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, Shape, Tensor, Window, eval};
use edgecc_tests::graphs::{Way, artifact, outputs_emulated, outputs_here};
use edgecc_tests::report::say;
use edgecc_tests::{cross, numbers};

use edgecc_backends::cpu::isa::Architecture;

/// The most by which a result may differ, as a part of the largest.
const BOUND: f64 = 1e-3;

struct Case {
    images: usize,
    extents: [usize; 2],
    depth: usize,
    channels: usize,
    pads: [usize; 2],
    residual: bool,
}

const fn case(extents: [usize; 2], depth: usize, channels: usize) -> Case {
    Case { images: 1, extents, depth, channels, pads: [1, 1], residual: false }
}

/// Whole tiles, tiles beyond the output on either axis, no tile inside, no padding, several images, a residual sum.
const CASES: [Case; 7] = [
    case([16, 16], 16, 32),
    case([13, 18], 32, 20),
    case([7, 7], 64, 64),
    Case { pads: [0, 0], ..case([14, 11], 24, 36) },
    Case { pads: [2, 2], ..case([9, 9], 32, 32) },
    Case { images: 2, ..case([10, 12], 32, 32) },
    Case { images: 2, residual: true, ..case([14, 14], 32, 32) },
];

fn constant(graph: &mut Graph, extents: &[usize], seed: u64) -> NodeId {
    let count: usize = extents.iter().product();
    let mut state = seed;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / (1u32 << 24) as f32 - 0.5) / 4.0
        })
        .collect();
    let value = Tensor::from_f32(Shape::new(extents), &values);
    graph.add(Op::Constant(value), &[], Origin::named("constant")).expect("a constant")
}

fn pair(graph: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
    let mut expr = Expr::new();
    let (x, y) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let root = expr.binary(op, x, y);
    let expr = expr.with_root(root);
    let shape = graph.ty(a).shape.clone();
    let b = if graph.ty(b).shape == shape {
        b
    } else {
        graph.add(Op::Broadcast(shape), &[b], Origin::named("broadcast")).expect("a broadcast")
    };
    graph.add(Op::Map(expr), &[a, b], Origin::named("map")).expect("a map")
}

/// `max(conv(x) + bias (+ x), 0)`.
fn graph(case: &Case) -> Graph {
    let mut graph = Graph::new("winograd");
    let [height, width] = case.extents;
    let ty = edgecc_ir::TensorType::new(DType::F32, Shape::new(&[case.images, case.depth, height, width]));
    let x = graph.input("x", ty);
    let weights = constant(&mut graph, &[case.channels, case.depth, 3, 3], 1);
    let window = Window {
        kernel: vec![3, 3],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_before: case.pads.to_vec(),
        pads_after: case.pads.to_vec(),
    };
    let conv = Op::Conv { window, groups: 1, epilogue: Op::plain_epilogue(DType::F32) };
    let mut value = graph.add(conv, &[x, weights], Origin::named("conv")).expect("a convolution");
    let bias = constant(&mut graph, &[1, case.channels, 1, 1], 2);
    value = pair(&mut graph, BinaryOp::Add, value, bias);
    if case.residual {
        value = pair(&mut graph, BinaryOp::Add, value, x);
    }
    let zero = constant_zero(&mut graph);
    value = pair(&mut graph, BinaryOp::Max, value, zero);
    graph.output("y", value);
    graph
}

fn constant_zero(graph: &mut Graph) -> NodeId {
    let zero = Tensor::from_f32(Shape::new(&[1, 1, 1, 1]), &[0.0]);
    graph.add(Op::Constant(zero), &[], Origin::named("zero")).expect("a constant")
}

/// The largest difference as a part of the largest result.
fn difference(expected: &Tensor, actual: &[f64]) -> f64 {
    assert_eq!(expected.elements(), actual.len());
    let expected: Vec<f64> = expected.scalars().map(|value| value.as_f64()).collect();
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    expected.iter().zip(actual).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn results_differ_little_from_direct_sums() {
    let program = cross::device_program();
    let mut worst: f64 = 0.0;
    for case in &CASES {
        let graph = graph(case);
        let inputs = numbers::inputs(&graph);
        let expected = eval::run(&graph, &inputs).expect("values");
        let mut outputs = vec![outputs_here(&graph, &inputs, &expected, Way::LARGE)];
        for way in [Way::LARGE, Way::LARGE_CLIF] {
            let emulated =
                program.iter().flat_map(|program| outputs_emulated(program, &graph, &inputs, way, &["cortex-a72"]));
            outputs.extend(emulated);
        }
        worst = outputs.iter().map(|outputs| difference(&expected[0], &outputs[0])).fold(worst, f64::max);
    }
    say(&format!("Winograd: at most {worst:.1e} of the largest result"));
    assert!(worst <= BOUND && worst > 0.0, "{worst}");
}

#[test]
fn weights_grow_only_where_they_may() {
    let graph = graph(&CASES[2]);
    let [usual, large] = [Way::USUAL, Way::LARGE].map(|way| artifact(&graph, Architecture::Aarch64, way).len());
    assert!(large > usual + 3 * 64 * 64 * 9 * 4 / 2, "{usual} and {large} bytes");
}
