//! Transposes move behind operators.

mod support;

use edgecc_ir::{BinaryOp, Graph, NodeId, Op, PadMode, Resample, Shape};
use edgecc_passes::simplify::sink_transposes;
use support::*;

const PERM: [usize; 4] = [0, 2, 3, 1];

/// An operator on the transposed `[1,3,4,5]`, which has the extents `[1,4,5,3]`.
fn on_transposed(op: Op, further: impl Fn(&mut Graph) -> Vec<NodeId>) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 3, 4, 5]);
    let moved = transpose(&mut graph, x, &PERM);
    let operands = [vec![moved], further(&mut graph)].concat();
    let y = add(&mut graph, op, &operands);
    graph.output("y", y);
    graph
}

#[test]
fn operators_along_axes_name_them_as_the_operand_does() {
    let nearest = Resample { axis: 1, extent: 8, taps: 1, indices: vec![0, 0, 1, 1, 2, 2, 3, 3], weights: vec![] };
    let unary_operators = [
        Op::Softmax { axis: 3, log: false },
        Op::Normalize { axes: vec![1, 3], epsilon: 1e-5f32.to_bits(), root_mean_square: false },
        Op::Reduce { kind: edgecc_ir::ReduceKind::Sum, axes: vec![1, 2] },
        Op::ArgReduce { extreme: edgecc_ir::Extreme::Max, axis: 2, last: false },
        Op::CumulativeSum { axis: 2, exclusive: false, reverse: true },
        Op::Slice { starts: vec![0, 3, 0, 1], steps: vec![1, -1, 2, 1], counts: vec![1, 2, 3, 2] },
        Op::Pad { mode: PadMode::Edge, before: vec![0, 1, 2, 0], after: vec![0, 0, 1, 3] },
        Op::Tile { repeats: vec![2, 1, 3, 1] },
        Op::Broadcast(Shape::new(&[6, 4, 5, 3])),
        Op::Resize { axes: vec![nearest] },
    ];
    for op in unary_operators {
        let name = op.name();
        let (graph, rewrites) = check(on_transposed(op, |_| Vec::new()), sink_transposes);
        assert_eq!((operators(&graph), rewrites), (vec![name, "transpose"], 1));
    }
}

#[test]
fn operands_of_a_map_follow() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[1, 3, 4, 5]), input(&mut graph, &[1, 3, 4, 5]));
    let (x, z) = (transpose(&mut graph, x, &PERM), transpose(&mut graph, z, &PERM));
    let sum = binary(&mut graph, BinaryOp::Add, x, z);
    let bias = weights(&mut graph, &[3], 1);
    let biased = binary(&mut graph, BinaryOp::Add, sum, bias);
    let gate = input(&mut graph, &[1, 1, 1, 3]);
    let y = binary(&mut graph, BinaryOp::Mul, biased, gate);
    graph.output("y", y);
    let (graph, _) = check(graph, sink_transposes);
    assert_eq!(*operators(&graph).last().expect("an operator"), "transpose");
    assert_eq!(operators(&graph).iter().filter(|&&name| name == "transpose").count(), 1);
}

#[test]
fn all_operands_of_a_concatenation_follow() {
    let mut graph = Graph::new("case");
    let parts = [0, 1].map(|_| input(&mut graph, &[1, 3, 4, 5])).map(|x| transpose(&mut graph, x, &PERM));
    let y = add(&mut graph, Op::Concat { axis: 3 }, &parts);
    graph.output("y", y);
    let (graph, _) = check(graph, sink_transposes);
    assert_eq!(operators(&graph), ["concat", "transpose"]);
    assert_eq!(graph.op(graph.operands(graph.outputs()[0].node)[0]), &Op::Concat { axis: 1 });
}

#[test]
fn a_map_with_another_operand_that_would_move_stays() {
    let mut graph = Graph::new("case");
    let (x, z) = (input(&mut graph, &[1, 3, 4, 5]), input(&mut graph, &[1, 4, 5, 3]));
    let x = transpose(&mut graph, x, &PERM);
    let y = binary(&mut graph, BinaryOp::Add, x, z);
    graph.output("y", y);
    check_unchanged(graph, sink_transposes);
}

#[test]
fn a_pool_keeps_its_transpose() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 5, 3]);
    let x = transpose(&mut graph, x, &[0, 3, 1, 2]);
    let y = max_pool(&mut graph, x, 2, 1, 0);
    graph.output("y", y);
    check_unchanged(graph, sink_transposes);
}
