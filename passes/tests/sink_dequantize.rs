//! Dequantization behind movement.

mod support;

use edgecc_ir::{DType, Graph, Op, PadMode};
use edgecc_passes::quantize::sink_dequantize;
use support::*;

/// x quantised to i8 and back.
fn quantised(graph: &mut Graph, extents: &[usize], scale: f32) -> edgecc_ir::NodeId {
    let x = input(graph, extents);
    let q = quantize(graph, x, DType::I8, scale, 3);
    dequantize_all(graph, q, scale, 3)
}

#[test]
fn integers_are_transposed_padded_pooled_and_joined() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[1, 2, 4, 4], 0.01);
    let y = transpose(&mut graph, x, &[0, 1, 3, 2]);
    let zero = scalar(&mut graph, 0.0);
    let pad = Op::Pad { mode: PadMode::Constant, before: vec![0, 0, 1, 1], after: vec![0, 0, 1, 1] };
    let y = add(&mut graph, pad, &[y, zero]);
    let y = max_pool(&mut graph, y, 3, 1, 0);
    let y = add(&mut graph, Op::Concat { axis: 1 }, &[x, y]);
    let y = reshape(&mut graph, y, &[1, 64]);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, sink_dequantize);
    assert_eq!(operators(&graph), ["map", "transpose", "pad", "max_pool", "concat", "reshape", "map"]);
    assert_eq!(rewrites, 5);
}

#[test]
fn scales_along_an_axis_follow_it() {
    let mut graph = Graph::new("case");
    let weights = quantized_weights(&mut graph, DType::I8, &[4, 6], 0, 1);
    let turned = transpose(&mut graph, weights, &[1, 0]);
    let x = input(&mut graph, &[2, 6]);
    let y = matmul(&mut graph, x, turned);
    graph.output("y", y);
    let (graph, _) = check(graph, sink_dequantize);
    assert_eq!(operators(&graph), ["transpose", "map", "matmul"]);
}

#[test]
fn values_of_other_scales_are_joined_as_numbers() {
    let mut graph = Graph::new("case");
    let (a, b) = (quantised(&mut graph, &[1, 4], 0.01), quantised(&mut graph, &[1, 4], 0.02));
    let y = add(&mut graph, Op::Concat { axis: 1 }, &[a, b]);
    graph.output("y", y);
    check_unchanged(graph, sink_dequantize);
}

#[test]
fn a_pad_with_what_is_no_integer_stays() {
    let mut graph = Graph::new("case");
    let x = quantised(&mut graph, &[1, 4], 0.01);
    let fill = scalar(&mut graph, 0.005);
    let pad = Op::Pad { mode: PadMode::Constant, before: vec![0, 1], after: vec![0, 0] };
    let y = add(&mut graph, pad, &[x, fill]);
    graph.output("y", y);
    check_unchanged(graph, sink_dequantize);
}
