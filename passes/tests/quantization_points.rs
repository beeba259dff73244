//! Where integers may stand for numbers: on both sides of functions of one value.

mod support;

use edgecc_ir::{BinaryOp, Graph, NodeId, UnaryOp};
use edgecc_passes::quantize::quantization_points;
use support::*;

/// Two convolutions with something between; tells the first one's result and the graph.
fn network(between: impl Fn(&mut Graph, NodeId) -> NodeId) -> (Graph, NodeId) {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 8, 6, 6]);
    let first = conv(&mut graph, x, [8, 8, 1, 1], 1, 0, 1);
    let read = between(&mut graph, first);
    let y = conv(&mut graph, read, [8, 8, 1, 1], 1, 0, 1);
    graph.output("y", y);
    (graph, first)
}

fn silu(graph: &mut Graph, x: NodeId) -> NodeId {
    let gate = unary(graph, UnaryOp::Sigmoid, x);
    binary(graph, BinaryOp::Mul, x, gate)
}

#[test]
fn a_gate_of_a_layers_result_has_integers_on_both_sides() {
    let (graph, first) = network(silu);
    let points = quantization_points(&graph, |_| None);
    assert_eq!(points.functions.keys().copied().collect::<Vec<_>>(), [first]);
    assert_eq!((points.layers.len(), points.values.len(), points.functions[&first].arity()), (2, 3, 1));
    assert!(points.values.contains(&first));
}

#[test]
fn what_instructions_compute_exactly_has_integers_behind_it_alone() {
    let (graph, first) = network(|graph, x| unary(graph, UnaryOp::Abs, x));
    let points = quantization_points(&graph, |_| None);
    assert!(points.functions.is_empty() && !points.values.contains(&first));
}

#[test]
fn a_result_that_is_read_elsewhere_too_keeps_its_numbers() {
    let (graph, _) = network(|graph, x| {
        let gated = silu(graph, x);
        graph.output("z", x);
        gated
    });
    assert_eq!(quantization_points(&graph, |_| None).functions.len(), 0);
    let (graph, _) = network(|graph, x| {
        let gated = silu(graph, x);
        binary(graph, BinaryOp::Add, gated, x)
    });
    // It is a function all the same: of the result alone.
    assert_eq!(quantization_points(&graph, |_| None).functions.len(), 1);
}

#[test]
fn a_layer_that_stays_has_no_table() {
    let (graph, first) = network(silu);
    assert!(quantization_points(&graph, |id| (id == first).then_some("stays")).functions.is_empty());
}

#[test]
fn what_only_layers_of_numbers_read_stays_numbers() {
    let (graph, first) = network(|_, x| x);
    let second = graph.outputs()[0].node;
    assert!(quantization_points(&graph, |_| None).values.contains(&first));
    let points = quantization_points(&graph, |id| (id == second).then_some("stays"));
    assert_eq!((points.layers.as_slice(), points.values.contains(&first)), (&[first][..], false));
}
