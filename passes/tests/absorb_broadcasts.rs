//! Broadcasts in front of maps.

mod support;

use edgecc_ir::{BinaryOp, Graph, Op, Shape};
use edgecc_passes::simplify::absorb_broadcasts;
use support::*;

#[test]
fn a_map_broadcasts_by_itself() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[2, 3]), input(&mut graph, &[3]));
    let wide = add(&mut graph, Op::Broadcast(Shape::new(&[2, 3])), &[z]);
    let y = binary(&mut graph, BinaryOp::Add, x, wide);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, absorb_broadcasts);
    assert_eq!((operators(&graph), rewrites), (vec!["map"], 1));
}

#[test]
fn a_broadcast_that_gives_the_result_its_shape_stays() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[3]), input(&mut graph, &[3]));
    let wide = add(&mut graph, Op::Broadcast(Shape::new(&[2, 3])), &[z]);
    let y = binary(&mut graph, BinaryOp::Add, x, wide);
    graph.output("y", y);
    check_unchanged(graph, absorb_broadcasts);
}
