//! Taps of sliding windows, clipped to the operand.

use edgecc_ir::Window;

use super::builder::Builder;
use super::nest::Space;
use crate::kernel::{Index, Var};
use crate::view::View;

/// The loop over a window's taps along one spatial axis.
pub(super) struct Taps {
    pub(super) var: Var,
    pub(super) begin: Index,
    pub(super) end: Index,
    /// Where a tap lies in the operand beyond what [`anchors`] says.
    pub(super) coordinate: Index,
    /// Which of the window's taps it is.
    pub(super) tap: Index,
}

/// Spatial axis `spatial` of a window over `input` elements, with `output` positions.
#[derive(Clone, Copy)]
pub(super) struct WindowAxis {
    pub(super) axis: usize,
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) kernel: i64,
    pub(super) stride: i64,
    pub(super) dilation: i64,
    pub(super) before: i64,
    pub(super) after: i64,
}

impl WindowAxis {
    /// The spatial axes, from axis `first` on, of a window over the image `source` that makes `result`.
    pub(super) fn all(window: &Window, source: &View, result: &View, first: usize) -> Vec<WindowAxis> {
        let axis = |spatial: usize| WindowAxis {
            axis: spatial + first,
            input: source.extents[spatial + first] as i64,
            output: result.extents[spatial + first] as i64,
            kernel: window.kernel[spatial] as i64,
            stride: window.strides[spatial] as i64,
            dilation: window.dilations[spatial] as i64,
            before: window.pads_before[spatial] as i64,
            after: window.pads_after[spatial] as i64,
        };
        (0..window.kernel.len()).map(axis).collect()
    }

    /// Whether some window reaches beyond the operand.
    pub(super) fn is_clipped(&self) -> bool {
        self.before > 0 || self.last() >= self.input
    }

    /// Whether some window reaches beyond the padding.
    pub(super) fn overhangs(&self) -> bool {
        self.last() >= self.input + self.after
    }

    /// Where the last tap of the last window lies.
    fn last(&self) -> i64 {
        (self.output - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation
    }

    /// Where the first tap of the window at `position` lies.
    fn first(&self, position: Index) -> Index {
        position.times(self.stride).plus(Index::Constant(-self.before))
    }

    /// One more than the last tap that lies before `limit`.
    pub(super) fn taps_before(&self, position: Index, limit: i64) -> Index {
        let room = Index::Constant(limit - 1).plus(self.first(position).times(-1));
        room.floor_div(self.dilation).plus(Index::Constant(1)).min(Index::Constant(self.kernel))
    }

    /// The first tap that lies in the operand.
    fn first_inside(&self, position: Index) -> Index {
        let missing = self.first(position).times(-1).plus(Index::Constant(self.dilation - 1));
        missing.floor_div(self.dilation).max(Index::Constant(0))
    }

    /// How many taps lie in the operand.
    pub(super) fn taps_inside(&self, position: Index) -> Index {
        self.taps_before(position.clone(), self.input).plus(self.first_inside(position).times(-1))
    }

    /// The loop over the taps that lie in the operand, for an axis that is apart in `space`.
    pub(super) fn clipped(&self, builder: &mut Builder, space: &Space) -> Taps {
        let position = space.coordinate(self.axis);
        let first = self.first(position.clone());
        let var = builder.var();
        if self.dilation == 1 {
            // The loop runs over positions of the operand, so that they are seen to lie inside.
            let begin = first.clone().max(Index::Constant(0));
            let end = first.clone().plus(Index::Constant(self.kernel)).min(Index::Constant(self.input));
            let tap = Index::Var(var).plus(first.times(-1));
            return Taps { var, begin, end, coordinate: Index::Var(var), tap };
        }
        let (begin, end) = (self.first_inside(position.clone()), self.taps_before(position, self.input));
        let coordinate = first.plus(Index::Var(var).times(self.dilation));
        Taps { var, begin, end, coordinate, tap: Index::Var(var) }
    }

    /// The loop over the taps that lie in the operand.
    pub(super) fn taps(&self, builder: &mut Builder, space: &Space) -> Taps {
        if self.is_clipped() { self.clipped(builder, space) } else { self.whole(builder) }
    }

    /// The loops of a transposed window over all taps, and over the position of the operand that each meets, if one does.
    pub(super) fn meeting(&self, builder: &mut Builder, space: &Space) -> [Taps; 2] {
        let tap = self.whole(builder);
        let var = builder.var();
        let reach = space.coordinate(self.axis).plus(Index::Constant(self.before));
        let reach = reach.plus(tap.coordinate.clone().times(-1));
        let begin = reach.clone().plus(Index::Constant(self.stride - 1)).floor_div(self.stride);
        let end = reach.floor_div(self.stride).plus(Index::Constant(1)).min(Index::Constant(self.input));
        let begin = begin.max(Index::Constant(0));
        [tap, Taps { var, begin, end, coordinate: Index::Var(var), tap: Index::Constant(0) }]
    }

    /// The loop over all taps, for an axis of windows that all lie in the operand.
    pub(super) fn whole(&self, builder: &mut Builder) -> Taps {
        let var = builder.var();
        let (begin, end) = (Index::Constant(0), Index::Constant(self.kernel));
        Taps { var, begin, end, coordinate: Index::Var(var).times(self.dilation), tap: Index::Var(var) }
    }
}

/// The operand seen by output position: along spatial axes the elements under each window's first tap, but along axes in
/// `apart`, whose positions come from [`WindowAxis::clipped`], the first element.
pub(super) fn anchors(source: &View, result: &View, axes: &[WindowAxis], apart: &[usize]) -> View {
    let mut anchors = source.clone();
    for window in axes {
        let axis = window.axis;
        anchors.extents[axis] = result.extents[axis];
        anchors.strides[axis] = if apart.contains(&axis) { 0 } else { source.strides[axis] * window.stride as isize };
    }
    anchors
}

/// Loops over `taps`, outermost first, around what `write` adds.
pub(super) fn over(builder: &mut Builder, taps: &[Taps], write: impl FnOnce(&mut Builder)) {
    let mut body = builder.block(write);
    for taps in taps.iter().rev() {
        body = builder.block(|b| {
            b.serial(taps.var, taps.begin.clone(), taps.end.clone(), |b| b.emit(body));
        });
    }
    builder.emit(body);
}

/// Where the taps lie in the operand, counted from its anchor.
pub(super) fn offset(source: &View, axes: &[WindowAxis], taps: &[Taps]) -> Index {
    axes.iter().zip(taps).fold(Index::Constant(0), |sum, (window, taps)| {
        sum.plus(taps.coordinate.clone().times(source.strides[window.axis] as i64))
    })
}
