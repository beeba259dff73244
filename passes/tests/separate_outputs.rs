//! Outputs that are no results of their own.

mod support;

use edgecc_ir::{Graph, UnaryOp};
use edgecc_passes::layout::separate_outputs;
use support::*;

#[test]
fn an_input_a_constant_and_a_repeated_result_are_copied() {
    let mut graph = Graph::new("case");
    let (x, c) = (input(&mut graph, &[2]), weights(&mut graph, &[2], 1));
    let y = unary(&mut graph, UnaryOp::Exp, x);
    for node in [x, c, y, y] {
        graph.output("out", node);
    }
    let (graph, rewrites) = check(graph, separate_outputs);
    assert_eq!((operators(&graph), rewrites), (vec!["map"; 4], 3));
}

#[test]
fn distinct_results_stay() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2]);
    let (a, b) = (unary(&mut graph, UnaryOp::Exp, x), unary(&mut graph, UnaryOp::Abs, x));
    graph.output("a", a);
    graph.output("b", b);
    check_unchanged(graph, separate_outputs);
}
