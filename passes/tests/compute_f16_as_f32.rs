//! Half precision.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, Op, Origin, Scalar, Shape, Tensor, TensorType, Window};
use edgecc_passes::precision::compute_f16_as_f32;
use support::*;

fn half(graph: &mut Graph, extents: &[usize], seed: u64) -> edgecc_ir::NodeId {
    let values = numbers(extents.iter().product(), seed);
    let scalars = values.iter().map(|&value| Scalar::f32(value).cast(DType::F16));
    let tensor = Tensor::from_scalars(DType::F16, Shape::new(extents), scalars).expect("as many as asked for");
    graph.constant(tensor, Origin::default())
}

#[test]
fn a_half_precision_network_computes_in_single_precision() {
    let mut graph = Graph::new("case");
    let x = graph.input("x", TensorType::new(DType::F16, Shape::new(&[1, 2, 4, 4])));
    let (w, bias) = (half(&mut graph, &[3, 2, 3, 3], 1), half(&mut graph, &[3, 1, 1], 2));
    let window: Window = window(&[3, 3], 1, 1);
    let y = add(&mut graph, Op::Conv { window, groups: 1, epilogue: Op::plain_epilogue(DType::F16) }, &[x, w]);
    let y = binary(&mut graph, BinaryOp::Add, y, bias);
    graph.output("y", y);
    let (graph, rewrites) = check_within(graph, compute_f16_as_f32, 4e-3);
    assert!(rewrites > 0);
    assert_eq!(operators(&graph), ["map", "conv", "map", "map"], "casts at both ends");
    let inner = graph.order().into_iter().filter(|&id| graph.ty(id).dtype == DType::F16);
    assert_eq!(inner.count(), 2, "the input and the output");
}

#[test]
fn an_input_that_is_an_output_keeps_its_type() {
    let mut graph = Graph::new("case");
    let x = graph.input("x", TensorType::new(DType::BF16, Shape::new(&[4])));
    graph.output("x", x);
    check(graph, compute_f16_as_f32);
}

#[test]
fn single_precision_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2, 4, 4]);
    let y = conv(&mut graph, x, [3, 2, 3, 3], 1, 1, 1);
    graph.output("y", y);
    check_unchanged(graph, compute_f16_as_f32);
}
