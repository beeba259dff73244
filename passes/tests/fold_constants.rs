//! Operators whose operands are all constants.

mod support;

use edgecc_ir::{BinaryOp, Graph, Op, Origin, Scalar, Shape, Tensor, UnaryOp};
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
