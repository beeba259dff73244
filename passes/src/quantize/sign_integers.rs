//! Unsigned integers of 8 bits become signed ones, which is what kernels multiply.

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op};

use super::affine::{Affine, dequantize, dequantized, quantize_expr, quantized};
use super::movement::moved_operands;
use crate::query::map_expr;

/// `dequantize(q: u8) => dequantize(q - 128: i8)` and `quantize(x): u8 => quantize(x): i8 + 128`, where neighbouring shifts
/// cancel, also across movement. Exact.
pub fn sign_integers(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        rewrites +=
            (signed_source(graph, id) || signed_result(graph, id) || sunk(graph, id) || cancelled(graph, id)) as usize;
    }
    graph.remove_dead();
    rewrites
}

const OFFSET: i64 = 128;

/// `i8(i32(q) - 128)` of u8, or `u8(i32(q) + 128)` of i8.
fn shift(from: DType) -> Expr {
    let (to, op) = if from == DType::U8 { (DType::I8, BinaryOp::Sub) } else { (DType::U8, BinaryOp::Add) };
    let mut expr = Expr::argument(0, from);
    let wide = expr.cast(DType::I32, expr.root());
    let offset = expr.number(wide, OFFSET as f64);
    let moved = expr.binary(op, wide, offset);
    let root = expr.cast(to, moved);
    expr.with_root(root)
}

fn signed(affine: &Affine) -> Affine {
    let zeros = affine.zeros.iter().map(|zero| zero - OFFSET).collect();
    Affine { dtype: DType::I8, zeros, ..affine.clone() }
}

fn is_shift(graph: &Graph, id: NodeId, from: DType) -> bool {
    map_expr(graph, id).is_some_and(|expr| *expr == shift(from))
}

fn signed_source(graph: &mut Graph, id: NodeId) -> bool {
    let Some((source, affine)) = dequantized(graph, id).filter(|(_, affine)| affine.dtype == DType::U8) else {
        return false;
    };
    let origin = graph.node(id).origin().clone();
    let Ok(shifted) = graph.add(Op::Map(shift(DType::U8)), &[source], origin.clone()) else { return false };
    let (op, operands) = dequantize(graph, shifted, &signed(&affine));
    graph.rewrite(id, op, &operands, origin).is_ok()
}

fn signed_result(graph: &mut Graph, id: NodeId) -> bool {
    let Some((source, affine)) = quantized(graph, id).filter(|(_, affine)| affine.dtype == DType::U8) else {
        return false;
    };
    let origin = graph.node(id).origin().clone();
    let quantize = Op::Map(quantize_expr(&signed(&affine)));
    let Ok(quantize) = graph.add(quantize, &[source], origin.clone()) else { return false };
    graph.rewrite(id, Op::Map(shift(DType::I8)), &[quantize], origin).is_ok()
}

/// `move(q + 128) => move(q) + 128`
fn sunk(graph: &mut Graph, id: NodeId) -> bool {
    let Some(places) = moved_operands(graph, id) else { return false };
    let mut operands = graph.operands(id).to_vec();
    if !places.iter().all(|&place| is_shift(graph, operands[place], DType::I8)) {
        return false;
    }
    places.iter().for_each(|&place| operands[place] = graph.operands(operands[place])[0]);
    let (op, origin) = (graph.op(id).clone(), graph.node(id).origin().clone());
    let Ok(moved) = graph.add(op, &operands, origin.clone()) else { return false };
    graph.rewrite(id, Op::Map(shift(DType::I8)), &[moved], origin).is_ok()
}

/// `(q + 128) - 128 => q`
fn cancelled(graph: &mut Graph, id: NodeId) -> bool {
    if !is_shift(graph, id, DType::U8) {
        return false;
    }
    let inner = graph.operands(id)[0];
    if !is_shift(graph, inner, DType::I8) {
        return false;
    }
    graph.replace_uses(id, graph.operands(inner)[0]);
    true
}
