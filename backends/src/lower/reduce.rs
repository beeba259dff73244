//! Reductions and positions of extremes.

use edgecc_ir::{BinaryOp, DType, Extreme, NodeId, ReduceKind, Scalar};

use super::builder::{Builder, computed};
use super::rows::Rows;
use super::{Lowered, Lowering};
use crate::kernel::Local;
use crate::view::View;

/// The operand, the result, and the result repeated along the reduced axes; nothing where the result is empty.
fn operands(lowering: &mut Lowering<'_>, id: NodeId) -> Option<(View, View, View)> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    let repeated = result.broadcast(&source.shape());
    (result.elements() > 0).then_some((source, result, repeated))
}

/// A reduction over `axes`.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, kind: ReduceKind, axes: &[usize]) -> Lowered<()> {
    let Some((source, result, repeated)) = operands(lowering, id) else { return Ok(()) };
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&repeated, &source], axes);
    let (to, from) = (builder.writes(&result), builder.reads(&source));
    let count: usize = axes.iter().map(|&axis| source.extents[axis]).product();
    let sum_in = accumulator(kind, computed(source.dtype));
    let (op, initial) = fold(kind, sum_in);
    let body = builder.block(|b| {
        let value = b.constant(initial);
        rows.fold(b, value, op, |b, place| {
            let element = b.load(from, place.at(from));
            widen(b, sum_in, element)
        });
        let value = if kind == ReduceKind::Mean { mean(b, value, count) } else { value };
        let value = widen(b, computed(source.dtype), value);
        b.store(to, rows.start(to), value);
    });
    rows.push(builder, lowering, id, body, Vec::new());
    Ok(())
}

/// The type that elements are joined in.
fn accumulator(kind: ReduceKind, dtype: DType) -> DType {
    match kind {
        ReduceKind::Mean if dtype.is_integer() => DType::I64,
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min | ReduceKind::Product => dtype,
    }
}

/// How elements are joined, and what with none is the result.
fn fold(kind: ReduceKind, dtype: DType) -> (BinaryOp, Scalar) {
    let number = |value: f64| Scalar::from_f64(dtype, value);
    match kind {
        ReduceKind::Sum | ReduceKind::Mean => (BinaryOp::Add, number(0.0)),
        ReduceKind::Product => (BinaryOp::Mul, number(1.0)),
        ReduceKind::Max if dtype == DType::Bool => (BinaryOp::Or, Scalar::bool(false)),
        ReduceKind::Min if dtype == DType::Bool => (BinaryOp::And, Scalar::bool(true)),
        ReduceKind::Max => (BinaryOp::Max, number(f64::NEG_INFINITY)),
        ReduceKind::Min => (BinaryOp::Min, number(f64::INFINITY)),
    }
}

fn widen(builder: &mut Builder, dtype: DType, value: Local) -> Local {
    if builder.dtype(value) == dtype { value } else { builder.cast(dtype, value) }
}

fn mean(builder: &mut Builder, sum: Local, count: usize) -> Local {
    let count = builder.number(builder.dtype(sum), count as f64);
    builder.binary(BinaryOp::Div, sum, count)
}

/// The position of the extreme along `axis`.
pub(super) fn arg(lowering: &mut Lowering<'_>, id: NodeId, extreme: Extreme, axis: usize, last: bool) -> Lowered<()> {
    let Some((source, result, repeated)) = operands(lowering, id) else { return Ok(()) };
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&repeated, &source], &[axis]);
    let (to, from) = (builder.writes(&result), builder.reads(&source));
    let body = builder.block(|b| {
        let best = b.load(from, rows.start(from));
        let position = b.constant(Scalar::i64(0));
        rows.in_order(b, |b, place| {
            let element = b.load(from, place.at(from));
            let here = b.index(place.coordinate());
            let wins = beats(b, extreme, last, element, best);
            b.replace(best, wins, element);
            b.replace(position, wins, here);
        });
        b.store(to, rows.start(to), position);
    });
    rows.push(builder, lowering, id, body, Vec::new());
    Ok(())
}

/// Whether `element` is more extreme than `best`, or `or_equal`ly so.
pub(super) fn beats(builder: &mut Builder, extreme: Extreme, or_equal: bool, element: Local, best: Local) -> Local {
    let (smaller, larger) = match extreme {
        Extreme::Max => (best, element),
        Extreme::Min => (element, best),
    };
    builder.binary(if or_equal { BinaryOp::LessEqual } else { BinaryOp::Less }, smaller, larger)
}
