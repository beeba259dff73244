//! Functions of one value between a layer and what reads it, such as `x * sigmoid(x)`.

use std::collections::BTreeSet;

use edgecc_ir::{DType, Expr, ExprId, ExprNode, Graph, NodeId, Op};

use crate::query::map_expr;

/// A value, and the expression over it, argument 0, that another value is.
#[derive(Clone, Debug)]
pub(super) struct FunctionOf {
    pub(super) source: NodeId,
    pub(super) expr: Expr,
}

impl FunctionOf {
    /// What a value is of one that a layer makes, where that takes a transcendental function and nothing else reads what is between.
    pub(super) fn behind(graph: &Graph, result: NodeId, layers: &BTreeSet<NodeId>) -> Option<FunctionOf> {
        let mut walk = Walk { graph, source: None, maps: BTreeSet::new() };
        let mut expr = Expr::new();
        let root = walk.inline(&mut expr, result)?;
        let (source, expr) = (walk.source?, expr.with_root(root));
        let is_output = |id: NodeId| graph.outputs().iter().any(|output| output.node == id);
        let is_between = |&id: &NodeId| !is_output(id) && graph.users(id).iter().all(|user| walk.maps.contains(user));
        let stays_between = walk.maps.iter().filter(|&&id| id != result).chain([&source]).all(is_between);
        let is_of_layer = layers.contains(&source)
            || (map_expr(graph, source).is_some() && graph.operands(source).iter().any(|id| layers.contains(id)));
        let is_far = expr.nodes().iter().any(ExprNode::is_transcendental);
        (stays_between && is_of_layer && is_far).then_some(FunctionOf { source, expr })
    }
}

/// The maps on the way back to the one value that is no map over one value.
struct Walk<'a> {
    graph: &'a Graph,
    source: Option<NodeId>,
    maps: BTreeSet<NodeId>,
}

impl Walk<'_> {
    fn inline(&mut self, expr: &mut Expr, id: NodeId) -> Option<ExprId> {
        let graph = self.graph;
        let Op::Map(own) = graph.op(id) else { return self.reach(expr, id) };
        let has_shape = |&operand: &NodeId| graph.ty(operand).shape == graph.ty(id).shape;
        if !graph.operands(id).iter().all(has_shape) || graph.ty(id).dtype != DType::F32 {
            return self.reach(expr, id);
        }
        self.maps.insert(id);
        let mut known = true;
        let root = expr.inline(own, |expr, n, _| {
            let operand = self.inline(expr, graph.operands(id)[n as usize]);
            known &= operand.is_some();
            operand
        });
        known.then_some(root)
    }

    /// The value that all ways lead back to.
    fn reach(&mut self, expr: &mut Expr, id: NodeId) -> Option<ExprId> {
        let is_same = *self.source.get_or_insert(id) == id && self.graph.ty(id).dtype == DType::F32;
        is_same.then(|| expr.arg(0, DType::F32))
    }
}
