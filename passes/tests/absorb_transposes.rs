//! Transposes that a neighbour can stand in for.

mod support;

use edgecc_ir::{Graph, Op};
use edgecc_passes::simplify::absorb_transposes;
use support::*;

#[test]
fn a_matrix_product_reads_both_operands_transposed() {
    let mut graph = Graph::new("case");
    let (a, b) = (input(&mut graph, &[2, 3, 5]), input(&mut graph, &[2, 4, 3]));
    let (a, b) = (transpose(&mut graph, a, &[0, 2, 1]), transpose(&mut graph, b, &[0, 2, 1]));
    let y = matmul(&mut graph, a, b);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, absorb_transposes);
    assert_eq!((operators(&graph), rewrites), (vec!["matmul"], 2));
    let product = graph.op(graph.outputs()[0].node);
    assert!(matches!(product, Op::MatMul { transpose_a: true, transpose_b: true, .. }));
}

#[test]
fn a_transpose_of_batch_axes_stays() {
    let mut graph = Graph::new("case");
    let (a, b) = (input(&mut graph, &[5, 2, 3]), input(&mut graph, &[2, 3, 4]));
    let a = transpose(&mut graph, a, &[1, 0, 2]);
    let y = matmul(&mut graph, a, b);
    graph.output("y", y);
    check_unchanged(graph, absorb_transposes);
}

#[test]
fn a_reshape_absorbs_a_transpose_of_units_on_either_side() {
    for transpose_first in [true, false] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[1, 6, 1, 1]);
        let y = if transpose_first {
            let moved = transpose(&mut graph, x, &[0, 2, 3, 1]);
            reshape(&mut graph, moved, &[2, 3])
        } else {
            let flat = reshape(&mut graph, x, &[6, 1]);
            transpose(&mut graph, flat, &[1, 0])
        };
        graph.output("y", y);
        let (graph, _) = check(graph, absorb_transposes);
        assert_eq!(operators(&graph), ["reshape"]);
    }
}

#[test]
fn a_reshape_keeps_a_transpose_that_moves_elements() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 6, 2, 1]);
    let moved = transpose(&mut graph, x, &[0, 2, 3, 1]);
    let y = reshape(&mut graph, moved, &[12]);
    graph.output("y", y);
    check_unchanged(graph, absorb_transposes);
}
