//! Signed integers in place of unsigned ones.

mod support;

use edgecc_ir::{DType, Graph};
use edgecc_passes::quantize::sign_integers;
use support::*;

fn settle(graph: Graph) -> Graph {
    let (mut graph, _) = check(graph, sign_integers);
    while sign_integers(&mut graph) > 0 {}
    graph
}

fn types(graph: &Graph) -> Vec<DType> {
    let order = graph.order().into_iter();
    order.filter(|&id| graph.constant_value(id).is_none()).map(|id| graph.ty(id).dtype).collect()
}

#[test]
fn between_quantization_and_use_integers_are_signed() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let q = quantize(&mut graph, x, DType::U8, 0.01, 100);
    let turned = transpose(&mut graph, q, &[1, 0]);
    let y = dequantize_all(&mut graph, turned, 0.01, 100);
    graph.output("y", y);
    let before = graph.clone();
    let graph = settle(graph);
    same_values(&before, &graph);
    assert_eq!(types(&graph), [DType::F32, DType::I8, DType::I8, DType::F32]);
}

#[test]
fn a_result_keeps_its_type() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let q = quantize(&mut graph, x, DType::U8, 0.01, 100);
    graph.output("q", q);
    let before = graph.clone();
    let graph = settle(graph);
    same_values(&before, &graph);
    assert_eq!(types(&graph), [DType::F32, DType::I8, DType::U8]);
}

#[test]
fn signed_integers_stay() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let q = quantize(&mut graph, x, DType::I8, 0.01, 100);
    let y = dequantize_all(&mut graph, q, 0.01, 100);
    graph.output("y", y);
    check_unchanged(graph, sign_integers);
}
