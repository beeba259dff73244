//! Single precision kept as halves.

use std::collections::{HashMap, HashSet};

use edgecc_ir::{
    BlockWeights, DType, Expr, ExprNode, Graph, NodeId, Op, Origin, ReduceKind, Scalar, Tensor, TensorData, Type,
};

use crate::query::sums_integers;

/// `f32 values => f16 values`, with casts behind the inputs, in front of the outputs, and around operators that have no form
/// for halves.
///
/// Expressions stay in f32: they widen what they read and narrow what they write, so that a kernel may round where its
/// instructions do. Constants are rounded to nearest; an operator that reads one beyond the range of f16 stays in f32. So do sums
/// and products over axes, which leave that range, maps that only they or means read, such as squares, and what is computed of
/// their results alone, contractions of integers, whose factors have more bits than a half, and products with [`BlockWeights`]. Not exact.
pub fn store_f32_as_f16(graph: &mut Graph) -> usize {
    let in_blocks = with_weights_in_blocks(graph);
    let mut narrowing =
        Narrowing { graph, halves: HashMap::new(), singles: HashMap::new(), wide: HashSet::new(), in_blocks };
    let mut rewrites = 0;
    for id in narrowing.graph.order() {
        rewrites += narrowing.visit(id) as usize;
    }
    for place in 0..narrowing.graph.outputs().len() {
        let node = narrowing.graph.outputs()[place].node;
        if let Some(single) = narrowing.single(node) {
            narrowing.graph.set_output(place, single);
        }
    }
    graph.remove_dead();
    rewrites
}

struct Narrowing<'a> {
    graph: &'a mut Graph,
    /// The halves of values that are f32.
    halves: HashMap<NodeId, NodeId>,
    /// The f32 form of values that have become halves.
    singles: HashMap<NodeId, NodeId>,
    /// Values that stay in f32, beyond the range of halves perhaps: maps read them as they are.
    wide: HashSet<NodeId>,
    /// Products with weights in blocks, and what makes those.
    in_blocks: HashSet<NodeId>,
}

/// Products whose weights are integers in blocks, and the values between those and the product.
fn with_weights_in_blocks(graph: &Graph) -> HashSet<NodeId> {
    let products = graph.ids().filter_map(|id| Some((id, BlockWeights::of(graph, id)?.map)));
    products.flat_map(|(id, map)| [id, graph.operands(id)[1], map]).collect()
}

impl Narrowing<'_> {
    /// Rewrites a node in either form; tells whether its result became halves.
    fn visit(&mut self, id: NodeId) -> bool {
        let operands = self.graph.operands(id).to_vec();
        if self.is_wide(id) {
            self.wide.insert(id);
        } else if has_form_for_halves(self.graph.op(id))
            && !sums_integers(self.graph, id)
            && !self.in_blocks.contains(&id)
            && self.touches_f32(id)
            && operands.iter().all(|&o| self.is_narrow(o))
        {
            return self.narrow(id, &operands);
        }
        for operand in operands {
            if let Some(single) = self.single(operand) {
                self.graph.replace_operand(id, operand, single);
            }
        }
        false
    }

    /// Whether a value stays in f32: sums and products, means of what is kept for them, and what is computed of such alone.
    fn is_wide(&self, id: NodeId) -> bool {
        let operands = self.graph.operands(id);
        let mut values = operands.iter().filter(|&&operand| self.graph.constant_value(operand).is_none()).peekable();
        match self.graph.op(id) {
            _ if !is_f32(self.graph, id) => false,
            Op::Reduce { kind: ReduceKind::Sum | ReduceKind::Product, .. } => true,
            Op::Reduce { kind: ReduceKind::Mean, .. } => feeds_sums_alone(self.graph, operands[0]),
            Op::Map(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) => {
                values.peek().is_some() && values.all(|value| self.wide.contains(value))
            }
            _ => false,
        }
    }

    fn narrow(&mut self, id: NodeId, operands: &[NodeId]) -> bool {
        let is_map = matches!(self.graph.op(id), Op::Map(_));
        let stays: Vec<bool> = operands.iter().map(|operand| is_map && self.wide.contains(operand)).collect();
        let halves = operands.iter().zip(&stays).map(|(&operand, &stays)| match stays {
            true => operand,
            false => self.half(operand).unwrap_or(operand),
        });
        let operands: Vec<NodeId> = halves.collect();
        let becomes_half = is_f32(self.graph, id) && !feeds_sums_alone(self.graph, id);
        let mut op = self.graph.op(id).clone();
        match &mut op {
            Op::Map(expr) => *expr = around(expr, |n| !stays[n as usize], becomes_half),
            op => {
                if let Some(epilogue) = op.epilogue_mut() {
                    *epilogue = around(epilogue, |argument| argument > 0, true);
                }
            }
        }
        let origin = self.graph.node(id).origin().clone();
        let is_rewritten = self.graph.rewrite(id, op, &operands, origin).is_ok();
        if is_rewritten && becomes_half {
            self.singles.insert(id, id);
        }
        is_rewritten
    }

    fn touches_f32(&self, id: NodeId) -> bool {
        let became_half = |operand: &NodeId| self.singles.contains_key(operand);
        is_f32(self.graph, id) || self.graph.operands(id).iter().any(|o| is_f32(self.graph, *o) || became_half(o))
    }

    /// Whether a value may be had in halves, if it is f32 at all.
    fn is_narrow(&self, id: NodeId) -> bool {
        match self.graph.constant_value(id) {
            Some(value) if value.dtype() == DType::F32 => fits_f16(value),
            _ => true,
        }
    }

    /// The halves of a value; `None` where it is not f32.
    fn half(&mut self, id: NodeId) -> Option<NodeId> {
        if !is_f32(self.graph, id) {
            return None;
        }
        if let Some(&half) = self.halves.get(&id) {
            return Some(half);
        }
        let op = match self.graph.constant_value(id) {
            Some(value) => Op::Constant(narrowed(value)?),
            None => Op::Map(cast(DType::F32, DType::F16)),
        };
        let operands = if matches!(op, Op::Constant(_)) { vec![] } else { vec![id] };
        let half = self.graph.add(op, &operands, self.graph.node(id).origin().clone()).ok()?;
        self.halves.insert(id, half);
        Some(half)
    }

    /// The f32 form of a value that has become halves.
    fn single(&mut self, id: NodeId) -> Option<NodeId> {
        let known = *self.singles.get(&id)?;
        if known != id {
            return Some(known);
        }
        let single = self.graph.add(Op::Map(cast(DType::F16, DType::F32)), &[id], Origin::default()).ok()?;
        self.singles.insert(id, single);
        Some(single)
    }
}

fn is_f32(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).ty(), Type::Tensor(ty) if ty.dtype == DType::F32)
}

/// Operators whose kernels read and write halves.
fn has_form_for_halves(op: &Op) -> bool {
    match op {
        Op::Map(_)
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::MatMul { .. }
        | Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Relayout(_)
        | Op::Concat { .. }
        | Op::Pool { .. }
        | Op::Reduce { .. }
        | Op::Softmax { .. }
        | Op::Normalize { .. }
        | Op::Resize { .. }
        | Op::Tile { .. }
        | Op::Gather { .. } => true,
        Op::Input { .. }
        | Op::Constant(_)
        | Op::PoolIndices { .. }
        | Op::ArgReduce { .. }
        | Op::LocalResponseNorm { .. }
        | Op::Pad { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::CumulativeSum { .. }
        | Op::TopK { .. }
        | Op::Project(_) => false,
    }
}

/// Whether a node is a map that only sums, products and means over axes read.
fn feeds_sums_alone(graph: &Graph, id: NodeId) -> bool {
    let users = graph.users(id);
    let sums = |&user: &NodeId| match graph.op(user) {
        Op::Reduce { kind, .. } => matches!(kind, ReduceKind::Sum | ReduceKind::Product | ReduceKind::Mean),
        _ => false,
    };
    let is_output = graph.outputs().iter().any(|output| output.node == id);
    matches!(graph.op(id), Op::Map(_)) && !is_output && !users.is_empty() && users.iter().all(sums)
}

fn fits_f16(value: &Tensor) -> bool {
    const LARGEST: f32 = 65504.0;
    let fits = |value: f32| value.abs() <= LARGEST || !value.is_finite();
    match value.data() {
        TensorData::Splat(scalar) => fits(scalar.as_f64() as f32),
        TensorData::Dense(_) => value.to_f32().into_iter().all(fits),
    }
}

fn narrowed(value: &Tensor) -> Option<Tensor> {
    match value.data() {
        TensorData::Splat(scalar) => Tensor::splat(value.shape().clone(), scalar.cast(DType::F16)).ok(),
        TensorData::Dense(_) => {
            let halves = value.to_f32().into_iter().map(|value| Scalar::f32(value).cast(DType::F16));
            Tensor::from_scalars(DType::F16, value.shape().clone(), halves).ok()
        }
    }
}

fn cast(from: DType, to: DType) -> Expr {
    let mut expr = Expr::argument(0, from);
    let root = expr.cast(to, expr.root());
    expr.with_root(root)
}

/// The expression with its f32 arguments read from halves, where `is_half` says so, and an f32 result written as halves, where
/// `becomes_half` does.
fn around(expr: &Expr, is_half: impl Fn(u16) -> bool, becomes_half: bool) -> Expr {
    let mut result = Expr::new();
    let mut copies = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let copy = |id: edgecc_ir::ExprId| copies[id.index()];
        let id = match *node {
            ExprNode::Argument(n, DType::F32) if is_half(n) => {
                let half = result.arg(n, DType::F16);
                result.cast(DType::F32, half)
            }
            ExprNode::Argument(n, dtype) => result.arg(n, dtype),
            ExprNode::Constant(value) => result.constant(value),
            ExprNode::Unary(op, a) => result.unary(op, copy(a)),
            ExprNode::Binary(op, a, b) => result.binary(op, copy(a), copy(b)),
            ExprNode::Select(c, a, b) => result.select(copy(c), copy(a), copy(b)),
            ExprNode::Cast(dtype, a) => result.cast(dtype, copy(a)),
        };
        copies.push(id);
    }
    let root = copies[expr.root().index()];
    let root = if becomes_half && expr.dtype() == DType::F32 { result.cast(DType::F16, root) } else { root };
    result.with_root(root)
}
