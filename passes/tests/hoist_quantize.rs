//! Quantization in front of movement, and of what was just dequantised.

mod support;

use edgecc_ir::{DType, Graph, Op};
use edgecc_passes::quantize::{cancel_quantize, hoist_quantize};
use support::*;

#[test]
fn integers_are_joined_pooled_and_turned() {
    let mut graph = Graph::new("case");
    let (a, b) = (input(&mut graph, &[1, 2, 4, 4]), input(&mut graph, &[1, 2, 4, 4]));
    let y = add(&mut graph, Op::Concat { axis: 1 }, &[a, b]);
    let y = max_pool(&mut graph, y, 2, 2, 0);
    let y = transpose(&mut graph, y, &[0, 2, 3, 1]);
    let y = quantize(&mut graph, y, DType::I8, 0.01, -5);
    graph.output("y", y);
    let (mut graph, _) = check(graph, hoist_quantize);
    while hoist_quantize(&mut graph) > 0 {}
    assert_eq!(operators(&graph), ["map", "map", "concat", "max_pool", "transpose"]);
}

#[test]
fn what_others_read_stays_in_numbers() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let turned = transpose(&mut graph, x, &[1, 0]);
    let y = quantize(&mut graph, turned, DType::I8, 0.01, 0);
    graph.output("numbers", turned);
    graph.output("integers", y);
    check_unchanged(graph, hoist_quantize);
}

#[test]
fn equal_steps_cancel() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let q = quantize(&mut graph, x, DType::I8, 0.01, 7);
    let back = dequantize_all(&mut graph, q, 0.01, 7);
    let y = quantize(&mut graph, back, DType::I8, 0.01, 7);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, cancel_quantize);
    assert_eq!((operators(&graph), rewrites), (vec!["map"], 1));
}

#[test]
fn other_steps_stay() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let q = quantize(&mut graph, x, DType::I8, 0.01, 7);
    let back = dequantize_all(&mut graph, q, 0.01, 7);
    let y = quantize(&mut graph, back, DType::I8, 0.02, 7);
    graph.output("y", y);
    check_unchanged(graph, cancel_quantize);
}
