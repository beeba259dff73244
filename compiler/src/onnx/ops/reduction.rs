//! Reductions, softmax, running sums.

use edgecc_ir::{BinaryOp, DType, Extreme, NodeId, Op, ReduceKind, UnaryOp};

use super::Row;
use super::movement::without;
use crate::onnx::context::{Context, Imported, Results, invalid};

pub(super) const TABLE: &[Row] = &[
    ("ArgMax", 1, arg),
    ("ArgMin", 1, arg),
    ("CumSum", 11, cumulative_sum),
    ("Hardmax", 1, hardmax),
    ("LogSoftmax", 1, softmax),
    ("ReduceL1", 1, reduce),
    ("ReduceL2", 1, reduce),
    ("ReduceLogSum", 1, reduce),
    ("ReduceLogSumExp", 1, reduce),
    ("ReduceMax", 1, reduce),
    ("ReduceMean", 1, reduce),
    ("ReduceMin", 1, reduce),
    ("ReduceProd", 1, reduce),
    ("ReduceSum", 1, reduce),
    ("ReduceSumSquare", 1, reduce),
    ("Softmax", 1, softmax),
    ("TopK", 1, top_k),
];

/// Axes are an attribute until opset 17 (12 for ReduceSum), then an input.
fn reduce(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let given = match c.ints("axes")? {
        Some(axes) => Some(axes),
        None => c.known_optional_ints(1)?,
    };
    let axes = match given {
        Some(axes) if !axes.is_empty() => c.axes(&axes, rank)?,
        _ if c.int("noop_with_empty_axes", 0)? != 0 => Vec::new(),
        _ => (0..rank).collect(),
    };
    let result = reduced(c, x, &axes)?;
    if c.int("keepdims", 1)? != 0 {
        return Ok(vec![result]);
    }
    let extents = c.shape(result)?.extents();
    Ok(vec![c.reshape(result, &without(extents, &axes))?])
}

fn reduced(c: &mut Context<'_, '_>, x: NodeId, axes: &[usize]) -> Imported<NodeId> {
    let name = c.operator().to_string();
    let kind = match name.as_str() {
        "ReduceMax" => ReduceKind::Max,
        "ReduceMin" => ReduceKind::Min,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceProd" => ReduceKind::Product,
        _ => ReduceKind::Sum,
    };
    let fold = |c: &mut Context<'_, '_>, x: NodeId, kind: ReduceKind| {
        if axes.is_empty() { Ok(x) } else { c.add(Op::Reduce { kind, axes: axes.to_vec() }, &[x]) }
    };
    match name.as_str() {
        "ReduceL1" => {
            let magnitude = c.unary(UnaryOp::Abs, x)?;
            fold(c, magnitude, kind)
        }
        "ReduceL2" => {
            let square = c.binary(BinaryOp::Mul, x, x)?;
            let sum = fold(c, square, kind)?;
            let dtype = c.dtype(sum)?;
            let float = c.cast(sum, if dtype.is_float() { dtype } else { DType::F64 })?;
            let root = c.unary(UnaryOp::Sqrt, float)?;
            c.cast(root, dtype)
        }
        "ReduceSumSquare" => {
            let square = c.binary(BinaryOp::Mul, x, x)?;
            fold(c, square, kind)
        }
        "ReduceLogSum" => {
            let sum = fold(c, x, kind)?;
            c.unary(UnaryOp::Log, sum)
        }
        // log(sum(exp(x - max))) + max does not overflow; an infinite max would give NaN and counts as 0.
        "ReduceLogSumExp" => {
            let largest = fold(c, x, ReduceKind::Max)?;
            let finite = c.map(&[largest], |e, [largest]| {
                let infinite = e.unary(UnaryOp::IsInf, largest);
                let zero = e.number(largest, 0.0);
                e.select(infinite, zero, largest)
            })?;
            let moved = c.binary(BinaryOp::Sub, x, finite)?;
            let power = c.unary(UnaryOp::Exp, moved)?;
            let sum = fold(c, power, ReduceKind::Sum)?;
            let logarithm = c.unary(UnaryOp::Log, sum)?;
            c.binary(BinaryOp::Add, logarithm, finite)
        }
        _ => fold(c, x, kind),
    }
}

fn arg(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let axis = c.axis(c.int("axis", 0)?, rank)?;
    let extreme = if c.operator() == "ArgMax" { Extreme::Max } else { Extreme::Min };
    let result = c.add(Op::ArgReduce { extreme, axis, last: c.int("select_last_index", 0)? != 0 }, &[x])?;
    if c.int("keepdims", 1)? != 0 {
        return Ok(vec![result]);
    }
    let mut extents = c.shape(result)?.extents();
    extents.remove(axis);
    Ok(vec![c.reshape(result, &extents)?])
}

/// Until opset 12 the axes from `axis` on are one.
fn flattened(
    c: &mut Context<'_, '_>,
    x: NodeId,
    version: i64,
    build: impl FnOnce(&mut Context<'_, '_>, NodeId, usize) -> Imported<NodeId>,
) -> Imported<NodeId> {
    let rank = c.rank(x)?;
    let axis = c.int("axis", if version < 13 { 1 } else { -1 })?;
    if version >= 13 {
        let axis = c.axis(axis, rank)?;
        return build(c, x, axis);
    }
    let extents = c.shape(x)?.extents();
    let axis = if axis == rank as i64 { rank } else { c.axis(axis, rank)? };
    // With nothing but extents of 1 behind the axis, it is the only one.
    if axis < rank && extents.iter().skip(axis + 1).all(|&extent| extent == 1) {
        return build(c, x, axis);
    }
    let (outer, inner) = extents.split_at(axis);
    let flat = c.reshape(x, &[outer.iter().product(), inner.iter().product()])?;
    let result = build(c, flat, 1)?;
    c.reshape(result, &extents)
}

fn softmax(c: &mut Context<'_, '_>) -> Results {
    let (x, version, log) = (c.input(0)?, c.version, c.operator() == "LogSoftmax");
    Ok(vec![softmax_of(c, x, version, log)?])
}

/// The softmax of an operator set, or its logarithm.
pub(super) fn softmax_of(c: &mut Context<'_, '_>, x: NodeId, version: i64, log: bool) -> Imported<NodeId> {
    flattened(c, x, version, |c, x, axis| c.add(Op::Softmax { axis, log }, &[x]))
}

/// 1 at the first largest element of each line.
fn hardmax(c: &mut Context<'_, '_>) -> Results {
    let (x, version) = (c.input(0)?, c.version);
    let hits = flattened(c, x, version, |c, x, axis| {
        let (rank, extent, dtype) = (c.rank(x)?, c.extent(x, axis)?, c.dtype(x)?);
        let best = c.add(Op::ArgReduce { extreme: Extreme::Max, axis, last: false }, &[x])?;
        let places: Vec<i64> = (0..extent as i64).collect();
        let places = c.constant_ints(&places);
        let shape: Vec<usize> = (0..rank).map(|other| if other == axis { extent } else { 1 }).collect();
        let places = c.reshape(places, &shape)?;
        let hit = c.binary(BinaryOp::Equal, best, places)?;
        c.cast(hit, dtype)
    })?;
    Ok(vec![hits])
}

fn cumulative_sum(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let Some(&axis) = c.known_ints(1)?.first() else { return invalid("the axis is empty") };
    let axis = c.axis(axis, rank)?;
    let op = Op::CumulativeSum { axis, exclusive: c.int("exclusive", 0)? != 0, reverse: c.int("reverse", 0)? != 0 };
    Ok(vec![c.add(op, &[x])?])
}

/// The count is an attribute until opset 9, then an input.
fn top_k(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let rank = c.rank(x)?;
    let count = if c.version < 10 { Some(c.int("k", -1)?) } else { c.known_ints(1)?.first().copied() };
    let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else { return invalid("`k` is negative") };
    let axis = c.axis(c.int("axis", -1)?, rank)?;
    let extreme = if c.int("largest", 1)? != 0 { Extreme::Max } else { Extreme::Min };
    let pair = c.add(Op::TopK { axis, count, extreme }, &[x])?;
    Ok(vec![c.add(Op::Project(0), &[pair])?, c.add(Op::Project(1), &[pair])?])
}
