//! Averages as sums of integers.

mod support;

use edgecc_ir::{DType, Graph, NodeId, Op, PoolKind};
use edgecc_passes::quantize::average_integers;
use support::*;

fn quantised(graph: &mut Graph) -> NodeId {
    let x = input(graph, &[1, 4, 6, 6]);
    let q = quantize(graph, x, DType::I8, 0.008, 11);
    dequantize_all(graph, q, 0.008, 11)
}

#[test]
fn means_of_images_and_pools_are_convolutions_by_ones() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph);
    let whole = mean(&mut graph, x, &[2, 3]);
    let kind = PoolKind::Average { count_pads: false };
    let pooled = add(&mut graph, Op::Pool { kind, window: window(&[2, 2], 2, 0), ceil: false }, &[x]);
    graph.output("whole", whole);
    graph.output("pooled", pooled);
    let (graph, rewrites) = check(graph, average_integers);
    assert_eq!((operators(&graph), rewrites), (vec!["map", "conv", "conv"], 2));
}

#[test]
fn padded_pools_and_means_over_channels_stay() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph);
    let kind = PoolKind::Average { count_pads: false };
    let pooled = add(&mut graph, Op::Pool { kind, window: window(&[3, 3], 1, 1), ceil: false }, &[x]);
    let across = mean(&mut graph, x, &[1]);
    graph.output("pooled", pooled);
    graph.output("across", across);
    check_unchanged(graph, average_integers);
}
