//! Which loop nests a group of invocations does together: few rows, each of long loops that fold it or go over its elements, as
//! softmax and normalisations of few rows do. Each invocation takes every 64th iteration.

use std::collections::BTreeSet;

use edgecc_ir::{BinaryOp, DType};

use super::parallel::{Split, is_independent, locals_of, writes_apart, written_locals};
use super::together::Parts;
use crate::kernel::{Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value};

/// Rows at the most: of more each invocation does one.
const MOST_ROWS: i64 = 256;
/// Iterations at least of a loop that is worth a group.
const FEWEST_ITERATIONS: i64 = 128;

/// Whether a group does each row together.
pub(super) fn goes_together(kernel: &LoopKernel, split: &Split<'_>) -> bool {
    let rows: i64 = split.loops.iter().map(|side| side.extent).product();
    let is_long = |statement: &Stmt| matches!(statement, Stmt::For { end: Index::Constant(end), mode: LoopMode::Fold(_), .. } if *end >= FEWEST_ITERATIONS);
    rows <= MOST_ROWS
        && split.body.iter().any(is_long)
        && split.body.iter().all(|statement| is_shareable(kernel, split.body, statement))
        && keep_to_themselves(split.body)
}

/// The parts of a body that goes together.
pub(super) fn parts(body: &[Stmt]) -> Parts {
    let folds = |statement: &Stmt| match statement {
        Stmt::For { mode: LoopMode::Fold(folds), .. } => folds.len(),
        _ => 0,
    };
    Parts { element: "f32", count: body.iter().map(folds).max().unwrap_or(0) }
}

/// Whether a statement stores.
pub(super) fn stores(statement: &Stmt) -> bool {
    match statement {
        Stmt::For { body, .. } => body.iter().any(stores),
        Stmt::Set { .. } => false,
        Stmt::Store { .. } => true,
    }
}

fn is_shareable(kernel: &LoopKernel, body: &[Stmt], statement: &Stmt) -> bool {
    match statement {
        Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(end), mode: LoopMode::Fold(folds), body } => {
            let is_known = |fold: &Fold| {
                let is_joined = matches!(fold.op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min);
                kernel.locals[fold.local.0 as usize] == DType::F32 && is_joined
            };
            folds.iter().all(is_known) && writes_apart(*var, *end, body)
        }
        Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(end), mode, body } => {
            is_independent(*var, *end, mode, body)
        }
        Stmt::For { .. } => false,
        // Every invocation reads it, which another one must not write meanwhile.
        Stmt::Set { value: Value::Load { buffer, .. }, .. } => !body.iter().any(|other| writes(other, *buffer)),
        Stmt::Set { .. } | Stmt::Store { .. } => true,
    }
}

fn writes(statement: &Stmt, place: usize) -> bool {
    match statement {
        Stmt::For { body, .. } => body.iter().any(|inner| writes(inner, place)),
        Stmt::Set { .. } => false,
        Stmt::Store { buffer, .. } => *buffer == place,
    }
}

/// Whether no statement reads what a loop sets but for what it folds, since each invocation has another value of it.
fn keep_to_themselves(body: &[Stmt]) -> bool {
    body.iter().enumerate().all(|(place, statement)| {
        let Stmt::For { mode, body: inner, .. } = statement else { return true };
        let mut own = written_locals(inner);
        if let LoopMode::Fold(folds) = mode {
            folds.iter().for_each(|fold| _ = own.remove(&fold.local));
        }
        let others = body.iter().enumerate().filter(|(other, _)| *other != place);
        others.flat_map(|(_, other)| read_locals(other)).all(|local| !own.contains(&local))
    })
}

fn read_locals(statement: &Stmt) -> BTreeSet<Local> {
    match statement {
        Stmt::For { begin, end, body, .. } => {
            let bounds = locals_of(begin).into_iter().chain(locals_of(end));
            bounds.chain(body.iter().flat_map(read_locals)).collect()
        }
        Stmt::Set { value: Value::Load { index, .. } | Value::Index(index), .. } => {
            locals_of(index).into_iter().collect()
        }
        Stmt::Set { value: Value::Apply { arguments, .. }, .. } => arguments.iter().copied().collect(),
        Stmt::Store { index, local, .. } => locals_of(index).into_iter().chain([*local]).collect(),
    }
}
