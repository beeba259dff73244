//! Small loops with known bounds, written out: their positions become numbers, and pointers become fewer.

use crate::kernel::{Index, LoopMode, Stmt, Value, Var};

/// Most statements that a loop is written out into.
const STATEMENTS: usize = 40;

/// A body whose serial loops of few iterations, inside of loops in lanes, are written out.
pub(super) fn expanded(body: &[Stmt], is_in_lanes: bool) -> Vec<Stmt> {
    body.iter()
        .flat_map(|statement| match statement {
            Stmt::For { var, begin, end, mode, body } => {
                let body = expanded(body, is_in_lanes || *mode != LoopMode::Serial);
                match (begin, end, mode) {
                    (Index::Constant(begin), Index::Constant(end), LoopMode::Serial)
                        if is_in_lanes && is_small(*end - *begin, &body) =>
                    {
                        (*begin..*end).flat_map(|at| substituted(&body, *var, at)).collect()
                    }
                    _ => {
                        vec![Stmt::For { var: *var, begin: begin.clone(), end: end.clone(), mode: mode.clone(), body }]
                    }
                }
            }
            Stmt::Set { .. } | Stmt::Store { .. } => vec![statement.clone()],
        })
        .collect()
}

fn is_small(iterations: i64, body: &[Stmt]) -> bool {
    let is_straight = body.iter().all(|statement| !matches!(statement, Stmt::For { .. }));
    is_straight && usize::try_from(iterations).is_ok_and(|count| count.saturating_mul(body.len()) <= STATEMENTS)
}

/// Statements without loops, where a variable is a number.
fn substituted(body: &[Stmt], var: Var, number: i64) -> Vec<Stmt> {
    body.iter()
        .map(|statement| match statement {
            Stmt::Set { local, value } => Stmt::Set { local: *local, value: in_value(value, var, number) },
            Stmt::Store { buffer, index, local } => {
                Stmt::Store { buffer: *buffer, index: in_index(index, var, number), local: *local }
            }
            Stmt::For { .. } => statement.clone(),
        })
        .collect()
}

fn in_value(value: &Value, var: Var, number: i64) -> Value {
    match value {
        Value::Load { buffer, index } => Value::Load { buffer: *buffer, index: in_index(index, var, number) },
        Value::Index(index) => Value::Index(in_index(index, var, number)),
        Value::Apply { .. } => value.clone(),
    }
}

fn in_index(index: &Index, var: Var, number: i64) -> Index {
    let inside = |index: &Index| in_index(index, var, number);
    match index {
        Index::Var(other) if *other == var => Index::Constant(number),
        Index::Constant(_) | Index::Var(_) | Index::Argument(_) | Index::Clamped { .. } => index.clone(),
        Index::Add(x, y) => inside(x).plus(inside(y)),
        Index::Mul(x, factor) => inside(x).times(*factor),
        Index::FloorDiv(x, divisor) => inside(x).floor_div(*divisor),
        Index::Mod(x, divisor) => inside(x).modulo(*divisor),
        Index::Min(x, y) => inside(x).min(inside(y)),
        Index::Max(x, y) => inside(x).max(inside(y)),
    }
}
