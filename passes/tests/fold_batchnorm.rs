//! Scales and shifts behind a contraction.

mod support;

use edgecc_ir::{BinaryOp, Graph, Op};
use edgecc_passes::fuse::fold_batchnorm;
use support::*;

#[test]
fn a_chain_of_scales_and_shifts_goes_into_weights_and_bias() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = scale_and_shift(&mut graph, y, &[8, 1, 1], 3);
    let variance = positive(&mut graph, &[1, 8, 1, 1], 5);
    let y = binary(&mut graph, BinaryOp::Div, y, variance);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, fold_batchnorm);
    assert_eq!((operators(&graph), rewrites), (vec!["conv"], 3));
    assert_eq!(graph.operands(graph.outputs()[0].node).len(), 3, "image, weights and bias");
}

#[test]
fn scales_of_a_grouped_transposed_convolution_follow_its_groups() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 5, 5]);
    let w = weights(&mut graph, &[4, 3, 2, 2], 7);
    let op =
        Op::ConvTranspose { window: window(&[2, 2], 2, 0), output_padding: vec![0, 0], groups: 2, epilogue: plain() };
    let y = add(&mut graph, op, &[x, w]);
    let y = scale_and_shift(&mut graph, y, &[6, 1, 1], 3);
    graph.output("y", y);
    let (graph, _) = check(graph, fold_batchnorm);
    assert_eq!(operators(&graph), ["conv_transpose"]);
}

#[test]
fn a_matrix_product_takes_a_bias_along_its_last_axis() {
    for transpose_b in [false, true] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[5, 3]);
        let w = weights(&mut graph, if transpose_b { &[4, 3] } else { &[3, 4] }, 1);
        let y = add(&mut graph, Op::MatMul { transpose_a: false, transpose_b, epilogue: plain() }, &[x, w]);
        let y = scale_and_shift(&mut graph, y, &[4], 2);
        graph.output("y", y);
        let (graph, _) = check(graph, fold_batchnorm);
        assert_eq!(operators(&graph), ["matmul"]);
    }
}

#[test]
fn a_convolution_that_others_read_keeps_its_scale() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let scaled = scale_and_shift(&mut graph, y, &[8, 1, 1], 3);
    graph.output("y", y);
    graph.output("scaled", scaled);
    check_unchanged(graph, fold_batchnorm);
}

#[test]
fn a_scale_that_varies_along_an_image_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let scale = weights(&mut graph, &[6], 1);
    let y = binary(&mut graph, BinaryOp::Mul, y, scale);
    graph.output("y", y);
    check_unchanged(graph, fold_batchnorm);
}

#[test]
fn a_scale_behind_an_activation_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = relu(&mut graph, y);
    let y = scale_and_shift(&mut graph, y, &[8, 1, 1], 3);
    graph.output("y", y);
    check_unchanged(graph, fold_batchnorm);
}
