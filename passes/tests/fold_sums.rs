//! Biases of sums of integers, and inverse steps.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, NodeId, Op, Tensor, UnaryOp, eval};
use edgecc_passes::fuse::{fuse_epilogue, fuse_maps, fuse_operands};
use edgecc_passes::quantize::{fold_sums, integer_contractions};
use edgecc_passes::simplify::{inline_scalars, simplify_expressions};
use support::*;

/// A quantised convolution with a bias and what `behind` makes of it, quantised again with the least integer for 0.
fn network(behind: impl Fn(&mut Graph, NodeId) -> NodeId) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 8, 6, 6]);
    let q = quantize(&mut graph, x, DType::I8, 0.008, 11);
    let x = dequantize_all(&mut graph, q, 0.008, 11);
    let filters = quantized_weights(&mut graph, DType::I8, &[8, 8, 1, 1], 0, 1);
    let op = Op::Conv { window: window(&[1, 1], 1, 0), groups: 1, epilogue: plain() };
    let y = add(&mut graph, op, &[x, filters]);
    let bias = weights(&mut graph, &[8, 1, 1], 3);
    let y = binary(&mut graph, BinaryOp::Add, y, bias);
    let y = behind(&mut graph, y);
    let y = quantize(&mut graph, y, DType::I8, 0.01, -128);
    graph.output("y", y);
    graph
}

fn fuse(graph: &mut Graph) {
    let fused = |graph: &mut Graph| fuse_maps(graph) + fuse_epilogue(graph) + fuse_operands(graph);
    while inline_scalars(graph) + simplify_expressions(graph) + fused(graph) > 0 {}
}

/// The epilogue after fusion and the pass, and how many results are other integers than before; none is more than a step away.
fn folded(graph: Graph) -> (String, usize) {
    let mut after = graph.clone();
    assert_eq!(integer_contractions(&mut after), 1);
    fuse(&mut after);
    assert!(fold_sums(&mut after) > 0);
    while fold_sums(&mut after) > 0 {}
    let x = Tensor::from_f32(graph.ty(graph.inputs()[0]).shape.clone(), &numbers(288, 5));
    let [before, after_values] =
        [&graph, &after].map(|graph| eval::run(graph, std::slice::from_ref(&x)).expect("a sound graph")[0].to_i64());
    assert!(before.iter().zip(&after_values).all(|(a, b)| (a - b).abs() <= 1));
    let apart = before.iter().zip(&after_values).filter(|(a, b)| a != b).count();
    let text = after.to_text();
    let start = text.find("epilogue=").expect("an epilogue") + "epilogue=".len();
    (text[start..].split(" : ").next().unwrap_or_default().to_string(), apart)
}

#[test]
fn a_bias_in_front_of_a_function_becomes_an_integer() {
    let (text, apart) = folded(network(|graph, y| unary(graph, UnaryOp::Tanh, y)));
    assert!(text.starts_with("i8(round(tanh(f32(acc + e") && !text.contains('/'), "{text}");
    assert!(apart <= 3, "{apart}");
}

#[test]
fn a_bound_that_the_cast_keeps_goes() {
    let (text, apart) = folded(network(|graph, y| {
        let y = unary(graph, UnaryOp::Tanh, y);
        relu(graph, y)
    }));
    assert!(!text.contains("max"), "{text}");
    assert!(apart <= 3, "{apart}");
}

#[test]
fn a_bound_above_the_least_integer_stays() {
    let mut graph = network(|graph, y| unary(graph, UnaryOp::Tanh, y));
    let y = graph.outputs()[0].node;
    let back = dequantize_all(&mut graph, y, 0.01, -128);
    let bounded = relu(&mut graph, back);
    let again = quantize(&mut graph, bounded, DType::I8, 0.02, -100);
    graph.set_output(0, again);
    let mut after = graph.clone();
    integer_contractions(&mut after);
    fuse(&mut after);
    while fold_sums(&mut after) > 0 {}
    assert!(after.to_text().contains("max"), "{}", after.to_text());
}
