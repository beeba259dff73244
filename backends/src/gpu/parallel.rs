//! Which loops of a nest become invocations that run side by side.

use std::collections::{BTreeMap, BTreeSet};

use crate::contraction::greatest_common_divisor;
use crate::kernel::linear::Linear;
use crate::kernel::{Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};

/// A nest cut in two: loops whose iterations are invocations, and what each invocation does.
pub(super) struct Split<'k> {
    /// The loops, outermost first, with their extents and modes.
    pub(super) loops: Vec<Side<'k>>,
    /// What each invocation begins with: locals set between the loops.
    pub(super) prologue: Vec<&'k Stmt>,
    /// What it does then.
    pub(super) body: &'k [Stmt],
}

/// A loop whose iterations run side by side.
pub(super) struct Side<'k> {
    pub(super) var: Var,
    pub(super) extent: i64,
    /// How the nest runs it; `None` for the range.
    pub(super) mode: Option<&'k LoopMode>,
}

/// Cuts a nest: the range, and loops directly inside as long as their iterations do not depend on each other.
pub(super) fn split(kernel: &LoopKernel) -> Split<'_> {
    let range = Side { var: Var(0), extent: kernel.range as i64, mode: None };
    let mut split = Split { loops: vec![range], prologue: Vec::new(), body: &kernel.body };
    while let Some((Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(extent), mode, body }, before)) =
        split.body.split_last()
    {
        let sets_only = before.iter().all(|statement| matches!(statement, Stmt::Set { .. }));
        if !sets_only || *extent < 1 || !is_independent(*var, *extent, mode, body) {
            break;
        }
        split.prologue.extend(before);
        split.loops.push(Side { var: *var, extent: *extent, mode: Some(mode) });
        split.body = body;
    }
    split
}

/// Whether iterations neither hand locals to each other nor touch an element that another one writes.
pub(super) fn is_independent(var: Var, extent: i64, mode: &LoopMode, body: &[Stmt]) -> bool {
    let written = written_locals(body);
    let carries = !reads_only_own(body, &written, &mut BTreeSet::new());
    !matches!(mode, LoopMode::Fold(_)) && !carries && writes_apart(var, extent, body)
}

pub(super) fn written_locals(body: &[Stmt]) -> BTreeSet<Local> {
    body.iter()
        .flat_map(|statement| match statement {
            Stmt::For { body, .. } => written_locals(body),
            Stmt::Set { local, .. } => BTreeSet::from([*local]),
            Stmt::Store { .. } => BTreeSet::new(),
        })
        .collect()
}

/// Whether every local of `written` is set in `body` before it is read there. `set` are those set so far.
fn reads_only_own(body: &[Stmt], written: &BTreeSet<Local>, set: &mut BTreeSet<Local>) -> bool {
    body.iter().all(|statement| {
        let own = |local: &Local| !written.contains(local) || set.contains(local);
        match statement {
            Stmt::For { begin, end, body, .. } => {
                locals_of(begin).iter().chain(&locals_of(end)).all(own)
                    && reads_only_own(body, written, &mut set.clone())
            }
            Stmt::Set { local, value } => {
                let read = match value {
                    Value::Load { index, .. } | Value::Index(index) => locals_of(index),
                    Value::Apply { arguments, .. } => arguments.clone(),
                };
                let is_own = read.iter().all(own);
                set.insert(*local);
                is_own
            }
            Stmt::Store { index, local, .. } => own(local) && locals_of(index).iter().all(own),
        }
    })
}

pub(super) fn locals_of(index: &Index) -> Vec<Local> {
    match index {
        Index::Clamped { local, .. } => vec![*local],
        Index::Constant(_) | Index::Var(_) | Index::Argument(_) => Vec::new(),
        Index::Mul(x, _) | Index::FloorDiv(x, _) | Index::Mod(x, _) => locals_of(x),
        Index::Add(x, y) | Index::Min(x, y) | Index::Max(x, y) => [locals_of(x), locals_of(y)].concat(),
    }
}

/// An access to a buffer, with the ranges of the loops inside.
struct Reached {
    buffer: usize,
    writes: bool,
    sum: Linear,
    ranges: BTreeMap<Var, (i64, i64)>,
}

/// Whether different values of `var` touch different elements of every buffer that `body` writes.
///
/// Positions are read as numbers in a mixed radix whose digits are the loops' variables, and which of evenly spaced accesses one
/// is: where each digit weighs more than all smaller ones can add up to, a position tells all of its digits.
pub(super) fn writes_apart(var: Var, extent: i64, body: &[Stmt]) -> bool {
    let mut accesses = Vec::new();
    if !reached(body, &BTreeMap::new(), &mut accesses) {
        return false;
    }
    let written: BTreeSet<usize> = accesses.iter().filter(|access| access.writes).map(|access| access.buffer).collect();
    written.into_iter().all(|buffer| {
        let of_buffer: Vec<&Reached> = accesses.iter().filter(|access| access.buffer == buffer).collect();
        tells(var, extent, &of_buffer).unwrap_or(false)
    })
}

/// The accesses of a body. False where the bounds of a loop are not constant.
fn reached(body: &[Stmt], ranges: &BTreeMap<Var, (i64, i64)>, accesses: &mut Vec<Reached>) -> bool {
    let mut access = |buffer: usize, index: &Index, writes: bool| {
        accesses.push(Reached { buffer, writes, sum: Linear::of(index), ranges: ranges.clone() });
    };
    let mut inner = Vec::new();
    for statement in body {
        match statement {
            Stmt::For { var, begin, end, body, .. } => inner.push((*var, begin, end, body)),
            Stmt::Set { value: Value::Load { buffer, index }, .. } => access(*buffer, index, false),
            Stmt::Set { .. } => {}
            Stmt::Store { buffer, index, .. } => access(*buffer, index, true),
        }
    }
    inner.into_iter().all(|(var, begin, end, body)| {
        let mut ranges = ranges.clone();
        if let (Index::Constant(begin), Index::Constant(end)) = (begin, end) {
            ranges.insert(var, (*begin, end - 1));
        }
        reached(body, &ranges, accesses)
    })
}

/// Whether the position of each access tells the value of `var`. `None` where positions are no sums of variables, or loops
/// have no constant bounds.
fn tells(var: Var, extent: i64, accesses: &[&Reached]) -> Option<bool> {
    let first = accesses.first()?;
    let weight = first.sum.factor(var)?;
    let mut digits: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let outer = |access: &Reached| -> Option<Vec<(Index, i64)>> {
        access.sum.terms.iter().all(|(term, _)| matches!(term, Index::Var(_))).then(|| {
            let is_outer =
                |term: &Index| matches!(term, Index::Var(other) if *other != var && !access.ranges.contains_key(other));
            access.sum.terms.iter().filter(|(term, _)| is_outer(term)).cloned().collect()
        })
    };
    let expected = outer(first)?;
    for access in accesses {
        if access.sum.factor(var)? != weight || outer(access)? != expected {
            return Some(false);
        }
        for (term, factor) in &access.sum.terms {
            let Index::Var(inner) = term else { return None };
            if let Some(&(low, high)) = access.ranges.get(inner) {
                let digit = digits.entry(factor.abs()).or_insert((0, 0));
                let (low, high) = if *factor > 0 { (low, high) } else { (-high, -low) };
                *digit = (digit.0.min(low), digit.1.max(high));
            }
        }
    }
    let mut all: Vec<(i64, i64)> = digits.into_iter().map(|(factor, (low, high))| (factor, high - low)).collect();
    all.push((weight.abs(), extent - 1));
    let constants = || accesses.iter().map(|access| access.sum.constant - first.sum.constant);
    let spacing = constants().fold(0, greatest_common_divisor);
    if spacing > 0 {
        let reach = constants().max().unwrap_or(0) - constants().min().unwrap_or(0);
        all.push((spacing, reach / spacing));
    }
    all.sort_unstable();
    let mut below = 0;
    let decodes = all.into_iter().all(|(factor, reach)| {
        let apart = factor > below;
        below += factor * reach;
        apart
    });
    Some(decodes)
}
