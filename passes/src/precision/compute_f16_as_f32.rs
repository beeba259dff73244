//! Half precision.

use edgecc_ir::{DType, Expr, ExprId, ExprNode, Graph, NodeId, Op, Origin, Scalar, Tensor, TensorData, Type};

/// `f16 and bf16 values => f32 values`, with casts behind the inputs and in front of the outputs of those types.
///
/// Constants are widened, which is exact; arithmetic no longer rounds to half precision between operators, so results are
/// at least as accurate.
pub fn compute_f16_as_f32(graph: &mut Graph) -> usize {
    let order = graph.order();
    let affected: Vec<NodeId> = order.into_iter().filter(|&id| touches_half(graph, id)).collect();
    let halves: Vec<Option<DType>> = graph.outputs().iter().map(|output| half_type(graph, output.node)).collect();
    let mut rewrites = 0;
    for &id in &affected {
        rewrites += widen(graph, id) as usize;
    }
    for (place, dtype) in halves.into_iter().enumerate() {
        if let Some(dtype) = dtype {
            narrow_output(graph, place, dtype);
        }
    }
    graph.remove_dead();
    rewrites
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn half_type(graph: &Graph, id: NodeId) -> Option<DType> {
    match graph.node(id).ty() {
        Type::Tensor(ty) => Some(ty.dtype).filter(|&dtype| is_half(dtype)),
        Type::Tuple(_) => None,
    }
}

/// Whether a node's result, an operand or its expression has half precision.
fn touches_half(graph: &Graph, id: NodeId) -> bool {
    let half = |id: NodeId| match graph.node(id).ty() {
        Type::Tensor(ty) => is_half(ty.dtype),
        Type::Tuple(types) => types.iter().any(|ty| is_half(ty.dtype)),
    };
    let mut expressions = expression(graph.op(id)).into_iter().flat_map(|expr| expr.nodes());
    half(id)
        || graph.operands(id).iter().any(|&operand| half(operand))
        || expressions.any(|node| match *node {
            ExprNode::Argument(_, dtype) | ExprNode::Cast(dtype, _) => is_half(dtype),
            ExprNode::Constant(value) => is_half(value.dtype()),
            ExprNode::Unary(..) | ExprNode::Binary(..) | ExprNode::Select(..) => false,
        })
}

fn expression(op: &Op) -> Option<&Expr> {
    match op {
        Op::Map(expr) => Some(expr),
        _ => op.epilogue(),
    }
}

fn widen(graph: &mut Graph, id: NodeId) -> bool {
    if matches!(graph.op(id), Op::Input { .. }) {
        return widen_input(graph, id);
    }
    let mut op = graph.op(id).clone();
    match &mut op {
        Op::Constant(value) => *value = widened_tensor(value),
        Op::Map(expr) => *expr = widened(expr),
        op => {
            if let Some(epilogue) = op.epilogue_mut() {
                *epilogue = widened(epilogue);
            }
        }
    }
    let (operands, origin) = (graph.operands(id).to_vec(), graph.node(id).origin().clone());
    graph.rewrite(id, op, &operands, origin).is_ok()
}

/// Every use of the input becomes a use of its widened value.
fn widen_input(graph: &mut Graph, input: NodeId) -> bool {
    let Some(dtype) = half_type(graph, input) else { return false };
    let users = graph.users(input);
    let outputs: Vec<usize> =
        (0..graph.outputs().len()).filter(|&place| graph.outputs()[place].node == input).collect();
    let Ok(wide) = graph.add(Op::Map(cast(dtype, DType::F32)), &[input], Origin::default()) else { return false };
    for user in users {
        graph.replace_operand(user, input, wide);
    }
    for place in outputs {
        graph.set_output(place, wide);
    }
    true
}

fn narrow_output(graph: &mut Graph, place: usize, dtype: DType) {
    let node = graph.outputs()[place].node;
    if let Ok(narrow) = graph.add(Op::Map(cast(DType::F32, dtype)), &[node], graph.node(node).origin().clone()) {
        graph.set_output(place, narrow);
    }
}

fn cast(from: DType, to: DType) -> Expr {
    let mut expr = Expr::new();
    let value = expr.arg(0, from);
    let value = expr.cast(to, value);
    expr.with_root(value)
}

fn wide(dtype: DType) -> DType {
    if is_half(dtype) { DType::F32 } else { dtype }
}

fn widened_tensor(value: &Tensor) -> Tensor {
    if !is_half(value.dtype()) {
        return value.clone();
    }
    match value.data() {
        TensorData::Splat(scalar) => {
            Tensor::splat(value.shape().clone(), scalar.cast(DType::F32)).unwrap_or_else(|_| value.clone())
        }
        TensorData::Dense(_) => Tensor::from_f32(value.shape().clone(), &value.to_f32()),
    }
}

fn widened_scalar(value: Scalar) -> Scalar {
    value.cast(wide(value.dtype()))
}

/// The expression with every node of half precision in f32.
fn widened(expr: &Expr) -> Expr {
    let mut result = Expr::new();
    let mut copies: Vec<ExprId> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let copy = |id: ExprId| copies[id.index()];
        let id = match *node {
            ExprNode::Argument(n, dtype) => result.arg(n, wide(dtype)),
            ExprNode::Constant(value) => result.constant(widened_scalar(value)),
            ExprNode::Unary(op, a) => result.unary(op, copy(a)),
            ExprNode::Binary(op, a, b) => result.binary(op, copy(a), copy(b)),
            ExprNode::Select(c, a, b) => result.select(copy(c), copy(a), copy(b)),
            ExprNode::Cast(dtype, a) => result.cast(wide(dtype), copy(a)),
        };
        copies.push(id);
    }
    let root = copies[expr.root().index()];
    result.with_root(root)
}
