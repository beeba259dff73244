//! Operators whose operands are all constants.

mod support;

use edgecc_ir::{BinaryOp, BlockWeights, DType, Expr, Graph, Op, Origin, Scalar, Shape, Tensor, UnaryOp};
use edgecc_passes::simplify::fold_constants;
use support::*;

const LIMIT: usize = 1 << 20;

fn value(graph: &Graph) -> &Tensor {
    graph.constant_value(graph.outputs()[0].node).expect("a constant")
}

#[test]
fn arithmetic_of_constants_is_done() {
    let mut graph = Graph::new("case");
    let (a, b) = (constant(&mut graph, &[2, 1], &[1.0, 2.0]), constant(&mut graph, &[3], &[10.0, 20.0, 30.0]));
    let sum = binary(&mut graph, BinaryOp::Add, a, b);
    let y = transpose(&mut graph, sum, &[1, 0]);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, |graph| fold_constants(graph, LIMIT));
    assert_eq!(rewrites, 2);
    assert_eq!(value(&graph).to_f32(), [11.0, 12.0, 21.0, 22.0, 31.0, 32.0]);
}

#[test]
fn a_repeated_element_stays_one_element() {
    let mut graph = Graph::new("case");
    let huge = Tensor::splat(Shape::new(&[1 << 20, 1 << 12]), Scalar::f32(4.0)).expect("no memory is taken");
    let x = graph.constant(huge, Origin::default());
    let root = unary(&mut graph, UnaryOp::Sqrt, x);
    let y = transpose(&mut graph, root, &[1, 0]);
    graph.output("y", y);
    let (graph, _) = check_types(graph, |graph| fold_constants(graph, LIMIT));
    assert_eq!(value(&graph).as_splat(), Some(Scalar::f32(2.0)));
}

#[test]
fn a_reshaped_constant_shares_its_bytes() {
    let mut graph = Graph::new("case");
    let x = weights(&mut graph, &[4, 4], 1);
    let y = reshape(&mut graph, x, &[16]);
    graph.output("y", y);
    let (graph, _) = check(graph, |graph| fold_constants(graph, 0));
    assert_eq!(value(&graph).shape().extents(), [16]);
}

#[test]
fn results_over_the_limit_stay_operators() {
    let mut graph = Graph::new("case");
    let x = weights(&mut graph, &[4], 1);
    let y = add(&mut graph, Op::Broadcast(Shape::new(&[100, 4])), &[x]);
    graph.output("y", y);
    check_unchanged(graph, |graph| fold_constants(graph, 1599));
}

#[test]
fn a_large_constant_that_others_read_is_not_written_twice() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[600, 600]), weights(&mut graph, &[600, 600], 1));
    let sum = binary(&mut graph, BinaryOp::Add, x, z);
    let moved = transpose(&mut graph, z, &[1, 0]);
    graph.output("sum", sum);
    graph.output("moved", moved);
    check_unchanged(graph, |graph| fold_constants(graph, 1 << 30));
}

#[test]
fn operators_over_an_input_stay() {
    let mut graph = Graph::new("case");
    let (x, scale) = (input(&mut graph, &[2]), weights(&mut graph, &[2], 1));
    let y = binary(&mut graph, BinaryOp::Mul, x, scale);
    graph.output("y", y);
    check_unchanged(graph, |graph| fold_constants(graph, LIMIT));
}

/// A product of `[3, 64]` with `f32(q) * scale` of `[channels, 2, 32]`, reshaped and transposed.
fn product_in_blocks(channels: usize, reads: usize) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[3, 64]);
    let bytes: Vec<u8> = (0..channels * 64).map(|place| place as u8).collect();
    let q = Tensor::dense(DType::I8, Shape::new(&[channels, 2, 32]), bytes.into()).expect("a tensor");
    let q = graph.constant(q, Origin::default());
    let scales: Vec<f32> = (0..channels * 2).map(|place| 0.01 + place as f32).collect();
    let scales = constant(&mut graph, &[channels, 2, 1], &scales);
    let mut expr = Expr::argument(0, DType::I8);
    let (value, scale) = (expr.cast(DType::F32, expr.root()), expr.arg(1, DType::F32));
    let root = expr.binary(BinaryOp::Mul, value, scale);
    let numbers = add(&mut graph, Op::Map(expr.with_root(root)), &[q, scales]);
    let weights = reshape(&mut graph, numbers, &[channels, 64]);
    for read in 0..reads {
        let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: Op::plain_epilogue(DType::F32) };
        let y = add(&mut graph, op, &[x, weights]);
        graph.output(format!("y{read}"), y);
    }
    graph
}

#[test]
fn weights_in_blocks_stay_integers() {
    let graph = product_in_blocks(64, 1);
    assert!(BlockWeights::of(&graph, graph.outputs()[0].node).is_some_and(|weights| weights.block == 32));
    check_unchanged(graph, |graph| fold_constants(graph, LIMIT));
}

#[test]
fn few_weights_in_blocks_and_those_read_twice_become_numbers() {
    for graph in [product_in_blocks(63, 1), product_in_blocks(64, 2)] {
        assert!(BlockWeights::of(&graph, graph.outputs()[0].node).is_none());
        let (_, rewrites) = check(graph, |graph| fold_constants(graph, LIMIT));
        assert_eq!(rewrites, 2);
    }
}

#[test]
fn weights_in_blocks_that_a_transpose_reads_stay_integers() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[3, 64]);
    let bytes: Vec<u8> = (0..64 * 64).map(|place| place as u8).collect();
    let q = Tensor::dense(DType::I8, Shape::new(&[64, 64]), bytes.into()).expect("a tensor");
    let q = graph.constant(q, Origin::default());
    let mut expr = Expr::argument(0, DType::I8);
    let value = expr.cast(DType::F32, expr.root());
    let scale = expr.number(value, 0.01);
    let root = expr.binary(BinaryOp::Mul, value, scale);
    let numbers = add(&mut graph, Op::Map(expr.with_root(root)), &[q]);
    let weights = add(&mut graph, Op::Transpose(vec![1, 0]), &[numbers]);
    let op = Op::MatMul { transpose_a: false, transpose_b: false, epilogue: Op::plain_epilogue(DType::F32) };
    let y = add(&mut graph, op, &[x, weights]);
    graph.output("y", y);
    check_unchanged(graph, |graph| fold_constants(graph, LIMIT));
}
