//! Convolutions and matrix products.

use super::expr::{broadcast_strides, eval_f32, eval_scalar};
use super::{EvalError, flat, from_f64, positions, to_f64};
use crate::expr::Expr;
use crate::infer::accumulator_type;
use crate::op::Window;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::types::{DType, Scalar, TensorType};

/// `[N,C,spatial..] * [O,C/g,kernel..]`: for every output position the taps inside of the operand.
pub(super) fn conv(
    window: &Window,
    groups: usize,
    epilogue: &Expr,
    operands: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let (x, w) = (to_f64(operands[0]), to_f64(operands[1]));
    let input = operands[0].shape().extents();
    let output = ty.shape.extents();
    let (depth, filters) = (input[1] / groups, output[1] / groups);
    let (pixels_in, pixels_out): (usize, usize) = (input[2..].iter().product(), output[2..].iter().product());
    let taps: usize = window.kernel.iter().product();
    let meets = meetings(window, &output[2..], operands[0].shape());
    let mut sums = vec![0f64; output.iter().product()];
    for image in 0..output[0] {
        for filter in 0..output[1] {
            let group = filter / filters;
            let row = &mut sums[(image * output[1] + filter) * pixels_out..][..pixels_out];
            for channel in 0..depth {
                let source = &x[(image * input[1] + group * depth + channel) * pixels_in..][..pixels_in];
                let weights = &w[(filter * depth + channel) * taps..][..taps];
                for &(pixel, tap, from) in &meets {
                    row[pixel] += source[from] * weights[tap];
                }
            }
        }
    }
    finish(sums, epilogue, operands, ty)
}

/// For each pixel of a small image and each tap of the window the pixel of the image `wide` that they meet, as positions:
/// `pixel * stride + tap * dilation - pad`, where that is inside.
fn meetings(window: &Window, small: &[usize], wide: &Shape) -> Vec<(usize, usize, usize)> {
    let (extents, strides) = (wide.extents(), wide.strides());
    let mut meets = Vec::new();
    let mut pixel = 0;
    positions(small, |place| {
        let mut tap = 0;
        positions(&window.kernel, |at| {
            let met = |axis: usize| {
                (place[axis] * window.strides[axis] + at[axis] * window.dilations[axis])
                    .checked_sub(window.pads_before[axis])
                    .filter(|&position| position < extents[axis + 2])
            };
            let met: Option<Vec<usize>> = (0..place.len()).map(met).collect();
            meets.extend(met.map(|met| (pixel, tap, flat(&strides[2..], &met))));
            tap += 1;
        });
        pixel += 1;
    });
    meets
}

/// Every input pixel adds its weights to the output pixels under the window.
pub(super) fn conv_transpose(
    window: &Window,
    groups: usize,
    epilogue: &Expr,
    operands: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let (x, w) = (to_f64(operands[0]), to_f64(operands[1]));
    let (input, output) = (operands[0].shape().extents(), ty.shape.extents());
    let (depth, filters) = (input[1] / groups, output[1] / groups);
    let (pixels_in, pixels_out): (usize, usize) = (input[2..].iter().product(), output[2..].iter().product());
    let taps: usize = window.kernel.iter().product();
    let meets = meetings(window, &input[2..], &ty.shape);
    let mut sums = vec![0f64; output.iter().product()];
    for image in 0..output[0] {
        for filter in 0..output[1] {
            let (group, own) = (filter / filters, filter % filters);
            let row = &mut sums[(image * output[1] + filter) * pixels_out..][..pixels_out];
            for channel in group * depth..(group + 1) * depth {
                let source = &x[(image * input[1] + channel) * pixels_in..][..pixels_in];
                let weights = &w[(channel * filters + own) * taps..][..taps];
                for &(from, tap, to) in &meets {
                    row[to] += source[from] * weights[tap];
                }
            }
        }
    }
    finish(sums, epilogue, operands, ty)
}

/// `[..,M,K] x [..,K,N]`, leading axes broadcast.
pub(super) fn matmul(
    transpose_a: bool,
    transpose_b: bool,
    epilogue: &Expr,
    operands: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    if operands[0].dtype().is_integer() {
        return integer_matmul(transpose_a, transpose_b, epilogue, operands, ty);
    }
    let (a, b) = (to_f64(operands[0]), to_f64(operands[1]));
    let mut sums = vec![0f64; ty.shape.elements().unwrap_or(0)];
    each_product(transpose_a, transpose_b, operands, ty, |to, from_a, from_b| sums[to] += a[from_a] * b[from_b]);
    finish(sums, epilogue, operands, ty)
}

/// Integer sums wrap.
fn integer_matmul(
    transpose_a: bool,
    transpose_b: bool,
    epilogue: &Expr,
    operands: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let (a, b) = (operands[0].to_i64(), operands[1].to_i64());
    let mut sums = vec![0i64; ty.shape.elements().unwrap_or(0)];
    each_product(transpose_a, transpose_b, operands, ty, |to, from_a, from_b| {
        sums[to] = sums[to].wrapping_add(a[from_a].wrapping_mul(b[from_b]));
    });
    let dtype = accumulator_type(operands[0].dtype(), epilogue);
    finish_scalars(sums.into_iter().map(|sum| Scalar::from_i64(dtype, sum)), epilogue, operands, ty)
}

/// Calls `visit(result, left, right)` with the row-major places of every product, k innermost.
fn each_product(
    transpose_a: bool,
    transpose_b: bool,
    operands: &[&Tensor],
    ty: &TensorType,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let output = ty.shape.extents();
    let lead = output.len() - 2;
    let (m, n) = (output[lead], output[lead + 1]);
    let left = operands[0].shape().extents();
    let k = if transpose_a { left[left.len() - 2] } else { left[left.len() - 1] };
    let mut batch = 0;
    let strides = [0, 1].map(|place| {
        let shape = operands[place].shape();
        let matrix: usize = shape.extents()[shape.rank() - 2..].iter().product();
        let leading = shape.extents().into_iter().take(shape.rank() - 2).collect();
        let target = output.iter().copied().take(lead).collect();
        broadcast_strides(&leading, &target).into_iter().map(|stride| stride * matrix).collect::<Vec<usize>>()
    });
    positions(&output[..lead], |place| {
        let [start_a, start_b] = [0, 1].map(|operand| flat(&strides[operand], place));
        for i in 0..m {
            for j in 0..n {
                for l in 0..k {
                    let from_a = start_a + if transpose_a { l * m + i } else { i * k + l };
                    let from_b = start_b + if transpose_b { j * k + l } else { l * n + j };
                    visit((batch * m + i) * n + j, from_a, from_b);
                }
            }
        }
        batch += 1;
    });
}

/// Rounds the sums to the accumulator's type and applies the epilogue. Sums of i8 are exact: each product is below 2^15.
fn finish(sums: Vec<f64>, epilogue: &Expr, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    if epilogue.is_argument(0) && ty.dtype.is_float() {
        return from_f64(ty, sums);
    }
    let plain = |dtype: DType| dtype == DType::F32;
    let has_cast = epilogue.nodes().iter().any(|node| matches!(node, crate::expr::ExprNode::Cast(..)));
    if !has_cast && plain(epilogue.dtype()) && epilogue.arguments().all(|(_, dtype)| plain(dtype)) {
        return finish_f32(&sums, epilogue, operands, ty);
    }
    let dtype = accumulator_type(operands[0].dtype(), epilogue);
    finish_scalars(sums.into_iter().map(|sum| Scalar::from_f64(dtype, sum)), epilogue, operands, ty)
}

fn finish_f32(sums: &[f64], epilogue: &Expr, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    let extras: Vec<Vec<f32>> = operands[2..].iter().map(|tensor| tensor.to_f32()).collect();
    let places: Vec<Vec<usize>> =
        operands[2..].iter().map(|tensor| broadcast_strides(tensor.shape(), &ty.shape)).collect();
    let mut stack = vec![0f32; epilogue.nodes().len()];
    let mut results = Vec::with_capacity(sums.len());
    let mut place = 0;
    positions(&ty.shape.extents(), |position| {
        let argument = |n: usize| match n.checked_sub(1) {
            None => sums[place] as f32,
            Some(extra) => extras[extra][flat(&places[extra], position)],
        };
        results.push(eval_f32(epilogue, &mut stack, argument) as f64);
        place += 1;
    });
    from_f64(ty, results)
}

fn finish_scalars(
    sums: impl Iterator<Item = Scalar>,
    epilogue: &Expr,
    operands: &[&Tensor],
    ty: &TensorType,
) -> Result<Tensor, EvalError> {
    let sums: Vec<Scalar> = sums.collect();
    let places: Vec<Vec<usize>> =
        operands[2..].iter().map(|tensor| broadcast_strides(tensor.shape(), &ty.shape)).collect();
    let mut results = Vec::with_capacity(sums.len());
    positions(&ty.shape.extents(), |position| {
        let mut arguments = vec![sums[results.len()]];
        let extras = operands[2..].iter().zip(&places);
        arguments.extend(extras.map(|(tensor, strides)| tensor.get(flat(strides, position))));
        results.push(eval_scalar(epilogue, &arguments));
    });
    Ok(Tensor::from_scalars(ty.dtype, ty.shape.clone(), results)?)
}
