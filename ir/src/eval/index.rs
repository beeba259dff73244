//! Operators whose positions are data.

use super::{EvalError, flat, positions};
use crate::op::{Extreme, Op, ScatterKind};
use crate::tensor::Tensor;
use crate::types::{DType, Scalar, TensorType};

/// A position counted from the end where negative, clamped to the axis.
fn clamped(position: i64, extent: usize) -> usize {
    let from_start = if position < 0 { position.saturating_add(extent as i64) } else { position };
    from_start.clamp(0, extent.saturating_sub(1) as i64) as usize
}

pub(super) fn gather(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let (data, places) = (operands[0], operands[1].to_i64());
    let (extents, strides) = (data.shape().extents(), data.shape().strides());
    let index_strides = operands[1].shape().strides();
    let index_rank = operands[1].shape().rank();
    let mut values = Vec::with_capacity(ty.shape.elements().unwrap_or(0));
    positions(&ty.shape.extents(), |place| {
        let at = match op {
            Op::Gather { axis } => {
                let chosen = places[flat(&index_strides, &place[*axis..axis + index_rank])];
                let before: usize = flat(&strides[..*axis], &place[..*axis]);
                let behind = flat(&strides[axis + 1..], &place[axis + index_rank..]);
                before + clamped(chosen, extents[*axis]) * strides[*axis] + behind
            }
            Op::GatherElements { axis } => {
                let chosen = clamped(places[flat(&index_strides, place)], extents[*axis]);
                let part = |a: usize| strides[a] * if a == *axis { chosen } else { place[a] };
                (0..extents.len()).map(part).sum()
            }
            Op::GatherNd { batch_dims } => {
                let prefix = index_rank - 1;
                let depth = operands[1].shape().dim(prefix);
                let tuple = flat(&index_strides[..prefix], &place[..prefix]);
                let start = flat(&strides[..*batch_dims], &place[..*batch_dims]);
                let chosen = |n: usize| {
                    let axis = batch_dims + n;
                    clamped(places[tuple + n], extents[axis]) * strides[axis]
                };
                start + (0..depth).map(chosen).sum::<usize>() + flat(&strides[batch_dims + depth..], &place[prefix..])
            }
            _ => 0,
        };
        values.push(data.get(at));
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), values)?)
}

pub(super) fn scatter(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let (extents, strides) = (ty.shape.extents(), ty.shape.strides());
    let mut values: Vec<Scalar> = operands[0].scalars().collect();
    let (places, updates) = (operands[1].to_i64(), operands[2]);
    let index_strides = operands[1].shape().strides();
    let mut number = 0;
    positions(&updates.shape().extents(), |place| {
        let (at, kind) = match op {
            Op::ScatterElements { axis, kind } => {
                let chosen = clamped(places[flat(&index_strides, place)], extents[*axis]);
                let part = |a: usize| strides[a] * if a == *axis { chosen } else { place[a] };
                ((0..extents.len()).map(part).sum::<usize>(), *kind)
            }
            Op::ScatterNd { kind } => {
                let prefix = operands[1].shape().rank() - 1;
                let depth = operands[1].shape().dim(prefix);
                let tuple = flat(&index_strides[..prefix], &place[..prefix]);
                let start: usize = (0..depth).map(|n| clamped(places[tuple + n], extents[n]) * strides[n]).sum();
                (start + flat(&strides[depth..], &place[prefix..]), *kind)
            }
            _ => (0, ScatterKind::Replace),
        };
        values[at] = combine(kind, values[at], updates.get(number));
        number += 1;
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), values)?)
}

fn combine(kind: ScatterKind, old: Scalar, new: Scalar) -> Scalar {
    use crate::expr::{BinaryOp, Expr};
    let op = match kind {
        ScatterKind::Replace => return new,
        ScatterKind::Add => BinaryOp::Add,
        ScatterKind::Multiply => BinaryOp::Mul,
        ScatterKind::Max => BinaryOp::Max,
        ScatterKind::Min => BinaryOp::Min,
    };
    let mut expr = Expr::new();
    let (a, b) = (expr.arg(0, old.dtype()), expr.arg(1, old.dtype()));
    let root = expr.binary(op, a, b);
    super::eval_scalar(&expr.with_root(root), &[old, new])
}

/// Values, then their positions.
pub(super) fn top_k(op: &Op, x: &Tensor, types: &[TensorType]) -> Result<Vec<Tensor>, EvalError> {
    let Op::TopK { axis, count, extreme } = op else { return Ok(Vec::new()) };
    let (extents, strides) = (x.shape().extents(), x.shape().strides());
    let elements: usize = types[0].shape.elements().unwrap_or(0);
    let result_strides = types[0].shape.strides();
    let mut values = vec![Scalar::from_bits(x.dtype(), 0); elements];
    let mut places = vec![Scalar::i64(0); elements];
    let kept: Vec<usize> = (0..extents.len()).map(|a| if a == *axis { 1 } else { extents[a] }).collect();
    positions(&kept, |place| {
        let (start, target) = (flat(&strides, place), flat(&result_strides, place));
        let mut order: Vec<usize> = (0..extents[*axis]).collect();
        let at = |position: usize| x.get(start + position * strides[*axis]);
        order.sort_by(|&a, &b| match extreme {
            Extreme::Max => compare(at(b), at(a)),
            Extreme::Min => compare(at(a), at(b)),
        });
        for (rank, &position) in order.iter().take(*count).enumerate() {
            values[target + rank * result_strides[*axis]] = at(position);
            places[target + rank * result_strides[*axis]] = Scalar::i64(position as i64);
        }
    });
    Ok(vec![
        Tensor::from_scalars(x.dtype(), types[0].shape.clone(), values)?,
        Tensor::from_scalars(DType::I64, types[1].shape.clone(), places)?,
    ])
}

fn compare(a: Scalar, b: Scalar) -> std::cmp::Ordering {
    match a.dtype() {
        DType::U64 => a.bits().cmp(&b.bits()),
        dtype if dtype.is_float() => a.as_f64().total_cmp(&b.as_f64()),
        _ => a.as_i64().cmp(&b.as_i64()),
    }
}
