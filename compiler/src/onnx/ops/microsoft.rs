//! Quantised operators of onnxruntime's domain com.microsoft, as its quantization tool and its optimiser write them: what they
//! compute on numbers, between dequantization and quantization (onnxruntime, docs/ContribOperators.md).

use edgecc_ir::{BinaryOp, DType, NodeId, Op, PoolKind, ReduceKind, Shape, Tensor, UnaryOp};

use super::Row;
use super::elementwise::leaky;
use super::movement::part;
use super::pooling::{pool, spatial};
use super::quantization::{self, dequantize, dynamically_quantized, integer_product, quantize, quantized, value_of};
use super::reduction::softmax_of;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[
    ("com.microsoft::DequantizeLinear", 1, dequantize),
    ("com.microsoft::DynamicQuantizeMatMul", 1, dynamic_product),
    ("com.microsoft::MatMulIntegerToFloat", 1, product_to_float),
    ("com.microsoft::MatMulNBits", 1, product_of_blocks),
    ("com.microsoft::QGemm", 1, gemm),
    ("com.microsoft::QLinearAdd", 1, binary),
    ("com.microsoft::QLinearAveragePool", 1, average),
    ("com.microsoft::QLinearConcat", 1, concat),
    ("com.microsoft::QLinearGlobalAveragePool", 1, global_average),
    ("com.microsoft::QLinearLeakyRelu", 1, leaky_relu),
    ("com.microsoft::QLinearMul", 1, binary),
    ("com.microsoft::QLinearSigmoid", 1, sigmoid),
    ("com.microsoft::QLinearSoftmax", 1, softmax),
    ("com.microsoft::QLinearWhere", 1, select),
    ("com.microsoft::QuantizeLinear", 1, quantize),
];

/// The numbers of integers with one scale: inputs `place`, `place + 1` and, where it is there, `place + 2`.
fn numbers(c: &mut Context<'_, '_>, place: usize) -> Imported<NodeId> {
    let (x, scale, zero) = (c.input(place)?, c.input(place + 1)?, c.optional(place + 2));
    value_of(c, x, scale, zero, 0, 0)
}

/// A result as integers with the scale of input `place` and the zero point of the next, where that is there; else of input 0's type.
fn integers(c: &mut Context<'_, '_>, value: NodeId, place: usize) -> Results {
    let (scale, zero) = (c.input(place)?, c.optional(place + 1));
    let like = match zero {
        Some(zero) => zero,
        None => c.input(0)?,
    };
    let target = c.dtype(like)?;
    Ok(vec![quantized(c, value, scale, zero, target, 0, 0)?])
}

fn refuse_channels_last(c: &Context<'_, '_>) -> Imported<()> {
    if c.int("channels_last", 0)? != 0 { unsupported("channels last") } else { Ok(()) }
}

/// a, its scale and zero point; b, likewise; scale and zero point of the result.
fn binary(c: &mut Context<'_, '_>) -> Results {
    let op = if c.operator() == "QLinearMul" { BinaryOp::Mul } else { BinaryOp::Add };
    let (a, b) = (numbers(c, 0)?, numbers(c, 3)?);
    let value = c.binary(op, a, b)?;
    integers(c, value, 6)
}

fn sigmoid(c: &mut Context<'_, '_>) -> Results {
    let x = numbers(c, 0)?;
    let value = c.unary(UnaryOp::Sigmoid, x)?;
    integers(c, value, 3)
}

fn leaky_relu(c: &mut Context<'_, '_>) -> Results {
    let (x, alpha) = (numbers(c, 0)?, c.float("alpha", 0.01)?);
    let value = c.map(&[x], |e, [x]| {
        let slope = e.number(x, alpha as f64);
        leaky(e, x, slope)
    })?;
    integers(c, value, 3)
}

fn average(c: &mut Context<'_, '_>) -> Results {
    refuse_channels_last(c)?;
    let x = numbers(c, 0)?;
    let count_pads = c.int("count_include_pad", 0)? != 0;
    let op = pool(c, x, PoolKind::Average { count_pads })?;
    let value = c.add(op, &[x])?;
    integers(c, value, 3)
}

fn global_average(c: &mut Context<'_, '_>) -> Results {
    refuse_channels_last(c)?;
    let x = numbers(c, 0)?;
    let axes = spatial(c, x)?;
    let value = c.add(Op::Reduce { kind: ReduceKind::Mean, axes }, &[x])?;
    integers(c, value, 3)
}

/// Scale and zero point of the result, then each part with its own.
fn concat(c: &mut Context<'_, '_>) -> Results {
    let parts = (c.all_inputs()?.len().saturating_sub(2)) / 3;
    let values = (0..parts).map(|part| numbers(c, 2 + 3 * part)).collect::<Imported<Vec<NodeId>>>()?;
    let Some(&first) = values.first() else { return invalid("has no parts") };
    let axis = c.axis(c.int("axis", 0)?, c.rank(first)?)?;
    let value = if values.len() == 1 { first } else { c.add(Op::Concat { axis }, &values)? };
    let (scale, zero) = (c.input(0)?, c.input(1)?);
    let target = c.dtype(zero)?;
    Ok(vec![quantized(c, value, scale, Some(zero), target, 0, 0)?])
}

/// `opset` is the operator set of ONNX whose softmax it was made of.
fn softmax(c: &mut Context<'_, '_>) -> Results {
    let x = numbers(c, 0)?;
    let version = c.int("opset", 13)?;
    let value = softmax_of(c, x, version, false)?;
    integers(c, value, 3)
}

/// The condition; x, its scale and zero point; y, likewise; scale and zero point of the result.
fn select(c: &mut Context<'_, '_>) -> Results {
    let (condition, x, y) = (c.input(0)?, numbers(c, 1)?, numbers(c, 4)?);
    let value = c.map(&[condition, x, y], |e, [condition, x, y]| e.select(condition, x, y))?;
    let (scale, zero) = (c.input(7)?, c.input(8)?);
    let target = c.dtype(zero)?;
    Ok(vec![quantized(c, value, scale, Some(zero), target, 0, 0)?])
}

/// `alpha * A * B + C`, with C in steps of `alpha * scale_a * scale_b`; a result of numbers where it has no scale.
fn gemm(c: &mut Context<'_, '_>) -> Results {
    let a = numbers(c, 0)?;
    let (b, scale_b, zero_b) = (c.input(3)?, c.input(4)?, c.optional(5));
    let transpose_b = c.int("transB", 0)? != 0;
    let b = value_of(c, b, scale_b, zero_b, if transpose_b { 0 } else { 1 }, 0)?;
    let op =
        Op::MatMul { transpose_a: c.int("transA", 0)? != 0, transpose_b, epilogue: Op::plain_epilogue(DType::F32) };
    let mut sum = c.add(op, &[a, b])?;
    let alpha = c.float("alpha", 1.0)?;
    let factor = c.number(DType::F32, alpha as f64);
    if alpha != 1.0 {
        sum = c.binary(BinaryOp::Mul, sum, factor)?;
    }
    if let Some(bias) = c.optional(6) {
        let scale_a = c.input(1)?;
        let step = c.binary(BinaryOp::Mul, scale_a, scale_b)?;
        let step = c.binary(BinaryOp::Mul, step, factor)?;
        let bias = c.cast(bias, DType::F32)?;
        let bias = c.binary(BinaryOp::Mul, bias, step)?;
        sum = c.binary(BinaryOp::Add, sum, bias)?;
    }
    if c.optional(7).is_some() { integers(c, sum, 7) } else { Ok(vec![sum]) }
}

/// A, B, their scales, their zero points, and a bias.
fn product_to_float(c: &mut Context<'_, '_>) -> Results {
    let [a, b, scale_a, scale_b] = [c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?];
    let (zero_a, zero_b) = (c.optional(4), c.optional(5));
    scaled_product(c, [a, b], [scale_a, scale_b], [zero_a, zero_b], 6)
}

/// A; B as bytes `[channels, blocks, bytes of a block]`; scales and perhaps zero points, of each row one behind the other; a bias.
fn product_of_blocks(c: &mut Context<'_, '_>) -> Results {
    let extent = |c: &Context<'_, '_>, name: &str, default: i64| {
        let value = c.int(name, default)?;
        match usize::try_from(value) {
            Ok(extent) if (1..=1 << 24).contains(&extent) => Ok(extent),
            _ => invalid(format!("`{name}` is {value}")),
        }
    };
    let [depth, channels] = [extent(c, "K", 0)?, extent(c, "N", 0)?];
    let [block, bits] = [extent(c, "block_size", 0)?, extent(c, "bits", 4)?];
    if !matches!(bits, 4 | 8) {
        return unsupported(format!("weights of {bits} bits"));
    }
    if block < 16 || !block.is_power_of_two() {
        return invalid(format!("`block_size` is {block}"));
    }
    if c.optional(4).is_some() {
        return unsupported("an order of the depth (`g_idx`)");
    }
    let blocks = depth.div_ceil(block);
    let weights = c.known(1)?;
    let weights = integers_of(c, &weights, bits, [channels, blocks * block], [channels, blocks, block])?;
    let scale = c.input(2)?;
    let scale = c.cast(scale, DType::F32)?;
    let scale = c.reshape(scale, &[channels, blocks, 1])?;
    let zero = match c.optional(3) {
        None => c.number(DType::U8, f64::from(1u32 << (bits - 1))),
        Some(zero) if c.dtype(zero)? == DType::U8 => {
            let zero = c.known(3)?;
            integers_of(c, &zero, bits, [channels, blocks], [channels, blocks, 1])?
        }
        Some(_) => return unsupported("zero points that are numbers"),
    };
    let weights = quantization::blocks(c, weights, scale, Some(zero))?;
    let mut weights = c.reshape(weights, &[channels, blocks * block])?;
    if blocks * block != depth {
        weights = part(c, weights, 1, 0, depth)?;
    }
    let x = c.input(0)?;
    let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: Op::plain_epilogue(DType::F32) };
    let mut value = c.add(op, &[x, weights])?;
    if let Some(bias) = c.optional(5) {
        value = c.binary(BinaryOp::Add, value, bias)?;
    }
    Ok(vec![value])
}

/// Integers without sign out of rows of whole bytes, the first in the lowest bits; `[rows, columns]` of them, as a tensor of `extents`.
fn integers_of(
    c: &mut Context<'_, '_>,
    packed: &Tensor,
    bits: usize,
    [rows, columns]: [usize; 2],
    extents: [usize; 3],
) -> Imported<NodeId> {
    let (bytes, row) = (packed.bytes(), (columns * bits).div_ceil(8));
    if packed.dtype() != DType::U8 || bytes.len() != rows * row {
        return invalid(format!(
            "{} bytes of {} are no {rows} rows of {columns} integers",
            bytes.len(),
            packed.dtype()
        ));
    }
    let integers = bytes.chunks_exact(row).flat_map(|row| {
        let split = move |byte: u8| if bits == 4 { vec![byte & 15, byte >> 4] } else { vec![byte] };
        row.iter().copied().flat_map(split).take(columns)
    });
    let integers: Vec<u8> = integers.collect();
    match Tensor::dense(DType::U8, Shape::new(&extents), integers.into()) {
        Ok(tensor) => Ok(c.constant(tensor)),
        Err(error) => invalid(error.to_string()),
    }
}

/// A of numbers; B with its scale and zero point; and a bias.
fn dynamic_product(c: &mut Context<'_, '_>) -> Results {
    let [x, b, scale_b] = [c.input(0)?, c.input(1)?, c.input(2)?];
    let zero_b = c.optional(3);
    let [a, scale_a, zero_a] = dynamically_quantized(c, x)?;
    scaled_product(c, [a, b], [scale_a, scale_b], [Some(zero_a), zero_b], 4)
}

fn scaled_product(
    c: &mut Context<'_, '_>,
    [a, b]: [NodeId; 2],
    [scale_a, scale_b]: [NodeId; 2],
    [zero_a, zero_b]: [Option<NodeId>; 2],
    bias: usize,
) -> Results {
    let sum = integer_product(c, [a, b], [zero_a, zero_b])?;
    let sum = c.cast(sum, DType::F32)?;
    let scale_a = c.reshape(scale_a, &[])?;
    let step = c.binary(BinaryOp::Mul, scale_a, scale_b)?;
    let mut value = c.binary(BinaryOp::Mul, sum, step)?;
    if let Some(bias) = c.optional(bias) {
        value = c.binary(BinaryOp::Add, value, bias)?;
    }
    Ok(vec![value])
}
