//! The meaning of the operators in the tests' graphs, in binary64 and plain loops.

use std::collections::HashMap;

use edgecc_ir::{
    BinaryOp, Expr, ExprNode, Graph, NodeId, Op, PadMode, PoolKind, ReduceKind, Scalar, Shape, Tensor, UnaryOp, Window,
};

/// A tensor of numbers, row-major.
#[derive(Clone)]
pub struct Value {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Value {
    fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Value {
        let data = (0..shape.iter().product()).map(|flat| f(&position(flat, shape))).collect();
        Value { shape: shape.to_vec(), data }
    }

    fn at(&self, place: &[usize]) -> f64 {
        self.data[place.iter().zip(&self.shape).fold(0, |flat, (&i, &extent)| flat * extent + i)]
    }

    /// The element that broadcasting, aligned at the last axis, puts at `place`.
    fn broadcast_at(&self, place: &[usize]) -> f64 {
        let aligned = &place[place.len() - self.shape.len()..];
        let own: Vec<usize> = aligned.iter().zip(&self.shape).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    /// The element at a place that may lie outside, where zero is.
    fn padded_at(&self, place: &[isize]) -> Option<f64> {
        let inside = place.iter().zip(&self.shape).all(|(&i, &n)| (0..n as isize).contains(&i));
        inside.then(|| self.at(&place.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    }
}

impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Value {
        Value { shape: tensor.shape().extents(), data: tensor.scalars().map(Scalar::as_f64).collect() }
    }
}

fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        place[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    place
}

/// The outputs of a graph on inputs given in order.
pub fn run(graph: &Graph, inputs: &[Value]) -> Vec<Value> {
    let mut values: HashMap<NodeId, Value> = graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
    for id in graph.order() {
        if !values.contains_key(&id) {
            let operands: Vec<&Value> = graph.operands(id).iter().map(|operand| &values[operand]).collect();
            let value = evaluate(graph.op(id), &operands, &graph.ty(id).shape);
            values.insert(id, value);
        }
    }
    graph.outputs().iter().map(|output| values[&output.node].clone()).collect()
}

fn evaluate(op: &Op, operands: &[&Value], shape: &Shape) -> Value {
    let shape = &shape.extents();
    let x = operands.first();
    let along = |f: &dyn Fn(&[usize], &Value) -> f64| Value::from_fn(shape, |place| f(place, operands[0]));
    match op {
        Op::Constant(value) => value.into(),
        Op::Map(expr) => Value::from_fn(shape, |place| scalar(expr, |n| operands[n as usize].broadcast_at(place))),
        Op::Conv { window, groups, epilogue } => {
            with_epilogue(epilogue, &conv(window, *groups, operands, shape), &operands[2..])
        }
        Op::ConvTranspose { window, groups, epilogue, .. } => {
            with_epilogue(epilogue, &conv_transpose(window, *groups, operands, shape), &operands[2..])
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            let product = matmul(*transpose_a, *transpose_b, operands, shape);
            with_epilogue(epilogue, &product, &operands[2..])
        }
        Op::Pool { kind, window, .. } => along(&|place, x| pool(*kind, window, x, place)),
        Op::Reduce { kind, axes } => along(&|place, x| reduce(*kind, &line(x, axes, place))),
        Op::ArgReduce { axis, .. } => along(&|place, x| {
            let elements = line(x, &[*axis], place);
            (0..elements.len()).rev().max_by(|&a, &b| elements[a].total_cmp(&elements[b])).map_or(0.0, |i| i as f64)
        }),
        Op::Softmax { axis, log } => along(&|place, x| {
            let sum: f64 = line(x, &[*axis], place).iter().map(|x| x.exp()).sum();
            if *log { x.at(place) - sum.ln() } else { x.at(place).exp() / sum }
        }),
        Op::Normalize { axes, epsilon, root_mean_square } => along(&|place, x| {
            let elements = line(x, axes, place);
            let count = elements.len() as f64;
            let mean = if *root_mean_square { 0.0 } else { elements.iter().sum::<f64>() / count };
            let variance = elements.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            (x.at(place) - mean) / (variance + f32::from_bits(*epsilon) as f64).sqrt()
        }),
        Op::CumulativeSum { axis, exclusive: false, reverse: true } => {
            along(&|place, x| line(x, &[*axis], place)[place[*axis]..].iter().sum())
        }
        Op::Reshape(_) | Op::Relayout(_) => Value { shape: shape.clone(), data: operands[0].data.clone() },
        Op::Broadcast(_) => along(&|place, x| x.broadcast_at(place)),
        Op::Transpose(perm) => along(&|place, x| {
            let mut source = vec![0; place.len()];
            perm.iter().zip(place).for_each(|(&axis, &i)| source[axis] = i);
            x.at(&source)
        }),
        Op::Concat { axis } => Value::from_fn(shape, |place| {
            let mut place = place.to_vec();
            let part = operands.iter().find(|part| {
                let inside = place[*axis] < part.shape[*axis];
                place[*axis] -= if inside { 0 } else { part.shape[*axis] };
                inside
            });
            part.expect("inside one of the parts").at(&place)
        }),
        Op::Slice { starts, steps, .. } => along(&|place, x| {
            let source = |axis: usize| (starts[axis] as isize + place[axis] as isize * steps[axis]) as usize;
            x.at(&(0..place.len()).map(source).collect::<Vec<_>>())
        }),
        Op::Pad { mode, before, .. } => along(&|place, x| {
            let source: Vec<isize> = place.iter().zip(before).map(|(&i, &pad)| i as isize - pad as isize).collect();
            match mode {
                PadMode::Constant => x.padded_at(&source).unwrap_or_else(|| operands[1].data[0]),
                PadMode::Edge => {
                    let clamp = |(&i, &n): (&isize, &usize)| i.clamp(0, n as isize - 1) as usize;
                    x.at(&source.iter().zip(&x.shape).map(clamp).collect::<Vec<_>>())
                }
                PadMode::Reflect => {
                    let mirror = |(&i, &n): (&isize, &usize)| {
                        let last = n as isize - 1;
                        (last - (last - i.abs()).abs()) as usize
                    };
                    x.at(&source.iter().zip(&x.shape).map(mirror).collect::<Vec<_>>())
                }
                PadMode::Wrap => panic!("no case wraps"),
            }
        }),
        Op::Tile { .. } => {
            along(&|place, x| x.at(&place.iter().zip(&x.shape).map(|(&i, &extent)| i % extent).collect::<Vec<_>>()))
        }
        Op::Resize { axes } => along(&|place, x| {
            let mut source = place.to_vec();
            axes.iter().for_each(|resample| source[resample.axis] = resample.indices[place[resample.axis]] as usize);
            x.at(&source)
        }),
        Op::Gather { axis: 0 } if operands[1].shape.len() == 1 => along(&|place, x| {
            let mut source = place.to_vec();
            source[0] = operands[1].data[place[0]] as usize;
            x.at(&source)
        }),
        op => panic!("no case evaluates {} of {:?}", op.name(), x.map(|x| &x.shape)),
    }
}

/// The elements that differ from `place` along `axes` alone.
fn line(x: &Value, axes: &[usize], place: &[usize]) -> Vec<f64> {
    let extents: Vec<usize> = axes.iter().map(|&axis| x.shape[axis]).collect();
    let element = |flat: usize| {
        let mut source = place.to_vec();
        axes.iter().zip(position(flat, &extents)).for_each(|(&axis, i)| source[axis] = i);
        x.at(&source)
    };
    (0..extents.iter().product()).map(element).collect()
}

fn reduce(kind: ReduceKind, elements: &[f64]) -> f64 {
    match kind {
        ReduceKind::Sum => elements.iter().sum(),
        ReduceKind::Mean => elements.iter().sum::<f64>() / elements.len() as f64,
        ReduceKind::Max => elements.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceKind::Min => elements.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceKind::Product => elements.iter().product(),
    }
}

/// Where tap `tap` of the window at `place` reads.
fn tap_position(window: &Window, place: &[usize], tap: &[usize]) -> Vec<isize> {
    let axes = 0..tap.len();
    axes.map(|a| {
        (place[a] * window.strides[a] + tap[a] * window.dilations[a]) as isize - window.pads_before[a] as isize
    })
    .collect()
}

fn taps(window: &Window) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..window.kernel.iter().product()).map(|flat| position(flat, &window.kernel))
}

fn pool(kind: PoolKind, window: &Window, x: &Value, place: &[usize]) -> f64 {
    let read = |tap: Vec<usize>| {
        let spatial = tap_position(window, &place[2..], &tap);
        x.padded_at(&[vec![place[0] as isize, place[1] as isize], spatial].concat())
    };
    let elements: Vec<f64> = taps(window).filter_map(read).collect();
    let count = match kind {
        PoolKind::Max => return reduce(ReduceKind::Max, &elements),
        PoolKind::Average { count_pads: true } => window.kernel.iter().product(),
        PoolKind::Average { count_pads: false } => elements.len(),
        PoolKind::Lp { .. } => panic!("no case takes a norm"),
    };
    elements.iter().sum::<f64>() / count as f64
}

fn conv(window: &Window, groups: usize, operands: &[&Value], shape: &[usize]) -> Value {
    let (x, w) = (operands[0], operands[1]);
    let (depth, filters) = (w.shape[1], w.shape[0] / groups);
    Value::from_fn(shape, |place| {
        let mut sum = 0.0;
        for channel in 0..depth {
            for tap in taps(window) {
                let source = (place[1] / filters * depth + channel) as isize;
                let spatial = tap_position(window, &place[2..], &tap);
                let element = x.padded_at(&[vec![place[0] as isize, source], spatial].concat());
                sum += element.unwrap_or(0.0) * w.at(&[vec![place[1], channel], tap].concat());
            }
        }
        sum
    })
}

fn conv_transpose(window: &Window, groups: usize, operands: &[&Value], shape: &[usize]) -> Value {
    let (x, w) = (operands[0], operands[1]);
    let mut result = Value::from_fn(shape, |_| 0.0);
    for flat in 0..x.data.len() {
        let place = position(flat, &x.shape);
        let group = place[1] / (x.shape[1] / groups);
        for filter in 0..w.shape[1] {
            for tap in taps(window) {
                let target = tap_position(window, &place[2..], &tap);
                let inside = target.iter().zip(&shape[2..]).all(|(&i, &n)| (0..n as isize).contains(&i));
                if inside {
                    let spatial = target.iter().map(|&i| i as usize).collect();
                    let target: Vec<usize> = [vec![place[0], group * w.shape[1] + filter], spatial].concat();
                    let index = target.iter().zip(shape).fold(0, |flat, (&i, &extent)| flat * extent + i);
                    result.data[index] += x.data[flat] * w.at(&[vec![place[1], filter], tap].concat());
                }
            }
        }
    }
    result
}

fn matmul(transpose_a: bool, transpose_b: bool, operands: &[&Value], shape: &[usize]) -> Value {
    let rank = shape.len();
    let element = |x: &Value, swapped: bool, batch: &[usize], row: usize, column: usize| {
        let matrix = if swapped { [column, row] } else { [row, column] };
        x.broadcast_at(&[batch, &matrix].concat())
    };
    let a_shape = &operands[0].shape;
    let depth = a_shape[a_shape.len() - if transpose_a { 2 } else { 1 }];
    Value::from_fn(shape, |place| {
        let (batch, row, column) = (&place[..rank - 2], place[rank - 2], place[rank - 1]);
        let product =
            |k| element(operands[0], transpose_a, batch, row, k) * element(operands[1], transpose_b, batch, k, column);
        (0..depth).map(product).sum()
    })
}

fn with_epilogue(epilogue: &Expr, accumulator: &Value, extras: &[&Value]) -> Value {
    Value::from_fn(&accumulator.shape, |place| {
        scalar(epilogue, |n| match n {
            0 => accumulator.at(place),
            n => extras[n as usize - 1].broadcast_at(place),
        })
    })
}

fn scalar(expr: &Expr, argument: impl Fn(u16) -> f64) -> f64 {
    let mut values: Vec<f64> = Vec::new();
    for node in expr.nodes() {
        let value = match *node {
            ExprNode::Argument(n, _) => argument(n),
            ExprNode::Constant(value) => value.as_f64(),
            ExprNode::Unary(op, a) => unary(op, values[a.index()]),
            ExprNode::Binary(op, a, b) => binary(op, values[a.index()], values[b.index()]),
            ExprNode::Select(c, a, b) => values[if values[c.index()] != 0.0 { a } else { b }.index()],
            ExprNode::Cast(dtype, a) => Scalar::from_f64(dtype, values[a.index()]).as_f64(),
        };
        values.push(value);
    }
    values[expr.root().index()]
}

fn unary(op: UnaryOp, a: f64) -> f64 {
    match op {
        UnaryOp::Neg => -a,
        UnaryOp::Abs => a.abs(),
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Reciprocal => 1.0 / a,
        UnaryOp::Exp => a.exp(),
        UnaryOp::Tanh => a.tanh(),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        UnaryOp::Sin => a.sin(),
        UnaryOp::Cos => a.cos(),
        op => panic!("no case evaluates {op:?}"),
    }
}

fn binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::And => f64::from(a != 0.0 && b != 0.0),
        op => panic!("no case evaluates {op:?}"),
    }
}
