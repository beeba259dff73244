//! Running sums.

use edgecc_ir::{BinaryOp, NodeId};

use super::builder::{Builder, computed};
use super::nest::may_share;
use super::rows::Rows;
use super::{Lowered, Lowering};
use crate::view::View;

/// The running sum along `axis`. From the end, operand and result are walked backwards.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Lowered<()> {
    let directed = |view: &View| if reverse { backwards(view, axis) } else { view.clone() };
    let source = directed(lowering.view(lowering.graph.operands(id)[0]));
    let result = directed(&lowering.destination(id));
    if result.elements() == 0 {
        return Ok(());
    }
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&source, &result], &[axis]);
    let (from, to) = (builder.reads(&source), builder.writes(&result));
    let body = builder.block(|b| {
        let sum = b.number(computed(source.dtype), 0.0);
        rows.in_order(b, |b, place| {
            let element = b.load(from, place.at(from));
            if exclusive {
                b.store(to, place.at(to), sum);
            }
            b.fold(sum, BinaryOp::Add, element);
            if !exclusive {
                b.store(to, place.at(to), sum);
            }
        });
    });
    let in_place = may_share(&result, &source).then_some((to, from)).into_iter().collect();
    rows.push(builder, lowering, id, body, in_place);
    Ok(())
}

fn backwards(view: &View, axis: usize) -> View {
    let mut starts = vec![0; view.rank()];
    let mut steps = vec![1; view.rank()];
    starts[axis] = view.extents[axis].saturating_sub(1);
    steps[axis] = -1;
    view.sliced(&starts, &steps, &view.extents)
}
