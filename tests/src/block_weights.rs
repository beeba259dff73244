//! Products with weights that are integers in blocks, as graphs.

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, Scalar, Shape, Tensor, TensorType, UnaryOp};

/// A product of `rows` by `depth` with weights of `depth` by `channels`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows.
    pub rows: usize,
    /// What is summed over.
    pub depth: usize,
    /// Columns of the result.
    pub channels: usize,
    /// Bits of a weight, and neighbours along the depth that share a scale; none of numbers.
    pub integers: Option<(u32, usize)>,
    /// Whether integers of each block lie around another number than 0.
    pub has_zeros: bool,
    /// What is done to sums.
    pub behind: Behind,
}

/// What is done to the sums of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Nothing.
    Nothing,
    /// A number for each channel is added, and what is negative becomes 0.
    BiasAndRelu,
    /// Another input of the same shape is added, and `x / (1 + exp(-x))` taken.
    ResidualAndSilu,
}

impl Product {
    /// The graph.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new("product");
        let input = |graph: &mut Graph, name: &str, extents: &[usize]| {
            graph.input(name, TensorType::new(DType::F32, Shape::new(extents)))
        };
        let x = input(&mut graph, "x", &[self.rows, self.depth]);
        let weights = self.weights(&mut graph);
        let mut epilogue = Expr::argument(0, DType::F32);
        let (sum, further) = (epilogue.root(), epilogue.arg(1, DType::F32));
        let (root, further) = match self.behind {
            Behind::Nothing => (sum, None),
            Behind::BiasAndRelu => {
                let bias = (0..self.channels).map(|n| Scalar::from_f64(DType::F32, (n % 7) as f64 / 8.0 - 0.25));
                let bias = Tensor::from_scalars(DType::F32, Shape::new(&[self.channels]), bias).expect("a bias");
                let biased = epilogue.binary(BinaryOp::Add, sum, further);
                let zero = epilogue.number(sum, 0.0);
                let root = epilogue.binary(BinaryOp::Max, biased, zero);
                (root, Some(graph.constant(bias, Origin::default())))
            }
            Behind::ResidualAndSilu => {
                let added = epilogue.binary(BinaryOp::Add, sum, further);
                let sigmoid = epilogue.unary(UnaryOp::Sigmoid, added);
                let root = epilogue.binary(BinaryOp::Mul, added, sigmoid);
                (root, Some(input(&mut graph, "r", &[self.rows, self.channels])))
            }
        };
        let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: epilogue.with_root(root) };
        let operands: Vec<NodeId> = [x, weights].into_iter().chain(further).collect();
        let product = graph.add(op, &operands, Origin::named("product")).expect("a product");
        graph.output("y", product);
        graph
    }

    /// `[channels, depth]`.
    fn weights(&self, graph: &mut Graph) -> NodeId {
        let Product { depth, channels, .. } = *self;
        let mut state = 1u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) % below) as f64
        };
        let mut constant = |dtype: DType, extents: &[usize], value: &mut dyn FnMut() -> f64| {
            let shape = Shape::new(extents);
            let values: Vec<Scalar> =
                (0..shape.elements().expect("a size")).map(|_| Scalar::from_f64(dtype, value())).collect();
            graph.constant(Tensor::from_scalars(dtype, shape, values).expect("a tensor"), Origin::default())
        };
        let Some((bits, block)) = self.integers else {
            return constant(DType::F32, &[channels, depth], &mut || (next(255) - 127.0) / 1024.0);
        };
        let blocks = depth / block;
        let half = 2f64.powi(bits as i32 - 1);
        let mut count = 0;
        let q = constant(DType::I8, &[channels, blocks, block], &mut || {
            let zero = if self.has_zeros { (count / block % 5) as f64 } else { 0.0 };
            count += 1;
            next(2 * half as u64) - half + zero
        });
        let scales = constant(DType::F32, &[channels, blocks, 1], &mut || (next(64) + 64.0) / (1024.0 * half));
        let mut expr = Expr::argument(0, DType::I8);
        let (value, scale) = (expr.cast(DType::F32, expr.root()), expr.arg(1, DType::F32));
        let root = expr.binary(BinaryOp::Mul, value, scale);
        let numbers = graph.add(Op::Map(expr.with_root(root)), &[q, scales], Origin::default()).expect("numbers");
        let reshape = Op::Reshape(Shape::new(&[channels, depth]));
        graph.add(reshape, &[numbers], Origin::default()).expect("weights")
    }
}
