//! Constants of one repeated element under an expression.

mod support;

use edgecc_ir::{BinaryOp, Graph, Origin, Scalar, Shape, Tensor};
use edgecc_passes::fuse::fuse_epilogue;
use edgecc_passes::simplify::inline_scalars;
use support::*;

fn repeated(graph: &mut Graph, extents: &[usize], value: f32) -> edgecc_ir::NodeId {
    let value = Tensor::splat(Shape::new(extents), Scalar::f32(value)).expect("a small tensor");
    graph.constant(value, Origin::default())
}

#[test]
fn repeated_elements_become_constants_of_the_expression() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let (scale, shift) = (scalar(&mut graph, 3.0), repeated(&mut graph, &[1, 3], 0.25));
    let y = binary(&mut graph, BinaryOp::Mul, x, scale);
    let y = binary(&mut graph, BinaryOp::Add, shift, y);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, inline_scalars);
    assert_eq!(rewrites, 2);
    assert!(graph.order().iter().all(|&id| graph.constant_value(id).is_none()));
}

#[test]
fn the_operands_of_an_epilogue_likewise() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2, 3, 3]);
    let y = conv(&mut graph, x, [4, 2, 1, 1], 1, 0, 1);
    let (shift, scale) = (repeated(&mut graph, &[4, 1, 1], 0.25), weights(&mut graph, &[4, 1, 1], 3));
    let y = binary(&mut graph, BinaryOp::Add, y, shift);
    let y = binary(&mut graph, BinaryOp::Mul, y, scale);
    graph.output("y", y);
    fuse_epilogue(&mut graph);
    let (graph, _) = check(graph, inline_scalars);
    assert_eq!(graph.operands(graph.outputs()[0].node).len(), 3, "image, weights and the scale that varies");
}

#[test]
fn operands_given_twice_are_read_once() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let y = binary(&mut graph, BinaryOp::Mul, x, x);
    graph.output("y", y);
    let (graph, _) = check(graph, inline_scalars);
    assert_eq!(graph.operands(graph.outputs()[0].node), [x]);
}

#[test]
fn a_constant_that_varies_stays_an_operand() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let scale = weights(&mut graph, &[3], 1);
    let y = binary(&mut graph, BinaryOp::Mul, x, scale);
    graph.output("y", y);
    check_unchanged(graph, inline_scalars);
}

#[test]
fn a_constant_that_gives_the_result_its_shape_stays_an_operand() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[3]);
    let ones = repeated(&mut graph, &[2, 3], 1.0);
    let y = binary(&mut graph, BinaryOp::Mul, x, ones);
    graph.output("y", y);
    check_unchanged(graph, inline_scalars);
}
