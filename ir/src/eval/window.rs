//! Pools and the response norm.

use super::{EvalError, flat, from_f64, positions, to_f64};
use crate::op::{PoolKind, Window};
use crate::tensor::Tensor;
use crate::types::{Scalar, TensorType};

/// Elements under one window, as (row-major place in the spatial axes, value), and what it covers within operand and
/// padding.
fn under(window: &Window, input: &[usize], strides: &[usize], place: &[usize]) -> (Vec<usize>, usize) {
    let mut inside = Vec::new();
    let mut covered = 0;
    positions(&window.kernel, |tap| {
        let padded = |axis: usize| place[axis] * window.strides[axis] + tap[axis] * window.dilations[axis];
        let rank = place.len();
        let within =
            (0..rank).all(|axis| padded(axis) < window.pads_before[axis] + input[axis] + window.pads_after[axis]);
        covered += within as usize;
        let source: Option<Vec<usize>> = (0..rank)
            .map(|axis| padded(axis).checked_sub(window.pads_before[axis]).filter(|&position| position < input[axis]))
            .collect();
        inside.extend(source.map(|source| flat(strides, &source)));
    });
    (inside, covered)
}

pub(super) fn pool(kind: PoolKind, window: &Window, x: &Tensor, ty: &TensorType) -> Result<Tensor, EvalError> {
    let values = to_f64(x);
    let input = x.shape().extents();
    let strides = x.shape().strides();
    let pixels: usize = input[2..].iter().product();
    let mut result = Vec::with_capacity(ty.shape.elements().unwrap_or(0));
    let planes = input[0] * input[1];
    for plane in 0..planes {
        let values = &values[plane * pixels..][..pixels];
        positions(&ty.shape.extents()[2..], |place| {
            let (inside, covered) = under(window, &input[2..], &strides[2..], place);
            let elements = inside.iter().map(|&at| values[at]);
            result.push(match kind {
                PoolKind::Max => {
                    elements.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b > a || b.is_nan() { b } else { a })
                }
                PoolKind::Average { count_pads } => {
                    let divisor = if count_pads { covered } else { inside.len() };
                    elements.sum::<f64>() / divisor as f64
                }
                PoolKind::Lp { p } => elements.map(|x| x.abs().powi(p as i32)).sum::<f64>().powf(1.0 / p as f64),
            });
        });
    }
    from_f64(ty, result)
}

pub(super) fn pool_indices(
    window: &Window,
    column_major: bool,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let values = to_f64(x);
    let input = x.shape().extents();
    let strides = x.shape().strides();
    let pixels: usize = input[2..].iter().product();
    let mut result = Vec::new();
    for plane in 0..input[0] * input[1] {
        let values = &values[plane * pixels..][..pixels];
        positions(&ty.shape.extents()[2..], |place| {
            let (inside, _) = under(window, &input[2..], &strides[2..], place);
            let best = inside.into_iter().reduce(|a, b| if values[b] > values[a] { b } else { a }).unwrap_or(0);
            let within = if column_major { transposed_index(best, &input[2..]) } else { best };
            result.push(Scalar::i64((plane * pixels + within) as i64));
        });
    }
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), result)?)
}

/// The index that counts the first axis fastest, from the one that counts the last fastest.
fn transposed_index(index: usize, extents: &[usize]) -> usize {
    let mut rest = index;
    let mut position = vec![0; extents.len()];
    for axis in (0..extents.len()).rev() {
        position[axis] = rest % extents[axis];
        rest /= extents[axis];
    }
    (0..extents.len()).rev().fold(0, |sum, axis| sum * extents[axis] + position[axis])
}

pub(super) fn local_response_norm(
    size: usize,
    alpha: f64,
    beta: f64,
    bias: f64,
    x: &Tensor,
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let values = to_f64(x);
    let extents = x.shape().extents();
    let (channels, pixels): (usize, usize) = (extents[1], extents[2..].iter().product());
    let (back, ahead) = ((size - 1) / 2, size / 2);
    let at = |image: usize, channel: usize, pixel: usize| values[(image * channels + channel) * pixels + pixel];
    let mut result = Vec::with_capacity(values.len());
    for image in 0..extents[0] {
        for channel in 0..channels {
            let reach = channel.saturating_sub(back)..(channel + ahead + 1).min(channels);
            for pixel in 0..pixels {
                let squares: f64 = reach.clone().map(|other| at(image, other, pixel).powi(2)).sum();
                result.push(at(image, channel, pixel) / (bias + alpha / size as f64 * squares).powf(beta));
            }
        }
    }
    from_f64(ty, result)
}
