//! Operators that move elements, and resizing.

use super::{EvalError, flat, from_f64, positions, to_f64};
use crate::op::{Op, PadMode, Resample};
use crate::tensor::{Tensor, TensorData, TensorError};
use crate::types::{Scalar, TensorType};

/// The result of a movement of one repeated element: a splat, without memory for its elements.
pub(super) fn repeated(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Option<Result<Tensor, TensorError>> {
    let splat = |tensor: &&Tensor| match tensor.data() {
        TensorData::Splat(value) => Some(*value),
        TensorData::Dense(_) => None,
    };
    let value = operands.first().and_then(splat)?;
    let alike = match op {
        Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Tile { .. }
        | Op::Broadcast(_)
        | Op::Gather { .. }
        | Op::GatherNd { .. }
        | Op::GatherElements { .. } => true,
        Op::Concat { .. } => operands.iter().all(|tensor| splat(tensor) == Some(value)),
        Op::Pad { mode: PadMode::Constant, .. } => splat(&operands[1]) == Some(value),
        Op::Pad { .. } => true,
        _ => false,
    };
    alike.then(|| Tensor::splat(ty.shape.clone(), value))
}

/// Where an element of the result comes from: an operand and a row-major place in it, or a value.
enum Source {
    Element(usize, usize),
    Value(Scalar),
}

/// The result of an operator that takes every element from one place.
pub(super) fn moved(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let strides: Vec<Vec<usize>> = operands.iter().map(|tensor| tensor.shape().strides()).collect();
    let size = ty.dtype.size();
    let mut bytes = Vec::with_capacity(ty.bytes().unwrap_or(0));
    positions(&ty.shape.extents(), |place| {
        let value = match source(op, operands, &strides, place) {
            Source::Element(operand, at) => operands[operand].get(at),
            Source::Value(value) => value,
        };
        bytes.extend_from_slice(&value.to_le_bytes()[..size]);
    });
    Ok(Tensor::dense(ty.dtype, ty.shape.clone(), bytes.into())?)
}

fn source(op: &Op, operands: &[&Tensor], strides: &[Vec<usize>], place: &[usize]) -> Source {
    let shape = operands[0].shape();
    match op {
        Op::Transpose(perm) => {
            let at = perm.iter().zip(place).map(|(&axis, &position)| strides[0][axis] * position).sum();
            Source::Element(0, at)
        }
        Op::Broadcast(_) => {
            let missing = place.len() - shape.rank();
            let at = |axis: usize| if shape.dim(axis) == 1 { 0 } else { place[axis + missing] };
            Source::Element(0, (0..shape.rank()).map(|axis| at(axis) * strides[0][axis]).sum())
        }
        Op::Slice { starts, steps, .. } => {
            let at = |axis: usize| (starts[axis] as isize + place[axis] as isize * steps[axis]) as usize;
            Source::Element(0, (0..place.len()).map(|axis| at(axis) * strides[0][axis]).sum())
        }
        Op::Tile { .. } => {
            Source::Element(0, (0..place.len()).map(|axis| place[axis] % shape.dim(axis) * strides[0][axis]).sum())
        }
        Op::Concat { axis } => {
            let mut position = place.to_vec();
            let mut part = 0;
            while position[*axis] >= operands[part].shape().dim(*axis) {
                position[*axis] -= operands[part].shape().dim(*axis);
                part += 1;
            }
            Source::Element(part, flat(&strides[part], &position))
        }
        Op::Pad { mode, before, .. } => {
            let inner = |axis: usize| padded(*mode, place[axis] as isize - before[axis] as isize, shape.dim(axis));
            match (0..place.len()).map(inner).collect::<Option<Vec<usize>>>() {
                Some(position) => Source::Element(0, flat(&strides[0], &position)),
                None => Source::Value(operands[1].get(0)),
            }
        }
        _ => Source::Element(0, 0),
    }
}

/// The position in an axis of `extent` elements that stands at `at`, which may lie outside; `None` for constant padding.
fn padded(mode: PadMode, at: isize, extent: usize) -> Option<usize> {
    let last = extent as isize - 1;
    let inside = (0..=last).contains(&at);
    let position = match mode {
        PadMode::Constant => return inside.then_some(at as usize),
        PadMode::Edge => at.clamp(0, last),
        PadMode::Wrap => at.rem_euclid(extent as isize),
        PadMode::Reflect if last == 0 => 0,
        PadMode::Reflect => {
            let turned = at.rem_euclid(2 * last);
            if turned > last { 2 * last - turned } else { turned }
        }
    };
    Some(position as usize)
}

/// One axis after the other, each position the weighted sum of its taps.
pub(super) fn resize(axes: &[Resample], x: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    let mut values = to_f64(x);
    let mut extents = x.shape().extents();
    for resample in axes {
        let inner: usize = extents[resample.axis + 1..].iter().product();
        let input = extents[resample.axis];
        let outer: usize = extents[..resample.axis].iter().product();
        let mut result = vec![0f64; outer * resample.extent * inner];
        for block in 0..outer {
            for position in 0..resample.extent {
                let target = &mut result[(block * resample.extent + position) * inner..][..inner];
                for tap in position * resample.taps..(position + 1) * resample.taps {
                    let weight = resample.weights.get(tap).map_or(1.0, |&bits| f32::from_bits(bits) as f64);
                    let source = &values[(block * input + resample.indices[tap] as usize) * inner..][..inner];
                    target.iter_mut().zip(source).for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }
        values = result;
        extents[resample.axis] = resample.extent;
    }
    from_f64(ty, values)
}
