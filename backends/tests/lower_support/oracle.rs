//! The meaning of the operators in binary64 and plain loops over logical coordinates, written from their definitions.

use std::collections::HashMap;

use edgecc_ir::{
    DType, Expr, Extreme, Graph, NodeId, Op, PadMode, PoolKind, ReduceKind, Resample, Scalar, ScatterKind, Tensor,
    Type, Window,
};

use super::interpreter::scalar;

/// A tensor of numbers, row-major.
#[derive(Clone, Debug)]
pub struct Value {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Value {
    fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Value {
        Value { shape: shape.to_vec(), data: places(shape).map(|place| f(&place)).collect() }
    }

    fn flat(&self, place: &[usize]) -> usize {
        place.iter().zip(&self.shape).fold(0, |flat, (&i, &extent)| flat * extent + i)
    }

    fn at(&self, place: &[usize]) -> f64 {
        self.data[self.flat(place)]
    }

    /// The element that broadcasting, aligned at the last axis, puts at `place`.
    fn broadcast_at(&self, place: &[usize]) -> f64 {
        let aligned = &place[place.len() - self.shape.len()..];
        self.at(&aligned.iter().zip(&self.shape).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect::<Vec<_>>())
    }

    /// The coordinates along `axis` through `place`, with the elements there.
    fn line(&self, axes: &[usize], place: &[usize]) -> Vec<f64> {
        let extents: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let mut place = place.to_vec();
        let element = |run: Vec<usize>| {
            axes.iter().zip(run).for_each(|(&axis, i)| place[axis] = i);
            self.at(&place)
        };
        places(&extents).map(element).collect()
    }
}

impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Value {
        Value { shape: tensor.shape().extents(), data: tensor.scalars().map(Scalar::as_f64).collect() }
    }
}

/// All coordinates of a shape, row-major.
fn places(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    let count: usize = shape.iter().product();
    (0..count).map(move |mut flat| {
        let mut place = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            place[axis] = flat % shape[axis];
            flat /= shape[axis];
        }
        place
    })
}

/// The outputs of a graph on inputs given in order.
pub fn run(graph: &Graph, inputs: &[Value]) -> Vec<Value> {
    let mut values: HashMap<NodeId, Vec<Value>> =
        graph.inputs().iter().copied().zip(inputs.iter().map(|value| vec![value.clone()])).collect();
    for id in graph.order() {
        if values.contains_key(&id) {
            continue;
        }
        let operands: Vec<&Value> = graph.operands(id).iter().map(|operand| &values[operand][0]).collect();
        let value = match (graph.op(id), graph.node(id).ty()) {
            (Op::Project(n), _) => vec![values[&graph.operands(id)[0]][*n].clone()],
            (Op::TopK { axis, count, extreme }, _) => top_k(operands[0], *axis, *count, *extreme),
            (op, Type::Tensor(ty)) => {
                vec![evaluate(op, &operands, &ty.shape.extents(), graph.ty(graph.operands(id)[0]).dtype)]
            }
            (op, Type::Tuple(_)) => panic!("{} gives a tuple", op.name()),
        };
        values.insert(id, value);
    }
    graph.outputs().iter().map(|output| values[&output.node][0].clone()).collect()
}

fn evaluate(op: &Op, operands: &[&Value], shape: &[usize], dtype: DType) -> Value {
    let x = operands[0];
    let each = |f: &dyn Fn(&[usize]) -> f64| Value::from_fn(shape, f);
    match op {
        Op::Map(expr) => each(&|place| apply(expr, |n| operands[n].broadcast_at(place))),
        Op::Relayout(_) | Op::Reshape(_) => Value { shape: shape.to_vec(), data: x.data.clone() },
        Op::Conv { window, groups, epilogue } => {
            each(&|place| finish(epilogue, conv(window, *groups, operands, place), operands, place))
        }
        Op::ConvTranspose { window, groups, epilogue, .. } => {
            each(&|place| finish(epilogue, conv_transpose(window, *groups, operands, place), operands, place))
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            each(&|place| finish(epilogue, matmul(*transpose_a, *transpose_b, operands, place), operands, place))
        }
        Op::Pool { kind, window, .. } => each(&|place| pool(*kind, window, x, place)),
        Op::PoolIndices { window, column_major, .. } => each(&|place| pool_index(window, *column_major, x, place)),
        Op::Reduce { kind, axes } => each(&|place| reduce(*kind, &x.line(axes, place), dtype)),
        Op::ArgReduce { extreme, axis, last } => each(&|place| arg(*extreme, *last, &x.line(&[*axis], place)) as f64),
        Op::Softmax { axis, log } => each(&|place| {
            let sum: f64 = x.line(&[*axis], place).iter().map(|x| x.exp()).sum();
            if *log { x.at(place) - sum.ln() } else { x.at(place).exp() / sum }
        }),
        Op::Normalize { axes, epsilon, root_mean_square } => each(&|place| {
            let elements = x.line(axes, place);
            let count = elements.len() as f64;
            let mean = if *root_mean_square { 0.0 } else { elements.iter().sum::<f64>() / count };
            let variance = elements.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            (x.at(place) - mean) / (variance + f32::from_bits(*epsilon) as f64).sqrt()
        }),
        Op::LocalResponseNorm { size, alpha, beta, bias } => each(&|place| {
            let [alpha, beta, bias] = [alpha, beta, bias].map(|bits| f32::from_bits(*bits) as f64);
            let channels = x.line(&[1], place);
            let (back, ahead) = ((size - 1) / 2, size / 2);
            let near = place[1].saturating_sub(back)..(place[1] + ahead + 1).min(channels.len());
            let sum: f64 = channels[near].iter().map(|x| x * x).sum();
            x.at(place) / (bias + alpha / *size as f64 * sum).powf(beta)
        }),
        Op::Pad { mode, before, .. } => each(&|place| pad(*mode, before, operands, place)),
        Op::Tile { .. } => {
            each(&|place| x.at(&place.iter().zip(&x.shape).map(|(&i, &extent)| i % extent).collect::<Vec<_>>()))
        }
        Op::Resize { axes } => axes.iter().fold(x.clone(), |x, axis| resample(axis, &x)),
        Op::Gather { axis } => each(&|place| {
            let rank = operands[1].shape.len();
            let position = operands[1].at(&place[*axis..axis + rank]);
            let row = [position_in(position, x.shape[*axis])];
            x.at(&[&place[..*axis], &row, &place[axis + rank..]].concat())
        }),
        Op::GatherElements { axis } => each(&|place| {
            let mut source = place.to_vec();
            source[*axis] = position_in(operands[1].at(place), x.shape[*axis]);
            x.at(&source)
        }),
        Op::GatherNd { batch_dims } => each(&|place| {
            let prefix = operands[1].shape.len() - 1;
            let row = positions(operands[1], &place[..prefix], &x.shape[*batch_dims..]);
            x.at(&[&place[..*batch_dims], &row, &place[prefix..]].concat())
        }),
        Op::ScatterElements { axis, kind } => {
            let mut result = x.clone();
            for place in places(&operands[1].shape) {
                let mut target = place.clone();
                target[*axis] = position_in(operands[1].at(&place), x.shape[*axis]);
                update(&mut result, *kind, &target, operands[2].at(&place));
            }
            result
        }
        Op::ScatterNd { kind } => {
            let mut result = x.clone();
            let prefix = operands[1].shape.len() - 1;
            for place in places(&operands[2].shape) {
                let row = positions(operands[1], &place[..prefix], &x.shape);
                update(&mut result, *kind, &[&row, &place[prefix..]].concat(), operands[2].at(&place));
            }
            result
        }
        Op::CumulativeSum { axis, exclusive, reverse } => each(&|place| {
            let line = x.line(&[*axis], place);
            let here = place[*axis];
            match (exclusive, reverse) {
                (false, false) => line[..=here].iter().sum(),
                (true, false) => line[..here].iter().sum(),
                (false, true) => line[here..].iter().sum(),
                (true, true) => line[here + 1..].iter().sum(),
            }
        }),
        op => panic!("no case evaluates {}", op.name()),
    }
}

fn apply(expr: &Expr, argument: impl Fn(usize) -> f64) -> f64 {
    let mut arguments = vec![Scalar::f32(0.0); expr.arity()];
    for (n, dtype) in expr.arguments() {
        arguments[n as usize] = Scalar::from_f64(dtype, argument(n as usize));
    }
    scalar(expr, &arguments).as_f64()
}

fn finish(epilogue: &Expr, accumulator: f64, operands: &[&Value], place: &[usize]) -> f64 {
    apply(epilogue, |n| if n == 0 { accumulator } else { operands[n + 1].broadcast_at(place) })
}

fn conv(window: &Window, groups: usize, operands: &[&Value], place: &[usize]) -> f64 {
    let (x, w) = (operands[0], operands[1]);
    let (depth, group) = (w.shape[1], place[1] / (w.shape[0] / groups));
    let mut sum = 0.0;
    for (tap, spatial) in taps(window, &x.shape[2..], &place[2..]) {
        for channel in 0..depth {
            let element = x.at(&[&[place[0], group * depth + channel], &spatial[..]].concat());
            sum += element * w.at(&[&[place[1], channel], &tap[..]].concat());
        }
    }
    sum
}

/// Every input element adds to `i * stride + tap * dilation - pad`.
fn conv_transpose(window: &Window, groups: usize, operands: &[&Value], place: &[usize]) -> f64 {
    let (x, w) = (operands[0], operands[1]);
    let (depth, filters) = (x.shape[1] / groups, w.shape[1]);
    let (group, filter) = (place[1] / filters, place[1] % filters);
    let mut sum = 0.0;
    for tap in places(&window.kernel) {
        for spatial in places(&x.shape[2..]) {
            let lands = |a: usize| {
                spatial[a] * window.strides[a] + tap[a] * window.dilations[a] == place[a + 2] + window.pads_before[a]
            };
            if (0..tap.len()).all(lands) {
                for channel in group * depth..(group + 1) * depth {
                    let element = x.at(&[&[place[0], channel], &spatial[..]].concat());
                    sum += element * w.at(&[&[channel, filter], &tap[..]].concat());
                }
            }
        }
    }
    sum
}

fn matmul(transpose_a: bool, transpose_b: bool, operands: &[&Value], place: &[usize]) -> f64 {
    let rank = place.len();
    let (row, column) = (place[rank - 2], place[rank - 1]);
    let element = |value: &Value, transposed: bool, i: usize, j: usize| {
        let matrix = if transposed { [j, i] } else { [i, j] };
        let own = value.shape.len();
        let batch = place[rank - own..rank - 2].iter().zip(&value.shape).map(|(&i, &n)| if n == 1 { 0 } else { i });
        value.at(&batch.chain(matrix).collect::<Vec<_>>())
    };
    let last = operands[0].shape.len() - if transpose_a { 2 } else { 1 };
    (0..operands[0].shape[last])
        .map(|k| element(operands[0], transpose_a, row, k) * element(operands[1], transpose_b, k, column))
        .sum()
}

/// The taps of the window at `place` that lie inside, with their places.
fn taps(window: &Window, extents: &[usize], place: &[usize]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let inside = |tap: Vec<usize>| {
        let spatial = (0..tap.len()).map(|a| {
            let at = place[a] * window.strides[a] + tap[a] * window.dilations[a];
            at.checked_sub(window.pads_before[a]).filter(|&at| at < extents[a])
        });
        spatial.collect::<Option<Vec<usize>>>().map(|spatial| (tap, spatial))
    };
    places(&window.kernel).filter_map(inside).collect()
}

fn pool(kind: PoolKind, window: &Window, x: &Value, place: &[usize]) -> f64 {
    let taps_inside = taps(window, &x.shape[2..], &place[2..]);
    let elements: Vec<f64> =
        taps_inside.iter().map(|(_, spatial)| x.at(&[&place[..2], &spatial[..]].concat())).collect();
    match kind {
        PoolKind::Max => elements.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        PoolKind::Average { count_pads: false } => elements.iter().sum::<f64>() / elements.len() as f64,
        PoolKind::Average { count_pads: true } => {
            let padded: Vec<usize> = (0..window.kernel.len())
                .map(|a| x.shape[a + 2] + window.pads_before[a] + window.pads_after[a])
                .collect();
            let unpadded = Window { pads_before: vec![0; padded.len()], ..window.clone() };
            elements.iter().sum::<f64>() / taps(&unpadded, &padded, &place[2..]).len() as f64
        }
        PoolKind::Lp { p } => elements.iter().map(|x| x.abs().powi(p as i32)).sum::<f64>().powf(1.0 / p as f64),
    }
}

fn pool_index(window: &Window, column_major: bool, x: &Value, place: &[usize]) -> f64 {
    let mut best: Option<(f64, Vec<usize>)> = None;
    for (_, spatial) in taps(window, &x.shape[2..], &place[2..]) {
        let source = [&place[..2], &spatial[..]].concat();
        let element = x.at(&source);
        if best.as_ref().is_none_or(|(largest, _)| element > *largest) {
            best = Some((element, source));
        }
    }
    let (_, source) = best.expect("a window inside");
    if !column_major {
        return x.flat(&source) as f64;
    }
    let plane: usize = x.shape[2..].iter().product();
    let spatial = (2..source.len()).rev().fold(0, |flat, axis| flat * x.shape[axis] + source[axis]);
    ((source[0] * x.shape[1] + source[1]) * plane + spatial) as f64
}

fn reduce(kind: ReduceKind, elements: &[f64], dtype: DType) -> f64 {
    let wrapped = |value: f64| if dtype.is_float() { value } else { Scalar::from_i64(dtype, value as i64).as_f64() };
    match kind {
        ReduceKind::Sum => wrapped(elements.iter().sum()),
        ReduceKind::Mean if dtype.is_integer() => (elements.iter().sum::<f64>() / elements.len() as f64).trunc(),
        ReduceKind::Mean => elements.iter().sum::<f64>() / elements.len() as f64,
        ReduceKind::Max => {
            let lowest = if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
            elements.iter().copied().fold(lowest, larger)
        }
        ReduceKind::Min => -elements.iter().map(|x| -x).fold(f64::NEG_INFINITY, larger),
        ReduceKind::Product => wrapped(elements.iter().product()),
    }
}

/// The larger, or NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn arg(extreme: Extreme, last: bool, line: &[f64]) -> usize {
    let wins = |a: f64, b: f64| match extreme {
        Extreme::Max => a > b || (last && a == b),
        Extreme::Min => a < b || (last && a == b),
    };
    (1..line.len()).fold(0, |best, i| if wins(line[i], line[best]) { i } else { best })
}

fn pad(mode: PadMode, before: &[usize], operands: &[&Value], place: &[usize]) -> f64 {
    let x = operands[0];
    let source = |axis: usize| {
        let (at, extent) = (place[axis] as isize - before[axis] as isize, x.shape[axis] as isize);
        let at = match mode {
            PadMode::Constant => at,
            PadMode::Edge => at.clamp(0, extent - 1),
            PadMode::Reflect => extent - 1 - (extent - 1 - at.abs()).abs(),
            PadMode::Wrap => at.rem_euclid(extent),
        };
        (0..extent).contains(&at).then_some(at as usize)
    };
    let inside: Option<Vec<usize>> = (0..place.len()).map(source).collect();
    inside.map_or_else(|| operands[1].data[0], |place| x.at(&place))
}

fn resample(axis: &Resample, x: &Value) -> Value {
    let mut shape = x.shape.clone();
    shape[axis.axis] = axis.extent;
    Value::from_fn(&shape, |place| {
        let tap = |t: usize| {
            let entry = place[axis.axis] * axis.taps + t;
            let mut source = place.to_vec();
            source[axis.axis] = axis.indices[entry] as usize;
            x.at(&source) * axis.weights.get(entry).map_or(1.0, |&bits| f32::from_bits(bits) as f64)
        };
        (0..axis.taps).map(tap).sum()
    })
}

/// A position that may count from the end, clamped.
fn position_in(position: f64, extent: usize) -> usize {
    let position = position as i64;
    let counted = if position < 0 { position + extent as i64 } else { position };
    counted.clamp(0, extent as i64 - 1) as usize
}

/// The positions in the last axis of `indices` at `prefix`.
fn positions(indices: &Value, prefix: &[usize], extents: &[usize]) -> Vec<usize> {
    let depth = indices.shape[indices.shape.len() - 1];
    (0..depth).map(|t| position_in(indices.at(&[prefix, &[t]].concat()), extents[t])).collect()
}

fn update(result: &mut Value, kind: ScatterKind, place: &[usize], update: f64) {
    let flat = result.flat(place);
    let element = &mut result.data[flat];
    *element = match kind {
        ScatterKind::Replace => update,
        ScatterKind::Add => *element + update,
        ScatterKind::Multiply => *element * update,
        ScatterKind::Max => element.max(update),
        ScatterKind::Min => element.min(update),
    };
}

fn top_k(x: &Value, axis: usize, count: usize, extreme: Extreme) -> Vec<Value> {
    let mut shape = x.shape.clone();
    shape[axis] = count;
    let ranked = |place: &[usize]| {
        let mut ranked: Vec<(usize, f64)> = x.line(&[axis], place).into_iter().enumerate().collect();
        ranked.sort_by(|a, b| match extreme {
            Extreme::Max => b.1.total_cmp(&a.1),
            Extreme::Min => a.1.total_cmp(&b.1),
        });
        ranked[place[axis]]
    };
    vec![Value::from_fn(&shape, |place| ranked(place).1), Value::from_fn(&shape, |place| ranked(place).0 as f64)]
}
