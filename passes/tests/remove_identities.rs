//! Nodes that change nothing.

mod support;

use edgecc_ir::{DType, Expr, Graph, NodeId, Op, ReduceKind, Shape};
use edgecc_passes::simplify::remove_identities;
use support::*;

const EXTENTS: [usize; 3] = [2, 1, 4];

fn one_operator(op: Op) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &EXTENTS);
    let y = relu(&mut graph, x);
    let y = add(&mut graph, op, &[y]);
    graph.output("y", y);
    graph
}

fn slice(starts: [usize; 3], steps: [isize; 3], counts: [usize; 3]) -> Op {
    Op::Slice { starts: starts.into(), steps: steps.into(), counts: counts.into() }
}

#[test]
fn operators_that_keep_every_element_in_its_place_go() {
    let identities = [
        Op::Map(Expr::argument(0, DType::F32)),
        Op::Reshape(Shape::new(&EXTENTS)),
        Op::Broadcast(Shape::new(&EXTENTS)),
        Op::Transpose(vec![0, 1, 2]),
        Op::Concat { axis: 1 },
        Op::Tile { repeats: vec![1, 1, 1] },
        Op::Reduce { kind: ReduceKind::Max, axes: vec![1] },
        Op::Resize { axes: Vec::new() },
        slice([0, 0, 0], [1, -1, 1], EXTENTS),
    ];
    for op in identities {
        let (graph, rewrites) = check(one_operator(op.clone()), remove_identities);
        assert_eq!((operators(&graph), rewrites), (vec!["map"], 1), "{op:?}");
    }
}

#[test]
fn operators_that_move_or_repeat_elements_stay() {
    let movements = [
        Op::Reshape(Shape::new(&[2, 4])),
        Op::Transpose(vec![1, 0, 2]),
        Op::Broadcast(Shape::new(&[2, 3, 4])),
        Op::Tile { repeats: vec![1, 2, 1] },
        Op::Reduce { kind: ReduceKind::Max, axes: vec![0, 1] },
        slice([1, 0, 3], [-1, 1, -1], EXTENTS),
    ];
    for op in movements {
        check_unchanged(one_operator(op), remove_identities);
    }
}

#[test]
fn a_map_that_broadcasts_its_argument_stays() {
    let mut graph = Graph::new("case");
    let (x, shape) = (input(&mut graph, &[3]), input(&mut graph, &[2, 3]));
    let y = add(&mut graph, Op::Map(Expr::argument(0, DType::F32)), &[x, shape]);
    graph.output("y", y);
    check_unchanged(graph, remove_identities);
}

#[test]
fn a_concatenation_with_an_empty_tensor_is_its_other_operand() {
    let mut graph = Graph::new("case");
    let parts: Vec<NodeId> = [[2, 0], [2, 3]].iter().map(|extents| input(&mut graph, extents)).collect();
    let y = add(&mut graph, Op::Concat { axis: 1 }, &parts);
    graph.output("y", y);
    let (graph, _) = check(graph, remove_identities);
    assert_eq!(graph.outputs()[0].node, parts[1]);
}
