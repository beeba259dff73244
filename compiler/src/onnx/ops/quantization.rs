//! Quantised operators as arithmetic on their values. One map stands for each quantization and dequantization, so that passes find
//! the integers again.

use edgecc_ir::{BinaryOp, DType, Expr, NodeId, Op, PadMode, ReduceKind, UnaryOp, Window};

use super::Row;
use super::contraction::{product, window};
use super::elementwise::element_number;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};
use crate::onnx::tensor::dtype;

pub(super) const TABLE: &[Row] = &[
    ("ConvInteger", 10, conv_integer),
    ("DequantizeLinear", 10, dequantize),
    ("DynamicQuantizeLinear", 11, dynamic_quantize),
    ("MatMulInteger", 10, matmul_integer),
    ("QLinearConv", 10, quantized_conv),
    ("QLinearMatMul", 10, quantized_matmul),
    ("QuantizeLinear", 10, quantize),
];

/// Whether integers of a type stand for numbers.
fn is_quantized_type(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::I32)
}

/// A parameter so that it broadcasts against `x`: a scalar, one value along an axis, or one per block of it.
fn along(c: &mut Context<'_, '_>, parameter: NodeId, x: NodeId, axis: i64, block: usize) -> Imported<NodeId> {
    let own = c.shape(parameter)?.extents();
    let shape = c.shape(x)?.extents();
    if own.iter().product::<usize>() == 1 && block == 0 {
        return c.reshape(parameter, &[]);
    }
    let axis = c.axis(axis, shape.len())?;
    if block > 0 {
        return repeated(c, parameter, x, axis, block);
    }
    let values = own.iter().product();
    let extents: Vec<usize> = (0..shape.len()).map(|other| if other == axis { values } else { 1 }).collect();
    c.reshape(parameter, &extents)
}

/// Every value repeated over its block: `[.., b, ..]` to `[.., b, 1, ..]` to `[.., b, block, ..]`, the last cut to what `x` has.
fn repeated(c: &mut Context<'_, '_>, parameter: NodeId, x: NodeId, axis: usize, block: usize) -> Imported<NodeId> {
    let (own, extent) = (c.shape(parameter)?.extents(), c.extent(x, axis)?);
    let Some((blocks, outer)) = own.get(..=axis).and_then(<[usize]>::split_last) else {
        return invalid(format!("{} has no axis {axis} of blocks", c.ty(parameter)?));
    };
    let Some(flat) = blocks.checked_mul(block) else { return invalid(format!("{blocks} blocks of {block}")) };
    let inner = own.get(axis + 1..).unwrap_or(&[]);
    let apart = c.reshape(parameter, &[outer, &[*blocks, 1], inner].concat())?;
    let wide = c.add(Op::Broadcast(edgecc_ir::Shape::new(&[outer, &[*blocks, block], inner].concat())), &[apart])?;
    let whole = c.reshape(wide, &[outer, &[flat], inner].concat())?;
    if flat == extent { Ok(whole) } else { super::movement::part(c, whole, axis, 0, extent) }
}

/// Refuses scales, where they are known, that no step has.
fn check_scale(c: &Context<'_, '_>, scale: NodeId) -> Imported<()> {
    let values = c.value(scale).map(|scale| scale.to_f32()).unwrap_or_default();
    match values.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
        Some(value) => invalid(format!("a scale of {value}: a step is above 0")),
        None => Ok(()),
    }
}

fn block_size(c: &Context<'_, '_>) -> Imported<usize> {
    Ok(usize::try_from(c.int("block_size", 0)?).unwrap_or(0))
}

/// `(x - zero) * scale`.
pub(super) fn dequantize(c: &mut Context<'_, '_>) -> Results {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let (axis, block) = (c.int("axis", 1)?, block_size(c)?);
    let zero = c.optional(2);
    Ok(vec![value_of(c, x, scale, zero, axis, block)?])
}

pub(super) fn value_of(
    c: &mut Context<'_, '_>,
    x: NodeId,
    scale: NodeId,
    zero: Option<NodeId>,
    axis: i64,
    block: usize,
) -> Imported<NodeId> {
    if !is_quantized_type(c.dtype(x)?) {
        return unsupported(format!("elements of {}", c.dtype(x)?));
    }
    check_scale(c, scale)?;
    let rank = c.rank(x)?;
    if block > 0 && rank > 0 && c.extent(x, c.axis(axis, rank)?)?.is_multiple_of(block) {
        let axis = c.axis(axis, rank)?;
        let whole = c.shape(x)?.extents();
        let apart = |c: &mut Context<'_, '_>, value: NodeId, block: usize| {
            let own = c.shape(value)?.extents();
            let blocks = own.get(axis).copied().unwrap_or(0) / block;
            let (outer, inner) = (own.get(..axis).unwrap_or(&[]), own.get(axis + 1..).unwrap_or(&[]));
            let extents = [outer, &[blocks, block], inner].concat();
            c.reshape(value, &extents)
        };
        let (x, scale) = (apart(c, x, block)?, apart(c, scale, 1)?);
        let zero = zero.map(|zero| apart(c, zero, 1)).transpose()?;
        let value = blocks(c, x, scale, zero)?;
        return c.reshape(value, &whole);
    }
    let scale = along(c, scale, x, axis, block)?;
    // Weights without zero points may stay integers beside numbers.
    let is_needless = |zero: &NodeId| c.value(*zero).is_some_and(|zero| zero.to_i64().iter().all(|&zero| zero == 0));
    let zero = zero.filter(|zero| c.value(x).is_none() || !is_needless(zero));
    let zero = zero.map(|zero| along(c, zero, x, axis, block)).transpose()?;
    scaled(c, x, scale, zero)
}

/// Numbers of integers whose blocks have an axis of their own, in front of the one within a block, along which scale and zero point
/// have one value. Constants become i8 less their zero points where those hold them, so that weights may stay integers.
pub(super) fn blocks(c: &mut Context<'_, '_>, x: NodeId, scale: NodeId, zero: Option<NodeId>) -> Imported<NodeId> {
    if c.value(x).is_some() && c.dtype(x)?.size() == 1 {
        let wide = c.cast(x, DType::I32)?;
        let whole = match zero {
            Some(zero) => {
                let zero = c.cast(zero, DType::I32)?;
                c.binary(BinaryOp::Sub, wide, zero)?
            }
            None => wide,
        };
        let fits = |value: i64| i8::try_from(value).is_ok();
        if c.value(whole).is_some_and(|whole| whole.to_i64().into_iter().all(fits)) {
            let narrow = c.cast(whole, DType::I8)?;
            return scaled(c, narrow, scale, None);
        }
    }
    scaled(c, x, scale, zero)
}

/// `(x - zero) * scale` of parameters that broadcast.
fn scaled(c: &mut Context<'_, '_>, x: NodeId, scale: NodeId, zero: Option<NodeId>) -> Imported<NodeId> {
    let wide = c.dtype(scale)?;
    let mut operands = vec![x, scale];
    let mut expr = Expr::argument(0, c.dtype(x)?);
    let mut value = expr.cast(wide, expr.root());
    if let Some(zero) = zero {
        operands.push(zero);
        let zero = expr.arg(2, c.dtype(zero)?);
        let zero = expr.cast(wide, zero);
        value = expr.binary(BinaryOp::Sub, value, zero);
    }
    let scale = expr.arg(1, wide);
    let root = expr.binary(BinaryOp::Mul, value, scale);
    // Constants too, so that passes see the integers of weights.
    c.add_as_is(Op::Map(expr.with_root(root)), &operands)
}

/// `saturate(round_half_even(x / scale) + zero)`.
pub(super) fn quantize(c: &mut Context<'_, '_>) -> Results {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let (axis, block) = (c.int("axis", 1)?, block_size(c)?);
    let zero = c.optional(2);
    if c.is_of_four_bits(2) || matches!(element_number(c, "output_dtype", 2)?, 21 | 22) {
        return unsupported("a result of 4 bits");
    }
    let target = match zero {
        Some(zero) => c.dtype(zero)?,
        None => dtype(element_number(c, "output_dtype", 2)?).unwrap_or(DType::F32),
    };
    Ok(vec![quantized(c, x, scale, zero, target, axis, block)?])
}

pub(super) fn quantized(
    c: &mut Context<'_, '_>,
    x: NodeId,
    scale: NodeId,
    zero: Option<NodeId>,
    target: DType,
    axis: i64,
    block: usize,
) -> Imported<NodeId> {
    if !is_quantized_type(target) {
        return unsupported(format!("a result of {target}"));
    }
    check_scale(c, scale)?;
    let mut operands = vec![x, along(c, scale, x, axis, block)?];
    let mut expr = Expr::argument(0, c.dtype(x)?);
    let value = expr.cast(DType::F32, expr.root());
    let scale = expr.arg(1, c.dtype(scale)?);
    let scale = expr.cast(DType::F32, scale);
    let ratio = expr.binary(BinaryOp::Div, value, scale);
    let mut steps = expr.unary(UnaryOp::Round, ratio);
    if let Some(zero) = zero {
        operands.push(along(c, zero, x, axis, block)?);
        let zero = expr.arg(2, c.dtype(zero)?);
        let zero = expr.cast(DType::F32, zero);
        steps = expr.binary(BinaryOp::Add, steps, zero);
    }
    // The cast saturates.
    let root = expr.cast(target, steps);
    c.add(Op::Map(expr.with_root(root)), &operands)
}

fn dynamic_quantize(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    Ok(dynamically_quantized(c, x)?.to_vec())
}

/// Integers of u8, scale and zero point from the range of x, which holds 0.
pub(super) fn dynamically_quantized(c: &mut Context<'_, '_>, x: NodeId) -> Imported<[NodeId; 3]> {
    let axes: Vec<usize> = (0..c.rank(x)?).collect();
    let zero = c.number(DType::F32, 0.0);
    let fold = |c: &mut Context<'_, '_>, kind: ReduceKind| {
        let all = if axes.is_empty() { x } else { c.add(Op::Reduce { kind, axes: axes.clone() }, &[x])? };
        c.reshape(all, &[])
    };
    let largest = fold(c, ReduceKind::Max)?;
    let largest = c.binary(BinaryOp::Max, largest, zero)?;
    let smallest = fold(c, ReduceKind::Min)?;
    let smallest = c.binary(BinaryOp::Min, smallest, zero)?;
    let range = c.binary(BinaryOp::Sub, largest, smallest)?;
    let steps = c.number(DType::F32, 255.0);
    let scale = c.binary(BinaryOp::Div, range, steps)?;
    let low = c.binary(BinaryOp::Div, smallest, scale)?;
    let point = c.unary(UnaryOp::Neg, low)?;
    let point = c.binary(BinaryOp::Max, point, zero)?;
    let point = c.binary(BinaryOp::Min, point, steps)?;
    let point = c.unary(UnaryOp::Round, point)?;
    let point = c.cast(point, DType::U8)?;
    let y = quantized(c, x, scale, Some(point), DType::U8, 0, 0)?;
    Ok([y, scale, point])
}

/// Integers as i32, with the zero point taken away.
fn centred(c: &mut Context<'_, '_>, x: NodeId, zero: Option<NodeId>, axis: i64) -> Imported<NodeId> {
    let wide = c.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(wide) };
    let zero = along(c, zero, x, axis, 0)?;
    let zero = c.cast(zero, DType::I32)?;
    c.binary(BinaryOp::Sub, wide, zero)
}

fn matmul_integer(c: &mut Context<'_, '_>) -> Results {
    let (operands, zeros) = ([c.input(0)?, c.input(1)?], [c.optional(2), c.optional(3)]);
    Ok(vec![integer_product(c, operands, zeros)?])
}

/// `(a - zero_a) * (b - zero_b)` in i32.
pub(super) fn integer_product(
    c: &mut Context<'_, '_>,
    [a, b]: [NodeId; 2],
    [zero_a, zero_b]: [Option<NodeId>; 2],
) -> Imported<NodeId> {
    let is_matrix = c.rank(a)? >= 2 && c.rank(b)? == 2;
    // A zero point for each row takes the other way.
    let has_one_zero = match zero_a {
        Some(zero) => c.shape(zero)?.elements() == Ok(1),
        None => true,
    };
    match parts_of_weights(c, b, zero_b, -1)?.filter(|_| is_matrix && has_one_zero) {
        Some(parts) => {
            let (a, zero) = signed(c, a, zero_a)?;
            let sums = parts.iter().map(|&part| product(c, a, part)).collect::<Imported<Vec<NodeId>>>()?;
            let columns = weights_of_each(c, &parts, vec![0])?;
            without_zero(c, sums, zero, columns)
        }
        None => {
            let a = centred(c, a, zero_a, -2)?;
            let b = centred(c, b, zero_b, -1)?;
            product(c, a, b)
        }
    }
}

/// Constant weights of 8 bits less their zero point, as tensors of i8 that add up to them: what is beyond i8, where anything is,
/// is a second one.
fn parts_of_weights(
    c: &mut Context<'_, '_>,
    weights: NodeId,
    zero: Option<NodeId>,
    axis: i64,
) -> Imported<Option<Vec<NodeId>>> {
    if c.value(weights).is_none() || !matches!(c.dtype(weights)?, DType::I8 | DType::U8) {
        return Ok(None);
    }
    let whole = centred(c, weights, zero, axis)?;
    let (least, most) = (c.number(DType::I32, -128.0), c.number(DType::I32, 127.0));
    let within = c.binary(BinaryOp::Max, whole, least)?;
    let within = c.binary(BinaryOp::Min, within, most)?;
    let beyond = c.binary(BinaryOp::Sub, whole, within)?;
    let within = c.cast(within, DType::I8)?;
    let Some(rest) = c.value(beyond) else { return Ok(None) };
    if rest.to_i64().into_iter().all(|value| value == 0) {
        return Ok(Some(vec![within]));
    }
    Ok(Some(vec![within, c.cast(beyond, DType::I8)?]))
}

/// What the weights of each sum add up to, from parts of them, over these axes.
fn weights_of_each(c: &mut Context<'_, '_>, parts: &[NodeId], axes: Vec<usize>) -> Imported<NodeId> {
    let mut all = c.number(DType::I32, 0.0);
    for &part in parts {
        let wide = c.cast(part, DType::I32)?;
        all = c.binary(BinaryOp::Add, all, wide)?;
    }
    c.add(Op::Reduce { kind: ReduceKind::Sum, axes }, &[all])
}

/// Integers of 8 bits as i8, and their zero point as i32; of unsigned ones both less 128.
fn signed(c: &mut Context<'_, '_>, x: NodeId, zero: Option<NodeId>) -> Imported<(NodeId, NodeId)> {
    let zero = match zero {
        Some(zero) => c.cast(zero, DType::I32)?,
        None => c.number(DType::I32, 0.0),
    };
    if c.dtype(x)? == DType::I8 {
        return Ok((x, zero));
    }
    let middle = c.number(DType::I32, 128.0);
    let wide = c.cast(x, DType::I32)?;
    let wide = c.binary(BinaryOp::Sub, wide, middle)?;
    Ok((c.cast(wide, DType::I8)?, c.binary(BinaryOp::Sub, zero, middle)?))
}

/// Parts of sums together, less `zero * weights`, where `weights` is what each sum's weights add up to.
fn without_zero(c: &mut Context<'_, '_>, parts: Vec<NodeId>, zero: NodeId, weights: NodeId) -> Imported<NodeId> {
    let mut sums = parts.into_iter();
    let Some(mut all) = sums.next() else { return invalid("has no weights") };
    for part in sums {
        all = c.binary(BinaryOp::Add, all, part)?;
    }
    let zero = c.reshape(zero, &[])?;
    c.map(&[all, zero, weights], |e, [sums, zero, weights]| {
        let moved = e.binary(BinaryOp::Mul, zero, weights);
        e.binary(BinaryOp::Sub, sums, moved)
    })
}

fn conv_integer(c: &mut Context<'_, '_>) -> Results {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let (zero_x, zero_w) = (c.optional(2), c.optional(3));
    let parts = parts_of_weights(c, w, zero_w, 0)?;
    let window = window_of(c, x, w)?;
    match parts.zip(padded(c, x, zero_x, &window)?) {
        Some((parts, x)) => {
            let (x, zero) = signed(c, x, zero_x)?;
            let none = vec![0; window.kernel.len()];
            let window = Window { pads_before: none.clone(), pads_after: none, ..window };
            let sums = parts.iter().map(|&part| convolved(c, x, part, window.clone()));
            let sums = sums.collect::<Imported<Vec<NodeId>>>()?;
            let rank = c.rank(w)?;
            let channels = weights_of_each(c, &parts, (1..rank).collect())?;
            let channels = c.per_channel(channels, rank)?;
            Ok(vec![without_zero(c, sums, zero, channels)?])
        }
        // Sums of products of 8 bits are exact in f64, and not in f32 beyond 258 taps of 255 * 255.
        None => {
            let x = centred(c, x, zero_x, 1)?;
            let w = centred(c, w, zero_w, 0)?;
            let (x, w) = (c.cast(x, DType::F64)?, c.cast(w, DType::F64)?);
            let sum = convolved(c, x, w, window)?;
            Ok(vec![c.cast(sum, DType::I32)?])
        }
    }
}

/// An image with the window's padding written out: the zero point, which is a number's 0 where the image was quantised just
/// before. `None` where it is padded and was not.
fn padded(c: &mut Context<'_, '_>, x: NodeId, zero: Option<NodeId>, window: &Window) -> Imported<Option<NodeId>> {
    if window.pads_before.iter().chain(&window.pads_after).all(|&pad| pad == 0) {
        return Ok(Some(x));
    }
    let (op, operands) = c.operation(x);
    let (Op::Map(_), &[number, scale, point]) = (&op, &operands[..]) else { return Ok(None) };
    if zero != Some(point) || c.dtype(number)? != DType::F32 {
        return Ok(None);
    }
    let spatial = |pads: &[usize]| [0, 0].into_iter().chain(pads.iter().copied()).collect::<Vec<usize>>();
    let (before, after) = (spatial(&window.pads_before), spatial(&window.pads_after));
    let pad = c.number(DType::F32, 0.0);
    let wide = c.add(Op::Pad { before, after, mode: PadMode::Constant }, &[number, pad])?;
    Ok(Some(c.add(op, &[wide, scale, point])?))
}

fn window_of(c: &Context<'_, '_>, x: NodeId, w: NodeId) -> Imported<Window> {
    let weights = c.shape(w)?.extents();
    window(c, x, weights.get(2..).unwrap_or(&[]).to_vec())
}

fn convolved(c: &mut Context<'_, '_>, x: NodeId, w: NodeId, window: Window) -> Imported<NodeId> {
    let Some(groups) = usize::try_from(c.int("group", 1)?).ok().filter(|&groups| groups > 0) else {
        return invalid("`group` is not above 0");
    };
    let epilogue = Op::plain_epilogue(c.dtype(x)?);
    c.add(Op::Conv { window, groups, epilogue }, &[x, w])
}

/// On values: the result may differ from integer arithmetic by one step where it rounds.
fn quantized_conv(c: &mut Context<'_, '_>) -> Results {
    let [x, scale_x, zero_x, w, scale_w, zero_w, scale_y, zero_y] =
        [c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?, c.input(4)?, c.input(5)?, c.input(6)?, c.input(7)?];
    let values = value_of(c, x, scale_x, Some(zero_x), 1, 0)?;
    let weights = value_of(c, w, scale_w, Some(zero_w), 0, 0)?;
    let window = window_of(c, values, weights)?;
    let mut sum = convolved(c, values, weights, window)?;
    if let Some(bias) = c.optional(8) {
        // The bias counts in steps of scale_x * scale_w.
        let step = c.binary(BinaryOp::Mul, scale_w, scale_x)?;
        let bias = c.cast(bias, DType::F32)?;
        let bias = c.binary(BinaryOp::Mul, bias, step)?;
        let rank = c.rank(sum)?;
        let bias = c.per_channel(bias, rank)?;
        sum = c.binary(BinaryOp::Add, sum, bias)?;
    }
    let target = c.dtype(zero_y)?;
    Ok(vec![quantized(c, sum, scale_y, Some(zero_y), target, 1, 0)?])
}

fn quantized_matmul(c: &mut Context<'_, '_>) -> Results {
    let [a, scale_a, zero_a, b, scale_b, zero_b, scale_y, zero_y] =
        [c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?, c.input(4)?, c.input(5)?, c.input(6)?, c.input(7)?];
    let a = value_of(c, a, scale_a, Some(zero_a), -2, 0)?;
    let b = value_of(c, b, scale_b, Some(zero_b), -1, 0)?;
    let (a, b) = (c.cast(a, DType::F32)?, c.cast(b, DType::F32)?);
    let sum = product(c, a, b)?;
    let target = c.dtype(zero_y)?;
    Ok(vec![quantized(c, sum, scale_y, Some(zero_y), target, -2, 0)?])
}
