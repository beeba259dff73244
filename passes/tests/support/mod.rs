//! Graphs for the tests of passes.

#![allow(dead_code, missing_docs)]

pub mod random;

use edgecc_ir::{
    BinaryOp, DType, Expr, Graph, Layout, NodeId, Op, Origin, PoolKind, ReduceKind, Scalar, Shape, Tensor, TensorType,
    UnaryOp, Window, eval, infer,
};

pub fn f32_type(extents: &[usize]) -> TensorType {
    TensorType::new(DType::F32, Shape::new(extents))
}

pub fn input(graph: &mut Graph, extents: &[usize]) -> NodeId {
    let name = format!("x{}", graph.inputs().len());
    graph.input(name, f32_type(extents))
}

pub fn add(graph: &mut Graph, op: Op, operands: &[NodeId]) -> NodeId {
    let name = format!("{}{}", op.name(), graph.len());
    graph.add(op, operands, Origin::named(name)).expect("a sound node")
}

/// A sequence of numbers in -1..1 that no two seeds share.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn constant(graph: &mut Graph, extents: &[usize], values: &[f32]) -> NodeId {
    graph.constant(Tensor::from_f32(Shape::new(extents), values), Origin::default())
}

/// A constant of varied numbers.
pub fn weights(graph: &mut Graph, extents: &[usize], seed: u64) -> NodeId {
    let values = numbers(extents.iter().product(), seed);
    constant(graph, extents, &values)
}

/// A constant of varied numbers in 0.5..1.5.
pub fn positive(graph: &mut Graph, extents: &[usize], seed: u64) -> NodeId {
    let values: Vec<f32> = numbers(extents.iter().product(), seed).iter().map(|x| 1.0 + x / 2.0).collect();
    constant(graph, extents, &values)
}

pub fn scalar(graph: &mut Graph, value: f32) -> NodeId {
    graph.constant(Tensor::scalar(Scalar::f32(value)), Origin::default())
}

pub fn unary(graph: &mut Graph, op: UnaryOp, a: NodeId) -> NodeId {
    let mut expr = Expr::new();
    let x = expr.arg(0, graph.ty(a).dtype);
    let root = expr.unary(op, x);
    add(graph, Op::Map(expr.with_root(root)), &[a])
}

pub fn binary(graph: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
    let mut expr = Expr::new();
    let (x, y) = (expr.arg(0, graph.ty(a).dtype), expr.arg(1, graph.ty(b).dtype));
    let root = expr.binary(op, x, y);
    add(graph, Op::Map(expr.with_root(root)), &[a, b])
}

pub fn relu(graph: &mut Graph, a: NodeId) -> NodeId {
    let mut expr = Expr::new();
    let x = expr.arg(0, DType::F32);
    let zero = expr.number(x, 0.0);
    let root = expr.binary(BinaryOp::Max, x, zero);
    add(graph, Op::Map(expr.with_root(root)), &[a])
}

pub fn window(kernel: &[usize], stride: usize, pad: usize) -> Window {
    let all = |n: usize| vec![n; kernel.len()];
    Window {
        kernel: kernel.to_vec(),
        strides: all(stride),
        dilations: all(1),
        pads_before: all(pad),
        pads_after: all(pad),
    }
}

pub fn plain() -> Expr {
    Op::plain_epilogue(DType::F32)
}

pub fn conv(graph: &mut Graph, x: NodeId, filters: [usize; 4], stride: usize, pad: usize, groups: usize) -> NodeId {
    let weights = weights(graph, &filters, graph.len() as u64);
    let op = Op::Conv { window: window(&filters[2..], stride, pad), groups, epilogue: plain() };
    add(graph, op, &[x, weights])
}

pub fn matmul(graph: &mut Graph, a: NodeId, b: NodeId) -> NodeId {
    add(graph, Op::MatMul { transpose_a: false, transpose_b: false, epilogue: plain() }, &[a, b])
}

pub fn transpose(graph: &mut Graph, x: NodeId, perm: &[usize]) -> NodeId {
    add(graph, Op::Transpose(perm.to_vec()), &[x])
}

pub fn reshape(graph: &mut Graph, x: NodeId, extents: &[usize]) -> NodeId {
    add(graph, Op::Reshape(Shape::new(extents)), &[x])
}

pub fn mean(graph: &mut Graph, x: NodeId, axes: &[usize]) -> NodeId {
    add(graph, Op::Reduce { kind: ReduceKind::Mean, axes: axes.to_vec() }, &[x])
}

pub fn max_pool(graph: &mut Graph, x: NodeId, kernel: usize, stride: usize, pad: usize) -> NodeId {
    add(graph, Op::Pool { kind: PoolKind::Max, window: window(&[kernel, kernel], stride, pad), ceil: false }, &[x])
}

/// Scale and shift along axis `channel` from the end, as two maps.
pub fn scale_and_shift(graph: &mut Graph, x: NodeId, extents: &[usize], seed: u64) -> NodeId {
    let (scale, shift) = (weights(graph, extents, seed), weights(graph, extents, seed + 1));
    let scaled = binary(graph, BinaryOp::Mul, x, scale);
    binary(graph, BinaryOp::Add, scaled, shift)
}

/// The operators that the outputs depend on, without inputs and constants, in the graph's order.
pub fn operators(graph: &Graph) -> Vec<&'static str> {
    let steps = graph.order().into_iter().map(|id| graph.op(id));
    steps.filter(|op| !matches!(op, Op::Input { .. } | Op::Constant(_))).map(Op::name).collect()
}

/// Runs a pass and checks that the graph is sound and has its output types.
pub fn check_types(mut graph: Graph, pass: impl Fn(&mut Graph) -> usize) -> (Graph, usize) {
    let before = graph.clone();
    let rewrites = pass(&mut graph);
    sound(&graph);
    assert_eq!(output_types(&before), output_types(&graph));
    (graph, rewrites)
}

/// Runs a pass and checks that the graph is sound, has its output types and computes the same values but for rounding.
pub fn check(graph: Graph, pass: impl Fn(&mut Graph) -> usize) -> (Graph, usize) {
    check_within(graph, pass, 1e-5)
}

/// As [`check`], to a tolerance relative to the largest value of each output.
pub fn check_within(graph: Graph, pass: impl Fn(&mut Graph) -> usize, tolerance: f64) -> (Graph, usize) {
    let before = graph.clone();
    let (after, rewrites) = check_types(graph, pass);
    same_values_within(&before, &after, tolerance);
    (after, rewrites)
}

/// Checks that a pass leaves the graph alone.
pub fn check_unchanged(graph: Graph, pass: impl Fn(&mut Graph) -> usize) {
    let before = operators(&graph);
    let (after, rewrites) = check(graph, pass);
    assert_eq!((operators(&after), rewrites), (before, 0));
}

fn sound(graph: &Graph) {
    for id in graph.order() {
        let node = graph.node(id);
        if !matches!(node.op(), Op::Input { .. }) {
            let operands: Vec<_> = node.operands().iter().map(|&operand| graph.node(operand).ty()).collect();
            infer(node.op(), &operands).expect("a sound node");
        }
    }
}

fn output_types(graph: &Graph) -> Vec<(String, TensorType)> {
    graph.outputs().iter().map(|output| (output.name.clone(), graph.ty(output.node).clone())).collect()
}

pub fn cast(from: DType, to: DType) -> Expr {
    let mut expr = Expr::new();
    let value = expr.arg(0, from);
    let value = expr.cast(to, value);
    expr.with_root(value)
}

pub fn same_values(before: &Graph, after: &Graph) {
    same_values_within(before, after, 1e-5);
}

/// Both graphs compute the same on pseudo-random inputs, to a tolerance relative to the largest value of each output.
pub fn same_values_within(before: &Graph, after: &Graph, tolerance: f64) {
    let inputs: Vec<Tensor> =
        before.inputs().iter().enumerate().map(|(place, &id)| random(before.ty(id), place)).collect();
    let [expected, actual] = [before, after].map(|graph| eval::run(graph, &inputs).expect("a sound graph"));
    for (expected, actual) in expected.iter().zip(&actual) {
        assert_eq!(expected.ty(), actual.ty());
        let pairs = || expected.scalars().map(Scalar::as_f64).zip(actual.scalars().map(Scalar::as_f64));
        let largest = pairs().fold(1e-30f64, |largest, (value, _)| largest.max(value.abs()));
        for (a, b) in pairs() {
            let same = (a - b).abs() <= tolerance * largest || a == b || a.is_nan() && b.is_nan();
            assert!(same, "{a} became {b}, where the largest is {largest}");
        }
    }
}

/// Numbers in -1..1; for integers in 0..7.
fn random(ty: &TensorType, seed: usize) -> Tensor {
    let number = |x: f32| match ty.dtype.is_float() {
        true => Scalar::f32(x).cast(ty.dtype),
        false => Scalar::from_f64(ty.dtype, (x.abs() * 7.0).floor() as f64),
    };
    let count = ty.shape.elements().expect("a small input");
    let values = numbers(count, seed as u64 + 77).into_iter().map(number);
    Tensor::from_scalars(ty.dtype, ty.shape.clone(), values).expect("as many as the type has")
}

/// Checks that views have their operand's bytes, windows read channels-last values, and outputs are row-major.
pub fn check_layouts(graph: &Graph) {
    for id in graph.order() {
        match graph.op(id) {
            Op::Reshape(_) => assert_eq!(addresses(graph, graph.operands(id)[0]), addresses(graph, id)),
            Op::Transpose(perm) => {
                let operand = graph.ty(graph.operands(id)[0]);
                let result = graph.ty(id);
                let (from, to) = (operand.layout.strides(&operand.shape), result.layout.strides(&result.shape));
                let moved = (0..perm.len()).filter(|&axis| result.shape.dim(axis) != 1);
                moved.for_each(|axis| assert_eq!(from[perm[axis]], to[axis], "{perm:?} of {operand} to {result}"));
            }
            Op::Conv { .. } | Op::Pool { .. } => {
                let ty = graph.ty(graph.operands(id)[0]);
                assert!(ty.layout.same_bytes(&Layout::channels_last(ty.shape.rank()), &ty.shape), "{ty}");
            }
            _ => {}
        }
    }
    for output in graph.outputs() {
        let ty = graph.ty(output.node);
        assert!(ty.layout.same_bytes(&Layout::row_major(ty.shape.rank()), &ty.shape), "{ty}");
    }
}

/// Where each element lies in memory, in row-major order of the logical axes.
fn addresses(graph: &Graph, id: NodeId) -> Vec<usize> {
    let ty = graph.ty(id);
    let (strides, extents) = (ty.layout.strides(&ty.shape), ty.shape.extents());
    let mut places = vec![0];
    for (stride, extent) in strides.into_iter().zip(extents) {
        places = places.iter().flat_map(|&place| (0..extent).map(move |i| place + i * stride)).collect();
    }
    places
}

/// `saturate(round(x / scale) + zero)`, with scale and zero point as operands.
pub fn quantize(graph: &mut Graph, x: NodeId, dtype: DType, scale: f32, zero: i64) -> NodeId {
    let scale = scalar(graph, scale);
    let zero = graph.constant(Tensor::scalar(Scalar::from_i64(dtype, zero)), Origin::default());
    let mut expr = Expr::new();
    let (x_arg, scale_arg, zero_arg) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32), expr.arg(2, dtype));
    let ratio = expr.binary(BinaryOp::Div, x_arg, scale_arg);
    let steps = expr.unary(UnaryOp::Round, ratio);
    let zero_value = expr.cast(DType::F32, zero_arg);
    let steps = expr.binary(BinaryOp::Add, steps, zero_value);
    let root = expr.cast(dtype, steps);
    add(graph, Op::Map(expr.with_root(root)), &[x, scale, zero])
}

/// `(q - zero) * scale`, with scale and zero point as operands of one element or one per position of an axis.
pub fn dequantize(graph: &mut Graph, q: NodeId, scale: NodeId, zero: NodeId) -> NodeId {
    let dtype = graph.ty(q).dtype;
    let mut expr = Expr::new();
    let (q_arg, scale_arg, zero_arg) = (expr.arg(0, dtype), expr.arg(1, DType::F32), expr.arg(2, dtype));
    let [wide, zero_value] = [q_arg, zero_arg].map(|id| expr.cast(DType::F32, id));
    let centred = expr.binary(BinaryOp::Sub, wide, zero_value);
    let root = expr.binary(BinaryOp::Mul, centred, scale_arg);
    add(graph, Op::Map(expr.with_root(root)), &[q, scale, zero])
}

/// [`dequantize`] with one scale and zero point.
pub fn dequantize_all(graph: &mut Graph, q: NodeId, scale: f32, zero: i64) -> NodeId {
    let dtype = graph.ty(q).dtype;
    let (scale, zero) = (scalar(graph, scale), Tensor::scalar(Scalar::from_i64(dtype, zero)));
    let zero = graph.constant(zero, Origin::default());
    dequantize(graph, q, scale, zero)
}

/// A constant of integers that cover their type from end to end.
pub fn integers(graph: &mut Graph, dtype: DType, extents: &[usize], seed: u64) -> NodeId {
    let count = extents.iter().product();
    let middle = if dtype == DType::U8 { 127.5 } else { -0.5 };
    let values = numbers(count, seed).into_iter().map(|x| Scalar::from_f64(dtype, (x as f64 * 127.5 + middle).round()));
    let tensor = Tensor::from_scalars(dtype, Shape::new(extents), values).expect("as many as the shape has");
    graph.constant(tensor, Origin::default())
}

/// Constant weights behind dequantization with a scale for each position of axis 0 and the zero point `zero`.
pub fn quantized_weights(graph: &mut Graph, dtype: DType, extents: &[usize], zero: i64, seed: u64) -> NodeId {
    let q = integers(graph, dtype, extents, seed);
    let per_channel: Vec<usize> = (0..extents.len()).map(|axis| if axis == 0 { extents[0] } else { 1 }).collect();
    let scales: Vec<f32> = numbers(extents[0], seed + 9).iter().map(|x| 0.01 + x.abs() / 50.0).collect();
    let scales = constant(graph, &per_channel, &scales);
    let zeros = Tensor::splat(Shape::new(&per_channel), Scalar::from_i64(dtype, zero)).expect("a small shape");
    let zeros = graph.constant(zeros, Origin::default());
    dequantize(graph, q, scales, zeros)
}
