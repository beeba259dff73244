//! Operators along axes.

use super::{EvalError, flat, from_f64, positions, to_f64};
use crate::op::{Extreme, ReduceKind};
use crate::tensor::Tensor;
use crate::types::{DType, Scalar, TensorType};

/// Calls `visit(first place, places of the line)` for every line along `axes`: row-major places in the operand.
fn lines(x: &Tensor, axes: &[usize], mut visit: impl FnMut(&[usize])) {
    let (extents, strides) = (x.shape().extents(), x.shape().strides());
    let mut offsets = Vec::new();
    let along: Vec<usize> = axes.iter().map(|&axis| extents[axis]).collect();
    let along_strides: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
    positions(&along, |place| offsets.push(flat(&along_strides, place)));
    let kept: Vec<usize> =
        (0..extents.len()).map(|axis| if axes.contains(&axis) { 1 } else { extents[axis] }).collect();
    let mut line = vec![0; offsets.len()];
    positions(&kept, |place| {
        let start = flat(&strides, place);
        line.iter_mut().zip(&offsets).for_each(|(at, offset)| *at = start + offset);
        visit(&line);
    });
}

pub(super) fn reduce(kind: ReduceKind, axes: &[usize], x: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    if !ty.dtype.is_float() {
        return reduce_integers(kind, axes, x, ty);
    }
    let values = to_f64(x);
    let mut result = Vec::new();
    lines(x, axes, |line| {
        let elements = line.iter().map(|&at| values[at]);
        let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
        let smaller = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) };
        result.push(match kind {
            ReduceKind::Sum => elements.sum(),
            ReduceKind::Mean => elements.sum::<f64>() / line.len() as f64,
            ReduceKind::Max => elements.fold(f64::NEG_INFINITY, larger),
            ReduceKind::Min => elements.fold(f64::INFINITY, smaller),
            ReduceKind::Product => elements.product(),
        });
    });
    from_f64(ty, result)
}

fn reduce_integers(kind: ReduceKind, axes: &[usize], x: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    let wide = |value: Scalar| if x.dtype() == DType::U64 { value.bits() as i128 } else { value.as_i64() as i128 };
    let values: Vec<i128> = x.scalars().map(wide).collect();
    let mut result = Vec::new();
    lines(x, axes, |line| {
        let elements = line.iter().map(|&at| values[at]);
        let value = match kind {
            ReduceKind::Sum => elements.fold(0, i128::wrapping_add),
            ReduceKind::Mean => elements.sum::<i128>() / line.len().max(1) as i128,
            ReduceKind::Max => elements.max().unwrap_or(0),
            ReduceKind::Min => elements.min().unwrap_or(0),
            ReduceKind::Product => elements.fold(1i128, |a, b| (a as u64).wrapping_mul(b as u64) as i128),
        };
        result.push(Scalar::from_bits(ty.dtype, value as u64));
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), result)?)
}

pub(super) fn arg_reduce(
    extreme: Extreme,
    axis: usize,
    last: bool,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let values = to_f64(x);
    let mut result = Vec::new();
    lines(x, &[axis], |line| {
        let mut best = 0;
        for at in 1..line.len() {
            let (candidate, champion) = (values[line[at]], values[line[best]]);
            let wins = match extreme {
                Extreme::Max => candidate > champion,
                Extreme::Min => candidate < champion,
            };
            if wins || last && candidate == champion {
                best = at;
            }
        }
        result.push(Scalar::i64(best as i64));
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), result)?)
}

/// Fills a result of the operand's shape line by line.
fn each_line(x: &Tensor, axes: &[usize], ty: &TensorType, compute: impl Fn(&mut [f64])) -> Result<Tensor, EvalError> {
    let mut values = to_f64(x);
    let mut buffer = Vec::new();
    lines(x, axes, |line| {
        buffer.clear();
        buffer.extend(line.iter().map(|&at| values[at]));
        compute(&mut buffer);
        line.iter().zip(&buffer).for_each(|(&at, &value)| values[at] = value);
    });
    from_f64(ty, values)
}

pub(super) fn softmax(axis: usize, log: bool, x: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    each_line(x, &[axis], ty, |line| {
        let largest = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = line.iter().map(|value| (value - largest).exp()).sum();
        line.iter_mut().for_each(|value| {
            *value = if log { *value - largest - sum.ln() } else { (*value - largest).exp() / sum };
        });
    })
}

pub(super) fn normalize(
    axes: &[usize],
    epsilon: f64,
    root_mean_square: bool,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    each_line(x, axes, ty, |line| {
        let count = line.len() as f64;
        let mean = if root_mean_square { 0.0 } else { line.iter().sum::<f64>() / count };
        let variance = line.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + epsilon).sqrt();
        line.iter_mut().for_each(|value| *value = (*value - mean) * scale);
    })
}

pub(super) fn cumulative_sum(
    axis: usize,
    exclusive: bool,
    reverse: bool,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let run = |line: &mut [f64]| {
        let mut sum = 0.0;
        let count = line.len();
        for step in 0..count {
            let at = if reverse { count - 1 - step } else { step };
            let element = line[at];
            line[at] = if exclusive { sum } else { sum + element };
            sum += element;
        }
    };
    each_line(x, &[axis], ty, run)
}
