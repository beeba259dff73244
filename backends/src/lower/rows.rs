//! Operators that run along some axes for each position of the others: reductions, softmax, normalization, scans.
//!
//! Where the axes that are run along lie innermost in memory, they are folded in lanes, one position after the other. Else
//! neighbouring positions run side by side in lanes, each along its own axes.

use edgecc_ir::{BinaryOp, NodeId};

use super::builder::Builder;
use super::nest::{Axis, Order, Space, axes, for_loop};
use super::{Call, Lowering};
use crate::kernel::{Fold, Index, Local, LoopMode, Stmt, Var};
use crate::view::View;

/// Loops over the positions of the kept axes, outside, and along the other axes, inside.
pub(crate) struct Rows {
    kept: Space,
    along: Vec<Axis>,
    /// Lanes run over kept positions.
    across: bool,
}

/// One run along the axes: where it stands in each view.
pub(crate) struct Place {
    positions: Vec<Index>,
    vars: Vec<Var>,
}

impl Place {
    /// The position in view number `view`.
    pub(crate) fn at(&self, view: usize) -> Index {
        self.positions[view].clone()
    }

    /// The coordinate along the only axis.
    pub(crate) fn coordinate(&self) -> Index {
        self.vars.first().map_or(Index::Constant(0), |&var| Index::Var(var))
    }
}

impl Rows {
    /// Rows along `along` of views of one shape, but for extents along `along`, of which the last view's count. Walked as
    /// the last view lies.
    pub(crate) fn new(builder: &mut Builder, views: &[&View], along: &[usize]) -> Rows {
        let select = |wanted: bool| -> Vec<View> {
            let inside = |axis: &usize| along.contains(axis) == wanted;
            views.iter().map(|view| with_axes(view, (0..view.rank()).filter(inside))).collect()
        };
        let (kept, run) = (select(false), select(true));
        let mut kept = Space::new(builder, &kept.iter().collect::<Vec<_>>(), &[]);
        let run = axes(&run.iter().collect::<Vec<_>>(), &[], Order::Memory);
        let distance = |axis: &Axis| axis.strides.last().map_or(0, |stride| stride.unsigned_abs());
        let (across_by, along_by) = (distance(kept.innermost()), run.last().map_or(0, distance));
        let across = kept.innermost().extent > 1 && (along_by == 0 || (across_by > 0 && across_by < along_by));
        if across {
            kept.split(builder);
        }
        Rows { kept, along: run, across }
    }

    /// The position in view number `view` of the row's first element.
    pub(crate) fn start(&self, view: usize) -> Index {
        self.kept.position(view)
    }

    /// Whether neighbouring rows run in lanes.
    pub(crate) fn is_across(&self) -> bool {
        self.across
    }

    /// Folds the row into `local`: `write` gives the value to join.
    pub(crate) fn fold(
        &self,
        builder: &mut Builder,
        local: Local,
        op: BinaryOp,
        write: impl FnOnce(&mut Builder, &Place) -> Local,
    ) {
        let mode = LoopMode::Fold(vec![Fold { local, op }]);
        self.run(builder, mode, |b, place| {
            let value = write(b, place);
            b.fold(local, op, value);
        });
    }

    /// Does something for each element of the row, in any order.
    pub(crate) fn each(&self, builder: &mut Builder, write: impl FnOnce(&mut Builder, &Place)) {
        self.run(builder, LoopMode::Lanes, write);
    }

    /// Does something for each element of the row; along one axis in the order of coordinates.
    pub(crate) fn in_order(&self, builder: &mut Builder, write: impl FnOnce(&mut Builder, &Place)) {
        self.run(builder, LoopMode::Serial, write);
    }

    fn run(&self, builder: &mut Builder, innermost: LoopMode, write: impl FnOnce(&mut Builder, &Place)) {
        let vars: Vec<Var> = self.along.iter().map(|_| builder.var()).collect();
        let views = self.along[0].strides.len();
        let position = |view: usize| {
            let axes = self.along.iter().zip(&vars);
            axes.fold(self.kept.position(view), |sum, (axis, &var)| {
                sum.plus(Index::Var(var).times(axis.strides[view] as i64))
            })
        };
        let place = Place { positions: (0..views).map(position).collect(), vars: vars.clone() };
        let mut body = builder.block(|b| write(b, &place));
        let mut mode = if self.across { LoopMode::Serial } else { innermost };
        for (axis, &var) in self.along.iter().zip(&vars).rev() {
            body = vec![for_loop(var, axis.extent, std::mem::replace(&mut mode, LoopMode::Serial), body)];
        }
        builder.emit(body);
    }

    /// Adds the finished kernel as a step; `body` is what is done for each row.
    pub(crate) fn push(
        self,
        builder: Builder,
        lowering: &mut Lowering<'_>,
        id: NodeId,
        body: Vec<Stmt>,
        in_place: Vec<(usize, usize)>,
    ) {
        let length = self.along.iter().map(|axis| axis.extent).product();
        let call = Call { grain: self.kept.grain(length), in_place, ..Call::default() };
        let mode = if self.across { LoopMode::Lanes } else { LoopMode::Serial };
        builder.push(lowering, id, self.kept.range(), self.kept.wrap(body, mode), call);
    }
}

/// A view of some of the axes, at the first element of the others.
pub(crate) fn with_axes(view: &View, axes: impl Iterator<Item = usize>) -> View {
    let axes: Vec<usize> = axes.collect();
    let extents = axes.iter().map(|&axis| view.extents[axis]).collect();
    let strides = axes.iter().map(|&axis| view.strides[axis]).collect();
    View { extents, strides, ..view.clone() }
}
