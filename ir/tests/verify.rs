//! The verifier: each rule broken once, and a graph that breaks none.

use edgecc_ir::{
    DType, Expr, Graph, Layout, NodeFault, NodeId, Op, Origin, Shape, TensorType, Type, UnaryOp, VerifyError, verify,
};

fn absolute() -> Op {
    let mut expr = Expr::new();
    let x = expr.arg(0, DType::F32);
    let root = expr.unary(UnaryOp::Abs, x);
    Op::Map(expr.with_root(root))
}

/// `y = |x|` for `x: f32[2x3]`.
fn sound() -> (Graph, NodeId, NodeId) {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::new(DType::F32, Shape::new(&[2, 3])));
    let y = graph.add(absolute(), &[x], Origin::named("abs")).unwrap();
    graph.output("y", y);
    (graph, x, y)
}

fn fault(graph: &Graph) -> NodeFault {
    match verify(graph).unwrap_err() {
        VerifyError::Node { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_sound_graph_passes() {
    assert_eq!(verify(&sound().0), Ok(()));
}

#[test]
fn a_layout_may_be_any_permutation() {
    let (mut graph, _, y) = sound();
    let ty = graph.ty(y).with_layout(Layout::from_order(&[1, 0]).unwrap());
    graph.set_type(y, Type::Tensor(ty));
    assert_eq!(verify(&graph), Ok(()));
}

#[test]
fn a_layout_of_another_rank_is_found() {
    let (mut graph, _, y) = sound();
    let ty = graph.ty(y).with_layout(Layout::row_major(3));
    graph.set_type(y, Type::Tensor(ty));
    assert!(matches!(fault(&graph), NodeFault::Layout(_)));
}

#[test]
fn a_relayout_has_its_own_layout() {
    let (mut graph, x, _) = sound();
    let swapped = Layout::from_order(&[1, 0]).unwrap();
    let z = graph.add(Op::Relayout(swapped), &[x], Origin::default()).unwrap();
    graph.output("z", z);
    assert_eq!(verify(&graph), Ok(()));
    graph.set_type(z, Type::Tensor(TensorType::new(DType::F32, Shape::new(&[2, 3]))));
    assert!(matches!(fault(&graph), NodeFault::Type { .. }));
}

#[test]
fn a_type_that_does_not_follow_is_found_and_named() {
    let (mut graph, _, y) = sound();
    graph.set_type(y, Type::Tensor(TensorType::new(DType::F32, Shape::new(&[3, 2]))));
    let text = verify(&graph).unwrap_err().to_string();
    assert_eq!(text, format!("map #{} (abs): has type f32[3x2], its operands give f32[2x3]", y.index()));
}

#[test]
fn operands_that_an_operator_does_not_take_are_found() {
    let (mut graph, x, _) = sound();
    graph.set_type(x, Type::Tensor(TensorType::new(DType::I64, Shape::new(&[2, 3]))));
    assert!(matches!(fault(&graph), NodeFault::Types(_)));
}

#[test]
fn a_cycle_is_found() {
    let (mut graph, x, y) = sound();
    let z = graph.add(absolute(), &[y], Origin::default()).unwrap();
    graph.output("z", z);
    graph.replace_operand(y, x, z);
    assert_eq!(fault(&graph), NodeFault::Cycle);
}

#[test]
fn a_tuple_is_no_output_and_no_operand() {
    let (mut graph, x, _) = sound();
    let top = Op::TopK { axis: 1, count: 2, extreme: edgecc_ir::Extreme::Max };
    let pair = graph.add(top, &[x], Origin::default()).unwrap();
    assert!(graph.add(absolute(), &[pair], Origin::default()).is_err());
    graph.output("pair", pair);
    assert_eq!(fault(&graph), NodeFault::TupleOutput("pair".into()));
}

#[test]
fn inputs_are_listed_and_stay_inputs() {
    let (mut graph, x, y) = sound();
    let other = graph.add(absolute(), &[x], Origin::default()).unwrap();
    graph.output("other", other);
    graph.rewrite(other, Op::Input { name: "z".into() }, &[], Origin::default()).unwrap_err();
    graph
        .rewrite(x, Op::Constant(edgecc_ir::Tensor::from_f32(Shape::new(&[1]), &[0.0])), &[], Origin::default())
        .unwrap();
    graph.set_type(y, Type::Tensor(TensorType::new(DType::F32, Shape::new(&[1]))));
    graph.set_type(other, Type::Tensor(TensorType::new(DType::F32, Shape::new(&[1]))));
    assert_eq!(fault(&graph), NodeFault::NoInput);
}

#[test]
fn names_are_distinct() {
    let (mut graph, ..) = sound();
    graph.input("x", TensorType::new(DType::F32, Shape::scalar()));
    assert_eq!(verify(&graph), Err(VerifyError::InputName("x".into())));
    let (mut graph, x, _) = sound();
    graph.output("y", x);
    assert_eq!(verify(&graph), Err(VerifyError::OutputName("y".into())));
}
