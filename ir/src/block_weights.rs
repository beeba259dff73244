//! Weights that are constant integers with a scale for each block of the depth.

use crate::{BinaryOp, DType, Expr, ExprNode, Graph, NodeId, Op, Tensor, TensorData};

/// The second operand of a product of matrices of f32, where it is `f32(q) * scale` of constant `q` of i8, and nothing else reads it:
/// `q` is `[channels, depth]` or, in blocks, `[channels, depth / block, block]`, where the product transposes it; otherwise the channels
/// come last. `scale` has the same rank, and 1 along what shares it: at least a block;
/// or it is one number for all.
#[derive(Clone, Debug)]
pub struct BlockWeights<'a> {
    /// The map that makes numbers of the integers.
    pub map: NodeId,
    /// What the product sums over.
    pub depth: usize,
    /// Columns of the result.
    pub channels: usize,
    /// Neighbours along the depth that share a scale; divides it.
    pub block: usize,
    integers: &'a [u8],
    scales: Vec<f32>,
    /// From one channel to the next and from one block to the next.
    scale_strides: [usize; 2],
    transposed: bool,
}

impl<'a> BlockWeights<'a> {
    /// Fewest weights that are worth being kept as integers.
    pub const FEWEST: usize = 4096;

    /// The weights of a product, where they have this form.
    pub fn of(graph: &'a Graph, product: NodeId) -> Option<BlockWeights<'a>> {
        let &[_, weights, ..] = graph.operands(product) else { return None };
        let Op::MatMul { transpose_b, .. } = graph.op(product) else { return None };
        Self::of_value(graph, product, (weights, product), *transpose_b)
    }

    /// The weights of a product, where they are a value, which `reader` reads; `transpose_b` of that value.
    fn of_value(
        graph: &'a Graph,
        product: NodeId,
        (weights, reader): (NodeId, NodeId),
        transpose_b: bool,
    ) -> Option<BlockWeights<'a>> {
        let Op::MatMul { transpose_a: false, .. } = graph.op(product) else { return None };
        let left = graph.operands(product)[0];
        let is_single = [product, left, weights].iter().all(|&value| graph.ty(value).dtype == DType::F32);
        let &[rows, columns] = graph.ty(weights).shape.extents().as_slice() else { return None };
        let (channels, depth) = if transpose_b { (rows, columns) } else { (columns, rows) };
        let map = match graph.op(weights) {
            Op::Reshape(_) => graph.operands(weights)[0],
            _ => weights,
        };
        let of_map = if map == weights { reader } else { weights };
        let is_read_once = graph.only_user(weights) == Some(reader) && graph.only_user(map) == Some(of_map);
        if !is_single || !is_read_once || channels * depth < Self::FEWEST || graph.constant_value(left).is_some() {
            return None;
        }
        let Op::Map(expr) = graph.op(map) else { return None };
        let (integers, scales) = operands_of(graph, map, expr)?;
        let TensorData::Dense(bytes) = integers.data() else { return None };
        let (block, ends) = match (integers.shape().extents().as_slice(), transpose_b) {
            (&[n, k], true) | (&[k, n], false) if (n, k) == (channels, depth) => (depth, [1, 1]),
            (&[n, blocks, block], true) | (&[blocks, block, n], false) if n == channels && blocks * block == depth => {
                (block, [blocks, 1])
            }
            _ => return None,
        };
        let [blocks, _] = ends;
        let (own, is_in_blocks) = (scales.extents(), integers.shape().rank() == 3);
        let (of_channel, of_block, within) = match (own.as_slice(), transpose_b) {
            (&[], _) => (1, 1, 1),
            (&[n, b, s], true) | (&[b, s, n], false) if is_in_blocks => (n, b, s),
            (&[n, s], true) | (&[s, n], false) if !is_in_blocks => (n, 1, s),
            _ => return None,
        };
        let fits = |own: usize, extent: usize| own == 1 || own == extent;
        if within != 1 || !fits(of_channel, channels) || !fits(of_block, blocks) {
            return None;
        }
        let steps = if transpose_b { [of_block, 1] } else { [1, of_channel] };
        let stride = |own: usize, step: usize| if own == 1 { 0 } else { step };
        Some(BlockWeights {
            map,
            depth,
            channels,
            block,
            integers: bytes,
            scales: scales.values(),
            scale_strides: [stride(of_channel, steps[0]), stride(of_block, steps[1])],
            transposed: transpose_b,
        })
    }

    /// Whether a node makes numbers of such weights, which should therefore stay integers.
    pub fn are_made_by(graph: &Graph, map: NodeId) -> bool {
        let weights = match graph.only_user(map) {
            Some(user) if matches!(graph.op(user), Op::Reshape(_)) => user,
            _ => map,
        };
        let Some(reader) = graph.only_user(weights) else { return false };
        let found = match graph.op(reader) {
            // A product that reads them the other way round takes in the transpose.
            Op::Transpose(perm) if perm.as_slice() == [1, 0] => graph.only_user(reader).and_then(|product| {
                let &[_, second, ..] = graph.operands(product) else { return None };
                let Op::MatMul { transpose_b, .. } = graph.op(product) else { return None };
                (second == reader).then(|| BlockWeights::of_value(graph, product, (weights, reader), !transpose_b))?
            }),
            _ => BlockWeights::of(graph, reader),
        };
        found.is_some_and(|weights| weights.map == map)
    }

    /// Blocks of a channel.
    pub fn blocks(&self) -> usize {
        self.depth / self.block
    }

    /// The integer at a place of the depth of a channel.
    pub fn integer(&self, k: usize, channel: usize) -> i8 {
        let place = if self.transposed { channel * self.depth + k } else { k * self.channels + channel };
        self.integers[place] as i8
    }

    /// The scale of a block of a channel.
    pub fn scale(&self, block: usize, channel: usize) -> f32 {
        self.scales[channel * self.scale_strides[0] + block * self.scale_strides[1]]
    }
}

/// What integers are multiplied by.
enum Scales<'a> {
    Each(&'a Tensor),
    One(f32),
}

impl Scales<'_> {
    /// None where there is one number for all.
    fn extents(&self) -> Vec<usize> {
        match self {
            Scales::Each(tensor) => tensor.shape().extents(),
            Scales::One(_) => Vec::new(),
        }
    }

    fn values(&self) -> Vec<f32> {
        match self {
            Scales::Each(tensor) => tensor.to_f32(),
            Scales::One(scale) => vec![*scale],
        }
    }
}

/// The constants `q` and `scale` of a map `f32(q) * scale`.
fn operands_of<'a>(graph: &'a Graph, map: NodeId, expr: &Expr) -> Option<(&'a Tensor, Scales<'a>)> {
    let ExprNode::Binary(BinaryOp::Mul, a, b) = expr.node(expr.root()) else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(value, scale)| {
        let ExprNode::Cast(DType::F32, q) = expr.node(value) else { return None };
        let ExprNode::Argument(q, DType::I8) = expr.node(q) else { return None };
        let constant = |number: u16| graph.constant_value(graph.operands(map)[number as usize]);
        let scales = match expr.node(scale) {
            ExprNode::Argument(number, DType::F32) => Scales::Each(constant(number)?),
            ExprNode::Constant(scale) => Scales::One(scale.as_f64() as f32),
            _ => return None,
        };
        Some((constant(q)?, scales))
    })
}
