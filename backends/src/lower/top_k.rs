//! The extreme elements along an axis and their positions.

use edgecc_ir::{BinaryOp, Extreme, NodeId, Scalar, Type, UnaryOp};

use super::builder::Builder;
use super::reduce::beats;
use super::rows::Rows;
use super::{Lowered, Lowering};
use crate::kernel::{Index, Local};

/// One element after the other: the most extreme of those that come behind the one before, by (value, position). NaN counts
/// as larger than any number. Takes `count` walks along the axis and no memory.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, axis: usize, extreme: Extreme) -> Lowered<()> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let Type::Tuple(types) = lowering.graph.node(id).ty() else { return Err("gives no tuple".into()) };
    let results: Vec<_> = types.iter().map(|ty| lowering.temporary(ty)).collect();
    lowering.set_components(id, results.clone());
    let [values, positions] = &results[..] else { return Err("gives no pair".into()) };
    if values.elements() == 0 {
        return Ok(());
    }
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[values, positions, &source], &[axis]);
    let (to_values, to_positions, from) = (builder.writes(values), builder.writes(positions), builder.reads(&source));
    let order = Order { extreme, is_float: source.dtype.is_float() };
    let body = builder.block(|b| {
        let last = b.load(from, rows.start(from));
        let last_position = b.constant(Scalar::i64(-1));
        let rank = b.var();
        b.serial(rank, Index::Constant(0), Index::Constant(values.extents[axis] as i64), |b| {
            let best = b.copy(last);
            let best_position = b.constant(Scalar::i64(-1));
            rows.in_order(b, |b, place| {
                let element = b.load(from, place.at(from));
                let position = b.index(place.coordinate());
                let remains = order.comes_behind(b, (element, position), (last, last_position));
                let leads = order.leads(b, element, (best, best_position));
                let wins = b.binary(BinaryOp::And, remains, leads);
                b.replace(best, wins, element);
                b.replace(best_position, wins, position);
            });
            let at = |start: Index, stride: isize| start.plus(Index::Var(rank).times(stride as i64));
            b.store(to_values, at(rows.start(to_values), values.strides[axis]), best);
            b.store(to_positions, at(rows.start(to_positions), positions.strides[axis]), best_position);
            b.assign_from(last, best);
            b.assign_from(last_position, best_position);
        });
    });
    rows.push(builder, lowering, id, body, Vec::new());
    Ok(())
}

/// The order of elements: the most extreme first.
#[derive(Clone, Copy)]
struct Order {
    extreme: Extreme,
    is_float: bool,
}

impl Order {
    /// Whether an element was not taken yet: none was (a position below 0), or it is less extreme than the one taken last,
    /// or its equal at a later position.
    fn comes_behind(&self, builder: &mut Builder, element: (Local, Local), last: (Local, Local)) -> Local {
        let none = is_none(builder, last.1);
        let less = self.is_before(builder, last.0, element.0);
        let more = self.is_before(builder, element.0, last.0);
        let equal = builder.unary(UnaryOp::Not, more);
        let later = builder.binary(BinaryOp::Less, last.1, element.1);
        let tie = builder.binary(BinaryOp::And, equal, later);
        let either = builder.binary(BinaryOp::Or, less, tie);
        builder.binary(BinaryOp::Or, none, either)
    }

    /// Whether an element is the first looked at or more extreme than the best so far.
    fn leads(&self, builder: &mut Builder, element: Local, best: (Local, Local)) -> Local {
        let none = is_none(builder, best.1);
        let more = self.is_before(builder, element, best.0);
        builder.binary(BinaryOp::Or, none, more)
    }

    /// Whether `a` is more extreme than `b`.
    fn is_before(&self, builder: &mut Builder, a: Local, b: Local) -> Local {
        let ordered = beats(builder, self.extreme, false, a, b);
        if !self.is_float {
            return ordered;
        }
        let (not_a_number, number) = match self.extreme {
            Extreme::Max => (a, b),
            Extreme::Min => (b, a),
        };
        let is_nan = builder.unary(UnaryOp::IsNan, not_a_number);
        let is_number = builder.binary(BinaryOp::Equal, number, number);
        let by_nan = builder.binary(BinaryOp::And, is_nan, is_number);
        builder.binary(BinaryOp::Or, ordered, by_nan)
    }
}

fn is_none(builder: &mut Builder, position: Local) -> Local {
    let zero = builder.constant(Scalar::i64(0));
    builder.binary(BinaryOp::Less, position, zero)
}
