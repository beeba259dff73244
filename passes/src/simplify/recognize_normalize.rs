//! Normalizations that exporters write out.

use edgecc_ir::{BinaryOp, Expr, ExprId, ExprNode, Graph, NodeId, Op, ReduceKind, UnaryOp};

use crate::query::{map_expr, place_among};

/// `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) => normalize(x)`, and
/// `x / sqrt(mean(x^2) + epsilon) => normalize(x)` with mean 0.
///
/// Quotient, or product with the reciprocal; square as power or product; whether the steps are one map or several. Both
/// means are over the same axes. Exact but for the order of the sums.
pub fn recognize_normalize(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(found) = normalization(graph, id) else { continue };
        let root_mean_square = !found.centered;
        let op = Op::Normalize { axes: found.axes, epsilon: found.epsilon, root_mean_square };
        let origin = graph.node(id).origin().clone();
        rewrites += graph.rewrite(id, op, &[found.source], origin).is_ok() as usize;
    }
    graph.remove_dead();
    rewrites
}

struct Normalization {
    source: NodeId,
    axes: Vec<usize>,
    epsilon: u32,
    centered: bool,
}

/// The most nodes of expressions that are written out in search of a normalization.
const MAX_NODES: usize = 24;

/// Chains of maps as one expression, with what its arguments stand for: no map but the one that it stops at.
struct WrittenOut {
    expr: Expr,
    leaves: Vec<NodeId>,
}

impl WrittenOut {
    fn new(graph: &Graph, id: NodeId, stop: Option<NodeId>) -> Option<Self> {
        let mut written = WrittenOut { expr: Expr::new(), leaves: Vec::new() };
        let mut room = MAX_NODES;
        let mut expr = Expr::new();
        let root = written.write_out(graph, id, stop, &mut expr, &mut room)?;
        written.expr = expr.with_root(root);
        Some(written)
    }

    /// Adds map `id` to `expr`, maps among its operands written out as well, as long as there is room for their nodes.
    fn write_out(
        &mut self,
        graph: &Graph,
        id: NodeId,
        stop: Option<NodeId>,
        expr: &mut Expr,
        room: &mut usize,
    ) -> Option<ExprId> {
        let map = map_expr(graph, id)?;
        *room = room.checked_sub(map.nodes().len())?;
        let mut whole = true;
        let root = expr.inline(map, |expr, n, dtype| {
            let value = graph.operands(id)[n as usize];
            if Some(value) != stop && map_expr(graph, value).is_some() {
                let inner = self.write_out(graph, value, stop, expr, room);
                whole &= inner.is_some();
                return inner;
            }
            match graph.constant_value(value).and_then(|value| value.as_splat()) {
                Some(splat) => Some(expr.constant(splat)),
                None => Some(expr.arg(place_among(&mut self.leaves, value) as u16, dtype)),
            }
        });
        whole.then_some(root)
    }

    fn leaf(&self, id: ExprId) -> Option<NodeId> {
        match self.expr.node(id) {
            ExprNode::Argument(n, _) => self.leaves.get(n as usize).copied(),
            _ => None,
        }
    }

    /// `x` of `x * x` or `x ^ 2`.
    fn square(&self, id: ExprId) -> Option<ExprId> {
        match self.expr.node(id) {
            ExprNode::Binary(BinaryOp::Mul, a, b) if a == b => Some(a),
            ExprNode::Binary(BinaryOp::Pow, a, b) if self.number(b) == Some(2.0) => Some(a),
            _ => None,
        }
    }

    fn number(&self, id: ExprId) -> Option<f64> {
        match self.expr.node(id) {
            ExprNode::Constant(value) => Some(value.as_f64()),
            _ => None,
        }
    }

    /// (numerator, variance, epsilon) of `numerator / sqrt(variance + epsilon)`.
    fn quotient(&self) -> Option<(ExprId, NodeId, f64)> {
        let (numerator, root) = match self.expr.node(self.expr.root()) {
            ExprNode::Binary(BinaryOp::Div, a, b) => (a, b),
            ExprNode::Binary(BinaryOp::Mul, a, b) => match (self.expr.node(a), self.expr.node(b)) {
                (_, ExprNode::Unary(UnaryOp::Reciprocal, root)) => (a, root),
                (ExprNode::Unary(UnaryOp::Reciprocal, root), _) => (b, root),
                _ => return None,
            },
            _ => return None,
        };
        let ExprNode::Unary(UnaryOp::Sqrt, sum) = self.expr.node(root) else { return None };
        let ExprNode::Binary(BinaryOp::Add, a, b) = self.expr.node(sum) else { return None };
        match (self.leaf(a), self.number(b), self.number(a), self.leaf(b)) {
            (Some(variance), Some(epsilon), ..) | (_, _, Some(epsilon), Some(variance)) => {
                Some((numerator, variance, epsilon))
            }
            _ => None,
        }
    }

    /// (x, mean of x if it is subtracted)
    fn centered(&self, id: ExprId) -> Option<(NodeId, Option<NodeId>)> {
        match self.expr.node(id) {
            ExprNode::Argument(..) => Some((self.leaf(id)?, None)),
            ExprNode::Binary(BinaryOp::Sub, a, b) => Some((self.leaf(a)?, Some(self.leaf(b)?))),
            _ => None,
        }
    }
}

fn normalization(graph: &Graph, id: NodeId) -> Option<Normalization> {
    let root = map_expr(graph, id).map(|expr| expr.node(expr.root()))?;
    if !matches!(root, ExprNode::Binary(BinaryOp::Div | BinaryOp::Mul, ..)) {
        return None;
    }
    let (_, variance, _) = WrittenOut::new(graph, id, None)?.quotient()?;
    let (squares, axes) = mean_of(graph, variance)?;
    let sources = operands_of_maps(graph, squares);
    sources.into_iter().find_map(|source| normalization_of(graph, id, source, squares, &axes))
}

/// The operands of maps among a map's operands, then its own: of a centred value, the value before the mean went.
fn operands_of_maps(graph: &Graph, map: NodeId) -> Vec<NodeId> {
    let near = graph.operands(map);
    let far = near.iter().filter(|&&id| map_expr(graph, id).is_some()).flat_map(|&id| graph.operands(id));
    far.chain(near).copied().collect()
}

/// Whether map `id` normalizes `source`, whose variance is the mean of `squares` along `axes`.
fn normalization_of(
    graph: &Graph,
    id: NodeId,
    source: NodeId,
    squares: NodeId,
    axes: &[usize],
) -> Option<Normalization> {
    let quotient = WrittenOut::new(graph, id, Some(source))?;
    let deviation = WrittenOut::new(graph, squares, Some(source))?;
    let (numerator, _, epsilon) = quotient.quotient()?;
    let squared = deviation.square(deviation.expr.root())?;
    let (normalized, mean) = quotient.centered(numerator)?;
    let same_mean = match mean {
        Some(mean) => mean_of(graph, mean)? == (source, axes.to_vec()),
        None => true,
    };
    let fits = normalized == source && same_mean && deviation.centered(squared)? == (source, mean);
    let same_type = graph.node(source).ty() == graph.node(id).ty();
    let epsilon = (epsilon as f32).to_bits();
    (fits && same_type).then(|| Normalization { source, axes: axes.to_vec(), epsilon, centered: mean.is_some() })
}

fn mean_of(graph: &Graph, id: NodeId) -> Option<(NodeId, Vec<usize>)> {
    match graph.op(id) {
        Op::Reduce { kind: ReduceKind::Mean, axes } => Some((graph.operands(id)[0], axes.clone())),
        _ => None,
    }
}
