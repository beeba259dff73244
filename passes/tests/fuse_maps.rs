//! Maps that read maps.

mod support;

use edgecc_ir::{BinaryOp, Graph, UnaryOp};
use edgecc_passes::fuse::fuse_maps;
use support::*;

#[test]
fn a_chain_becomes_one_map_that_reads_each_operand_once() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[2, 3]), input(&mut graph, &[3]));
    let sum = binary(&mut graph, BinaryOp::Add, x, z);
    let y = unary(&mut graph, UnaryOp::Tanh, sum);
    let y = binary(&mut graph, BinaryOp::Mul, y, x);
    graph.output("y", y);
    let (graph, rewrites) = check(graph, fuse_maps);
    assert_eq!((operators(&graph), rewrites), (vec!["map"], 2));
    assert_eq!(graph.operands(graph.outputs()[0].node), [x, z]);
}

#[test]
fn a_cheap_smaller_producer_is_computed_again() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[2, 3]), input(&mut graph, &[3]));
    let negative = unary(&mut graph, UnaryOp::Neg, z);
    let y = binary(&mut graph, BinaryOp::Mul, x, negative);
    graph.output("y", y);
    let (graph, _) = check(graph, fuse_maps);
    assert_eq!(operators(&graph), ["map"]);
}

#[test]
fn an_expensive_smaller_producer_stays() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[2, 3]), input(&mut graph, &[3]));
    let gate = unary(&mut graph, UnaryOp::Sigmoid, z);
    let y = binary(&mut graph, BinaryOp::Mul, x, gate);
    graph.output("y", y);
    check_unchanged(graph, fuse_maps);
}

#[test]
fn a_producer_that_others_read_stays() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let shared = unary(&mut graph, UnaryOp::Tanh, x);
    let (a, b) = (unary(&mut graph, UnaryOp::Abs, shared), unary(&mut graph, UnaryOp::Exp, shared));
    graph.output("a", a);
    graph.output("b", b);
    check_unchanged(graph, fuse_maps);
}

#[test]
fn a_long_chain_is_cut_at_the_limit_of_an_expression() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 3]);
    let y = (0..200).fold(x, |y, step| unary(&mut graph, if step % 2 == 0 { UnaryOp::Sin } else { UnaryOp::Cos }, y));
    graph.output("y", y);
    let (graph, _) = check(graph, fuse_maps);
    let maps = operators(&graph).len();
    assert!((4..=8).contains(&maps), "{maps} maps of at most 64 nodes each");
}
