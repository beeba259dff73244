//! What a loop's body reads, sets and costs.

use edgecc_ir::{BinaryOp, Expr, ExprNode, UnaryOp};

use crate::kernel::{Local, Stmt, Value};

/// No loop inside.
pub(super) fn is_innermost(body: &[Stmt]) -> bool {
    body.iter().all(|statement| !matches!(statement, Stmt::For { .. }))
}

/// Locals that a body reads before it sets them.
pub(super) fn reads_from_outside(body: &[Stmt]) -> Vec<Local> {
    let (mut set, mut outside) = (Vec::new(), Vec::new());
    walk(body, &mut set, &mut outside);
    outside.sort_unstable();
    outside.dedup();
    outside
}

/// Locals that a body sets, computes with or stores: all that it does not only count positions with.
pub(super) fn touched(body: &[Stmt]) -> Vec<Local> {
    let (mut set, mut outside) = (Vec::new(), Vec::new());
    walk(body, &mut set, &mut outside);
    set.append(&mut outside);
    set
}

fn walk(body: &[Stmt], set: &mut Vec<Local>, outside: &mut Vec<Local>) {
    for statement in body {
        match statement {
            Stmt::For { body, .. } => walk(body, set, outside),
            Stmt::Set { local, value } => {
                if let Value::Apply { arguments, .. } = value {
                    outside.extend(arguments.iter().filter(|argument| !set.contains(argument)));
                }
                set.push(*local);
            }
            Stmt::Store { local, .. } => outside.extend(Some(*local).filter(|local| !set.contains(local))),
        }
    }
}

/// How many vectors go through a body side by side: as many as hide latencies and find registers.
pub(super) fn side_by_side(body: &[Stmt]) -> usize {
    match instructions(body) {
        0..=8 => 4,
        9..=80 => 2,
        _ => 1,
    }
}

/// Vector instructions of one pass through a body, about.
fn instructions(body: &[Stmt]) -> usize {
    body.iter()
        .map(|statement| match statement {
            Stmt::For { body, .. } => instructions(body),
            Stmt::Set { value: Value::Apply { expr, .. }, .. } => operations(expr),
            Stmt::Set { .. } | Stmt::Store { .. } => 1,
        })
        .sum()
}

/// About the instructions that an expression takes.
pub(crate) fn operations(expr: &Expr) -> usize {
    let node = |node: &ExprNode| match node {
        ExprNode::Argument(..) | ExprNode::Constant(_) => 0,
        ExprNode::Unary(op, _) => function(*op),
        ExprNode::Binary(BinaryOp::Pow, ..) => 90,
        ExprNode::Binary(..) | ExprNode::Select(..) | ExprNode::Cast(..) => 1,
    };
    expr.nodes().iter().map(node).sum()
}

fn function(op: UnaryOp) -> usize {
    use UnaryOp::*;
    match op {
        Neg | Abs | Floor | Ceil | Round | Trunc | Sqrt | Reciprocal | Not | IsNan | IsInf => 1,
        Sign => 4,
        Exp | Sigmoid | Erf | Tanh => 25,
        Log | Sin | Cos | Atan => 35,
        Tan | Asin | Acos | Sinh | Cosh | Asinh | Acosh | Atanh => 50,
    }
}
