//! From sums of integers to integers in one multiplication.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, NodeId, Op, eval};
use edgecc_passes::fuse::fuse_epilogue;
use edgecc_passes::quantize::{fold_requantize, integer_contractions};
use support::*;

/// A quantised convolution with a bias and what `behind` makes of it, quantised again.
fn network(behind: impl Fn(&mut Graph, NodeId) -> NodeId) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 8, 6, 6]);
    let q = quantize(&mut graph, x, DType::I8, 0.008, 11);
    let x = dequantize_all(&mut graph, q, 0.008, 11);
    let filters = quantized_weights(&mut graph, DType::I8, &[8, 8, 3, 3], 0, 1);
    let op = Op::Conv { window: window(&[3, 3], 1, 1), groups: 1, epilogue: plain() };
    let y = add(&mut graph, op, &[x, filters]);
    let bias = weights(&mut graph, &[8, 1, 1], 3);
    let y = binary(&mut graph, BinaryOp::Add, y, bias);
    let y = behind(&mut graph, y);
    let y = quantize(&mut graph, y, DType::I8, 0.05, -20);
    graph.output("y", y);
    graph
}

/// Runs the passes; results may be one step apart where the bias was rounded.
fn folded(graph: Graph) -> Graph {
    let mut after = graph.clone();
    assert_eq!(integer_contractions(&mut after), 1);
    while fuse_epilogue(&mut after) > 0 {}
    let fused = after.clone();
    assert!(fold_requantize(&mut after) > 0);
    assert_eq!(fold_requantize(&mut after), 0, "once is enough");
    let x = edgecc_ir::Tensor::from_f32(graph.ty(graph.inputs()[0]).shape.clone(), &numbers(288, 5));
    let [expected, exact, actual] = [&graph, &fused, &after]
        .map(|graph| eval::run(graph, std::slice::from_ref(&x)).expect("a sound graph")[0].to_i64());
    let apart = |a: &[i64], b: &[i64]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let near = |a: &[i64], b: &[i64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1);
    assert!(near(&expected, &actual) && near(&exact, &actual));
    assert!(apart(&expected, &actual) <= 3, "{} of {}", apart(&expected, &actual), actual.len());
    assert!(actual.iter().any(|&q| q != actual[0]), "varied results");
    after
}

fn epilogue(graph: &Graph) -> String {
    let text = graph.to_text();
    let start = text.find("epilogue=").expect("an epilogue") + "epilogue=".len();
    text[start..].split(" : ").next().unwrap_or_default().to_string()
}

#[test]
fn bias_and_scales_become_one_sum_and_one_factor() {
    let graph = folded(network(|_, y| y));
    let text = epilogue(&graph);
    assert!(text.starts_with("i8(round(f32(acc + e") && text.ends_with("+ -20)"), "{text}");
}

#[test]
fn a_rectifier_becomes_a_bound() {
    let graph = folded(network(relu));
    let text = epilogue(&graph);
    assert!(text.starts_with("i8(max(round(f32(acc + e") && text.ends_with("+ -20, -20))"), "{text}");
}

#[test]
fn other_functions_stay() {
    let graph = network(|graph, y| unary(graph, edgecc_ir::UnaryOp::Tanh, y));
    let mut after = graph.clone();
    integer_contractions(&mut after);
    while fuse_epilogue(&mut after) > 0 {}
    assert_eq!(fold_requantize(&mut after), 0);
    assert!(epilogue(&after).contains("tanh"));
}
