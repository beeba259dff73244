//! Constants of one repeated element under an expression.

use edgecc_ir::{Expr, Graph, NodeId, Op, Scalar};

use crate::query::broadcast_shape;

/// `map(x, constant c) => map(x)` with `c` in the expression, and likewise for epilogues; operands that the expression does
/// not read go as well, and of equal operands one stays.
///
/// `c` is one element repeated, and the operands that stay still broadcast to the shape of the result. Exact.
pub fn inline_scalars(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        rewrites += match graph.op(id) {
            Op::Map(expr) => {
                let expr = expr.clone();
                inline(graph, id, &expr, 0)
            }
            op => match op.epilogue().cloned() {
                Some(epilogue) => inline(graph, id, &epilogue, 2),
                None => false,
            },
        } as usize;
    }
    graph.remove_dead();
    rewrites
}

/// What becomes of an operand of an expression.
#[derive(Clone, Copy)]
enum Fate {
    Stays(u16),
    Becomes(Scalar),
}

/// Inlines among the operands behind the first `fixed`, which the expression's arguments from `base` on stand for: a map
/// has no fixed operands, an epilogue has two and argument 0 is the accumulator.
fn inline(graph: &mut Graph, id: NodeId, expr: &Expr, fixed: usize) -> bool {
    let base = if fixed == 0 { 0 } else { 1 };
    let operands = graph.operands(id)[fixed..].to_vec();
    let (fates, kept) = fates(graph, expr, &operands, base);
    if kept.len() == operands.len() {
        return false;
    }
    if fixed == 0 && broadcast_shape(graph, &kept).as_ref() != Some(&graph.ty(id).shape) {
        return false;
    }
    let mut inlined = Expr::new();
    let root = inlined.inline(expr, |inlined, n, dtype| {
        let fate = fates.get((n as usize).checked_sub(base)?)?;
        Some(match *fate {
            Fate::Stays(place) => inlined.arg(place + base as u16, dtype),
            Fate::Becomes(value) => inlined.constant(value),
        })
    });
    let inlined = inlined.with_root(root);
    let mut op = graph.op(id).clone();
    match &mut op {
        Op::Map(expr) => *expr = inlined,
        op => {
            if let Some(epilogue) = op.epilogue_mut() {
                *epilogue = inlined;
            }
        }
    }
    let operands = [&graph.operands(id)[..fixed], &kept].concat();
    let origin = graph.node(id).origin().clone();
    graph.rewrite(id, op, &operands, origin).is_ok()
}

/// The fate of every operand, and the distinct operands that stay.
fn fates(graph: &Graph, expr: &Expr, operands: &[NodeId], base: usize) -> (Vec<Fate>, Vec<NodeId>) {
    let mut kept: Vec<NodeId> = Vec::new();
    let mut fates = Vec::with_capacity(operands.len());
    for (n, &operand) in operands.iter().enumerate() {
        let value = graph.constant_value(operand).and_then(|value| value.as_splat());
        let read = expr.arguments().any(|(argument, _)| argument as usize == n + base);
        fates.push(match value {
            Some(value) => Fate::Becomes(value),
            None if !read => Fate::Stays(0),
            None => {
                let known = kept.iter().position(|&other| other == operand);
                let place = known.unwrap_or(kept.len());
                kept.extend(known.is_none().then_some(operand));
                Fate::Stays(place as u16)
            }
        });
    }
    (fates, kept)
}
