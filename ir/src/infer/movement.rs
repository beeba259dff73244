//! Operators that move elements.

use super::{Checked, check_axis, dense, list, require};
use crate::op::{PadMode, Resample};
use crate::shape::Shape;
use crate::types::{Layout, TensorType};

pub(super) fn reshape(shape: &Shape, x: &TensorType) -> Checked<TensorType> {
    let same = shape.elements().is_ok() && shape.elements() == x.shape.elements();
    require(same, || format!("{x} does not have the elements of [{shape}]"))?;
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn transpose(perm: &[usize], x: &TensorType) -> Checked<TensorType> {
    let valid = perm.len() == x.shape.rank() && Layout::from_order(perm).is_some();
    require(valid, || format!("{perm:?} is no permutation of the axes of {x}"))?;
    Ok(TensorType::new(x.dtype, perm.iter().map(|&axis| x.shape.dim(axis)).collect()))
}

pub(super) fn broadcast(shape: &Shape, x: &TensorType) -> Checked<TensorType> {
    let fits = x.shape.broadcast(shape).as_ref() == Some(shape);
    require(fits, || format!("{x} does not broadcast to [{shape}]"))?;
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn concat(axis: usize, operands: &[&TensorType]) -> Checked<TensorType> {
    let [first, ..] = operands else { return Err("takes at least one operand".into()) };
    check_axis(axis, first)?;
    let mut extent = 0usize;
    for ty in operands {
        let alike = ty.dtype == first.dtype
            && ty.shape.rank() == first.shape.rank()
            && ty.shape.with_dim(axis, 0) == first.shape.with_dim(axis, 0);
        require(alike, || format!("operands differ beyond axis {axis}: {}", list(operands)))?;
        extent = extent.checked_add(ty.shape.dim(axis)).ok_or("the result is too large")?;
    }
    Ok(TensorType::new(first.dtype, first.shape.with_dim(axis, extent)))
}

pub(super) fn slice(starts: &[usize], steps: &[isize], counts: &[usize], x: &TensorType) -> Checked<TensorType> {
    let rank = x.shape.rank();
    require(starts.len() == rank && steps.len() == rank && counts.len() == rank, || {
        format!("not one range per axis of {x}")
    })?;
    for axis in 0..rank {
        let (start, step, count, extent) = (starts[axis], steps[axis], counts[axis], x.shape.dim(axis));
        require(step != 0, || format!("a step of 0 along axis {axis}"))?;
        if count > 0 {
            let last = (count - 1) as i128 * step as i128 + start as i128;
            let inside = start < extent && (0..extent as i128).contains(&last);
            require(inside, || format!("{count} elements from {start} by {step} leave axis {axis} of {x}"))?;
        }
    }
    Ok(TensorType::new(x.dtype, Shape::new(counts)))
}

pub(super) fn pad(mode: PadMode, before: &[usize], after: &[usize], operands: &[&TensorType]) -> Checked<TensorType> {
    let x = match (mode, operands) {
        (PadMode::Constant, [x, value]) => {
            let scalar = value.shape.rank() == 0 && value.dtype == x.dtype;
            require(scalar, || format!("pads {x} with {value}"))?;
            x
        }
        (PadMode::Reflect | PadMode::Edge | PadMode::Wrap, [x]) => x,
        _ => return Err(format!("takes a tensor, and a value if the mode is constant, got {}", list(operands))),
    };
    let rank = x.shape.rank();
    require(before.len() == rank && after.len() == rank, || format!("not one pad per axis of {x}"))?;
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (extent, pads) = (x.shape.dim(axis), before[axis].max(after[axis]));
        let possible = match mode {
            PadMode::Constant => true,
            PadMode::Reflect => pads < extent.max(1),
            PadMode::Edge => pads == 0 || extent > 0,
            PadMode::Wrap => pads <= extent,
        };
        require(possible, || format!("{mode:?} padding of {pads} along axis {axis} of {x}"))?;
        let padded = extent.checked_add(before[axis]).and_then(|n| n.checked_add(after[axis]));
        shape.push(padded.ok_or("the result is too large")?);
    }
    Ok(TensorType::new(x.dtype, Shape::new(&shape)))
}

pub(super) fn tile(repeats: &[usize], x: &TensorType) -> Checked<TensorType> {
    require(repeats.len() == x.shape.rank(), || format!("not one repeat per axis of {x}"))?;
    let extent = |axis: usize| x.shape.dim(axis).checked_mul(repeats[axis]).ok_or("the result is too large");
    let shape = (0..repeats.len()).map(extent).collect::<Result<Vec<_>, _>>()?;
    Ok(TensorType::new(x.dtype, Shape::new(&shape)))
}

pub(super) fn resize(axes: &[Resample], x: &TensorType) -> Checked<TensorType> {
    let mut ty = dense(x);
    for resample in axes {
        let Resample { axis, extent, taps, indices, weights } = resample;
        check_axis(*axis, x)?;
        let entries = extent.checked_mul(*taps);
        let sized =
            *taps > 0 && Some(indices.len()) == entries && (weights.is_empty() || Some(weights.len()) == entries);
        require(sized, || format!("axis {axis}: tables do not have {extent} times {taps} entries"))?;
        require(!weights.is_empty() || *taps == 1, || format!("axis {axis}: {taps} taps without weights"))?;
        require(weights.is_empty() || x.dtype.is_float(), || format!("interpolates {x}"))?;
        let input = ty.shape.dim(*axis);
        require(indices.iter().all(|&i| (i as usize) < input), || {
            format!("axis {axis}: a tap beyond {input} elements")
        })?;
        ty.shape = ty.shape.with_dim(*axis, *extent);
    }
    Ok(ty)
}
