//! Scales and shifts in front of a contraction.

mod support;

use edgecc_ir::{BinaryOp, Graph, NodeId, Op};
use edgecc_passes::fuse::{fold_leading_affine, fuse_maps};
use support::*;

/// `conv(x * s + t)` as one map in front of a convolution.
fn leading(pad: usize, groups: usize) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = scale_and_shift(&mut graph, x, &[4, 1, 1], 3);
    let y = conv(&mut graph, y, [8, 4 / groups, 3, 3], 1, pad, groups);
    graph.output("y", y);
    fuse_maps(&mut graph);
    graph
}

fn scaled_only(graph: &mut Graph) -> NodeId {
    let x = input(graph, &[1, 4, 6, 6]);
    let scale = weights(graph, &[4, 1, 1], 3);
    binary(graph, BinaryOp::Mul, x, scale)
}

#[test]
fn scale_and_shift_go_into_a_convolution_without_pads() {
    for groups in [1, 2] {
        let (graph, rewrites) = check(leading(0, groups), fold_leading_affine);
        assert_eq!((operators(&graph), rewrites), (vec!["conv"], 1));
    }
}

#[test]
fn a_shift_stays_in_front_of_pads() {
    check_unchanged(leading(1, 1), fold_leading_affine);
}

#[test]
fn a_scale_goes_through_pads() {
    let mut graph = Graph::new("case");
    let y = scaled_only(&mut graph);
    let y = conv(&mut graph, y, [8, 4, 3, 3], 1, 1, 1);
    graph.output("y", y);
    let (graph, _) = check(graph, fold_leading_affine);
    assert_eq!(operators(&graph), ["conv"]);
}

#[test]
fn scale_and_shift_go_into_a_matrix_product() {
    for transpose_b in [false, true] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[2, 5, 3]);
        let y = scale_and_shift(&mut graph, x, &[3], 2);
        let w = weights(&mut graph, if transpose_b { &[4, 3] } else { &[3, 4] }, 1);
        let y = add(&mut graph, Op::MatMul { transpose_a: false, transpose_b, epilogue: plain() }, &[y, w]);
        graph.output("y", y);
        fuse_maps(&mut graph);
        let (graph, _) = check(graph, fold_leading_affine);
        assert_eq!(operators(&graph), ["matmul"]);
    }
}

#[test]
fn a_map_that_others_read_stays() {
    let mut graph = Graph::new("case");
    let scaled = scaled_only(&mut graph);
    let y = conv(&mut graph, scaled, [8, 4, 3, 3], 1, 0, 1);
    graph.output("y", y);
    graph.output("scaled", scaled);
    check_unchanged(graph, fold_leading_affine);
}
