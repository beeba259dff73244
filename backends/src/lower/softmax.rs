//! Softmax and its logarithm.

use edgecc_ir::{BinaryOp, Expr, NodeId, UnaryOp};

use super::builder::{Builder, computed};
use super::nest::may_share;
use super::rows::{Place, Rows};
use super::{Lowered, Lowering};
use crate::kernel::Access;

/// `exp(x - max) / sum(exp(x - max))` along `axis`, or its logarithm `x - (max + log(sum(exp(x - max))))`.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, axis: usize, log: bool) -> Lowered<()> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    if result.elements() == 0 {
        return Ok(());
    }
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&source, &result], &[axis]);
    let from = builder.reads(&source);
    let to = builder.operand(&result, Access::ReadWrite);
    let body = builder.block(|b| {
        let max = b.number(computed(source.dtype), f64::NEG_INFINITY);
        rows.fold(b, max, BinaryOp::Max, |b, place| b.load(from, place.at(from)));
        let exponential = |b: &mut Builder, place: &Place| {
            let element = b.load(from, place.at(from));
            let mut expr = Expr::new();
            let (x, most) = (expr.arg(0, b.dtype(element)), expr.arg(1, b.dtype(max)));
            let shifted = expr.binary(BinaryOp::Sub, x, most);
            let root = expr.unary(UnaryOp::Exp, shifted);
            b.apply(expr.with_root(root), &[element, max])
        };
        let sum = b.number(computed(source.dtype), 0.0);
        if log {
            rows.fold(b, sum, BinaryOp::Add, |b, place| exponential(b, place));
            let logarithm = b.unary(UnaryOp::Log, sum);
            rows.each(b, |b, place| {
                let element = b.load(from, place.at(from));
                let shifted = b.binary(BinaryOp::Sub, element, max);
                let value = b.binary(BinaryOp::Sub, shifted, logarithm);
                b.store(to, place.at(to), value);
            });
        } else {
            rows.fold(b, sum, BinaryOp::Add, |b, place| {
                let value = exponential(b, place);
                b.store(to, place.at(to), value);
                value
            });
            let scale = b.unary(UnaryOp::Reciprocal, sum);
            rows.each(b, |b, place| {
                let element = b.load(to, place.at(to));
                let value = b.binary(BinaryOp::Mul, element, scale);
                b.store(to, place.at(to), value);
            });
        }
    });
    let in_place = may_share(&result, &source).then_some((to, from)).into_iter().collect();
    rows.push(builder, lowering, id, body, in_place);
    Ok(())
}
