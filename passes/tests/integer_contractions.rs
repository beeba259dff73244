//! Contractions of integers.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, NodeId, Op};
use edgecc_passes::quantize::integer_contractions;
use support::*;

fn quantised(graph: &mut Graph, extents: &[usize], zero: i64) -> NodeId {
    let x = input(graph, extents);
    let q = quantize(graph, x, DType::I8, 0.008, zero);
    dequantize_all(graph, q, 0.008, zero)
}

fn contractions(graph: &Graph) -> Vec<DType> {
    let ids = graph.order().into_iter().filter(|&id| graph.op(id).epilogue().is_some());
    ids.map(|id| graph.ty(graph.operands(id)[0]).dtype).collect()
}

fn conv_of(graph: &mut Graph, x: NodeId, weights: NodeId, pad: usize, groups: usize) -> NodeId {
    let kernel = graph.ty(weights).shape.extents()[2..].to_vec();
    add(graph, Op::Conv { window: window(&kernel, 1, pad), groups, epilogue: plain() }, &[x, weights])
}

#[test]
fn a_convolution_pads_with_the_zero_point() {
    for (groups, channels) in [(1, 4), (2, 2), (4, 1)] {
        let mut graph = Graph::new("case");
        let x = quantised(&mut graph, &[1, 4, 5, 5], 11);
        let weights = quantized_weights(&mut graph, DType::I8, &[8, channels, 3, 3], 0, 1);
        let y = conv_of(&mut graph, x, weights, 1, groups);
        graph.output("y", y);
        let (graph, rewrites) = check(graph, integer_contractions);
        assert_eq!((operators(&graph), rewrites), (vec!["map", "pad", "conv"], 1));
        assert_eq!(contractions(&graph), [DType::I8]);
    }
}

#[test]
fn unsigned_weights_lose_their_zero_point() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[1, 4, 5, 5], -7);
    let weights = quantized_weights(&mut graph, DType::U8, &[8, 4, 1, 1], 128, 1);
    let y = conv_of(&mut graph, x, weights, 0, 1);
    graph.output("y", y);
    let (graph, _) = check(graph, integer_contractions);
    assert_eq!(operators(&graph), ["map", "conv"]);
}

#[test]
fn weights_beyond_eight_bits_take_a_second_contraction() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[1, 4, 5, 5], -7);
    let weights = quantized_weights(&mut graph, DType::U8, &[8, 4, 3, 3], 20, 1);
    let y = conv_of(&mut graph, x, weights, 1, 1);
    graph.output("y", y);
    let (graph, _) = check(graph, integer_contractions);
    assert_eq!(contractions(&graph), [DType::I8, DType::I8]);
}

#[test]
fn a_matrix_product_has_scales_along_its_columns() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[3, 6], 5);
    let weights = quantized_weights(&mut graph, DType::I8, &[4, 6], 0, 1);
    let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: plain() };
    let y = add(&mut graph, op, &[x, weights]);
    graph.output("y", y);
    let (graph, _) = check(graph, integer_contractions);
    assert_eq!((operators(&graph), contractions(&graph)), (vec!["map", "matmul"], vec![DType::I8]));
}

#[test]
fn two_activations_are_multiplied_where_zero_is_zero() {
    for (zero, dtype) in [(0, DType::I8), (3, DType::F32)] {
        let mut graph = Graph::new("case");
        let (a, b) = (quantised(&mut graph, &[2, 3, 6], 0), quantised(&mut graph, &[2, 6, 3], zero));
        let y = matmul(&mut graph, a, b);
        graph.output("y", y);
        let (graph, _) = check(graph, integer_contractions);
        assert_eq!(contractions(&graph), [dtype]);
    }
}

#[test]
fn scales_along_a_summed_axis_stay_numbers() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[3, 6], 5);
    let weights = quantized_weights(&mut graph, DType::I8, &[6, 4], 0, 1);
    let y = matmul(&mut graph, x, weights);
    graph.output("y", y);
    check_unchanged(graph, integer_contractions);
}

#[test]
fn what_follows_reads_numbers() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[1, 4, 5, 5], 11);
    let weights = quantized_weights(&mut graph, DType::I8, &[8, 4, 1, 1], 0, 1);
    let y = conv_of(&mut graph, x, weights, 0, 1);
    let bias = support::weights(&mut graph, &[8, 1, 1], 3);
    let y = binary(&mut graph, BinaryOp::Add, y, bias);
    graph.output("y", y);
    let (graph, _) = check(graph, integer_contractions);
    assert_eq!(operators(&graph), ["map", "conv", "map"]);
}
