//! Operators of the graph as operators of ONNX.

use edgecc_ir::{
    BinaryOp, DType, Expr, Extreme, Graph, NodeId, Op, PadMode, PoolKind, ReduceKind, Resample, ScatterKind, Shape,
    Tensor, TensorError, Window,
};

use super::super::proto::AttributeProto;
use super::writer::{Writer, float, int, ints, text};
use super::{expression, quantization};

/// Writes a node, whose operands are written. The error says what ONNX does not have.
pub(super) fn write(writer: &mut Writer, graph: &Graph, id: NodeId) -> Result<(), &'static str> {
    let node = graph.node(id);
    writer.begin(node.origin().to_string());
    let x: Vec<String> = node.operands().iter().map(|&operand| writer.value(operand)).collect();
    match node.op() {
        Op::Input { .. } => return Ok(()),
        Op::Constant(value) => {
            let name = writer.constant(value);
            writer.set(id, 0, name);
            return Ok(());
        }
        Op::Project(place) => {
            let value = writer.component(node.operands()[0], *place);
            writer.set(id, 0, value);
            return Ok(());
        }
        Op::TopK { axis, count, extreme, .. } => {
            let largest = int("largest", (*extreme == Extreme::Max) as i64);
            let results = ["values", "positions"].map(|stem| writer.fresh(stem));
            let k = writer.list([*count as i64]);
            let attributes = vec![int("axis", *axis as i64), largest, int("sorted", 1)];
            writer.node_to("TopK", &[x[0].clone(), k], results.to_vec(), attributes);
            results.into_iter().enumerate().for_each(|(place, name)| writer.set(id, place, name));
            return Ok(());
        }
        _ => {}
    }
    let result = writer.result_name(id);
    writer.set(id, 0, result.clone());
    let shape = &graph.ty(id).shape;
    let one = |writer: &mut Writer, operator: &str, inputs: &[String], attributes: Vec<AttributeProto>| {
        writer.node_to(operator, inputs, vec![result.clone()], attributes);
    };
    match node.op() {
        Op::Input { .. } | Op::Constant(_) | Op::Project(_) | Op::TopK { .. } => {}
        Op::Map(_) if quantization::is_in_blocks(graph, id) => {}
        Op::Reshape(_) if quantization::write_blocks(writer, graph, id, &result) => {}
        Op::Map(_) if quantization::write(writer, graph, id, &result) => {}
        Op::Map(expr) => expression::write(writer, expr, &x, &result)?,
        Op::Conv { window, groups, epilogue } => {
            let attributes = [window_attributes(window), vec![int("group", *groups as i64)]].concat();
            contraction(writer, graph, id, epilogue, 2, &result, |writer, inputs, result| {
                writer.node_to("Conv", inputs, vec![result], attributes);
            })?;
        }
        Op::ConvTranspose { window, output_padding, groups, epilogue } => {
            let padding = ints("output_padding", output_padding.iter().map(|&extent| extent as i64));
            let attributes = [window_attributes(window), vec![int("group", *groups as i64), padding]].concat();
            contraction(writer, graph, id, epilogue, 2, &result, |writer, inputs, result| {
                writer.node_to("ConvTranspose", inputs, vec![result], attributes);
            })?;
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            matmul(writer, graph, id, [*transpose_a, *transpose_b], epilogue, &result)?;
        }
        Op::Pool { kind, window, ceil } => {
            let mut attributes = pool_attributes(window, *ceil);
            let operator = match kind {
                PoolKind::Max => "MaxPool",
                PoolKind::Average { count_pads } => {
                    attributes.push(int("count_include_pad", *count_pads as i64));
                    "AveragePool"
                }
                PoolKind::Lp { p } => {
                    attributes.push(int("p", *p as i64));
                    "LpPool"
                }
            };
            one(writer, operator, &x, attributes);
        }
        Op::PoolIndices { window, ceil, column_major } => {
            let mut attributes = pool_attributes(window, *ceil);
            attributes.push(int("storage_order", *column_major as i64));
            let values = writer.fresh("value");
            writer.node_to("MaxPool", &x, vec![values, result], attributes);
        }
        Op::Reduce { kind, axes } => {
            let operator = match kind {
                ReduceKind::Sum => "ReduceSum",
                ReduceKind::Mean => "ReduceMean",
                ReduceKind::Max => "ReduceMax",
                ReduceKind::Min => "ReduceMin",
                ReduceKind::Product => "ReduceProd",
            };
            let axes = writer.list(axes.iter().map(|&axis| axis as i64));
            one(writer, operator, &[x[0].clone(), axes], vec![int("keepdims", 1), int("noop_with_empty_axes", 1)]);
        }
        Op::ArgReduce { extreme, axis, last } => {
            let operator = if *extreme == Extreme::Max { "ArgMax" } else { "ArgMin" };
            let attributes =
                vec![int("axis", *axis as i64), int("keepdims", 1), int("select_last_index", *last as i64)];
            one(writer, operator, &x, attributes);
        }
        Op::Softmax { axis, log } => {
            one(writer, if *log { "LogSoftmax" } else { "Softmax" }, &x, vec![int("axis", *axis as i64)]);
        }
        Op::Normalize { axes, epsilon, root_mean_square } => {
            normalize(writer, graph.ty(id).dtype, &x[0], axes, f32::from_bits(*epsilon), *root_mean_square, result);
        }
        Op::LocalResponseNorm { size, alpha, beta, bias } => {
            let number = |name: &str, bits: u32| float(name, f32::from_bits(bits));
            let attributes =
                vec![int("size", *size as i64), number("alpha", *alpha), number("beta", *beta), number("bias", *bias)];
            one(writer, "LRN", &x, attributes);
        }
        Op::Reshape(_) => {
            let extents = writer.list(as_i64(&shape.extents()));
            one(writer, "Reshape", &[x[0].clone(), extents], vec![int("allowzero", 1)]);
        }
        Op::Transpose(perm) => one(writer, "Transpose", &x, vec![ints("perm", as_i64(perm))]),
        Op::Broadcast(_) => {
            let extents = writer.list(as_i64(&shape.extents()));
            one(writer, "Expand", &[x[0].clone(), extents], Vec::new());
        }
        Op::Concat { axis } => one(writer, "Concat", &x, vec![int("axis", *axis as i64)]),
        Op::Slice { starts, steps, counts } => {
            let end = |axis: usize| {
                let end = starts[axis] as i64 + counts[axis] as i64 * steps[axis] as i64;
                // Positions below 0 would count from the end.
                if end < 0 { i64::MIN } else { end }
            };
            let lists = [
                writer.list(as_i64(starts)),
                writer.list((0..starts.len()).map(end)),
                writer.list((0..starts.len()).map(|axis| axis as i64)),
                writer.list(steps.iter().map(|&step| step as i64)),
            ];
            one(writer, "Slice", &[&x[..1], &lists].concat(), Vec::new());
        }
        Op::Pad { mode, before, after } => {
            let mode = match mode {
                PadMode::Constant => "constant",
                PadMode::Reflect => "reflect",
                PadMode::Edge => "edge",
                PadMode::Wrap => "wrap",
            };
            let pads = writer.list(as_i64(before).chain(as_i64(after)));
            one(writer, "Pad", &[&x[..1], &[pads], &x[1..]].concat(), vec![text("mode", mode)]);
        }
        Op::Tile { repeats } => {
            let repeats = writer.list(as_i64(repeats));
            one(writer, "Tile", &[x[0].clone(), repeats], Vec::new());
        }
        Op::Resize { axes } => {
            let (last, first) = axes.split_last().ok_or("no axis is resized")?;
            let rank = shape.rank();
            let mut value = x[0].clone();
            for resample in first {
                let name = writer.fresh("value");
                value = resized(writer, graph.ty(id).dtype, &value, resample, rank, name)?;
            }
            resized(writer, graph.ty(id).dtype, &value, last, rank, result)?;
        }
        Op::Gather { axis } => one(writer, "Gather", &x, vec![int("axis", *axis as i64)]),
        Op::GatherElements { axis } => one(writer, "GatherElements", &x, vec![int("axis", *axis as i64)]),
        Op::GatherNd { batch_dims } => one(writer, "GatherND", &x, vec![int("batch_dims", *batch_dims as i64)]),
        Op::ScatterElements { axis, kind } => {
            one(writer, "ScatterElements", &x, vec![int("axis", *axis as i64), text("reduction", reduction(*kind))]);
        }
        Op::ScatterNd { kind } => one(writer, "ScatterND", &x, vec![text("reduction", reduction(*kind))]),
        Op::CumulativeSum { axis, exclusive, reverse } => {
            let axis = writer.constant(&Tensor::from_i64(Shape::scalar(), &[*axis as i64]));
            let attributes = vec![int("exclusive", *exclusive as i64), int("reverse", *reverse as i64)];
            one(writer, "CumSum", &[x[0].clone(), axis], attributes);
        }
        Op::Relayout(_) => one(writer, "Identity", &x, Vec::new()),
    }
    Ok(())
}

fn as_i64(values: &[usize]) -> impl Iterator<Item = i64> + '_ {
    values.iter().map(|&value| value as i64)
}

fn window_attributes(window: &Window) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", as_i64(&window.kernel)),
        ints("strides", as_i64(&window.strides)),
        ints("dilations", as_i64(&window.dilations)),
        ints("pads", as_i64(&window.pads_before).chain(as_i64(&window.pads_after))),
    ]
}

fn pool_attributes(window: &Window, ceil: bool) -> Vec<AttributeProto> {
    [window_attributes(window), vec![int("ceil_mode", ceil as i64)]].concat()
}

fn reduction(kind: ScatterKind) -> &'static str {
    match kind {
        ScatterKind::Replace => "none",
        ScatterKind::Add => "add",
        ScatterKind::Multiply => "mul",
        ScatterKind::Max => "max",
        ScatterKind::Min => "min",
    }
}

/// Writes sums of products by `write`, with a bias as a further operand where the epilogue adds one, or else with what
/// follows. A bias has `[channels, 1, ..]` with `units` ones.
fn contraction(
    writer: &mut Writer,
    graph: &Graph,
    id: NodeId,
    epilogue: &Expr,
    units: usize,
    result: &str,
    write: impl FnOnce(&mut Writer, &[String], String),
) -> Result<(), &'static str> {
    let operands: Vec<String> = graph.operands(id).iter().map(|&operand| writer.value(operand)).collect();
    if epilogue.is_argument(0) {
        write(writer, &operands[..2], result.into());
        return Ok(());
    }
    let shape = &graph.ty(id).shape;
    let spatial = shape.rank().saturating_sub(units);
    if let Some(bias) = bias(graph, id, epilogue, shape.dim(1), spatial).map_err(|_| "a bias of unsound size")? {
        let bias = writer.constant(&bias);
        write(writer, &[&operands[..2], &[bias]].concat(), result.into());
        return Ok(());
    }
    let sums = writer.fresh("value");
    write(writer, &operands[..2], sums.clone());
    expression::write(writer, epilogue, &[&[sums], &operands[2..]].concat(), result)
}

/// The bias of an epilogue that adds a constant of `channels` elements, behind which stand `units` axes of 1.
fn bias(
    graph: &Graph,
    id: NodeId,
    epilogue: &Expr,
    channels: usize,
    units: usize,
) -> Result<Option<Tensor>, TensorError> {
    let Some(&operand) = graph.operands(id).get(2) else { return Ok(None) };
    let Some(value) = graph.constant_value(operand).filter(|_| *epilogue == sum(graph.ty(id).dtype)) else {
        return Ok(None);
    };
    let extents = value.shape().extents();
    let leading = extents.len().saturating_sub(units);
    let is_bias = value.elements() == channels
        && extents.len() > units
        && extents[leading..].iter().chain(&extents[..leading - 1]).all(|&extent| extent == 1);
    is_bias.then(|| value.reshaped(Shape::new(&[channels]))).transpose()
}

/// `acc + operand`.
fn sum(dtype: DType) -> Expr {
    let mut expr = Expr::new();
    let (acc, operand) = (expr.arg(0, dtype), expr.arg(1, dtype));
    let root = expr.binary(BinaryOp::Add, acc, operand);
    expr.with_root(root)
}

/// A matrix product: `Gemm` where both operands are matrices.
fn matmul(
    writer: &mut Writer,
    graph: &Graph,
    id: NodeId,
    transposed: [bool; 2],
    epilogue: &Expr,
    result: &str,
) -> Result<(), &'static str> {
    let ranks = [0, 1].map(|place| graph.ty(graph.operands(id)[place]).shape.rank());
    if ranks == [2, 2] && graph.ty(id).dtype.is_float() {
        let [a, b] = transposed.map(|transposed| transposed as i64);
        return contraction(writer, graph, id, epilogue, 2, result, |writer, inputs, result| {
            writer.node_to("Gemm", inputs, vec![result], vec![int("transA", a), int("transB", b)]);
        });
    }
    let mut inputs: Vec<String> = graph.operands(id).iter().map(|&operand| writer.value(operand)).collect();
    for place in 0..2 {
        if transposed[place] {
            let mut perm: Vec<i64> = (0..ranks[place] as i64).collect();
            perm.swap(ranks[place] - 2, ranks[place] - 1);
            inputs[place] = writer.node("Transpose", &inputs[place..=place], vec![ints("perm", perm)]);
        }
    }
    if epilogue.is_argument(0) {
        writer.node_to("MatMul", &inputs[..2], vec![result.into()], Vec::new());
        return Ok(());
    }
    let sums = writer.node("MatMul", &inputs[..2], Vec::new());
    expression::write(writer, epilogue, &[&[sums], &inputs[2..]].concat(), result)
}

/// `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`.
fn normalize(
    writer: &mut Writer,
    dtype: DType,
    x: &str,
    axes: &[usize],
    epsilon: f32,
    root_mean_square: bool,
    result: String,
) {
    let axes = writer.list(as_i64(axes));
    let keep = || vec![int("keepdims", 1)];
    let centred = match root_mean_square {
        true => x.to_string(),
        false => {
            let mean = writer.node("ReduceMean", &[x.into(), axes.clone()], keep());
            writer.node("Sub", &[x.into(), mean], Vec::new())
        }
    };
    let squares = writer.node("Mul", &[centred.clone(), centred.clone()], Vec::new());
    let variance = writer.node("ReduceMean", &[squares, axes], keep());
    let epsilon = expression::scalar(writer, dtype, epsilon as f64);
    let variance = writer.node("Add", &[variance, epsilon], Vec::new());
    let deviation = writer.node("Sqrt", &[variance], Vec::new());
    writer.node_to("Div", &[centred, deviation], vec![result], Vec::new());
}

/// One axis from its tables: the sum over taps of gathered elements times weights.
fn resized(
    writer: &mut Writer,
    dtype: DType,
    x: &str,
    resample: &Resample,
    rank: usize,
    result: String,
) -> Result<String, &'static str> {
    if dtype != DType::F32 && !resample.weights.is_empty() {
        return Err("resizing with weights is written for f32 alone");
    }
    let Resample { axis, extent, taps, indices, weights } = resample;
    let along = || vec![int("axis", *axis as i64)];
    let of_tap = |tap: usize| (0..*extent).map(move |i| i * taps + tap);
    if weights.is_empty() {
        let positions = writer.list(of_tap(0).map(|place| indices[place] as i64));
        writer.node_to("Gather", &[x.into(), positions], vec![result.clone()], along());
        return Ok(result);
    }
    let shape: Shape = std::iter::once(*extent).chain(std::iter::repeat_n(1, rank - 1 - axis)).collect();
    let mut total: Option<String> = None;
    for tap in 0..*taps {
        let positions = writer.list(of_tap(tap).map(|place| indices[place] as i64));
        let values: Vec<f32> = of_tap(tap).map(|place| f32::from_bits(weights[place])).collect();
        let factors = writer.constant(&Tensor::from_f32(shape.clone(), &values));
        let gathered = writer.node("Gather", &[x.into(), positions], along());
        let is_last = tap + 1 == *taps;
        let name = |writer: &mut Writer, is_named: bool| match is_named {
            true => result.clone(),
            false => writer.fresh("value"),
        };
        let product = name(writer, is_last && total.is_none());
        writer.node_to("Mul", &[gathered, factors], vec![product.clone()], Vec::new());
        total = Some(match total {
            None => product,
            Some(before) => {
                let sum = name(writer, is_last);
                writer.node_to("Add", &[before, product], vec![sum.clone()], Vec::new());
                sum
            }
        });
    }
    total.ok_or("no taps to resize by")
}
