//! Factors and shifts of channels go into the weights around a value, and the network computes what it did.

mod support;

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, UnaryOp, verify};
use edgecc_passes::quantize::{Shift, Site, equalization_sites, scale_channels, shift_channels};
use support::*;

const CHANNELS: usize = 6;

/// A convolution with a bias, so that a network behind [`edgecc_passes::prepare`] has it in the epilogue.
fn layer(graph: &mut Graph, x: NodeId, filters: [usize; 4], pad: usize, groups: usize) -> NodeId {
    let sums = conv(graph, x, filters, 1, pad, groups);
    let bias = weights(graph, &[filters[0], 1, 1], graph.len() as u64);
    binary(graph, BinaryOp::Add, sums, bias)
}

/// A value made by a layer and a function, read by a layer; the graph and the only site.
fn network(function: impl Fn(&mut Graph, NodeId) -> NodeId, pad: usize, groups: usize) -> (Graph, Site) {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 3, 6, 5]);
    let made = layer(&mut graph, x, [CHANNELS, 3, 1, 1], 0, 1);
    let value = function(&mut graph, made);
    let read = layer(&mut graph, value, [CHANNELS, CHANNELS / groups, 3, 3], pad, groups);
    graph.output("y", read);
    edgecc_passes::prepare(&mut graph, &edgecc_passes::Options::default(), &mut |_, _| {}).expect("sound passes");
    let layers: Vec<NodeId> = graph.order().into_iter().filter(|&id| matches!(graph.op(id), Op::Conv { .. })).collect();
    let value = graph.operands(layers[layers.len() - 1])[0];
    let site = equalization_sites(&graph, &[value]).pop().expect("a site");
    (graph, site)
}

fn factors() -> Vec<f64> {
    (0..CHANNELS).map(|channel| 0.25 + channel as f64).collect()
}

/// Scales the site's channels, which changes no value behind them, and gives the operators that there are then.
fn scaled((graph, site): (Graph, Site), factors: &[f64]) -> Vec<&'static str> {
    let mut after = graph.clone();
    scale_channels(&mut after, &site, factors).expect("sound rewrites");
    verify(&after).expect("a sound graph");
    same_values_within(&graph, &after, 1e-4);
    operators(&after)
}

fn silu(graph: &mut Graph, x: NodeId) -> NodeId {
    let gate = unary(graph, UnaryOp::Sigmoid, x);
    binary(graph, BinaryOp::Mul, x, gate)
}

fn relu6(graph: &mut Graph, x: NodeId) -> NodeId {
    let (x, most) = (relu(graph, x), scalar(graph, 6.0));
    binary(graph, BinaryOp::Min, x, most)
}

fn leaky(graph: &mut Graph, x: NodeId) -> NodeId {
    let mut expr = Expr::new();
    let value = expr.arg(0, DType::F32);
    let slope = expr.number(value, 0.125);
    let less = expr.binary(BinaryOp::Mul, value, slope);
    let root = expr.binary(BinaryOp::Max, value, less);
    add(graph, Op::Map(expr.with_root(root)), &[x])
}

#[test]
fn weights_take_factors_around_homogeneous_functions() {
    for groups in [1, 2, CHANNELS] {
        for function in [|_: &mut Graph, x: NodeId| x, relu, leaky] {
            let case = network(function, 1, groups);
            assert!(case.1.is_free && case.1.bound.is_none());
            let before = operators(&case.0);
            assert_eq!(scaled(case, &factors()), before);
        }
    }
}

#[test]
fn other_functions_multiply_by_factors() {
    let case = network(silu, 1, 1);
    assert!(!case.1.is_free);
    let before = operators(&case.0);
    assert_eq!(scaled(case, &factors()), before);
}

#[test]
fn factors_below_a_bound_keep_it() {
    let case = network(relu6, 0, 1);
    assert_eq!(case.1.bound, Some(6.0));
    // Numbers in the network are small: what a factor lets grow stays below 6.
    assert!(case.1.is_free);
    let factors: Vec<f64> = factors().iter().map(|factor| (factor / 6.0).max(0.8)).collect();
    let before = operators(&case.0);
    assert_eq!(scaled(case, &factors), before);
}

#[test]
fn parts_of_a_concat_and_pools_pass_factors() {
    let case = network(
        |graph, x| {
            let x = relu(graph, x);
            let parts = [4, 2].map(|channels| {
                let part = layer(graph, x, [channels, CHANNELS, 1, 1], 0, 1);
                relu(graph, part)
            });
            let both = add(graph, Op::Concat { axis: 1 }, &parts);
            max_pool(graph, both, 2, 1, 0)
        },
        1,
        1,
    );
    assert!(case.1.is_free);
    let before = operators(&case.0);
    assert_eq!(scaled(case, &factors()), before);
}

#[test]
fn sums_that_read_a_value_multiply_it() {
    let case = network(
        |graph, x| {
            let x = relu(graph, x);
            let own = layer(graph, x, [CHANNELS, CHANNELS, 1, 1], 0, 1);
            binary(graph, BinaryOp::Add, x, own)
        },
        1,
        1,
    );
    let (graph, _) = &case;
    let sum = graph.order().into_iter().find(|&id| matches!(graph.op(id), Op::Map(_)) && graph.operands(id).len() == 2);
    let entry = graph.operands(sum.expect("the sum"))[0];
    let site = equalization_sites(graph, &[entry]).pop().expect("a site");
    assert!(!site.is_free && site.shift == Shift::None);
    scaled((graph.clone(), site), &factors());
}

#[test]
fn values_that_leave_the_network_are_no_sites() {
    let (mut graph, site) = network(relu, 1, 1);
    graph.output("also", site.value);
    assert!(equalization_sites(&graph, &[site.value]).is_empty());
}

#[test]
fn biases_take_shifts_where_nothing_pads() {
    let (graph, site) = network(|_, x| x, 0, 1);
    assert_eq!((site.shift, network(relu, 0, 1).1.shift), (Shift::Any, Shift::AboveZero));
    let mut after = graph.clone();
    shift_channels(&mut after, &site, &factors()).expect("sound rewrites");
    verify(&after).expect("a sound graph");
    same_values_within(&graph, &after, 1e-4);
    assert_eq!(network(relu, 1, 1).1.shift, Shift::None);
    assert_eq!(network(silu, 0, 1).1.shift, Shift::None);
}
