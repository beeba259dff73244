//! Loop nests that are refused, and indices whose bounds are found only by looking closely.

use edgecc_backends::kernel::{
    Access, BufferType, Index, KernelError, Local, LoopKernel, LoopMode, Stmt, Value, Var, check,
};
use edgecc_ir::{BinaryOp, DType, Expr};

fn buffer(elements: usize, access: Access) -> BufferType {
    BufferType { dtype: DType::F32, elements, access }
}

fn looped(var: u16, begin: Index, end: Index, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var: Var(var), begin, end, mode: LoopMode::Serial, body }
}

fn copy(from: Index, to: Index) -> Vec<Stmt> {
    vec![
        Stmt::Set { local: Local(0), value: Value::Load { buffer: 0, index: from } },
        Stmt::Store { buffer: 1, index: to, local: Local(0) },
    ]
}

/// `range` iterations of `body` over a buffer of `read` and one of `written` elements.
fn kernel(range: usize, read: usize, written: usize, body: Vec<Stmt>) -> LoopKernel {
    let buffers = vec![buffer(read, Access::Read), buffer(written, Access::Write)];
    LoopKernel { buffers, locals: vec![DType::F32, DType::I64], vars: 4, range, body }
}

fn var(number: u16) -> Index {
    Index::Var(Var(number))
}

fn number(value: i64) -> Index {
    Index::Constant(value)
}

#[test]
fn the_last_element_is_within_and_the_next_is_not() {
    let body = |at: Index| copy(at, var(0));
    assert_eq!(check(&kernel(10, 13, 10, body(var(0).plus(number(3))))), Ok(()));
    let beyond = check(&kernel(10, 13, 10, body(var(0).plus(number(4)))));
    assert_eq!(beyond, Err(KernelError::OutOfBounds { buffer: 0, low: 4, high: 13, elements: 13 }));
    let before = check(&kernel(10, 13, 10, body(var(0).plus(number(-1)))));
    assert_eq!(before, Err(KernelError::OutOfBounds { buffer: 0, low: -1, high: 8, elements: 13 }));
}

#[test]
fn quotients_remainders_and_clamps_have_bounds() {
    let within = |at: Index, read: usize| check(&kernel(12, read, 12, copy(at, var(0))));
    assert_eq!(within(var(0).floor_div(3), 4), Ok(()));
    assert!(within(var(0).floor_div(3), 3).is_err());
    assert_eq!(within(var(0).modulo(5), 5), Ok(()));
    assert!(within(var(0).modulo(5), 4).is_err());
    assert_eq!(within(var(0).plus(number(-4)).max(number(0)).min(number(6)), 7), Ok(()));
    assert_eq!(within(Index::Clamped { local: Local(1), low: 2, high: 6 }, 7), Ok(()));
    assert!(within(Index::Clamped { local: Local(1), low: -1, high: 6 }, 7).is_err());
}

/// A window of 3 taps, dilated by 2, with 2 elements of padding on either side of 1000 elements: neither the first nor the
/// last tap is bounded by a number, and the tap's number follows from both loops.
#[test]
fn clipped_windows_are_followed_position_by_position() {
    let first = || var(0).plus(number(-2));
    let begin = first().times(-1).plus(number(1)).floor_div(2).max(number(0));
    let end = |limit: i64| number(limit - 1).plus(first().times(-1)).floor_div(2).plus(number(1)).min(number(3));
    let at = || first().plus(var(1).times(2));
    let taps = |limit: i64| vec![looped(1, begin.clone(), end(limit), copy(at(), var(0)))];
    assert_eq!(check(&kernel(1000, 1000, 1000, taps(1000))), Ok(()));
    let beyond = check(&kernel(1000, 1000, 1000, taps(1001)));
    assert_eq!(beyond, Err(KernelError::OutOfBounds { buffer: 0, low: 0, high: 1000, elements: 1000 }));
}

#[test]
fn loops_without_iterations_touch_nothing() {
    let never = vec![looped(1, number(4), number(4), copy(number(-5), var(0)))];
    assert_eq!(check(&kernel(10, 1, 10, never)), Ok(()));
    assert_eq!(check(&kernel(0, 0, 0, copy(var(0), var(0)))), Ok(()));
}

#[test]
fn values_have_the_types_of_their_places() {
    let set = |local: u16, value: Value| check(&kernel(1, 1, 1, vec![Stmt::Set { local: Local(local), value }]));
    let type_error = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Type { .. }));
    assert!(type_error(set(1, Value::Load { buffer: 0, index: number(0) })));
    assert!(type_error(set(0, Value::Index(number(0)))));
    let mut sum = Expr::new();
    let (a, b) = (sum.arg(0, DType::F32), sum.arg(1, DType::F32));
    let root = sum.binary(BinaryOp::Add, a, b);
    let sum = sum.with_root(root);
    assert!(type_error(set(0, Value::Apply { expr: sum.clone(), arguments: vec![Local(0), Local(1)] })));
    assert!(type_error(set(1, Value::Apply { expr: sum.clone(), arguments: vec![Local(0), Local(0)] })));
    let missing = set(0, Value::Apply { expr: sum, arguments: vec![Local(0)] });
    assert_eq!(missing, Err(KernelError::Unknown { what: "argument", number: 1 }));
    assert_eq!(set(7, Value::Index(number(0))), Err(KernelError::Unknown { what: "local", number: 7 }));
}

#[test]
fn buffers_are_used_as_declared() {
    let store = Stmt::Store { buffer: 0, index: number(0), local: Local(0) };
    let refused = |access| Err(KernelError::Access { buffer: if access == Access::Read { 0 } else { 1 }, access });
    assert_eq!(check(&kernel(1, 1, 1, vec![store])), refused(Access::Read));
    let load = Stmt::Set { local: Local(0), value: Value::Load { buffer: 1, index: number(0) } };
    assert_eq!(check(&kernel(1, 1, 1, vec![load])), refused(Access::Write));
}

#[test]
fn divisors_are_positive() {
    let at = Index::FloorDiv(Box::new(var(0)), 0);
    assert!(matches!(check(&kernel(1, 1, 1, copy(at, var(0)))), Err(KernelError::Malformed(_))));
}
