//! Data and epilogues of tests over i8, with references that sum exactly and leave the epilogue to the evaluator.

#![allow(dead_code)]

use edgecc_backends::contraction::{Combination, ContractionSpec, DepthwiseSpec, Strides, Window};
use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, Scalar, UnaryOp};

use super::Buffer;
use super::data::{Random, at, batches, dot};

/// Elements of one type.
#[derive(Clone)]
pub struct Elements(pub Vec<Scalar>);

impl Elements {
    /// `count` numbers of a type: every i8, and others of a size that epilogues meet.
    pub fn random(random: &mut Random, dtype: DType, count: i64) -> Elements {
        let one = |random: &mut Random| match dtype {
            DType::F32 => Scalar::f32(random.below(1000) as f32 / 70_000.0 + 1.0 / 65_536.0),
            DType::I32 => Scalar::from_i64(dtype, random.below(20_000) - 10_000),
            _ => Scalar::from_i64(dtype, random.below(256) - 128),
        };
        Elements((0..count).map(|_| one(random)).collect())
    }

    pub fn zeros(dtype: DType, count: i64) -> Elements {
        Elements(vec![Scalar::from_i64(dtype, 0); count as usize])
    }

    pub fn buffer(&self) -> Buffer {
        let bytes = self.0.iter().flat_map(|value| value.to_le_bytes()[..value.dtype().size()].to_vec());
        Buffer::new(&bytes.collect::<Vec<u8>>())
    }
}

/// What an epilogue makes of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// The sum as an i32.
    Sum,
    /// `i8(round(f32(sum + bias) * multiplier))`: operands bias and multiplier per channel.
    Plain,
    /// The same with a zero point and limits.
    Clamped,
    /// Plain, with the least of i8 as zero point: behind a rectifier.
    Rectified,
    /// The same as u8.
    Unsigned,
    /// A constant bias and multiplier.
    Constant,
    /// Clamped, with `(f32(residual) - zero) * scale` added before rounding: operand 3, an i8 per pixel and channel.
    Residual,
    /// The f32 before rounding, with bias and multiplier.
    Float,
    /// What the byte of Clamped stands for.
    Widened,
    /// Hard-swish in f32 before rounding.
    HardSwish,
    /// Clamped, and a gate of that byte: `i8(round(x * sigmoid(x) / 0.031) - 100)` with `x = (q + 11) * 0.05`.
    Gated,
    /// `i8(round(f32(sum + bias) * multiplier) + zero)` where the largest of i8 is the input.
    Copy,
}

impl Epilogue {
    pub const ALL: [Epilogue; 11] = [
        Epilogue::Widened,
        Epilogue::Gated,
        Epilogue::Rectified,
        Epilogue::Sum,
        Epilogue::Plain,
        Epilogue::Clamped,
        Epilogue::Unsigned,
        Epilogue::Constant,
        Epilogue::Residual,
        Epilogue::Float,
        Epilogue::HardSwish,
    ];

    /// The expression, and the strides of its operands: per channel, or as the output.
    pub fn of(self, batch_axes: usize, output: &Strides) -> (Expr, Vec<Strides>) {
        let mut expr = Expr::new();
        let sum = expr.arg(0, DType::I32);
        let per_channel = || Strides::per_channel(batch_axes);
        let (root, operands) = match self {
            Epilogue::Sum => (sum, vec![]),
            Epilogue::Copy => (expr.cast(DType::I8, sum), vec![]),
            Epilogue::Constant => {
                let bias = expr.number(sum, 777.0);
                let sum = expr.binary(BinaryOp::Sub, sum, bias);
                let value = expr.cast(DType::F32, sum);
                let multiplier = expr.number(value, 0.001_953_7);
                let scaled = expr.binary(BinaryOp::Mul, value, multiplier);
                (quantized(&mut expr, scaled, 0.0, None, DType::I8), vec![])
            }
            _ => {
                let scaled = scaled(&mut expr, sum);
                let mut operands = vec![per_channel(), per_channel()];
                let root = match self {
                    Epilogue::Clamped => quantized(&mut expr, scaled, -11.0, Some([-11.0, 96.0]), DType::I8),
                    Epilogue::Gated => {
                        let byte = quantized(&mut expr, scaled, -11.0, Some([-120.0, 127.0]), DType::I8);
                        gated(&mut expr, byte)
                    }
                    Epilogue::Rectified => quantized(&mut expr, scaled, -128.0, None, DType::I8),
                    Epilogue::Unsigned => quantized(&mut expr, scaled, 117.0, None, DType::U8),
                    Epilogue::Widened => {
                        let byte = quantized(&mut expr, scaled, -11.0, Some([-120.0, 127.0]), DType::I8);
                        widened(&mut expr, byte)
                    }
                    Epilogue::Float => scaled,
                    Epilogue::Residual => {
                        operands.push(output.clone());
                        let other = expr.arg(3, DType::I8);
                        let other = expr.cast(DType::F32, other);
                        let (zero, scale) = (expr.number(other, 5.0), expr.number(other, 0.731));
                        let other = expr.binary(BinaryOp::Sub, other, zero);
                        let other = expr.binary(BinaryOp::Mul, other, scale);
                        let joined = expr.binary(BinaryOp::Add, scaled, other);
                        quantized(&mut expr, joined, 3.0, None, DType::I8)
                    }
                    Epilogue::HardSwish => {
                        let three = expr.number(scaled, 3.0);
                        let (zero, six) = (expr.number(scaled, 0.0), expr.number(scaled, 6.0));
                        let sixth = expr.number(scaled, 1.0 / 6.0);
                        let gate = expr.binary(BinaryOp::Add, scaled, three);
                        let gate = expr.binary(BinaryOp::Max, gate, zero);
                        let gate = expr.binary(BinaryOp::Min, gate, six);
                        let gated = expr.binary(BinaryOp::Mul, scaled, gate);
                        let gated = expr.binary(BinaryOp::Mul, gated, sixth);
                        quantized(&mut expr, gated, -7.0, None, DType::I8)
                    }
                    _ => quantized(&mut expr, scaled, 0.0, None, DType::I8),
                };
                (root, operands)
            }
        };
        (expr.with_root(root), operands)
    }
}

/// `f32(sum + bias) * multiplier`.
fn scaled(expr: &mut Expr, sum: ExprId) -> ExprId {
    let (bias, multiplier) = (expr.arg(1, DType::I32), expr.arg(2, DType::F32));
    let sum = expr.binary(BinaryOp::Add, sum, bias);
    let value = expr.cast(DType::F32, sum);
    expr.binary(BinaryOp::Mul, value, multiplier)
}

fn quantized(expr: &mut Expr, value: ExprId, zero: f64, limits: Option<[f64; 2]>, dtype: DType) -> ExprId {
    let mut value = expr.unary(UnaryOp::Round, value);
    if zero != 0.0 {
        let zero = expr.number(value, zero);
        value = expr.binary(BinaryOp::Add, value, zero);
    }
    if let Some([low, high]) = limits {
        let (low, high) = (expr.number(value, low), expr.number(value, high));
        value = expr.binary(BinaryOp::Min, value, high);
        value = expr.binary(BinaryOp::Max, value, low);
    }
    expr.cast(dtype, value)
}

/// `(q + 11) * 0.05` of a byte.
fn widened(expr: &mut Expr, byte: ExprId) -> ExprId {
    let value = expr.cast(DType::F32, byte);
    let (zero, scale) = (expr.number(value, -11.0), expr.number(value, 0.05));
    let value = expr.binary(BinaryOp::Sub, value, zero);
    expr.binary(BinaryOp::Mul, value, scale)
}

/// A gate of a byte as a byte.
fn gated(expr: &mut Expr, byte: ExprId) -> ExprId {
    let value = widened(expr, byte);
    let step = expr.number(value, 0.031);
    let gate = expr.unary(UnaryOp::Sigmoid, value);
    let gated = expr.binary(BinaryOp::Mul, value, gate);
    let steps = expr.binary(BinaryOp::Div, gated, step);
    quantized(expr, steps, -100.0, None, DType::I8)
}

/// A dense contraction of i8.
pub fn dense(batch: i64, window: Window, depth: i64, channels: i64, epilogue: Epilogue) -> ContractionSpec {
    let mut input = Strides::image(window.input_width, depth);
    input.batch = vec![window.input_height * window.input_width * depth];
    let mut output = Strides::image(window.width, channels);
    output.batch = vec![window.pixels() * channels];
    let (epilogue, operands) = epilogue.of(1, &output);
    let element = edgecc_backends::contraction::Element::I8;
    let (batch, weight_batch) = (vec![batch], vec![0]);
    let symmetric_weights = false;
    ContractionSpec {
        element,
        batch,
        operands,
        window,
        depth,
        channels,
        input,
        reading: None,
        symmetric_weights,
        weight_batch,
        output,
        epilogue,
    }
}

/// A dense depthwise convolution of two images of i8.
pub fn dense_depthwise(window: Window, channels: i64, combination: Combination, epilogue: Epilogue) -> DepthwiseSpec {
    let of = dense(2, window, channels, channels, epilogue);
    let ContractionSpec { element, batch, window, input, output, operands, epilogue, .. } = of;
    let (reading, mean) = (None, None);
    DepthwiseSpec { element, batch, window, channels, combination, input, reading, output, mean, operands, epilogue }
}

/// Where every output lies, with its value: `sum(batch, pixel, channel)` through the epilogue.
pub fn results(
    (epilogue, output, operands): (&Expr, &Strides, &[Strides]),
    (extents, window, channels): (&[i64], &Window, i64),
    further: &[Elements],
    sum: impl Fn(&[i64], [i64; 2], i64) -> i32,
) -> Vec<(usize, Scalar)> {
    let mut results = Vec::new();
    for batch in batches(extents) {
        for place in 0..window.pixels() * channels {
            let (pixel, n) = (place / channels, place % channels);
            let [y, x] = [pixel / window.width, pixel % window.width];
            let mut arguments = vec![Scalar::from_i64(DType::I32, i64::from(sum(&batch, [y, x], n)))];
            let read = operands.iter().zip(further);
            arguments.extend(read.map(|(strides, values)| values.0[at(strides, &batch, y, x, n)]));
            results.push((at(output, &batch, y, x, n), eval_scalar(epilogue, &arguments)));
        }
    }
    results
}

/// The inputs that a pixel's taps meet, with each tap.
pub fn met<'a>(window: &'a Window, [y, x]: [i64; 2]) -> impl Iterator<Item = (usize, i64, i64)> + 'a {
    window.taps.iter().filter_map(move |tap| {
        let (row, column) = (y * window.step[0] + tap.row, x * window.step[1] + tap.column);
        let within = (0..window.input_height).contains(&row) && (0..window.input_width).contains(&column);
        within.then_some((tap.weight, row, column))
    })
}

/// The exact sum of a contraction; `weights[matrix][weight index][k][n]`.
pub fn sum_of(
    spec: &ContractionSpec,
    input: &Elements,
    weights: &Elements,
    batch: &[i64],
    pixel: [i64; 2],
    n: i64,
) -> i32 {
    let (matrix, taps) = (dot(&spec.weight_batch, batch), spec.window.taps.len() as i64);
    let mut sum = 0i32;
    for (tap, row, column) in met(&spec.window, pixel) {
        for k in 0..spec.depth {
            let weight = ((matrix * taps + tap as i64) * spec.depth + k) * spec.channels + n;
            let x = input.0[at(&spec.input, batch, row, column, k)].as_i64() as i32;
            sum = sum.wrapping_add(x * weights.0[weight as usize].as_i64() as i32);
        }
    }
    sum
}
