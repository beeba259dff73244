//! Normalizations that exporters write out.

mod support;

use edgecc_ir::{BinaryOp, Graph, NodeId, Op, UnaryOp};
use edgecc_passes::fuse::fuse_maps;
use edgecc_passes::simplify::recognize_normalize;
use support::*;

/// `1 / sqrt(mean(square) + epsilon)` of `deviation`, as divisor or factor.
fn divided(graph: &mut Graph, deviation: NodeId, axes: &[usize], reciprocal: bool) -> NodeId {
    let square = if reciprocal {
        binary(graph, BinaryOp::Mul, deviation, deviation)
    } else {
        let two = scalar(graph, 2.0);
        binary(graph, BinaryOp::Pow, deviation, two)
    };
    let variance = mean(graph, square, axes);
    let epsilon = scalar(graph, 1e-5);
    let sum = binary(graph, BinaryOp::Add, variance, epsilon);
    let root = unary(graph, UnaryOp::Sqrt, sum);
    if reciprocal {
        let factor = unary(graph, UnaryOp::Reciprocal, root);
        binary(graph, BinaryOp::Mul, deviation, factor)
    } else {
        binary(graph, BinaryOp::Div, deviation, root)
    }
}

fn layer_norm(reciprocal: bool, mean_axes: &[usize]) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 6, 6]);
    let average = mean(&mut graph, x, mean_axes);
    let deviation = binary(&mut graph, BinaryOp::Sub, x, average);
    let y = divided(&mut graph, deviation, &[2], reciprocal);
    graph.output("y", y);
    graph
}

#[test]
fn layer_normalization_in_its_spellings() {
    for reciprocal in [false, true] {
        for fused_first in [false, true] {
            let mut graph = layer_norm(reciprocal, &[2]);
            if fused_first {
                fuse_maps(&mut graph);
            }
            let (graph, rewrites) = check(graph, recognize_normalize);
            assert_eq!((operators(&graph), rewrites), (vec!["normalize"], 1));
        }
    }
}

#[test]
fn a_sum_is_normalized_as_well() {
    for centered in [false, true] {
        let mut graph = Graph::new("case");
        let (a, b) = (input(&mut graph, &[2, 6]), input(&mut graph, &[2, 6]));
        let x = binary(&mut graph, BinaryOp::Add, a, b);
        let deviation = if centered {
            let average = mean(&mut graph, x, &[1]);
            binary(&mut graph, BinaryOp::Sub, x, average)
        } else {
            x
        };
        let y = divided(&mut graph, deviation, &[1], true);
        graph.output("y", y);
        let (graph, _) = check(graph, recognize_normalize);
        assert_eq!(operators(&graph), ["map", "normalize"]);
        let normalize = graph.op(graph.outputs()[0].node);
        assert!(matches!(normalize, Op::Normalize { root_mean_square, .. } if *root_mean_square != centered));
    }
}

#[test]
fn a_mean_over_other_axes_than_the_variance_stays() {
    let (graph, _) = check(layer_norm(false, &[1, 2]), recognize_normalize);
    assert_eq!(operators(&graph), ["reduce_mean", "map", "normalize"]);
    let normalize = graph.op(graph.outputs()[0].node);
    assert!(matches!(normalize, Op::Normalize { root_mean_square: true, .. }), "of what the mean left");
}

#[test]
fn a_quotient_by_another_tensors_deviation_stays() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[2, 6]), input(&mut graph, &[2, 6]));
    let square = binary(&mut graph, BinaryOp::Mul, z, z);
    let variance = mean(&mut graph, square, &[1]);
    let epsilon = scalar(&mut graph, 1e-5);
    let sum = binary(&mut graph, BinaryOp::Add, variance, epsilon);
    let root = unary(&mut graph, UnaryOp::Sqrt, sum);
    let y = binary(&mut graph, BinaryOp::Div, x, root);
    graph.output("y", y);
    check_unchanged(graph, recognize_normalize);
}
