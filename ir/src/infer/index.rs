//! Operators whose positions are data.

use super::{Checked, check_axis, dense, require};
use crate::shape::Shape;
use crate::types::{DType, TensorType};

pub(super) fn gather(axis: usize, [x, indices]: [&TensorType; 2]) -> Checked<TensorType> {
    check_axis(axis, x)?;
    check_indices(indices)?;
    reachable(x, axis, indices)?;
    let data = x.shape.extents();
    let shape = [&data[..axis], &indices.shape.extents(), &data[axis + 1..]].concat();
    Ok(TensorType::new(x.dtype, Shape::new(&shape)))
}

pub(super) fn gather_elements(axis: usize, [x, indices]: [&TensorType; 2]) -> Checked<TensorType> {
    check_axis(axis, x)?;
    check_indices(indices)?;
    covers(x, indices, axis)?;
    reachable(x, axis, indices)?;
    Ok(TensorType::new(x.dtype, indices.shape.clone()))
}

pub(super) fn gather_nd(batch_dims: usize, [x, indices]: [&TensorType; 2]) -> Checked<TensorType> {
    check_indices(indices)?;
    let (data, index) = (x.shape.extents(), indices.shape.extents());
    let Some((&depth, prefix)) = index.split_last() else { return Err(format!("positions {indices} have no axis")) };
    let valid = batch_dims <= prefix.len() && batch_dims + depth <= data.len();
    require(valid && data[..batch_dims] == prefix[..batch_dims], || {
        format!("positions {indices} with {batch_dims} batch axes into {x}")
    })?;
    (batch_dims..batch_dims + depth).try_for_each(|axis| reachable(x, axis, indices))?;
    Ok(TensorType::new(x.dtype, Shape::new(&[prefix, &data[batch_dims + depth..]].concat())))
}

pub(super) fn scatter_elements(axis: usize, [x, indices, updates]: [&TensorType; 3]) -> Checked<TensorType> {
    check_axis(axis, x)?;
    check_indices(indices)?;
    covers(x, indices, axis)?;
    reachable(x, axis, indices)?;
    let alike = updates.shape == indices.shape && updates.dtype == x.dtype;
    require(alike, || format!("updates {updates} at positions {indices} of {x}"))?;
    Ok(dense(x))
}

pub(super) fn scatter_nd([x, indices, updates]: [&TensorType; 3]) -> Checked<TensorType> {
    let slices = gather_nd(0, [x, indices])?;
    let alike = updates.shape == slices.shape && updates.dtype == x.dtype;
    require(alike, || format!("updates {updates} at positions {indices} of {x}"))?;
    Ok(dense(x))
}

pub(super) fn top_k(x: &TensorType, axis: usize, count: usize) -> Checked<Vec<TensorType>> {
    check_axis(axis, x)?;
    require(count <= x.shape.dim(axis), || format!("{count} of the elements along axis {axis} of {x}"))?;
    let shape = x.shape.with_dim(axis, count);
    Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
}

fn check_indices(indices: &TensorType) -> Checked<()> {
    require(matches!(indices.dtype, DType::I32 | DType::I64), || format!("positions are i32 or i64, got {indices}"))
}

/// Positions along `axis` exist if any are asked for.
fn reachable(x: &TensorType, axis: usize, indices: &TensorType) -> Checked<()> {
    let asked = indices.shape.elements() != Ok(0);
    require(!asked || x.shape.dim(axis) > 0, || format!("no element along axis {axis} of {x}"))
}

/// Positions have the rank of the data and reach no further than it along the other axes.
fn covers(x: &TensorType, indices: &TensorType, axis: usize) -> Checked<()> {
    let rank = x.shape.rank();
    let inside = |a: usize| a == axis || indices.shape.dim(a) <= x.shape.dim(a);
    require(indices.shape.rank() == rank && (0..rank).all(inside), || {
        format!("positions {indices} into {x} along axis {axis}")
    })
}
