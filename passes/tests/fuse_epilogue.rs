//! Maps behind a contraction.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, Op, UnaryOp};
use edgecc_passes::fuse::{fuse_epilogue, fuse_maps};
use support::*;

#[test]
fn an_activation_becomes_the_epilogue() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = relu(&mut graph, y);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, fuse_epilogue);
    assert_eq!((operators(&graph), rewrites), (vec!["conv"], 1));
}

#[test]
fn a_residual_sum_goes_to_the_later_convolution() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let first = conv(&mut graph, x, [8, 4, 1, 1], 1, 0, 1);
    let second = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let sum = binary(&mut graph, BinaryOp::Add, first, second);
    let y = relu(&mut graph, sum);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, fuse_epilogue);
    assert_eq!((operators(&graph), rewrites), (vec!["conv", "conv"], 2));
    let last = graph.operands(graph.outputs()[0].node);
    assert_eq!(graph.ty(last[1]).shape.extents(), [8, 4, 3, 3], "the 3x3 convolution comes later");
}

#[test]
fn a_gate_over_the_same_convolution_is_one_epilogue() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let gate = unary(&mut graph, UnaryOp::Sigmoid, y);
    let y = binary(&mut graph, BinaryOp::Mul, y, gate);
    graph.output("y", y);
    let (graph, _) = check(graph, |graph| fuse_maps(graph) + fuse_epilogue(graph));
    assert_eq!(operators(&graph), ["conv"]);
}

#[test]
fn a_map_that_broadcasts_the_convolution_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 1, 1]);
    let z = input(&mut graph, &[1, 8, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 1, 1], 1, 0, 1);
    let y = binary(&mut graph, BinaryOp::Mul, y, z);
    graph.output("y", y);
    check_unchanged(graph, fuse_epilogue);
}

#[test]
fn a_map_to_another_element_type_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = add(&mut graph, Op::Map(cast(DType::F32, DType::F64)), &[y]);
    graph.output("y", y);
    check_unchanged(graph, fuse_epilogue);
}

#[test]
fn a_convolution_that_is_an_output_keeps_its_value() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let conv = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = relu(&mut graph, conv);
    graph.output("y", y);
    graph.output("conv", conv);
    check_unchanged(graph, fuse_epilogue);
}
