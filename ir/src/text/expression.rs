//! Expressions in infix, with the names and precedences that printer and parser share.

use crate::expr::{BinaryOp, Expr, ExprId, ExprNode, UnaryOp};
use crate::types::Scalar;

/// Every function of one operand with its name.
pub(super) const UNARY: [(UnaryOp, &str); 28] = [
    (UnaryOp::Neg, "neg"),
    (UnaryOp::Abs, "abs"),
    (UnaryOp::Sign, "sign"),
    (UnaryOp::Floor, "floor"),
    (UnaryOp::Ceil, "ceil"),
    (UnaryOp::Round, "round"),
    (UnaryOp::Trunc, "trunc"),
    (UnaryOp::Sqrt, "sqrt"),
    (UnaryOp::Reciprocal, "reciprocal"),
    (UnaryOp::Exp, "exp"),
    (UnaryOp::Log, "log"),
    (UnaryOp::Tanh, "tanh"),
    (UnaryOp::Sigmoid, "sigmoid"),
    (UnaryOp::Erf, "erf"),
    (UnaryOp::Sin, "sin"),
    (UnaryOp::Cos, "cos"),
    (UnaryOp::Tan, "tan"),
    (UnaryOp::Asin, "asin"),
    (UnaryOp::Acos, "acos"),
    (UnaryOp::Atan, "atan"),
    (UnaryOp::Sinh, "sinh"),
    (UnaryOp::Cosh, "cosh"),
    (UnaryOp::Asinh, "asinh"),
    (UnaryOp::Acosh, "acosh"),
    (UnaryOp::Atanh, "atanh"),
    (UnaryOp::Not, "not"),
    (UnaryOp::IsNan, "is_nan"),
    (UnaryOp::IsInf, "is_inf"),
];

/// How a function of two operands is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// Between its operands; the higher the number, the tighter it binds, all to the left.
    Infix(u8),
    /// Before its operands in parentheses.
    Call,
}

/// Every function of two operands with its sign or name.
pub(super) const BINARY: [(BinaryOp, &str, Notation); 17] = [
    (BinaryOp::Mul, "*", Notation::Infix(7)),
    (BinaryOp::Div, "/", Notation::Infix(7)),
    (BinaryOp::Rem, "%", Notation::Infix(7)),
    (BinaryOp::Add, "+", Notation::Infix(6)),
    (BinaryOp::Sub, "-", Notation::Infix(6)),
    (BinaryOp::ShiftLeft, "<<", Notation::Infix(5)),
    (BinaryOp::ShiftRight, ">>", Notation::Infix(5)),
    (BinaryOp::And, "&", Notation::Infix(4)),
    (BinaryOp::Xor, "^", Notation::Infix(3)),
    (BinaryOp::Or, "|", Notation::Infix(2)),
    (BinaryOp::Equal, "==", Notation::Infix(1)),
    (BinaryOp::Less, "<", Notation::Infix(1)),
    (BinaryOp::LessEqual, "<=", Notation::Infix(1)),
    (BinaryOp::Mod, "mod", Notation::Call),
    (BinaryOp::Pow, "pow", Notation::Call),
    (BinaryOp::Max, "max", Notation::Call),
    (BinaryOp::Min, "min", Notation::Call),
];

/// What the operands of an expression are called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    /// `a0`, `a1`, ..: the operands of a map.
    Map,
    /// `acc`, `e1`, `e2`, ..: the accumulator, and the operands behind the first two of a contraction.
    Epilogue,
    /// The same where the accumulator is f32 over halves.
    WideEpilogue,
}

impl Arguments {
    pub(super) fn name(self, n: u16) -> String {
        match self {
            Arguments::Map => format!("a{n}"),
            Arguments::Epilogue | Arguments::WideEpilogue if n == 0 => "acc".into(),
            Arguments::Epilogue | Arguments::WideEpilogue => format!("e{n}"),
        }
    }
}

/// Nesting at which a part of an expression gets a name of its own, far below the parser's limit.
const MAX_NESTING: usize = 24;

/// `let t0 = exp(a0) in t0 / (t0 + 1)`: parts that are used more than once, or nested deep, are named, in order of a
/// depth-first walk, so that the text follows from the meaning alone.
pub(super) fn print(expr: &Expr, arguments: Arguments, literal: &mut dyn FnMut(Scalar) -> String) -> String {
    let walk = walk(expr);
    let uses = uses(expr, &walk);
    let mut parts: Vec<Option<Part>> = vec![None; expr.nodes().len()];
    let mut text = String::new();
    let mut names = 0;
    for &id in &walk {
        let part = part(expr, id, arguments, &parts, literal);
        let leaf = expr.node(id).operands().next().is_none();
        let named = !leaf && id != expr.root() && (uses[id.index()] > 1 || part.nesting >= MAX_NESTING);
        parts[id.index()] = Some(if named {
            text.push_str(&format!("let t{names} = {} in ", part.text));
            names += 1;
            Part::tight(format!("t{}", names - 1))
        } else {
            part
        });
    }
    if let Some(root) = &parts[expr.root().index()] {
        text.push_str(&root.text);
    }
    text
}

#[derive(Clone)]
struct Part {
    text: String,
    binding: u8,
    nesting: usize,
}

/// Binds tighter than any sign.
const TIGHT: u8 = u8::MAX;

impl Part {
    fn tight(text: String) -> Self {
        Part { text, binding: TIGHT, nesting: 0 }
    }

    fn within(&self, binding: u8) -> String {
        if self.binding < binding { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// The nodes that the root needs, operands first, in order of a depth-first walk.
fn walk(expr: &Expr) -> Vec<ExprId> {
    let mut done = vec![false; expr.nodes().len()];
    let mut order = Vec::new();
    let mut stack = vec![(expr.root(), false)];
    while let Some((id, ready)) = stack.pop() {
        if done[id.index()] {
            continue;
        }
        if ready {
            done[id.index()] = true;
            order.push(id);
            continue;
        }
        stack.push((id, true));
        let operands: Vec<ExprId> = expr.node(id).operands().collect();
        stack.extend(operands.into_iter().rev().map(|operand| (operand, false)));
    }
    order
}

fn uses(expr: &Expr, walk: &[ExprId]) -> Vec<usize> {
    let mut uses = vec![0; expr.nodes().len()];
    for operand in walk.iter().flat_map(|&id| expr.node(id).operands()) {
        uses[operand.index()] += 1;
    }
    uses
}

fn part(
    expr: &Expr,
    id: ExprId,
    arguments: Arguments,
    parts: &[Option<Part>],
    literal: &mut dyn FnMut(Scalar) -> String,
) -> Part {
    let node = expr.node(id);
    let operands: Vec<&Part> = node.operands().filter_map(|operand| parts[operand.index()].as_ref()).collect();
    let nesting = operands.iter().map(|part| part.nesting + 1).max().unwrap_or(0);
    let call = |name: &str| {
        let texts: Vec<&str> = operands.iter().map(|part| part.text.as_str()).collect();
        Part { text: format!("{name}({})", texts.join(", ")), binding: TIGHT, nesting }
    };
    match node {
        ExprNode::Argument(n, _) => Part::tight(arguments.name(n)),
        ExprNode::Constant(value) => Part::tight(literal(value)),
        ExprNode::Unary(op, _) => call(unary_name(op)),
        ExprNode::Cast(dtype, _) => call(dtype.name()),
        ExprNode::Select(..) => call("select"),
        ExprNode::Binary(op, ..) => match binary_notation(op) {
            (name, Notation::Call) => call(name),
            (sign, Notation::Infix(binding)) => {
                let (a, b) = (operands[0].within(binding), operands[1].within(binding + 1));
                Part { text: format!("{a} {sign} {b}"), binding, nesting }
            }
        },
    }
}

fn unary_name(op: UnaryOp) -> &'static str {
    UNARY.iter().find(|(known, _)| *known == op).map_or("", |(_, name)| name)
}

fn binary_notation(op: BinaryOp) -> (&'static str, Notation) {
    BINARY.iter().find(|(known, ..)| *known == op).map_or(("", Notation::Call), |&(_, name, notation)| (name, notation))
}
