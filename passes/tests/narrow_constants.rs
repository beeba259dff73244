//! Constants that repeat along an axis.

mod support;

use edgecc_ir::{BinaryOp, Graph};
use edgecc_passes::simplify::narrow_constants;
use support::*;

#[test]
fn a_map_repeats_a_constant_by_itself() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3, 2]);
    let slopes = constant(&mut graph, &[2, 3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
    let y = binary(&mut graph, BinaryOp::Mul, x, slopes);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, narrow_constants);
    let slopes = graph.operands(graph.outputs()[0].node)[1];
    assert_eq!((graph.ty(slopes).shape.extents(), rewrites), (vec![2, 1, 2], 1));
}

#[test]
fn a_constant_that_does_not_repeat_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 2]);
    let slopes = constant(&mut graph, &[2, 2], &[1.0, 1.0, 2.0, 3.0]);
    let y = binary(&mut graph, BinaryOp::Mul, x, slopes);
    graph.output("y", y);
    check_unchanged(graph, narrow_constants);
}

#[test]
fn a_constant_that_gives_the_result_its_shape_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 1]);
    let slopes = constant(&mut graph, &[2, 2], &[1.0, 1.0, 2.0, 2.0]);
    let y = binary(&mut graph, BinaryOp::Mul, x, slopes);
    graph.output("y", y);
    check_unchanged(graph, narrow_constants);
}
