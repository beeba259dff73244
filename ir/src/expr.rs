//! Scalar expressions: the meaning of every element-wise operator, of fused element-wise kernels and of the epilogue of a
//! contraction. Written once, emitted by every backend.

use std::fmt;

use crate::types::{DType, Scalar};

/// A node of an expression, by its place in the arena. Operands come before their users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExprId(u16);

impl ExprId {
    /// The place in [`Expr::nodes`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Functions of one operand. The result has the operand's type unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnaryOp {
    /// `-a`; integers wrap.
    Neg,
    /// `|a|`; integers wrap.
    Abs,
    /// -1, 0 or 1; NaN stays NaN.
    Sign,
    /// Largest integer not above `a`.
    Floor,
    /// Smallest integer not below `a`.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// Towards zero.
    Trunc,
    /// Square root.
    Sqrt,
    /// `1 / a`.
    Reciprocal,
    /// e to the power `a`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-a))`.
    Sigmoid,
    /// The Gauss error function.
    Erf,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// Negation of a truth value (bool), complement of bits (integers).
    Not,
    /// Whether `a` is NaN; the result is bool.
    IsNan,
    /// Whether `a` is infinite; the result is bool.
    IsInf,
}

impl UnaryOp {
    /// Whether the function is defined on elements of a type.
    pub fn takes(self, dtype: DType) -> bool {
        use UnaryOp::*;
        match self {
            Neg | Abs | Sign | Floor | Ceil | Round | Trunc => dtype != DType::Bool,
            Sqrt | Reciprocal | Exp | Log | Tanh | Sigmoid | Erf => dtype.is_float(),
            Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh => dtype.is_float(),
            Not => !dtype.is_float(),
            IsNan | IsInf => true,
        }
    }
}

/// Functions of two operands of one type. The result has that type unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Quotient; integers truncate, and a division by zero gives 0.
    Div,
    /// Remainder with the sign of the dividend (C's `fmod`, `%`); integers by zero give 0.
    Rem,
    /// Remainder with the sign of the divisor (Python's `%`); integers by zero give 0.
    Mod,
    /// `a` to the power `b`.
    Pow,
    /// Larger; NaN if either is.
    Max,
    /// Smaller; NaN if either is.
    Min,
    /// Conjunction: of truth values or of bits.
    And,
    /// Disjunction: of truth values or of bits.
    Or,
    /// Exclusive or: of truth values or of bits.
    Xor,
    /// Shift towards the high bits; 0 where the distance reaches the width.
    ShiftLeft,
    /// Logical shift towards the low bits; 0 where the distance reaches the width.
    ShiftRight,
    /// `a == b`, as bool; false with NaN.
    Equal,
    /// `a < b`, as bool; false with NaN.
    Less,
    /// `a <= b`, as bool; false with NaN.
    LessEqual,
}

impl BinaryOp {
    /// Whether the function is defined on elements of a type.
    pub fn takes(self, dtype: DType) -> bool {
        use BinaryOp::*;
        match self {
            Add | Sub | Mul | Div | Rem | Mod | Pow => dtype != DType::Bool,
            And | Or | Xor => !dtype.is_float(),
            ShiftLeft | ShiftRight => dtype.is_integer(),
            Max | Min | Equal | Less | LessEqual => true,
        }
    }
}

/// One node of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExprNode {
    /// The value of operand `n`, of the given type.
    Argument(u16, DType),
    /// A constant.
    Constant(Scalar),
    /// A function of one operand.
    Unary(UnaryOp, ExprId),
    /// A function of two operands of one type.
    Binary(BinaryOp, ExprId, ExprId),
    /// `condition ? then : otherwise`; the condition is bool, the others have one type.
    Select(ExprId, ExprId, ExprId),
    /// Conversion as [`Scalar::cast`] does it.
    Cast(DType, ExprId),
}

/// A typed expression DAG with one result. Equal nodes are shared, so that two equal expressions built in the same order
/// are equal values. The methods that build panic on operands of unlike types: callers hold checked types.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Expr {
    nodes: Vec<ExprNode>,
    types: Vec<DType>,
    root: u16,
}

impl Expr {
    /// An expression without nodes: build it, then set the root.
    pub fn new() -> Self {
        Expr::default()
    }

    /// The expression that is operand `n`.
    pub fn argument(n: u16, dtype: DType) -> Self {
        let mut expr = Expr::new();
        let root = expr.arg(n, dtype);
        expr.with_root(root)
    }

    /// The nodes; every operand stands before its users. Nodes that the root does not reach may be among them.
    pub fn nodes(&self) -> &[ExprNode] {
        &self.nodes
    }

    /// The node that is the result.
    pub fn root(&self) -> ExprId {
        ExprId(self.root)
    }

    /// The node at an id.
    pub fn node(&self, id: ExprId) -> ExprNode {
        self.nodes[id.index()]
    }

    /// The type of a node's value.
    pub fn dtype_of(&self, id: ExprId) -> DType {
        self.types[id.index()]
    }

    /// The type of the result.
    pub fn dtype(&self) -> DType {
        self.dtype_of(self.root())
    }

    /// Ends building: `root` is the result, and nodes that it does not reach go.
    pub fn with_root(mut self, root: ExprId) -> Self {
        self.root = root.0;
        let mut compact = Expr::new();
        let arguments = |_: &mut Expr, _: u16, _: DType| None;
        let root = compact.inline(&self, arguments);
        compact.root = root.0;
        compact
    }

    /// Operand `n`.
    pub fn arg(&mut self, n: u16, dtype: DType) -> ExprId {
        self.push(ExprNode::Argument(n, dtype), dtype)
    }

    /// A constant.
    pub fn constant(&mut self, value: Scalar) -> ExprId {
        self.push(ExprNode::Constant(value), value.dtype())
    }

    /// A constant of the type of `like`, nearest to `value`.
    pub fn number(&mut self, like: ExprId, value: f64) -> ExprId {
        let dtype = self.dtype_of(like);
        self.constant(Scalar::from_f64(dtype, value))
    }

    /// A function of one operand.
    pub fn unary(&mut self, op: UnaryOp, a: ExprId) -> ExprId {
        let dtype = if matches!(op, UnaryOp::IsNan | UnaryOp::IsInf) { DType::Bool } else { self.dtype_of(a) };
        self.push(ExprNode::Unary(op, a), dtype)
    }

    /// A function of two operands of one type.
    pub fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
        assert_eq!(self.dtype_of(a), self.dtype_of(b), "{op:?} takes two operands of one type");
        let comparison = matches!(op, BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual);
        let dtype = if comparison { DType::Bool } else { self.dtype_of(a) };
        self.push(ExprNode::Binary(op, a, b), dtype)
    }

    /// `condition ? then : otherwise`.
    pub fn select(&mut self, condition: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
        assert_eq!(self.dtype_of(condition), DType::Bool, "select takes a truth value");
        assert_eq!(self.dtype_of(then), self.dtype_of(otherwise), "select takes two operands of one type");
        let dtype = self.dtype_of(then);
        self.push(ExprNode::Select(condition, then, otherwise), dtype)
    }

    /// Conversion to another element type.
    pub fn cast(&mut self, dtype: DType, a: ExprId) -> ExprId {
        if self.dtype_of(a) == dtype { a } else { self.push(ExprNode::Cast(dtype, a), dtype) }
    }

    /// Copies `other` into this expression and returns its result. `argument` gives the node that stands for an argument of
    /// `other`, or `None` to keep the argument as it is.
    pub fn inline(
        &mut self,
        other: &Expr,
        mut argument: impl FnMut(&mut Expr, u16, DType) -> Option<ExprId>,
    ) -> ExprId {
        let needed = other.reachable();
        let mut copies = vec![ExprId(0); other.nodes.len()];
        for (index, node) in other.nodes.iter().enumerate().filter(|&(index, _)| needed[index]) {
            let copy = |id: ExprId| copies[id.index()];
            copies[index] = match *node {
                ExprNode::Argument(n, dtype) => match argument(self, n, dtype) {
                    Some(id) => id,
                    None => self.arg(n, dtype),
                },
                node => self.copied(node, copy),
            };
        }
        copies[other.root().index()]
    }

    /// Copies `other` into this expression, with what `instead` adds in place of one of its nodes, and returns its result.
    pub fn inline_but(&mut self, other: &Expr, node: ExprId, instead: impl FnOnce(&mut Expr) -> ExprId) -> ExprId {
        let instead = instead(self);
        let mut copies: Vec<ExprId> = Vec::with_capacity(other.nodes.len());
        for (index, &own) in other.nodes.iter().enumerate() {
            let copy = |id: ExprId| copies[id.index()];
            let id = if index == node.index() { instead } else { self.copied(own, copy) };
            copies.push(id);
        }
        copies[other.root().index()]
    }

    fn copied(&mut self, node: ExprNode, copy: impl Fn(ExprId) -> ExprId) -> ExprId {
        match node {
            ExprNode::Argument(n, dtype) => self.arg(n, dtype),
            ExprNode::Constant(value) => self.constant(value),
            ExprNode::Unary(op, a) => self.unary(op, copy(a)),
            ExprNode::Binary(op, a, b) => self.binary(op, copy(a), copy(b)),
            ExprNode::Select(c, a, b) => self.select(copy(c), copy(a), copy(b)),
            ExprNode::Cast(dtype, a) => self.cast(dtype, copy(a)),
        }
    }

    /// The ids of all nodes, operands before their users.
    pub fn ids(&self) -> impl Iterator<Item = ExprId> + use<> {
        (0..self.nodes.len() as u16).map(ExprId)
    }

    /// The same expression with argument `n` renamed to `rename(n)`.
    pub fn renumbered(&self, rename: impl Fn(u16) -> u16) -> Expr {
        let mut expr = Expr::new();
        let root = expr.inline(self, |expr, n, dtype| Some(expr.arg(rename(n), dtype)));
        expr.with_root(root)
    }

    /// The number of operands that the expression asks for: one more than the highest argument.
    pub fn arity(&self) -> usize {
        self.arguments().map(|(n, _)| n as usize + 1).max().unwrap_or(0)
    }

    /// The arguments with their types, in order of first appearance.
    pub fn arguments(&self) -> impl Iterator<Item = (u16, DType)> + '_ {
        self.nodes.iter().filter_map(|node| match *node {
            ExprNode::Argument(n, dtype) => Some((n, dtype)),
            _ => None,
        })
    }

    /// Whether the expression is nothing but argument `n`.
    pub fn is_argument(&self, n: u16) -> bool {
        matches!(self.node(self.root()), ExprNode::Argument(m, _) if m == n)
    }

    fn reachable(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        if let Some(root) = needed.get_mut(self.root().index()) {
            *root = true;
        }
        for index in (0..self.nodes.len()).rev().filter(|&index| index <= self.root().index()) {
            if needed[index] {
                for operand in self.nodes[index].operands() {
                    needed[operand.index()] = true;
                }
            }
        }
        needed
    }

    fn push(&mut self, node: ExprNode, dtype: DType) -> ExprId {
        if let Some(found) = self.nodes.iter().position(|other| *other == node) {
            return ExprId(found as u16);
        }
        self.nodes.push(node);
        self.types.push(dtype);
        self.root = (self.nodes.len() - 1) as u16;
        ExprId(self.root)
    }
}

impl ExprNode {
    /// Whether it is a function that processors have no instruction for, and that code approximates.
    pub fn is_transcendental(&self) -> bool {
        use UnaryOp::*;
        match self {
            ExprNode::Unary(op, _) => match op {
                Exp | Log | Tanh | Sigmoid | Erf | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Asinh
                | Acosh | Atanh => true,
                Neg | Abs | Sign | Floor | Ceil | Round | Trunc | Sqrt | Reciprocal | Not | IsNan | IsInf => false,
            },
            ExprNode::Binary(op, ..) => *op == BinaryOp::Pow,
            ExprNode::Argument(..) | ExprNode::Constant(_) | ExprNode::Select(..) | ExprNode::Cast(..) => false,
        }
    }

    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = ExprId> + use<> {
        let operands = match *self {
            ExprNode::Argument(..) | ExprNode::Constant(_) => [None, None, None],
            ExprNode::Unary(_, a) | ExprNode::Cast(_, a) => [Some(a), None, None],
            ExprNode::Binary(_, a, b) => [Some(a), Some(b), None],
            ExprNode::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        operands.into_iter().flatten()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter()).finish()?;
        write!(f, " -> {}", self.root)
    }
}
