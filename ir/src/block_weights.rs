//! Weights that are constant integers with a scale for each block of the depth.

use crate::{BinaryOp, DType, Expr, ExprNode, Graph, NodeId, Op, Tensor, TensorData};

/// Fewest weights that are worth being kept as integers.
const FEWEST: usize = 4096;

/// The second operand of a product of matrices of f32, where it is `f32(q) * scale` of constant `q` of i8, and nothing else reads it:
/// `q` is `[channels, depth]` or, in blocks, `[channels, depth / block, block]`, where the product transposes it; otherwise the channels
/// come last. `scale` has the same rank, and 1 along what shares it: at least a block.
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
    /// The weights of a product, where they have this form.
    pub fn of(graph: &'a Graph, product: NodeId) -> Option<BlockWeights<'a>> {
        let Op::MatMul { transpose_a: false, transpose_b, .. } = graph.op(product) else { return None };
        let &[left, weights, ..] = graph.operands(product) else { return None };
        let is_single = [product, left, weights].iter().all(|&value| graph.ty(value).dtype == DType::F32);
        let &[rows, columns] = graph.ty(weights).shape.extents().as_slice() else { return None };
        let (channels, depth) = if *transpose_b { (rows, columns) } else { (columns, rows) };
        let map = match graph.op(weights) {
            Op::Reshape(_) => graph.operands(weights)[0],
            _ => weights,
        };
        let reader = if map == weights { product } else { weights };
        let is_read_once = graph.only_user(weights) == Some(product) && graph.only_user(map) == Some(reader);
        if !is_single || !is_read_once || channels * depth < FEWEST || graph.constant_value(left).is_some() {
            return None;
        }
        let Op::Map(expr) = graph.op(map) else { return None };
        let (integers, scales) = operands_of(graph, map, expr)?;
        let TensorData::Dense(bytes) = integers.data() else { return None };
        let (block, ends) = match (integers.shape().extents().as_slice(), *transpose_b) {
            (&[n, k], true) | (&[k, n], false) if (n, k) == (channels, depth) => (depth, [1, 1]),
            (&[n, blocks, block], true) | (&[blocks, block, n], false) if n == channels && blocks * block == depth => {
                (block, [blocks, 1])
            }
            _ => return None,
        };
        let [blocks, _] = ends;
        let (own, is_in_blocks) = (scales.shape().extents(), integers.shape().rank() == 3);
        let (of_channel, of_block, within) = match (own.as_slice(), *transpose_b) {
            (&[n, b, s], true) | (&[b, s, n], false) if is_in_blocks => (n, b, s),
            (&[n, s], true) | (&[s, n], false) if !is_in_blocks => (n, 1, s),
            _ => return None,
        };
        let fits = |own: usize, extent: usize| own == 1 || own == extent;
        if within != 1 || !fits(of_channel, channels) || !fits(of_block, blocks) {
            return None;
        }
        let steps = if *transpose_b { [of_block, 1] } else { [1, of_channel] };
        let stride = |own: usize, step: usize| if own == 1 { 0 } else { step };
        Some(BlockWeights {
            map,
            depth,
            channels,
            block,
            integers: bytes,
            scales: scales.to_f32(),
            scale_strides: [stride(of_channel, steps[0]), stride(of_block, steps[1])],
            transposed: *transpose_b,
        })
    }

    /// Whether a node makes numbers of such weights, which should therefore stay integers.
    pub fn are_made_by(graph: &Graph, map: NodeId) -> bool {
        let product = graph.only_user(map).and_then(|user| match graph.op(user) {
            Op::Reshape(_) => graph.only_user(user),
            _ => Some(user),
        });
        product.and_then(|product| BlockWeights::of(graph, product)).is_some_and(|weights| weights.map == map)
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

/// The constants `q` and `scale` of a map `f32(q) * scale`.
fn operands_of<'a>(graph: &'a Graph, map: NodeId, expr: &Expr) -> Option<(&'a Tensor, &'a Tensor)> {
    let ExprNode::Binary(BinaryOp::Mul, a, b) = expr.node(expr.root()) else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(value, scale)| {
        let (ExprNode::Cast(DType::F32, q), ExprNode::Argument(scale, DType::F32)) =
            (expr.node(value), expr.node(scale))
        else {
            return None;
        };
        let ExprNode::Argument(q, DType::I8) = expr.node(q) else { return None };
        let constant = |number: u16| graph.constant_value(graph.operands(map)[number as usize]);
        Some((constant(q)?, constant(scale)?))
    })
}
