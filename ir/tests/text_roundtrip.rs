//! What is printed reads back as the same graph: every operator, every function of expressions, constants to the bit.

use std::collections::BTreeSet;

use edgecc_ir::{
    BinaryOp, DType, Expr, ExprId, Extreme, Graph, Layout, NodeId, Op, Origin, PadMode, PoolKind, ReduceKind, Resample,
    Scalar, ScatterKind, Shape, Tensor, TensorType, Type, UnaryOp, Window,
};

/// Reads back the text of a graph and compares every node and the text.
fn check(graph: &Graph) {
    let text = graph.to_text();
    let read = Graph::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(read.to_text(), text);
    let nodes = |graph: &Graph| graph.order().iter().map(|&id| graph.node(id).clone()).collect::<Vec<_>>();
    let (before, after) = (nodes(graph), nodes(&read));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.op(), after.op(), "{text}");
        assert_eq!((before.ty(), before.origin()), (after.ty(), after.origin()), "{text}");
    }
    let names = |graph: &Graph| graph.outputs().iter().map(|output| output.name.clone()).collect::<Vec<_>>();
    assert_eq!((graph.name(), names(graph)), (read.name(), names(&read)));
}

fn window(kernel: [usize; 2]) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_before: vec![0; 2],
        pads_after: vec![0; 2],
    }
}

fn odd_window() -> Window {
    Window {
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads_before: vec![1, 0],
        pads_after: vec![0, 1],
        ..window([2, 2])
    }
}

fn acc() -> Expr {
    Op::plain_epilogue(DType::F32)
}

/// `i8(f32(acc) * 0.5)` of an i32 sum
fn requantized() -> Expr {
    let mut expr = Op::plain_epilogue(DType::I8);
    let wide = expr.cast(DType::F32, expr.root());
    let factor = expr.number(wide, 0.5);
    let scaled = expr.binary(BinaryOp::Mul, wide, factor);
    let root = expr.cast(DType::I8, scaled);
    expr.with_root(root)
}

/// `f16(acc)`
fn narrowed() -> Expr {
    let mut expr = acc();
    let root = expr.cast(DType::F16, expr.root());
    expr.with_root(root)
}

fn plain_matmul(epilogue: Expr) -> Op {
    Op::MatMul { transpose_a: false, transpose_b: false, epilogue }
}

/// `max(acc + e1, 0)`
fn bias_relu() -> Expr {
    let mut expr = Expr::new();
    let (acc, bias) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let sum = expr.binary(BinaryOp::Add, acc, bias);
    let zero = expr.number(sum, 0.0);
    let root = expr.binary(BinaryOp::Max, sum, zero);
    expr.with_root(root)
}

/// Every operator, in a plain and in a rich form, with the types of its operands.
fn operators() -> Vec<(Op, Vec<TensorType>)> {
    let f = |extents: &[usize]| TensorType::new(DType::F32, Shape::new(extents));
    let i = |extents: &[usize]| TensorType::new(DType::I64, Shape::new(extents));
    let (image, weights, matrix) = (f(&[1, 4, 6, 6]), f(&[4, 4, 2, 2]), f(&[4, 4]));
    let half = TensorType::new(DType::F16, Shape::new(&[4, 4]));
    let bytes = TensorType::new(DType::I8, Shape::new(&[4, 4]));
    let resample = |axis, extent, weights: Vec<u32>| Resample {
        axis,
        extent,
        taps: 1,
        indices: (0..extent as u32).map(|i| i % 4).collect(),
        weights,
    };
    vec![
        (Op::Map(acc()), vec![matrix.clone()]),
        (Op::Conv { window: window([2, 2]), groups: 1, epilogue: acc() }, vec![image.clone(), weights.clone()]),
        (
            Op::Conv { window: odd_window(), groups: 2, epilogue: bias_relu() },
            vec![image.clone(), f(&[4, 2, 2, 2]), f(&[4, 1, 1])],
        ),
        (
            Op::ConvTranspose { window: window([2, 2]), output_padding: vec![0, 0], groups: 1, epilogue: acc() },
            vec![image.clone(), weights.clone()],
        ),
        (
            Op::ConvTranspose { window: odd_window(), output_padding: vec![1, 0], groups: 2, epilogue: bias_relu() },
            vec![image.clone(), weights, f(&[1])],
        ),
        (Op::MatMul { transpose_a: false, transpose_b: true, epilogue: acc() }, vec![matrix.clone(), matrix.clone()]),
        (
            Op::MatMul { transpose_a: true, transpose_b: false, epilogue: bias_relu() },
            vec![matrix.clone(), matrix.clone(), f(&[4])],
        ),
        (plain_matmul(Op::plain_epilogue(DType::F16)), vec![half.clone(), half.clone()]),
        (plain_matmul(Op::plain_epilogue(DType::I8)), vec![bytes.clone(), bytes.clone()]),
        (plain_matmul(requantized()), vec![bytes.clone(), bytes.clone()]),
        (plain_matmul(acc()), vec![half.clone(), half.clone()]),
        (plain_matmul(narrowed()), vec![half.clone(), half]),
        (Op::Pool { kind: PoolKind::Max, window: window([2, 2]), ceil: false }, vec![image.clone()]),
        (
            Op::Pool { kind: PoolKind::Average { count_pads: true }, window: odd_window(), ceil: true },
            vec![image.clone()],
        ),
        (
            Op::Pool { kind: PoolKind::Average { count_pads: false }, window: window([3, 3]), ceil: false },
            vec![image.clone()],
        ),
        (Op::Pool { kind: PoolKind::Lp { p: 3 }, window: window([2, 3]), ceil: false }, vec![image.clone()]),
        (Op::PoolIndices { window: odd_window(), ceil: true, column_major: true }, vec![image.clone()]),
        (Op::Reduce { kind: ReduceKind::Sum, axes: vec![0, 1] }, vec![matrix.clone()]),
        (Op::Reduce { kind: ReduceKind::Mean, axes: vec![1] }, vec![matrix.clone()]),
        (Op::Reduce { kind: ReduceKind::Max, axes: vec![] }, vec![matrix.clone()]),
        (Op::Reduce { kind: ReduceKind::Min, axes: vec![0] }, vec![matrix.clone()]),
        (Op::Reduce { kind: ReduceKind::Product, axes: vec![0] }, vec![matrix.clone()]),
        (Op::ArgReduce { extreme: Extreme::Max, axis: 1, last: true }, vec![matrix.clone()]),
        (Op::ArgReduce { extreme: Extreme::Min, axis: 0, last: false }, vec![matrix.clone()]),
        (Op::Softmax { axis: 1, log: false }, vec![matrix.clone()]),
        (Op::Softmax { axis: 0, log: true }, vec![matrix.clone()]),
        (Op::Normalize { axes: vec![1], epsilon: 1e-5f32.to_bits(), root_mean_square: true }, vec![matrix.clone()]),
        (
            Op::LocalResponseNorm {
                size: 3,
                alpha: 1e-4f32.to_bits(),
                beta: 0.75f32.to_bits(),
                bias: (-0.0f32).to_bits(),
            },
            vec![image.clone()],
        ),
        (Op::Reshape(Shape::new(&[2, 8])), vec![matrix.clone()]),
        (Op::Reshape(Shape::scalar()), vec![f(&[1])]),
        (Op::Transpose(vec![1, 0]), vec![matrix.clone()]),
        (Op::Broadcast(Shape::new(&[3, 4, 4])), vec![matrix.clone()]),
        (Op::Concat { axis: 1 }, vec![matrix.clone(), f(&[4, 2])]),
        (Op::Slice { starts: vec![1, 0], steps: vec![1, 1], counts: vec![2, 4] }, vec![matrix.clone()]),
        (Op::Slice { starts: vec![3, 0], steps: vec![-2, 3], counts: vec![2, 2] }, vec![matrix.clone()]),
        (Op::Pad { mode: PadMode::Constant, before: vec![1, 0], after: vec![0, 2] }, vec![matrix.clone(), f(&[])]),
        (Op::Pad { mode: PadMode::Reflect, before: vec![1, 0], after: vec![0, 2] }, vec![matrix.clone()]),
        (Op::Pad { mode: PadMode::Edge, before: vec![0, 0], after: vec![0, 2] }, vec![matrix.clone()]),
        (Op::Pad { mode: PadMode::Wrap, before: vec![0, 1], after: vec![0, 0] }, vec![matrix.clone()]),
        (Op::Tile { repeats: vec![2, 1] }, vec![matrix.clone()]),
        (
            Op::Resize { axes: vec![resample(0, 3, vec![]), resample(1, 2, vec![0.1f32.to_bits(), 0x7fc0_0001])] },
            vec![matrix.clone()],
        ),
        (
            Op::Resize { axes: vec![resample(1, 2, vec![1f32.to_bits(), 2f32.to_bits()]), resample(0, 8, vec![])] },
            vec![matrix.clone()],
        ),
        (Op::Gather { axis: 1 }, vec![matrix.clone(), i(&[3])]),
        (Op::GatherElements { axis: 0 }, vec![matrix.clone(), i(&[2, 4])]),
        (Op::GatherNd { batch_dims: 0 }, vec![matrix.clone(), i(&[3, 2])]),
        (Op::GatherNd { batch_dims: 1 }, vec![matrix.clone(), i(&[4, 1])]),
        (Op::ScatterElements { axis: 1, kind: ScatterKind::Replace }, vec![matrix.clone(), i(&[4, 2]), f(&[4, 2])]),
        (Op::ScatterElements { axis: 1, kind: ScatterKind::Max }, vec![matrix.clone(), i(&[4, 2]), f(&[4, 2])]),
        (Op::ScatterNd { kind: ScatterKind::Add }, vec![matrix.clone(), i(&[3, 1]), f(&[3, 4])]),
        (Op::ScatterNd { kind: ScatterKind::Multiply }, vec![matrix.clone(), i(&[3, 1]), f(&[3, 4])]),
        (Op::ScatterNd { kind: ScatterKind::Min }, vec![matrix.clone(), i(&[3, 1]), f(&[3, 4])]),
        (Op::CumulativeSum { axis: 0, exclusive: false, reverse: true }, vec![matrix.clone()]),
        (Op::CumulativeSum { axis: 1, exclusive: true, reverse: false }, vec![matrix.clone()]),
        (Op::Relayout(Layout::channels_last(4)), vec![image]),
        (Op::Relayout(Layout::from_order(&[1, 0]).unwrap()), vec![matrix]),
    ]
}

/// A place for every variant: a new one does not compile until it has one here and a case above.
fn place(op: &Op) -> usize {
    match op {
        Op::Map(_) => 0,
        Op::Conv { .. } => 1,
        Op::ConvTranspose { .. } => 2,
        Op::MatMul { .. } => 3,
        Op::Pool { .. } => 4,
        Op::PoolIndices { .. } => 5,
        Op::Reduce { .. } => 6,
        Op::ArgReduce { .. } => 7,
        Op::Softmax { .. } => 8,
        Op::Normalize { .. } => 9,
        Op::LocalResponseNorm { .. } => 10,
        Op::Reshape(_) => 11,
        Op::Transpose(_) => 12,
        Op::Broadcast(_) => 13,
        Op::Concat { .. } => 14,
        Op::Slice { .. } => 15,
        Op::Pad { .. } => 16,
        Op::Tile { .. } => 17,
        Op::Resize { .. } => 18,
        Op::Gather { .. } => 19,
        Op::GatherElements { .. } => 20,
        Op::GatherNd { .. } => 21,
        Op::ScatterElements { .. } => 22,
        Op::ScatterNd { .. } => 23,
        Op::CumulativeSum { .. } => 24,
        Op::Relayout(_) => 25,
        Op::Input { .. } | Op::Constant(_) | Op::TopK { .. } | Op::Project(_) => usize::MAX,
    }
}

/// A graph of one operator over inputs.
fn graph_of(op: Op, types: Vec<TensorType>) -> Graph {
    let mut graph = Graph::new("one");
    let operands: Vec<NodeId> = types.into_iter().enumerate().map(|(n, ty)| graph.input(format!("x{n}"), ty)).collect();
    let id = graph.add(op, &operands, Origin(vec!["a".into(), "b c".into()])).unwrap();
    graph.output("y", id);
    graph
}

/// Every number of every operator's text replaced by numbers at the edges of what can be written.
#[test]
fn any_number_is_taken_or_refused() {
    const EDGES: [&str; 9] = [
        "0",
        "1",
        "2",
        "7",
        "255",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999",
    ];
    let mut taken = 0;
    for (op, types) in operators() {
        let text = graph_of(op, types).to_text();
        let digits: Vec<usize> = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
        for (at, edge) in digits.into_iter().flat_map(|at| EDGES.map(|edge| (at, edge))) {
            let changed = format!("{}{edge}{}", &text[..at], &text[at + 1..]);
            if let Ok(graph) = Graph::from_text(&changed) {
                let text = graph.to_text();
                assert_eq!(Graph::from_text(&text).unwrap().to_text(), text, "{changed}");
                taken += 1;
            }
        }
    }
    assert!(taken > 500, "only {taken} changed texts are graphs");
}

#[test]
fn every_operator() {
    let cases = operators();
    let places: BTreeSet<usize> = cases.iter().map(|(op, _)| place(op)).collect();
    assert_eq!(places, (0..26).collect());
    for (op, types) in cases {
        check(&graph_of(op, types));
    }
}

#[test]
fn tuples_and_their_components() {
    let mut graph = Graph::new("tuple");
    let x = graph.input("x", TensorType::new(DType::F32, Shape::new(&[2, 5])));
    for extreme in [Extreme::Max, Extreme::Min] {
        let pair = graph.add(Op::TopK { axis: 1, count: 3, extreme }, &[x], Origin::named("top")).unwrap();
        for n in 0..2 {
            let component = graph.add(Op::Project(n), &[pair], Origin::default()).unwrap();
            graph.output(format!("{extreme:?}{n}"), component);
        }
    }
    check(&graph);
}

#[test]
fn layouts() {
    let mut graph = Graph::new("layouts");
    let image = TensorType::new(DType::F32, Shape::new(&[1, 3, 4, 4]));
    let x = graph.input("x", image.with_layout(Layout::channels_last(4)));
    let y = graph.add(Op::Map(acc()), &[x], Origin::default()).unwrap();
    graph.set_type(y, Type::Tensor(image.with_layout(Layout::from_order(&[3, 0, 1, 2]).unwrap())));
    graph.output("y", y);
    check(&graph);
}

#[test]
fn names_of_every_kind() {
    let mut graph = Graph::new("a \"graph\"\\\n");
    let scalar = TensorType::new(DType::F32, Shape::scalar());
    for name in ["", "0", "x", "/conv/w-1.5", "a b", "ü\u{7}", "return", "a+b;#"] {
        let x = graph.input(name, scalar.clone());
        let mapped = graph.add(Op::Map(acc()), &[x], Origin(vec![name.into(), "z".into()])).unwrap();
        graph.output(name, mapped);
        for copy in 0..2 {
            let w = graph.constant(Tensor::scalar(Scalar::f32(copy as f32)), Origin::named(name));
            graph.output(format!("{name}/{copy}"), w);
        }
    }
    let anonymous = graph.constant(Tensor::scalar(Scalar::i64(-3)), Origin::default());
    graph.output("anonymous", anonymous);
    check(&graph);
}

fn check_expression(expr: Expr) {
    let mut graph = Graph::new("expression");
    let arity = expr.arity();
    let dtype_of = |n: usize| expr.arguments().find(|&(m, _)| m as usize == n).map_or(DType::F32, |(_, dtype)| dtype);
    let operands: Vec<NodeId> =
        (0..arity).map(|n| graph.input(format!("x{n}"), TensorType::new(dtype_of(n), Shape::new(&[2])))).collect();
    let y = graph.add(Op::Map(expr), &operands, Origin::default()).unwrap();
    graph.output("y", y);
    let text = graph.to_text();
    let read = Graph::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(read.to_text(), text);
    let again = Graph::from_text(&read.to_text()).unwrap();
    let root = |graph: &Graph| graph.op(graph.outputs()[0].node).clone();
    assert_eq!(root(&read), root(&again));
    let Op::Map(expr) = root(&read) else { panic!("{text}") };
    let Op::Map(original) = root(&graph) else { panic!("{text}") };
    assert_eq!(meaning(&expr, expr.root()), meaning(&original, original.root()), "{text}");
}

/// The expression as a tree in prefix form, independent of the order in its arena.
fn meaning(expr: &Expr, id: ExprId) -> String {
    let operands: Vec<String> = expr.node(id).operands().map(|operand| meaning(expr, operand)).collect();
    let node = match expr.node(id) {
        edgecc_ir::ExprNode::Argument(n, dtype) => format!("{n}:{dtype}"),
        edgecc_ir::ExprNode::Constant(value) => format!("{:x}:{}", value.bits(), value.dtype()),
        edgecc_ir::ExprNode::Unary(op, _) => format!("{op:?}"),
        edgecc_ir::ExprNode::Binary(op, ..) => format!("{op:?}"),
        edgecc_ir::ExprNode::Select(..) => "select".into(),
        edgecc_ir::ExprNode::Cast(dtype, _) => format!("{dtype}"),
    };
    format!("{node}({})", operands.join(","))
}

const UNARY: [UnaryOp; 28] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Sign,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Round,
    UnaryOp::Trunc,
    UnaryOp::Sqrt,
    UnaryOp::Reciprocal,
    UnaryOp::Exp,
    UnaryOp::Log,
    UnaryOp::Tanh,
    UnaryOp::Sigmoid,
    UnaryOp::Erf,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tan,
    UnaryOp::Asin,
    UnaryOp::Acos,
    UnaryOp::Atan,
    UnaryOp::Sinh,
    UnaryOp::Cosh,
    UnaryOp::Asinh,
    UnaryOp::Acosh,
    UnaryOp::Atanh,
    UnaryOp::Not,
    UnaryOp::IsNan,
    UnaryOp::IsInf,
];

const BINARY: [BinaryOp; 17] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
    BinaryOp::Mod,
    BinaryOp::Pow,
    BinaryOp::Max,
    BinaryOp::Min,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::ShiftLeft,
    BinaryOp::ShiftRight,
    BinaryOp::Equal,
    BinaryOp::Less,
    BinaryOp::LessEqual,
];

#[test]
fn every_function_of_one_operand() {
    for op in UNARY {
        let mut expr = Expr::new();
        let a = expr.arg(0, if op.takes(DType::F32) { DType::F32 } else { DType::I32 });
        let root = expr.unary(op, a);
        check_expression(expr.with_root(root));
    }
}

/// Every pair of functions of two operands, nested to the left and to the right, of every kind of type that both take.
#[test]
fn every_function_of_two_operands_in_every_other() {
    for (outer, inner) in BINARY.iter().flat_map(|&outer| BINARY.map(|inner| (outer, inner))) {
        for dtype in [DType::Bool, DType::I32, DType::F32].into_iter().filter(|&dtype| inner.takes(dtype)) {
            for left in [true, false] {
                let mut expr = Expr::new();
                let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
                let nested = expr.binary(inner, a, b);
                let c = expr.arg(2, expr.dtype_of(nested));
                if outer.takes(expr.dtype_of(nested)) {
                    let root = if left { expr.binary(outer, nested, c) } else { expr.binary(outer, c, nested) };
                    check_expression(expr.with_root(root));
                }
            }
        }
    }
}

#[test]
fn selects_casts_and_shared_parts() {
    let mut expr = Expr::new();
    let (a, b) = (expr.arg(0, DType::I64), expr.arg(1, DType::F16));
    let cast = expr.cast(DType::F16, a);
    let shared = expr.binary(BinaryOp::Mul, cast, b);
    let less = expr.binary(BinaryOp::Less, shared, b);
    let root = expr.select(less, shared, b);
    check_expression(expr.with_root(root));
}

/// A chain deeper than the parser's limit, and parts that would be written 2^12 times without names.
#[test]
fn deep_and_widely_shared_expressions() {
    let mut deep = Expr::new();
    let mut root = deep.arg(0, DType::F32);
    for _ in 0..1000 {
        root = deep.unary(UnaryOp::Sin, root);
    }
    check_expression(deep.with_root(root));
    let mut wide = Expr::new();
    let mut root = wide.arg(0, DType::F32);
    for _ in 0..12 {
        let sine = wide.unary(UnaryOp::Sin, root);
        root = wide.binary(BinaryOp::Add, sine, sine);
    }
    check_expression(wide.with_root(root));
}

/// Numbers at the edges of each type, as constants of the graph and in expressions.
#[test]
fn every_kind_of_number() {
    let bits: Vec<u64> = (0..64)
        .flat_map(|shift| [1u64 << shift, (1u64 << shift) - 1, !(1u64 << shift), 0x3a5c_9e17_d204_b86fu64 >> shift])
        .chain([0x7fc0_0000, 0xffc0_0000, 0x7f80_0000, 0xff80_0000, 0x7c00, 0xfc00, 0x7e00, 0x7fc0, 0x3dcc_cccd])
        .collect();
    for dtype in DType::ALL {
        let values: Vec<Scalar> = bits.iter().map(|&bits| Scalar::from_bits(dtype, bits)).collect();
        let mut graph = Graph::new("numbers");
        for (n, few) in values.chunks(10).enumerate() {
            let tensor = Tensor::from_scalars(dtype, Shape::new(&[few.len()]), few.iter().copied()).unwrap();
            let id = graph.constant(tensor, Origin::named(format!("few{n}")));
            graph.output(format!("few{n}"), id);
        }
        for (n, &value) in values.iter().enumerate() {
            let id = graph.constant(Tensor::splat(Shape::new(&[3, 0x100]), value).unwrap(), Origin::default());
            graph.output(format!("splat{n}"), id);
            let mut expr = Expr::new();
            let root = expr.constant(value);
            let id = graph.add(Op::Map(expr.with_root(root)), &[], Origin::default()).unwrap();
            graph.output(format!("expression{n}"), id);
        }
        let long = Tensor::from_scalars(dtype, Shape::new(&[values.len()]), values).unwrap();
        let id = graph.constant(long, Origin::named("long"));
        graph.output("long", id);
        let empty =
            graph.constant(Tensor::dense(dtype, Shape::new(&[0, 2]), Vec::new().into()).unwrap(), Origin::default());
        graph.output("empty", empty);
        check(&graph);
    }
}
