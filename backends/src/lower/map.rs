//! Element-wise operators.

use edgecc_ir::{Expr, NodeId};

use super::nest::push_map;
use super::{Lowered, Lowering};
use crate::view::View;

/// `result = expr(operands)`, operands broadcast by strides of 0.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, expr: &Expr) -> Lowered<()> {
    let shape = lowering.graph.ty(id).shape.clone();
    let operands: Vec<View> =
        lowering.graph.operands(id).iter().map(|&operand| lowering.view(operand).broadcast(&shape)).collect();
    let destination = lowering.destination(id);
    let views: Vec<&View> = operands.iter().chain([&destination]).collect();
    push_map(lowering, id, expr, &views);
    Ok(())
}
