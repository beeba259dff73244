//! Convolutions and matrix products.

use super::window::{self, conv_transpose_extent, window_extent};
use super::{Checked, check_arguments, list, require};
use crate::expr::Expr;
use crate::op::Window;
use crate::shape::Shape;
use crate::types::{DType, TensorType};

pub(super) fn conv(window: &Window, groups: usize, epilogue: &Expr, operands: &[&TensorType]) -> Checked<TensorType> {
    let [x, w, ..] = operands else { return Err("takes an image and weights".into()) };
    check_image(window, groups, x, w)?;
    let (channels, filters) = (x.shape.dim(1), w.shape.dim(0));
    require(w.shape.dim(1).checked_mul(groups) == Some(channels), || {
        format!(
            "{x} has {channels} channels, but weights {w} in {groups} groups expect {}",
            w.shape.dim(1).saturating_mul(groups)
        )
    })?;
    require(filters % groups == 0, || format!("{filters} filters are no multiple of {groups} groups"))?;
    let mut shape = vec![x.shape.dim(0), filters];
    for axis in 0..window.kernel.len() {
        let extent = window_extent(x.shape.dim(axis + 2), window, axis);
        shape.push(extent.ok_or_else(|| window::does_not_fit(window, axis, x))?);
    }
    finish(x.dtype, Shape::new(&shape), epilogue, operands)
}

pub(super) fn conv_transpose(
    window: &Window,
    output_padding: &[usize],
    groups: usize,
    epilogue: &Expr,
    operands: &[&TensorType],
) -> Checked<TensorType> {
    let [x, w, ..] = operands else { return Err("takes an image and weights".into()) };
    check_image(window, groups, x, w)?;
    require(output_padding.len() == window.kernel.len(), || format!("output padding {output_padding:?} for {x}"))?;
    let channels = x.shape.dim(1);
    require(w.shape.dim(0) == channels && channels % groups == 0, || {
        format!("{x} has {channels} channels in {groups} groups, but weights {w} expect {}", w.shape.dim(0))
    })?;
    let filters = w.shape.dim(1).checked_mul(groups).ok_or("too many filters")?;
    let mut shape = vec![x.shape.dim(0), filters];
    for (axis, &padding) in output_padding.iter().enumerate() {
        let extent = conv_transpose_extent(x.shape.dim(axis + 2), window, padding, axis);
        shape.push(extent.ok_or_else(|| window::does_not_fit(window, axis, x))?);
    }
    finish(x.dtype, Shape::new(&shape), epilogue, operands)
}

pub(super) fn matmul(
    transpose_a: bool,
    transpose_b: bool,
    epilogue: &Expr,
    operands: &[&TensorType],
) -> Checked<TensorType> {
    let [a, b, ..] = operands else { return Err("takes two matrices".into()) };
    require(a.shape.rank() >= 2 && b.shape.rank() >= 2, || format!("takes matrices, got {a} and {b}"))?;
    require(a.dtype == b.dtype, || format!("{a} and {b} have unlike element types"))?;
    let (batch_a, m, k) = matrix(a, transpose_a);
    let (batch_b, n, k_b) = matrix(b, !transpose_b);
    require(k == k_b, || format!("{a} has {k} elements to sum over, {b} has {k_b}"))?;
    let batch = batch_a.broadcast(&batch_b).ok_or_else(|| format!("batches of {a} and {b} do not broadcast"))?;
    let mut shape = batch.extents();
    shape.extend([m, n]);
    finish(a.dtype, Shape::new(&shape), epilogue, operands)
}

/// (leading axes, last axis but one, last axis), the last two exchanged if `transposed`.
fn matrix(ty: &TensorType, transposed: bool) -> (Shape, usize, usize) {
    let rank = ty.shape.rank();
    let (rows, columns) = (ty.shape.dim(rank - 2), ty.shape.dim(rank - 1));
    let batch = ty.shape.extents().into_iter().take(rank - 2).collect();
    if transposed { (batch, columns, rows) } else { (batch, rows, columns) }
}

fn check_image(window: &Window, groups: usize, x: &TensorType, w: &TensorType) -> Checked<()> {
    require(x.dtype.is_float() || x.dtype == DType::I8, || format!("takes floating point or i8, got {x}"))?;
    window::check(window, x)?;
    require(x.dtype == w.dtype, || format!("{x} and weights {w} have unlike element types"))?;
    require(groups > 0, || "groups is 0".into())?;
    require(w.shape.rank() == x.shape.rank(), || format!("weights {w} for an image {x}"))?;
    require(w.shape.extents()[2..] == window.kernel[..], || format!("weights {w} for a kernel of {:?}", window.kernel))
}

/// The type of sums over elements of `dtype`, which the epilogue reads as argument 0: that of the elements; of halves also
/// f32; of i8 it is i32.
pub(crate) fn accumulator_type(dtype: DType, epilogue: &Expr) -> DType {
    let is_wide = || epilogue.arguments().any(|argument| argument == (0, DType::F32));
    match dtype {
        DType::F16 | DType::BF16 if is_wide() => DType::F32,
        DType::I8 => DType::I32,
        _ => dtype,
    }
}

fn finish(dtype: DType, shape: Shape, epilogue: &Expr, operands: &[&TensorType]) -> Checked<TensorType> {
    let accumulator = TensorType::new(accumulator_type(dtype, epilogue), shape.clone());
    let extras: Vec<&TensorType> = std::iter::once(&accumulator).chain(operands[2..].iter().copied()).collect();
    check_arguments(epilogue, &extras)?;
    let fits = |ty: &&TensorType| shape.broadcast(&ty.shape).as_ref() == Some(&shape);
    require(extras.iter().all(fits), || {
        format!("epilogue operands {} do not broadcast to [{shape}]", list(&extras[1..]))
    })?;
    Ok(TensorType::new(epilogue.dtype(), shape))
}
