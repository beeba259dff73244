//! Graphs of one contraction or window each, drawn at random: odd extents, strides, dilations, groups, batches of two,
//! weights that are constant and such that are not.

use edgecc_ir::{
    BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, PoolKind, Shape, Tensor, TensorType, UnaryOp, Window,
};

/// A graph under construction.
struct Draw {
    state: u64,
    graph: Graph,
}

/// A graph whose kernel, extents and epilogue follow from a seed; its name tells them.
pub fn random_kernel(seed: u64) -> Graph {
    let mut draw = Draw { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, graph: Graph::new("kernel") };
    let value = match draw.below(6) {
        0 | 1 => draw.convolution(),
        2 => draw.depthwise(),
        3 => draw.transposed(),
        4 => draw.pool(),
        _ => draw.product(),
    };
    let value = draw.finished(value);
    draw.graph.output("y", value);
    draw.graph
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) as usize % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn input(&mut self, extents: &[usize]) -> NodeId {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.input(name, TensorType::new(DType::F32, Shape::new(extents)))
    }

    fn weights(&mut self, extents: &[usize]) -> NodeId {
        let count = extents.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.below(1 << 12) as f32 / 2048.0 - 1.0).collect();
        self.graph.constant(Tensor::from_f32(Shape::new(extents), &values), Origin::named("weights"))
    }

    fn add(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        let origin = Origin::named(op.name());
        self.graph.add(op, operands, origin).expect("operator and operands agree")
    }

    /// A window of these extents that fits its input.
    fn window(&mut self, kernel: [usize; 2], dilates: bool) -> Window {
        let stride = self.one_of(&[1, 1, 2, 3]);
        let dilation = if dilates { self.one_of(&[1, 1, 2]) } else { 1 };
        let mut pads = || [0, 1].map(|axis| self.below(kernel[axis])).to_vec();
        let (pads_before, pads_after) = (pads(), pads());
        Window {
            kernel: kernel.to_vec(),
            strides: vec![stride; 2],
            dilations: vec![dilation; 2],
            pads_before,
            pads_after,
        }
    }

    fn image(&mut self, channels: usize) -> NodeId {
        let extents = [self.one_of(&[1, 2]), channels, 6 + self.below(9), 6 + self.below(9)];
        self.input(&extents)
    }

    fn convolution(&mut self) -> NodeId {
        let groups = self.one_of(&[1, 1, 1, 2]);
        let (depth, filters) = (self.one_of(&[1, 3, 4, 5, 8, 12]), self.one_of(&[1, 2, 4, 7, 8, 16, 24]));
        let kernel = self.one_of(&[[1, 1], [1, 1], [3, 3], [1, 5], [2, 3]]);
        let window = self.window(kernel, true);
        let x = self.image(depth * groups);
        let shape = [filters * groups, depth, kernel[0], kernel[1]];
        let w = if self.below(6) == 0 { self.input(&shape) } else { self.weights(&shape) };
        self.add(Op::Conv { window, groups, epilogue: Op::plain_epilogue(DType::F32) }, &[x, w])
    }

    fn depthwise(&mut self) -> NodeId {
        let channels = self.one_of(&[2, 3, 4, 8, 13, 16]);
        let kernel = self.one_of(&[[3, 3], [5, 5], [1, 3], [4, 2]]);
        let window = self.window(kernel, true);
        let x = self.image(channels);
        let w = self.weights(&[channels, 1, kernel[0], kernel[1]]);
        self.add(Op::Conv { window, groups: channels, epilogue: Op::plain_epilogue(DType::F32) }, &[x, w])
    }

    fn transposed(&mut self) -> NodeId {
        let (depth, filters) = (self.one_of(&[1, 3, 4, 8]), self.one_of(&[1, 4, 6, 8]));
        let (kernel, stride) = self.one_of(&[(2, 2), (3, 2), (4, 2), (3, 1), (2, 3)]);
        let pads = vec![self.below(2); 2];
        let window = Window {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_before: pads.clone(),
            pads_after: pads,
        };
        let x = self.image(depth);
        let w = self.weights(&[depth, filters, kernel, kernel]);
        let epilogue = Op::plain_epilogue(DType::F32);
        self.add(Op::ConvTranspose { window, groups: 1, output_padding: vec![0; 2], epilogue }, &[x, w])
    }

    fn pool(&mut self) -> NodeId {
        let channels = self.one_of(&[1, 3, 4, 8]);
        let kernel = self.one_of(&[[2, 2], [3, 3], [1, 4]]);
        let window = self.window(kernel, false);
        let average = PoolKind::Average { count_pads: self.below(2) == 0 };
        let kind = self.one_of(&[PoolKind::Max, average]);
        let x = self.image(channels);
        // A convolution makes the layout pass put channels last.
        let w = self.weights(&[channels, channels, 1, 1]);
        let plain = Window {
            kernel: vec![1; 2],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_before: vec![0; 2],
            pads_after: vec![0; 2],
        };
        let convolved =
            self.add(Op::Conv { window: plain, groups: 1, epilogue: Op::plain_epilogue(DType::F32) }, &[x, w]);
        let pooled = if self.below(2) == 0 { x } else { convolved };
        self.add(Op::Pool { kind, window, ceil: false }, &[pooled])
    }

    fn product(&mut self) -> NodeId {
        let (rows, depth, columns) =
            (1 + self.below(9), self.one_of(&[1, 3, 4, 8, 12]), self.one_of(&[1, 3, 4, 8, 20]));
        let [transpose_a, transpose_b] = [0, 1].map(|_| self.below(2) == 1);
        let batch: &[usize] = self.one_of(&[&[], &[2], &[2, 3]]);
        let swapped = |a: usize, b: usize, swap: bool| if swap { [b, a] } else { [a, b] };
        let left = [batch, &swapped(rows, depth, transpose_a)].concat();
        let shared = self.below(2) == 0;
        let right = [if shared { &[] } else { batch }, &swapped(depth, columns, transpose_b)].concat();
        let x = self.input(&left);
        let w = if self.below(2) == 0 { self.input(&right) } else { self.weights(&right) };
        self.add(Op::MatMul { transpose_a, transpose_b, epilogue: Op::plain_epilogue(DType::F32) }, &[x, w])
    }

    /// What becomes the epilogue, and movement, reductions and normalization behind it.
    fn finished(&mut self, value: NodeId) -> NodeId {
        let extents = self.graph.ty(value).shape.extents();
        let mut value = value;
        if self.below(2) == 0 {
            let residual = self.input(&extents);
            value = self.map(BinaryOp::Add, value, residual);
        }
        if self.below(2) == 0 {
            let op = self.one_of(&[UnaryOp::Sigmoid, UnaryOp::Tanh, UnaryOp::Erf, UnaryOp::Abs, UnaryOp::Exp]);
            let mut expr = Expr::argument(0, DType::F32);
            let root = expr.unary(op, expr.root());
            value = self.add(Op::Map(expr.with_root(root)), &[value]);
        }
        let axis = extents.len() - 1;
        match self.below(6) {
            0 => self.add(Op::Softmax { axis: self.graph.ty(value).shape.rank() - 1, log: false }, &[value]),
            1 => {
                let perm: Vec<usize> = (0..=axis).rev().collect();
                self.add(Op::Transpose(perm), &[value])
            }
            2 => {
                let op = Op::Normalize { axes: vec![axis], epsilon: 0.1f32.to_bits(), root_mean_square: false };
                self.add(op, &[value])
            }
            3 => self.add(Op::Concat { axis }, &[value, value]),
            _ => value,
        }
    }

    fn map(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        let mut expr = Expr::new();
        let (x, y) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
        let root = expr.binary(op, x, y);
        self.add(Op::Map(expr.with_root(root)), &[a, b])
    }
}
