//! Extents of sliding windows.

use super::{Checked, require};
use crate::op::Window;
use crate::shape::Shape;
use crate::types::{DType, TensorType};

/// Extent that a window of `kernel` taps at distance `dilation` spans; `None` on overflow or a kernel of 0.
fn span(kernel: usize, dilation: usize) -> Option<usize> {
    kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
}

/// Result extent of a window over `input` elements, rounded down: `(input + pads - span) / stride + 1`. `None` where the
/// window does not fit, an attribute is 0 or a sum overflows.
pub fn window_extent(input: usize, window: &Window, axis: usize) -> Option<usize> {
    let padded = input.checked_add(window.pads_before[axis])?.checked_add(window.pads_after[axis])?;
    let room = padded.checked_sub(span(window.kernel[axis], window.dilations[axis])?)?;
    room.checked_div(window.strides[axis])?.checked_add(1)
}

/// Result extent of a pool. With `ceil` it is rounded up, but no window starts behind the input and its front padding.
pub fn pool_extent(input: usize, window: &Window, axis: usize, ceil: bool) -> Option<usize> {
    let floor = window_extent(input, window, axis)?;
    if !ceil {
        return Some(floor);
    }
    let stride = window.strides[axis];
    let padded = input.checked_add(window.pads_before[axis])?.checked_add(window.pads_after[axis])?;
    let room = padded.checked_sub(span(window.kernel[axis], window.dilations[axis])?)?;
    let extent = room.div_ceil(stride).checked_add(1)?;
    let last_start = (extent - 1).checked_mul(stride)?;
    Some(if last_start >= input.checked_add(window.pads_before[axis])? { extent - 1 } else { extent })
}

/// Result extent of a transposed convolution: `(input - 1) * stride + span + output_padding - pads`.
pub fn conv_transpose_extent(input: usize, window: &Window, output_padding: usize, axis: usize) -> Option<usize> {
    let full = input.checked_sub(1)?.checked_mul(window.strides[axis])?;
    let full = full.checked_add(span(window.kernel[axis], window.dilations[axis])?)?.checked_add(output_padding)?;
    full.checked_sub(window.pads_before[axis])?.checked_sub(window.pads_after[axis]).filter(|&extent| extent > 0)
}

/// The window has one sound entry per spatial axis of `x`.
pub(super) fn check(window: &Window, x: &TensorType) -> Checked<()> {
    let Window { kernel, strides, dilations, pads_before, pads_after } = window;
    require(x.shape.rank() >= 3, || format!("takes [N,C,spatial..], got {x}"))?;
    let spatial = x.shape.rank() - 2;
    let entries = [kernel, strides, dilations, pads_before, pads_after];
    require(entries.iter().all(|list| list.len() == spatial), || format!("the window has not {spatial} axes for {x}"))?;
    let positive = |list: &[usize]| list.iter().all(|&n| n > 0);
    require(positive(kernel), || format!("a kernel extent of 0 in {kernel:?}"))?;
    require(positive(strides), || format!("a stride of 0 in {strides:?}"))?;
    require(positive(dilations), || format!("a dilation of 0 in {dilations:?}"))
}

pub(super) fn pool(window: &Window, ceil: bool, x: &TensorType) -> Checked<TensorType> {
    check(window, x)?;
    require(x.dtype != DType::Bool, || format!("of {x}"))?;
    let mut shape = Shape::new(&[x.shape.dim(0), x.shape.dim(1)]).extents();
    for axis in 0..window.kernel.len() {
        let extent = pool_extent(x.shape.dim(axis + 2), window, axis, ceil);
        shape.push(extent.ok_or_else(|| does_not_fit(window, axis, x))?);
    }
    Ok(TensorType::new(x.dtype, Shape::new(&shape)))
}

pub(super) fn does_not_fit(window: &Window, axis: usize, x: &TensorType) -> String {
    format!(
        "a kernel of {:?} (dilation {:?}) does not fit axis {} of {x} with pads {:?} and {:?}",
        window.kernel,
        window.dilations,
        axis + 2,
        window.pads_before,
        window.pads_after
    )
}
