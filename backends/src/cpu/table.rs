//! Functions of one value of 8 bits as tables. The evaluator makes them when a kernel is compiled, so that whatever they compute
//! is the same on every processor.

use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{DType, Expr, ExprId, ExprNode, Scalar};

/// An expression of 8 bits over one of its nodes of 8 bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    /// The node.
    pub argument: ExprId,
    /// The results, by the bits of the node's value.
    pub bytes: [u8; 256],
    /// Whether there are functions among the operations that instructions approximate.
    pub approximates: bool,
}

impl Table {
    /// The table of an expression, over the first of its nodes that all of it depends on and nothing else of it. `None` where
    /// the expression has none.
    pub fn of(expr: &Expr) -> Option<Table> {
        let is_byte = |id: ExprId| matches!(expr.dtype_of(id), DType::I8 | DType::U8);
        let argument = expr
            .ids()
            .take_while(|&id| id != expr.root())
            .filter(|&id| is_byte(id) && !matches!(expr.node(id), ExprNode::Constant(_)))
            .find(|&id| depends_on_nothing_but(expr, id))?;
        if !is_byte(expr.root()) {
            return None;
        }
        let dtype = expr.dtype_of(argument);
        let mut function = Expr::new();
        let root = function.inline_but(expr, argument, |function| function.arg(0, dtype));
        let function = function.with_root(root);
        let bytes = std::array::from_fn(|bits| {
            let value = Scalar::from_bits(dtype, bits as u64);
            eval_scalar(&function, &[value]).to_le_bytes()[0]
        });
        Some(Table { argument, bytes, approximates: function.nodes().iter().any(ExprNode::is_transcendental) })
    }
}

fn depends_on_nothing_but(expr: &Expr, id: ExprId) -> bool {
    let mut depends: Vec<bool> = Vec::with_capacity(expr.nodes().len());
    for (at, node) in expr.nodes().iter().enumerate() {
        let is_argument = matches!(node, ExprNode::Argument(..));
        let own = at == id.index() || (!is_argument && node.operands().all(|operand| depends[operand.index()]));
        depends.push(own);
    }
    depends[expr.root().index()]
}
