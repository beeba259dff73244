//! Pads in front of windows.

mod support;

use edgecc_ir::{Graph, NodeId, Op, PadMode, PoolKind};
use edgecc_passes::simplify::fold_pads;
use support::*;

/// One element before and two behind each spatial axis.
fn padded(graph: &mut Graph, x: NodeId, value: f32) -> NodeId {
    let value = scalar(graph, value);
    let op = Op::Pad { mode: PadMode::Constant, before: vec![0, 0, 1, 1], after: vec![0, 0, 2, 2] };
    add(graph, op, &[x, value])
}

fn pool(kind: PoolKind, ceil: bool, pad: usize) -> Op {
    Op::Pool { kind, window: window(&[3, 3], 2, pad), ceil }
}

fn padded_pool(value: f32, activated: bool, op: Op) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2, 6, 6]);
    let x = if activated { relu(&mut graph, x) } else { x };
    let y = padded(&mut graph, x, value);
    let y = add(&mut graph, op, &[y]);
    graph.output("y", y);
    graph
}

fn padded_conv(value: f32) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 2, 6, 6]);
    let y = padded(&mut graph, x, value);
    let y = conv(&mut graph, y, [4, 2, 3, 3], 2, 1, 1);
    graph.output("y", y);
    graph
}

#[test]
fn a_convolution_pads_with_zeros() {
    let (graph, _) = check(padded_conv(0.0), fold_pads);
    assert_eq!(operators(&graph), ["conv"]);
    let Op::Conv { window, .. } = graph.op(graph.outputs()[0].node) else { panic!("a convolution") };
    assert_eq!((&window.pads_before[..], &window.pads_after[..]), (&[2, 2][..], &[3, 3][..]));
}

#[test]
fn a_convolution_keeps_other_pads() {
    check_unchanged(padded_conv(1.0), fold_pads);
}

#[test]
fn an_average_counts_folded_pads() {
    let average = |count_pads, pad| pool(PoolKind::Average { count_pads }, false, pad);
    for op in [average(false, 0), average(true, 1)] {
        let (graph, _) = check(padded_pool(0.0, false, op), fold_pads);
        assert_eq!(operators(&graph), ["average_pool"]);
    }
    check_unchanged(padded_pool(0.0, false, average(false, 1)), fold_pads);
}

#[test]
fn a_maximum_takes_pads_that_never_win() {
    for (value, activated) in [(f32::NEG_INFINITY, false), (0.0, true)] {
        let (graph, _) = check(padded_pool(value, activated, pool(PoolKind::Max, false, 0)), fold_pads);
        assert_eq!(*operators(&graph).last().expect("an operator"), "max_pool");
        assert!(!operators(&graph).contains(&"pad"));
    }
    check_unchanged(padded_pool(0.0, false, pool(PoolKind::Max, false, 0)), fold_pads);
    check_unchanged(padded_pool(0.0, true, pool(PoolKind::Max, false, 2)), fold_pads);
}

#[test]
fn a_pool_that_rounds_up_keeps_its_pad() {
    check_unchanged(padded_pool(f32::NEG_INFINITY, false, pool(PoolKind::Max, true, 0)), fold_pads);
}

#[test]
fn a_transpose_may_stand_between_pad_and_window() {
    for (channel_pad, expected) in [(0, vec!["transpose", "conv"]), (1, vec!["pad", "transpose", "conv"])] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[1, 6, 6, 2 - channel_pad]);
        let zero = scalar(&mut graph, 0.0);
        let op = Op::Pad { mode: PadMode::Constant, before: vec![0, 1, 0, 0], after: vec![0, 0, 2, channel_pad] };
        let y = add(&mut graph, op, &[x, zero]);
        let y = transpose(&mut graph, y, &[0, 3, 1, 2]);
        let y = conv(&mut graph, y, [4, 2, 3, 3], 1, 0, 1);
        graph.output("y", y);
        let (graph, _) = check(graph, fold_pads);
        assert_eq!(operators(&graph), expected);
    }
}
