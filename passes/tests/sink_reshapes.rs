//! Reshapes move behind maps.

mod support;

use edgecc_ir::{BinaryOp, Graph, NodeId, UnaryOp};
use edgecc_passes::simplify::sink_reshapes;
use support::*;

fn last_two(graph: &Graph) -> Vec<&'static str> {
    let steps = operators(graph);
    steps[steps.len() - 2..].to_vec()
}

#[test]
fn a_map_works_in_the_shape_in_front() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3, 4]);
    let y = reshape(&mut graph, x, &[1, 6, 4]);
    let y = unary(&mut graph, UnaryOp::Sigmoid, y);
    let bias = weights(&mut graph, &[1, 1, 4], 1);
    let y = binary(&mut graph, BinaryOp::Add, y, bias);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, sink_reshapes);
    assert_eq!((last_two(&graph), rewrites), (vec!["map", "reshape"], 2));
}

#[test]
fn operands_reshaped_from_one_shape_join_in_it() {
    let mut graph = Graph::new("case");
    let [a, b]: [NodeId; 2] = [0, 1].map(|_| input(&mut graph, &[2, 3])).map(|x| reshape(&mut graph, x, &[6]));
    let y = binary(&mut graph, BinaryOp::Mul, a, b);
    graph.output("y", y);
    let (graph, _) = check(graph, sink_reshapes);
    assert_eq!(operators(&graph), ["map", "reshape"]);
}

#[test]
fn a_constant_along_another_axis_keeps_the_reshape_in_front() {
    for (shape, constant) in [([6, 4], vec![6, 1]), ([3, 8], vec![8])] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[2, 3, 4]);
        let y = reshape(&mut graph, x, &shape);
        let constant = weights(&mut graph, &constant, 1);
        let y = binary(&mut graph, BinaryOp::Add, y, constant);
        graph.output("y", y);
        check_unchanged(graph, sink_reshapes);
    }
}

#[test]
fn a_reshape_that_the_map_broadcasts_stays() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[6]), input(&mut graph, &[4, 3, 2]));
    let y = reshape(&mut graph, x, &[3, 2]);
    let y = binary(&mut graph, BinaryOp::Add, y, z);
    graph.output("y", y);
    check_unchanged(graph, sink_reshapes);
}
