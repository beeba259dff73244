//! Element-wise operators, reductions, softmax and pools, lowered and run against the reference evaluator.

mod lower_support;
mod support;

use edgecc_ir::{BinaryOp, DType, Extreme, Op, PoolKind, ReduceKind};
use lower_support::{Case, binary, window};

#[test]
fn maps_broadcast_in_every_rank_and_axis_order() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[], &[]),
        (&[5], &[]),
        (&[2, 3], &[3]),
        (&[1, 7, 3, 5], &[7, 1, 1]),
        (&[2, 1, 3, 5], &[1, 4, 1, 5]),
        (&[2, 3, 2, 3, 2], &[3, 1, 1, 2]),
        (&[2, 0, 3], &[3]),
        (&[3, 2048], &[3, 2048]),
    ];
    for (a, b) in shapes {
        let mut case = Case::new();
        let operands = [case.floats(a), case.floats(b)];
        case.check(Op::Map(binary(BinaryOp::Sub, DType::F32)), &operands);
    }
}

#[test]
fn casts_read_and_write_elements_of_unlike_sizes() {
    let mut case = Case::new();
    let x = case.input(DType::U8, &[2, 3, 5, 4]);
    let mut expr = edgecc_ir::Expr::argument(0, DType::U8);
    let root = expr.cast(DType::F16, expr.root());
    case.check(Op::Map(expr.with_root(root)), &[x]);
}

#[test]
fn reductions_run_along_any_axes() {
    let axes: [&[usize]; 8] = [&[], &[0], &[1], &[3], &[2, 3], &[1, 2], &[0, 2], &[0, 1, 2, 3]];
    for axes in axes {
        for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Product] {
            let mut case = Case::new();
            let x = case.floats(&[2, 5, 3, 7]);
            case.check_within(Op::Reduce { kind, axes: axes.to_vec() }, &[x], 1e-5);
        }
    }
}

#[test]
fn reductions_keep_to_the_element_type() {
    for (dtype, kind) in [
        (DType::I32, ReduceKind::Mean),
        (DType::U8, ReduceKind::Sum),
        (DType::U8, ReduceKind::Mean),
        (DType::I64, ReduceKind::Product),
        (DType::I8, ReduceKind::Max),
        (DType::Bool, ReduceKind::Max),
        (DType::Bool, ReduceKind::Min),
        (DType::F64, ReduceKind::Sum),
    ] {
        let mut case = Case::new();
        let x = case.input(dtype, &[3, 70]);
        case.check(Op::Reduce { kind, axes: vec![1] }, &[x]);
    }
}

#[test]
fn reductions_of_nothing_give_the_neutral_element() {
    for kind in [ReduceKind::Sum, ReduceKind::Product, ReduceKind::Max] {
        let mut case = Case::new();
        let x = case.floats(&[3, 0]);
        case.check(Op::Reduce { kind, axes: vec![1] }, &[x]);
    }
}

#[test]
fn a_scalar_reduces_to_itself() {
    let mut case = Case::new();
    let x = case.floats(&[]);
    case.check(Op::Reduce { kind: ReduceKind::Sum, axes: vec![] }, &[x]);
}

#[test]
fn arg_reductions_take_the_first_or_the_last_of_equals() {
    for (extreme, last) in [(Extreme::Max, false), (Extreme::Max, true), (Extreme::Min, false), (Extreme::Min, true)] {
        for axis in 0..3 {
            let mut case = Case::new();
            let x = case.input(DType::I32, &[3, 17, 4]);
            case.check(Op::ArgReduce { extreme, axis, last }, &[x]);
        }
    }
}

#[test]
fn softmax_runs_along_any_axis() {
    for log in [false, true] {
        for axis in 0..4 {
            let mut case = Case::new();
            let x = case.floats(&[2, 5, 3, 7]);
            case.check_within(Op::Softmax { axis, log }, &[x], 1e-5);
        }
    }
}

#[test]
fn pools_clip_their_windows() {
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { count_pads: false },
        PoolKind::Average { count_pads: true },
        PoolKind::Lp { p: 1 },
        PoolKind::Lp { p: 2 },
        PoolKind::Lp { p: 3 },
    ];
    let windows = [
        (window(&[3, 3], 2, 1, 1, 1), false),
        (window(&[3, 2], 2, 1, 0, 0), true),
        (window(&[2, 2], 1, 2, 1, 0), false),
        (window(&[3, 3], 2, 2, 2, 1), true),
        (window(&[3, 3], 2, 1, 0, 1), true),
        (window(&[1, 1], 1, 1, 0, 0), false),
        (window(&[7, 6], 1, 1, 0, 0), false),
    ];
    for kind in kinds {
        for (window, ceil) in &windows {
            let mut case = Case::new();
            let x = case.floats(&[2, 5, 7, 6]);
            case.check_within(Op::Pool { kind, window: window.clone(), ceil: *ceil }, &[x], 1e-5);
        }
    }
}

#[test]
fn pools_have_one_to_three_spatial_axes() {
    for (shape, kernel) in [(vec![1, 3, 9], vec![3]), (vec![1, 3, 5, 4, 6], vec![2, 3, 2])] {
        let mut case = Case::new();
        let x = case.floats(&shape);
        let window = window(&kernel, 2, 1, 1, 1);
        case.check(Op::Pool { kind: PoolKind::Max, window, ceil: true }, &[x]);
    }
}

#[test]
fn pool_indices_count_rows_or_columns_first() {
    for column_major in [false, true] {
        for dilation in [1, 2] {
            let mut case = Case::new();
            let x = case.floats(&[2, 3, 7, 6]);
            let window = window(&[3, 2], 2, dilation, 1, 1);
            case.check(Op::PoolIndices { window, ceil: true, column_major }, &[x]);
        }
    }
}
