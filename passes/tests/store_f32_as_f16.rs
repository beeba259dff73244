//! Halves for single precision.

mod support;

use edgecc_ir::{BinaryOp, BlockWeights, DType, Graph, Op, ReduceKind};
use edgecc_passes::precision::store_f32_as_f16;
use edgecc_passes::quantize::{WeightBits, round_to_bits};
use support::*;

/// Rounding of what is read and written, and of weights.
const TOLERANCE: f64 = 4e-3;

fn halves(graph: &Graph) -> usize {
    graph.order().into_iter().filter(|&id| graph.ty(id).dtype == DType::F16).count()
}

#[test]
fn a_network_keeps_halves_between_casts_at_both_ends() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2, 4, 4]);
    let y = conv(&mut graph, x, [3, 2, 3, 3], 1, 1, 1);
    let y = add(&mut graph, Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3] }, &[y]);
    graph.output("y", y);
    let (graph, rewrites) = check_within(graph, store_f32_as_f16, TOLERANCE);
    assert_eq!(rewrites, 2);
    assert_eq!(operators(&graph), ["map", "conv", "reduce_mean", "map"]);
    assert_eq!(halves(&graph), 4, "what is between the casts, and the weights");
}

#[test]
fn what_has_no_form_for_halves_is_computed_in_single_precision() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 8]);
    let y = binary(&mut graph, BinaryOp::Add, x, x);
    let y = add(&mut graph, Op::CumulativeSum { axis: 1, exclusive: false, reverse: false }, &[y]);
    let y = binary(&mut graph, BinaryOp::Mul, y, y);
    graph.output("y", y);
    let (graph, _) = check_within(graph, store_f32_as_f16, TOLERANCE);
    assert_eq!(operators(&graph), ["map", "map", "map", "cumulative_sum", "map", "map", "map"]);
}

#[test]
fn a_constant_beyond_the_range_of_halves_keeps_its_users_in_single_precision() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2]);
    let large = constant(&mut graph, &[1, 2], &[1e6, -1e6]);
    let y = binary(&mut graph, BinaryOp::Mul, x, large);
    graph.output("y", y);
    check_unchanged(graph, store_f32_as_f16);
}

#[test]
fn products_with_weights_in_blocks_stay_in_single_precision() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 128]);
    let doubled = binary(&mut graph, BinaryOp::Add, x, x);
    let w = weights(&mut graph, &[64, 128], 1);
    let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: Op::plain_epilogue(DType::F32) };
    let product = add(&mut graph, op, &[doubled, w]);
    let y = binary(&mut graph, BinaryOp::Mul, product, product);
    graph.output("y", y);
    round_to_bits(&mut graph, product, WeightBits::Four).expect("a sound graph");
    let (graph, _) = check_within(graph, store_f32_as_f16, TOLERANCE);
    assert!(graph.ids().any(|id| BlockWeights::of(&graph, id).is_some()));
    assert!(halves(&graph) > 0);
}
