//! Equal nodes.

mod support;

use edgecc_ir::{BinaryOp, Graph, UnaryOp};
use edgecc_passes::simplify::common_subexpressions;
use support::*;

#[test]
fn equal_nodes_over_equal_constants_become_one() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let [a, b] = [0, 1].map(|_| {
        let scale = weights(&mut graph, &[3], 9);
        let scaled = binary(&mut graph, BinaryOp::Mul, x, scale);
        unary(&mut graph, UnaryOp::Tanh, scaled)
    });
    let y = binary(&mut graph, BinaryOp::Add, a, b);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, common_subexpressions);
    assert_eq!((operators(&graph), rewrites), (vec!["map"; 3], 3), "a constant and two maps");
}

#[test]
fn nodes_over_constants_of_other_bits_stay() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1]);
    for zero in [0.0, -0.0] {
        let zero = constant(&mut graph, &[1], &[zero]);
        let y = binary(&mut graph, BinaryOp::Add, x, zero);
        graph.output("y", y);
    }
    check_unchanged(graph, common_subexpressions);
}

#[test]
fn inputs_of_one_type_stay_distinct() {
    let mut graph = Graph::new("case");
    let (a, b) = (input(&mut graph, &[2]), input(&mut graph, &[2]));
    let y = binary(&mut graph, BinaryOp::Sub, a, b);
    graph.output("y", y);
    check_unchanged(graph, common_subexpressions);
}
