//! Operations that do not change a value.

mod support;

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, Graph, Op, Shape, TensorType, UnaryOp};
use edgecc_passes::simplify::simplify_expressions;
use support::*;

/// A map of one operand of type `dtype`, whose expression `build` makes.
fn map(dtype: DType, build: impl Fn(&mut Expr, ExprId) -> ExprId) -> Graph {
    let mut graph = Graph::new("case");
    let x = graph.input("x", TensorType::new(dtype, Shape::new(&[5])));
    let mut expr = Expr::new();
    let argument = expr.arg(0, dtype);
    let root = build(&mut expr, argument);
    let y = add(&mut graph, Op::Map(expr.with_root(root)), &[x]);
    graph.output("y", y);
    graph
}

fn with_number(dtype: DType, op: BinaryOp, value: f64) -> Graph {
    map(dtype, |expr, x| {
        let number = expr.number(x, value);
        expr.binary(op, x, number)
    })
}

fn becomes(graph: Graph, build: impl Fn(&mut Expr, ExprId) -> ExprId) {
    let dtype = graph.ty(graph.inputs()[0]).dtype;
    let expected = map(dtype, build);
    let (graph, _) = check(graph, simplify_expressions);
    assert_eq!(graph.op(graph.outputs()[0].node), expected.op(expected.outputs()[0].node));
}

#[test]
fn neutral_elements_go() {
    let neutral = [
        (DType::F32, BinaryOp::Mul, 1.0),
        (DType::F32, BinaryOp::Div, 1.0),
        (DType::F32, BinaryOp::Sub, 0.0),
        (DType::F32, BinaryOp::Add, -0.0),
        (DType::I64, BinaryOp::Add, 0.0),
        (DType::F32, BinaryOp::Max, f64::NEG_INFINITY),
        (DType::F32, BinaryOp::Pow, 1.0),
        (DType::Bool, BinaryOp::And, 1.0),
    ];
    for (dtype, op, value) in neutral {
        becomes(with_number(dtype, op, value), |_, x| x);
    }
}

#[test]
fn elements_that_change_some_value_stay() {
    let active = [
        (DType::F32, BinaryOp::Add, 0.0),
        (DType::F32, BinaryOp::Sub, -0.0),
        (DType::F32, BinaryOp::Mul, 0.0),
        (DType::F32, BinaryOp::Div, 3.0),
        (DType::I32, BinaryOp::Div, 2.0),
        (DType::F32, BinaryOp::Pow, 0.5),
        (DType::F32, BinaryOp::Max, 0.0),
    ];
    for (dtype, op, value) in active {
        check_unchanged(with_number(dtype, op, value), simplify_expressions);
    }
}

#[test]
fn quotients_and_powers_become_products() {
    becomes(with_number(DType::F32, BinaryOp::Div, 4.0), |expr, x| {
        let quarter = expr.number(x, 0.25);
        expr.binary(BinaryOp::Mul, x, quarter)
    });
    becomes(with_number(DType::F32, BinaryOp::Pow, 2.0), |expr, x| expr.binary(BinaryOp::Mul, x, x));
}

#[test]
fn a_double_negation_goes() {
    becomes(
        map(DType::F32, |expr, x| {
            let negative = expr.unary(UnaryOp::Neg, x);
            expr.unary(UnaryOp::Neg, negative)
        }),
        |_, x| x,
    );
}

fn casts(from: DType, between: DType, to: DType) -> Graph {
    map(from, |expr, x| {
        let wide = expr.cast(between, x);
        expr.cast(to, wide)
    })
}

#[test]
fn casts_that_lose_nothing_compose() {
    for (from, between, to) in [
        (DType::F32, DType::F64, DType::F32),
        (DType::I8, DType::I32, DType::F32),
        (DType::U8, DType::F32, DType::U8),
        (DType::F16, DType::F32, DType::I8),
        (DType::Bool, DType::I64, DType::Bool),
    ] {
        becomes(casts(from, between, to), |expr, x| expr.cast(to, x));
    }
}

#[test]
fn casts_that_round_or_wrap_on_the_way_stay() {
    for (from, between, to) in [
        (DType::F32, DType::F16, DType::F32),
        (DType::I32, DType::F32, DType::I32),
        (DType::I16, DType::F32, DType::U8),
        (DType::I64, DType::Bool, DType::I64),
        (DType::I8, DType::U8, DType::I32),
    ] {
        check_unchanged(casts(from, between, to), simplify_expressions);
    }
}

#[test]
fn operations_on_constants_are_done() {
    let scaled = map(DType::F32, |expr, x| {
        let [two, nine] = [2.0, 9.0].map(|value| expr.number(x, value));
        let three = expr.unary(UnaryOp::Sqrt, nine);
        let six = expr.binary(BinaryOp::Mul, two, three);
        expr.binary(BinaryOp::Mul, x, six)
    });
    becomes(scaled, |expr, x| {
        let six = expr.number(x, 6.0);
        expr.binary(BinaryOp::Mul, x, six)
    });
}
