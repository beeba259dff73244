//! Memory orders of values that share bytes.

use edgecc_ir::{Layout, Shape};

use crate::query::inverse;

/// The layout in which a transposed value has the bytes that its operand has in `layout`.
pub(crate) fn transposed(layout: &Layout, perm: &[usize]) -> Layout {
    let places = inverse(perm);
    from_order(layout.order().map(|axis| places[axis]).collect())
}

/// The layout of a value with further leading axes, which lie outermost.
pub(crate) fn with_leading_axes(layout: &Layout, rank: usize) -> Layout {
    let added = rank - layout.rank();
    from_order((0..added).chain(layout.order().map(|axis| axis + added)).collect())
}

/// The layout of an operand of `rank` axes that is broadcast, aligned at the last axis, to a value in `layout`.
pub(crate) fn of_operand(layout: &Layout, rank: usize) -> Layout {
    let missing = layout.rank() - rank;
    from_order(layout.order().filter_map(|axis| axis.checked_sub(missing)).collect())
}

/// The layout nearest to `layout` in which a reshape moves no bytes, and the layout that its result then has.
///
/// Extents other than 1 fall into the smallest groups of neighbouring axes with equal products on both sides. A group keeps
/// its bytes if its axes lie in logical order next to each other; groups themselves may lie in any order. Where groups lie among
/// each other, the innermost axis stays innermost.
pub(crate) fn through_reshape(layout: &Layout, from: &Shape, to: &Shape) -> (Layout, Layout) {
    let Some(groups) = groups(from, to) else {
        return (Layout::row_major(from.rank()), Layout::row_major(to.rank()));
    };
    let mut memory = Vec::with_capacity(groups.len());
    for axis in layout.order().rev() {
        let group = groups.iter().position(|(operand, _)| operand.contains(&axis));
        memory.extend(group.filter(|group| !memory.contains(group)));
    }
    memory.reverse();
    let operand = memory.iter().flat_map(|&group: &usize| groups[group].0.iter().copied()).collect();
    let result = memory.iter().flat_map(|&group| groups[group].1.iter().copied()).collect();
    (with_units(operand, from), with_units(result, to))
}

/// (axes of `from`, axes of `to`) with equal products, units left out; `None` for tensors without elements.
fn groups(from: &Shape, to: &Shape) -> Option<Vec<(Vec<usize>, Vec<usize>)>> {
    let significant = |shape: &Shape| (0..shape.rank()).filter(|&axis| shape.dim(axis) != 1).collect::<Vec<_>>();
    let (from_axes, to_axes) = (significant(from), significant(to));
    if from.elements() == Ok(0) {
        return None;
    }
    let (mut from_axes, mut to_axes) = (from_axes.into_iter(), to_axes.into_iter());
    let mut groups = Vec::new();
    while let (Some(a), Some(b)) = (from_axes.next(), to_axes.next()) {
        let (mut group, mut extents) = ((vec![a], vec![b]), (from.dim(a), to.dim(b)));
        while extents.0 != extents.1 {
            if extents.0 < extents.1 {
                let axis = from_axes.next()?;
                group.0.push(axis);
                extents.0 *= from.dim(axis);
            } else {
                let axis = to_axes.next()?;
                group.1.push(axis);
                extents.1 *= to.dim(axis);
            }
        }
        groups.push(group);
    }
    Some(groups)
}

/// The layout in which the axes in `order`, all but those of extent 1, lie so.
fn with_units(order: Vec<usize>, shape: &Shape) -> Layout {
    let units = (0..shape.rank()).filter(|axis| !order.contains(axis));
    usual(&from_order(units.chain(order.iter().copied()).collect()), shape)
}

/// Row-major or channels-last where `layout` has the bytes of these, to name equal bytes equally.
pub(crate) fn usual(layout: &Layout, shape: &Shape) -> Layout {
    let rank = shape.rank();
    let usual = [Layout::row_major(rank), Layout::channels_last(rank)];
    usual.into_iter().find(|known| known.same_bytes(layout, shape)).unwrap_or_else(|| layout.clone())
}

fn from_order(order: Vec<usize>) -> Layout {
    // Every caller permutes the axes of a layout.
    Layout::from_order(&order).unwrap_or_else(|| Layout::row_major(order.len()))
}
