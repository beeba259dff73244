//! Two movements of the same kind in a row.

mod support;

use edgecc_ir::{Graph, Op, PadMode, Shape};
use edgecc_passes::simplify::compose_movements;
use support::*;

fn chain(extents: &[usize], ops: &[Op]) -> Graph {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, extents);
    let y = ops.iter().fold(x, |y, op| add(&mut graph, op.clone(), &[y]));
    graph.output("y", y);
    graph
}

fn final_op(graph: &Graph) -> Op {
    graph.op(graph.outputs()[0].node).clone()
}

#[test]
fn transposes_compose() {
    let graph = chain(&[2, 3, 4], &[Op::Transpose(vec![2, 0, 1]), Op::Transpose(vec![2, 1, 0])]);
    let (graph, rewrites) = check(graph, compose_movements);
    assert_eq!((rewrites, final_op(&graph)), (1, Op::Transpose(vec![1, 0, 2])));
}

#[test]
fn reshapes_compose() {
    let (graph, _) =
        check(chain(&[2, 3], &[Op::Reshape(Shape::new(&[6])), Op::Reshape(Shape::new(&[3, 2]))]), compose_movements);
    assert_eq!(operators(&graph), ["reshape"]);
}

#[test]
fn slices_compose_forwards_and_backwards() {
    let outer = Op::Slice { starts: vec![1], steps: vec![2], counts: vec![2] };
    let backwards = Op::Slice { starts: vec![9], steps: vec![-2], counts: vec![5] };
    let (graph, _) = check(chain(&[10], &[backwards, outer]), compose_movements);
    // Positions 9, 7, 5, 3, 1, of these the second and the fourth.
    assert_eq!(final_op(&graph), Op::Slice { starts: vec![7], steps: vec![-4], counts: vec![2] });
}

#[test]
fn pads_of_one_value_compose() {
    for (values, expected) in [([1.0, 1.0], vec!["pad"]), ([1.0, 2.0], vec!["pad", "pad"])] {
        let mut graph = Graph::new("case");
        let x = input(&mut graph, &[3]);
        let y = values.iter().fold(x, |y, &value| {
            let value = scalar(&mut graph, value);
            add(&mut graph, Op::Pad { mode: PadMode::Constant, before: vec![1], after: vec![2] }, &[y, value])
        });
        graph.output("y", y);
        let (graph, _) = check(graph, compose_movements);
        assert_eq!(operators(&graph), expected);
    }
}

#[test]
fn movements_of_unlike_kinds_stay() {
    check_unchanged(chain(&[2, 3], &[Op::Transpose(vec![1, 0]), Op::Reshape(Shape::new(&[6]))]), compose_movements);
}

#[test]
fn reflections_do_not_compose() {
    let reflect = Op::Pad { mode: PadMode::Reflect, before: vec![1], after: vec![1] };
    check_unchanged(chain(&[4], &[reflect.clone(), reflect]), compose_movements);
}
