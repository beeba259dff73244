//! Small networks from a seeded generator, layer by layer.

use edgecc_ir::{
    BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, PoolKind, ReduceKind, Shape, Tensor, TensorType, UnaryOp, Window,
};

/// A network while it grows: one path from the input on.
pub struct Network {
    graph: Graph,
    value: NodeId,
    seed: u64,
}

/// What follows a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x / (1 + exp(-x))`.
    Silu,
}

impl Network {
    /// A network over f32.
    pub fn new(name: &str, extents: &[usize]) -> Network {
        let mut graph = Graph::new(name);
        let value = graph.input("x", TensorType::new(DType::F32, Shape::new(extents)));
        Network { graph, value, seed: 1 }
    }

    /// A network over pictures of bytes, normalised to numbers from -1 to 1.
    pub fn of_pictures(name: &str, extents: &[usize]) -> Network {
        let mut graph = Graph::new(name);
        let bytes = graph.input("x", TensorType::new(DType::U8, Shape::new(extents)));
        let mut expr = Expr::argument(0, DType::U8);
        let number = expr.cast(DType::F32, expr.root());
        let (scale, one) = (expr.number(number, 1.0 / 127.5), expr.number(number, 1.0));
        let scaled = expr.binary(BinaryOp::Mul, number, scale);
        let moved = expr.binary(BinaryOp::Sub, scaled, one);
        let mut network = Network { graph, value: bytes, seed: 1 };
        network.value = network.add(Op::Map(expr.with_root(moved)), &[bytes], "normalise");
        network
    }

    /// The finished graph.
    pub fn finish(mut self) -> Graph {
        self.graph.output("y", self.value);
        self.graph
    }

    /// The value that the path has reached.
    pub fn value(&self) -> NodeId {
        self.value
    }

    /// Weights between -1/8 and 1/8.
    fn weights(&mut self, extents: &[usize]) -> NodeId {
        let count: usize = extents.iter().product();
        let mut draw = || {
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((self.seed >> 40) as f32 / (1u32 << 24) as f32 - 0.5) / 4.0
        };
        let values: Vec<f32> = (0..count).map(|_| draw()).collect();
        self.constant(extents, &values)
    }

    fn constant(&mut self, extents: &[usize], values: &[f32]) -> NodeId {
        let value = Tensor::from_f32(Shape::new(extents), values);
        self.add(Op::Constant(value), &[], "constant")
    }

    fn add(&mut self, op: Op, operands: &[NodeId], name: &str) -> NodeId {
        self.graph.add(op, operands, Origin::named(name)).expect("operator and operands agree")
    }

    fn extents(&self) -> Vec<usize> {
        self.graph.ty(self.value).shape.extents()
    }

    /// A convolution with a bias, square kernel, pads that keep the size of a stride of 1.
    pub fn conv(&mut self, channels: usize, kernel: usize, stride: usize, groups: usize, activation: Activation) {
        let pads = [(kernel - 1) / 2; 2];
        self.padded_conv(channels, [kernel; 2], stride, groups, pads);
        self.activate(activation);
    }

    /// A convolution with a bias and these pads on both ends of each axis.
    pub fn padded_conv(&mut self, channels: usize, kernel: [usize; 2], stride: usize, groups: usize, pads: [usize; 2]) {
        let depth = self.extents()[1] / groups;
        let weights = self.weights(&[channels, depth, kernel[0], kernel[1]]);
        let window = Window {
            kernel: kernel.to_vec(),
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_before: pads.to_vec(),
            pads_after: pads.to_vec(),
        };
        let op = Op::Conv { window, groups, epilogue: Op::plain_epilogue(DType::F32) };
        self.value = self.add(op, &[self.value, weights], "conv");
        let bias = self.weights(&[1, channels, 1, 1]);
        self.pair(BinaryOp::Add, bias);
    }

    /// A max pool of 3x3 windows, every second one.
    pub fn max_pool(&mut self) {
        let window = Window {
            kernel: vec![3; 2],
            strides: vec![2; 2],
            dilations: vec![1; 2],
            pads_before: vec![1; 2],
            pads_after: vec![1; 2],
        };
        self.value = self.add(Op::Pool { kind: PoolKind::Max, window, ceil: false }, &[self.value], "pool");
    }

    /// A softmax of the channels of each pixel.
    pub fn softmax(&mut self) {
        self.value = self.add(Op::Softmax { axis: 1, log: false }, &[self.value], "softmax");
    }

    /// Channels dealt out into groups, one after the other.
    pub fn shuffle(&mut self, groups: usize) {
        let extents = self.extents();
        let apart = [extents[0], groups, extents[1] / groups, extents[2], extents[3]];
        let value = self.add(Op::Reshape(Shape::new(&apart)), &[self.value], "apart");
        let value = self.add(Op::Transpose(vec![0, 2, 1, 3, 4]), &[value], "deal");
        self.value = self.add(Op::Reshape(Shape::new(&extents)), &[value], "together");
    }

    /// Channels times factors.
    pub fn scale(&mut self, factors: &[f32]) {
        let factors = self.constant(&[1, factors.len(), 1, 1], factors);
        self.pair(BinaryOp::Mul, factors);
    }

    /// Channels times gates that the means of all channels decide, over so many hidden ones.
    pub fn squeeze_excite(&mut self, hidden: usize) {
        let (entry, channels) = (self.value, self.extents()[1]);
        self.value = self.add(Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3] }, &[self.value], "mean");
        self.conv(hidden, 1, 1, 1, Activation::Relu);
        self.conv(channels, 1, 1, 1, Activation::None);
        self.unary(UnaryOp::Sigmoid);
        let gates = std::mem::replace(&mut self.value, entry);
        self.pair(BinaryOp::Mul, gates);
    }

    fn unary(&mut self, op: UnaryOp) {
        let mut expr = Expr::new();
        let x = expr.arg(0, DType::F32);
        let root = expr.unary(op, x);
        self.value = self.add(Op::Map(expr.with_root(root)), &[self.value], "function");
    }

    /// An output: a function of some channels of the path, which stays where it is.
    pub fn part(&mut self, name: &str, channels: std::ops::Range<usize>, op: UnaryOp) {
        let (whole, mut counts) = (self.value, self.extents());
        counts[1] = channels.len();
        let starts = vec![0, channels.start, 0, 0];
        self.value = self.add(Op::Slice { starts, steps: vec![1; 4], counts }, &[whole], "part");
        self.unary(op);
        let part = std::mem::replace(&mut self.value, whole);
        self.graph.output(name, part);
    }

    /// The finished graph of a network whose outputs are parts.
    pub fn finish_parts(self) -> Graph {
        self.graph
    }

    /// A matrix product with a bias.
    pub fn dense(&mut self, channels: usize, activation: Activation) {
        let extents = self.extents();
        let weights = self.weights(&[extents[extents.len() - 1], channels]);
        let op = Op::MatMul { transpose_a: false, transpose_b: false, epilogue: Op::plain_epilogue(DType::F32) };
        self.value = self.add(op, &[self.value, weights], "matmul");
        let bias = self.weights(&[channels]);
        self.pair(BinaryOp::Add, bias);
        self.activate(activation);
    }

    /// Adds a value of the path.
    pub fn add_value(&mut self, other: NodeId) {
        self.pair(BinaryOp::Add, other);
    }

    /// What follows a sum.
    pub fn activate(&mut self, activation: Activation) {
        match activation {
            Activation::None => {}
            Activation::Relu => self.clamp(None),
            Activation::Relu6 => self.clamp(Some(6.0)),
            Activation::Silu => {
                let mut expr = Expr::new();
                let x = expr.arg(0, DType::F32);
                let gate = expr.unary(UnaryOp::Sigmoid, x);
                let root = expr.binary(BinaryOp::Mul, x, gate);
                self.value = self.add(Op::Map(expr.with_root(root)), &[self.value], "silu");
            }
        }
    }

    fn clamp(&mut self, most: Option<f64>) {
        let mut expr = Expr::new();
        let x = expr.arg(0, DType::F32);
        let least = expr.number(x, 0.0);
        let mut root = expr.binary(BinaryOp::Max, x, least);
        if let Some(most) = most {
            let most = expr.number(x, most);
            root = expr.binary(BinaryOp::Min, root, most);
        }
        self.value = self.add(Op::Map(expr.with_root(root)), &[self.value], "clamp");
    }

    fn pair(&mut self, op: BinaryOp, other: NodeId) {
        let shape = self.graph.ty(self.value).shape.clone();
        let other = if self.graph.ty(other).shape == shape {
            other
        } else {
            self.add(Op::Broadcast(shape), &[other], "broadcast")
        };
        let mut expr = Expr::new();
        let (a, b) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
        let root = expr.binary(op, a, b);
        self.value = self.add(Op::Map(expr.with_root(root)), &[self.value, other], "pair");
    }
}

/// Layers of phone networks, small enough to be emulated quickly, and whether their weights may grow.
pub fn layers() -> Vec<(Graph, bool)> {
    use Activation::{None, Relu, Relu6, Silu};
    let mut bottleneck = Network::new("bottleneck", &[1, 3, 56, 56]);
    bottleneck.conv(16, 3, 2, 1, Relu6);
    let entry = bottleneck.value();
    bottleneck.conv(96, 1, 1, 1, Relu6);
    bottleneck.conv(96, 3, 1, 96, Relu6);
    bottleneck.conv(16, 1, 1, 1, None);
    bottleneck.add_value(entry);
    bottleneck.conv(72, 1, 1, 1, Relu6);
    bottleneck.conv(72, 5, 2, 72, Relu6);
    bottleneck.conv(40, 1, 1, 1, Silu);

    let mut residual = Network::new("residual", &[1, 32, 28, 28]);
    residual.max_pool();
    let entry = residual.value();
    residual.conv(32, 3, 1, 1, Relu);
    residual.conv(32, 3, 1, 1, None);
    residual.add_value(entry);
    residual.activate(Relu);
    residual.conv(64, 1, 2, 1, None);
    residual.conv(64, 3, 2, 1, Relu);

    let mut shuffled = Network::new("shuffled", &[1, 58, 14, 14]);
    shuffled.conv(58, 1, 1, 1, Relu);
    shuffled.shuffle(2);
    shuffled.conv(58, 3, 1, 58, None);
    shuffled.conv(60, 3, 1, 2, Relu);

    let mut dense = Network::new("dense", &[32, 96]);
    dense.dense(200, Silu);
    dense.dense(17, None);
    let mut vector = Network::new("vector", &[1, 320]);
    vector.dense(1000, None);

    let direct = [bottleneck, shuffled, dense, vector].map(|network| (network.finish(), false));
    let residual = residual.finish();
    direct.into_iter().chain([(residual.clone(), false), (residual, true)]).collect()
}
