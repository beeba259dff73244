//! Iteration spaces over the logical elements of views: axes merged where strides allow, ordered as a view lies.

use edgecc_ir::{DType, Expr, NodeId, Scalar};

use super::builder::Builder;
use super::{Call, Lowering, Processor, bits_of};
use crate::kernel::{Index, LoopMode, Stmt, Var};
use crate::view::View;

/// Fewest elements worth a worker of their own.
const ELEMENTS_PER_WORKER: usize = 16 * 1024;

/// Most elements of the inner part of an axis that is cut in two.
const INNER: usize = 1024;

/// Fewest elements of an axis that is worth running in lanes.
const FEWEST_LANES: usize = 4;

/// One axis of an iteration space: its extent and each view's stride along it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) extent: usize,
    pub(crate) strides: Vec<isize>,
    /// The views' axis, where it is kept apart from others.
    apart: Option<usize>,
}

/// Loops over the axes of views of one shape, outermost first.
pub(crate) struct Space {
    axes: Vec<Axis>,
    vars: Vec<Var>,
    /// What the body of each axis's loop begins with.
    prologues: Vec<Vec<Stmt>>,
    /// Each view's position of the logical first element.
    starts: Vec<i64>,
}

/// The order in which axes are walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the last view lies in memory.
    Memory,
    /// Row-major.
    Logical,
}

/// The axes of views of one shape, outermost first, extents of 1 dropped and neighbours merged where every view allows it.
/// At least one axis. Axes in `apart` merge with none.
pub(crate) fn axes(views: &[&View], apart: &[usize], order: Order) -> Vec<Axis> {
    let rank = views.last().map_or(0, |view| view.rank());
    let extent = |axis: usize| views.last().map_or(1, |view| view.extents[axis]);
    let mut walk: Vec<usize> = (0..rank).filter(|&axis| extent(axis) != 1).collect();
    if order == Order::Memory {
        let distance = |axis: usize| views.iter().rev().map(|view| view.strides[axis].unsigned_abs()).collect();
        walk.sort_by_key(|&axis| std::cmp::Reverse::<Vec<usize>>(distance(axis)));
    }
    let mut merged: Vec<Axis> = Vec::new();
    for axis in walk {
        let strides: Vec<isize> = views.iter().map(|view| view.strides[axis]).collect();
        let next = Axis { extent: extent(axis), strides, apart: Some(axis).filter(|axis| apart.contains(axis)) };
        match merged.last_mut() {
            Some(outer) if outer.takes(&next) => {
                outer.extent *= next.extent;
                outer.strides = next.strides;
            }
            _ => merged.push(next),
        }
    }
    if merged.is_empty() {
        merged.push(Axis { extent: 1, strides: vec![0; views.len()], apart: None });
    }
    merged
}

impl Axis {
    /// Whether this axis and `inner` are one axis of evenly spaced elements in every view.
    fn takes(&self, inner: &Axis) -> bool {
        let even = |(&outer, &next): (&isize, &isize)| outer == next * inner.extent as isize;
        self.apart.is_none() && inner.apart.is_none() && self.strides.iter().zip(&inner.strides).all(even)
    }
}

impl Space {
    /// The space of views of one shape. Variable 0 runs over the outermost axis.
    pub(crate) fn new(builder: &mut Builder, views: &[&View], apart: &[usize]) -> Space {
        Space::of(builder, axes(views, apart, Order::Memory), views)
    }

    /// As [`Space::new`], walked in one order by one worker.
    pub(crate) fn in_order(builder: &mut Builder, views: &[&View]) -> Space {
        let mut axes = axes(views, &[], Order::Logical);
        axes.insert(0, Axis { extent: 1, strides: vec![0; views.len()], apart: None });
        Space::of(builder, axes, views)
    }

    fn of(builder: &mut Builder, axes: Vec<Axis>, views: &[&View]) -> Space {
        let vars = (0..axes.len()).map(|place| if place == 0 { Var(0) } else { builder.var() }).collect();
        let starts = views.iter().map(|view| view.lead as i64).collect();
        Space { prologues: vec![Vec::new(); axes.len()], axes, vars, starts }
    }

    /// Makes sure that there is an axis within the range, to run in lanes: a single axis is cut in two.
    pub(crate) fn split(&mut self, builder: &mut Builder) {
        if self.axes.len() > 1 {
            return;
        }
        let only = self.axes[0].clone();
        let even = (1..=INNER.min(only.extent)).rev().find(|n| only.extent.is_multiple_of(*n)).unwrap_or(1);
        // A long prime extent has no even cut; one iteration then does all of it.
        let inner = if even < 64 || only.apart.is_some() { only.extent } else { even };
        let strides = only.strides.iter().map(|stride| stride * inner as isize).collect();
        self.axes = vec![
            Axis { extent: only.extent / inner.max(1), strides, apart: None },
            Axis { extent: inner, strides: only.strides, apart: only.apart },
        ];
        self.vars.push(builder.var());
        self.prologues.push(Vec::new());
    }

    /// Puts a longer axis innermost where that one has too few elements for lanes. Part of the range's axis stays the range.
    pub(crate) fn lengthen_innermost(&mut self, builder: &mut Builder) {
        let count = self.axes.len();
        if count < 2
            || self.innermost().extent >= FEWEST_LANES
            || self.axes[count - 2].extent <= self.innermost().extent
        {
            return;
        }
        if count == 2 {
            let range = self.axes[0].clone();
            let Some(inner) = (FEWEST_LANES..=INNER).rev().find(|n| range.extent.is_multiple_of(*n)) else { return };
            let strides = range.strides.iter().map(|stride| stride * inner as isize).collect();
            self.axes[0] = Axis { extent: range.extent / inner, strides, apart: None };
            self.axes.insert(1, Axis { extent: inner, ..range });
            self.vars.push(builder.var());
            self.prologues.push(Vec::new());
        }
        let count = self.axes.len();
        self.axes.swap(count - 2, count - 1);
    }

    /// The position in view number `view` of the element that the loops stand at.
    pub(crate) fn position(&self, view: usize) -> Index {
        let axes = self.axes.iter().zip(&self.vars);
        let start = Index::Constant(self.starts[view]);
        axes.fold(start, |sum, (axis, &var)| sum.plus(Index::Var(var).times(axis.strides[view] as i64)))
    }

    /// The coordinate along an axis that was kept apart.
    pub(crate) fn coordinate(&self, axis: usize) -> Index {
        self.axes
            .iter()
            .position(|other| other.apart == Some(axis))
            .map_or(Index::Constant(0), |place| Index::Var(self.vars[place]))
    }

    /// Adds what is done once per step of an axis that was kept apart.
    pub(crate) fn before_inner_of(&mut self, axis: usize, statements: Vec<Stmt>) {
        let place = self.axes.iter().position(|other| other.apart == Some(axis)).unwrap_or(0);
        self.prologues[place].extend(statements);
    }

    /// Adds what is done once per step of the range.
    pub(crate) fn before_everything(&mut self, statements: Vec<Stmt>) {
        self.prologues[0].extend(statements);
    }

    /// Adds what is done once per position of view number `view`.
    pub(crate) fn before_inner_of_view(&mut self, view: usize, statements: Vec<Stmt>) {
        let place = self.depth_of(view);
        self.prologues[place].extend(statements);
    }

    /// The innermost axis.
    pub(crate) fn innermost(&self) -> &Axis {
        &self.axes[self.axes.len() - 1]
    }

    /// Whether the innermost loop can run in lanes: its coordinate bounds no loop.
    pub(crate) fn has_lanes(&self) -> bool {
        self.innermost().apart.is_none()
    }

    /// Whether view number `view` stands still along the innermost axis.
    pub(crate) fn is_still(&self, view: usize) -> bool {
        self.innermost().strides[view] == 0
    }

    /// Extent of the range.
    pub(crate) fn range(&self) -> usize {
        self.axes[0].extent
    }

    /// Fewest iterations of the range worth a worker, where each element takes the work of copying `work` elements.
    pub(crate) fn grain(&self, work: usize) -> u32 {
        let inner = self.axes[1..].iter().fold(work.max(1), |product, axis| product.saturating_mul(axis.extent));
        ELEMENTS_PER_WORKER.div_ceil(inner.max(1)) as u32
    }

    /// The loops within the range around `body`.
    pub(crate) fn wrap(self, mut body: Vec<Stmt>, innermost: LoopMode) -> Vec<Stmt> {
        let mut mode = innermost;
        for (place, prologue) in self.prologues.into_iter().enumerate().rev() {
            body = prologue.into_iter().chain(body).collect();
            if place > 0 {
                body = vec![for_loop(self.vars[place], self.axes[place].extent, mode, body)];
                mode = LoopMode::Serial;
            }
        }
        body
    }

    fn depth_of(&self, view: usize) -> usize {
        self.axes.iter().rposition(|axis| axis.strides[view] != 0).unwrap_or(0)
    }
}

/// Adds the step `destination = source`, both of one shape, whatever their strides.
pub(crate) fn push_copy(lowering: &mut Lowering<'_>, id: NodeId, source: &View, destination: &View) {
    let bits = bits_of(source.dtype);
    let as_bits = |view: &View| View { dtype: bits, ..view.clone() };
    let (source, destination) = (as_bits(source), as_bits(destination));
    let (source, destination) = match in_words(lowering, &[&source, &destination]).as_deref() {
        Some([source, destination]) => (source.clone(), destination.clone()),
        _ => (source, destination),
    };
    push_map(lowering, id, &Expr::argument(0, source.dtype), &[&source, &destination]);
}

/// Adds the step that writes the one element of a value everywhere.
pub(crate) fn push_fill(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    value: &View,
    element: Option<Scalar>,
    destination: &View,
) {
    let bits = View { dtype: bits_of(destination.dtype), ..destination.clone() };
    match (in_words(lowering, &[&bits]).as_deref(), element) {
        (Some([words]), Some(element)) => {
            let ones = u64::from(u32::MAX) / ((1 << (8 * destination.dtype.size())) - 1);
            let mut word = Expr::new();
            let root = word.constant(Scalar::from_bits(DType::U32, element.bits() * ones));
            push_map(lowering, id, &word.with_root(root), &[words]);
        }
        _ => push_copy(lowering, id, &value.broadcast(&destination.shape()), destination),
    }
}

/// Views of elements of 16 bits, for CPUs of 8 bits as well, as views of words, where the elements of each word lie side by side
/// in all of them.
fn in_words(lowering: &Lowering<'_>, views: &[&View]) -> Option<Vec<View>> {
    let first = views.first()?;
    let moves = |axis: usize| first.extents[axis] > 1;
    let inner = (0..first.rank()).find(|&axis| moves(axis) && views.iter().all(|view| view.strides[axis] == 1))?;
    let count = match (first.dtype, lowering.options.processor) {
        (DType::U16, _) => 2,
        (DType::U8, Processor::Cpu) => 4,
        _ => return None,
    };
    let is_whole = |view: &&View| {
        let mut others = (0..view.rank()).filter(|&axis| axis != inner && moves(axis));
        view.offset.is_multiple_of(count)
            && view.lead.is_multiple_of(count)
            && others.all(|axis| view.strides[axis] % count as isize == 0)
    };
    if !first.extents[inner].is_multiple_of(count) || !views.iter().all(is_whole) {
        return None;
    }
    let words = |view: &&View| {
        let mut words =
            View { dtype: DType::U32, offset: view.offset / count, lead: view.lead / count, ..(*view).clone() };
        words.strides.iter_mut().for_each(|stride| *stride /= count as isize);
        words.strides[inner] = 1;
        words.extents[inner] /= count;
        words
    };
    Some(views.iter().map(words).collect())
}

/// Adds the step `views.last() = expr(the views before it)`, all of one shape (broadcast already).
pub(crate) fn push_map(lowering: &mut Lowering<'_>, id: NodeId, expr: &Expr, views: &[&View]) {
    let Some((written, read)) = views.split_last() else { return };
    if written.elements() == 0 {
        return;
    }
    let mut builder = Builder::new();
    let mut space = Space::new(&mut builder, views, &[]);
    space.lengthen_innermost(&mut builder);
    space.split(&mut builder);
    let operands: Vec<usize> = read.iter().map(|view| builder.reads(view)).collect();
    let result = builder.writes(written);
    let body = builder.block(|b| {
        let arguments: Vec<_> = operands.iter().map(|&n| b.load_stored(n, space.position(n))).collect();
        let value = b.apply(expr.clone(), &arguments);
        b.store(result, space.position(result), value);
    });
    let in_place = operands.iter().filter(|&&n| may_share(written, read[n])).map(|&n| (result, n)).collect();
    let call = Call { grain: space.grain(1), in_place, ..Call::default() };
    builder.push(lowering, id, space.range(), space.wrap(body, LoopMode::Lanes), call);
}

/// Whether a result may lie where an operand lies: each element of one is at the place of the same element of the other.
pub(crate) fn may_share(written: &View, read: &View) -> bool {
    let apart = |axis: usize| written.extents[axis] > 1 && written.strides[axis] != read.strides[axis];
    written.dtype.size() == read.dtype.size()
        && written.extents == read.extents
        && written.lead == read.lead
        && written.span() == written.elements()
        && !(0..written.rank()).any(apart)
}

/// A loop over `0..extent`.
pub(crate) fn for_loop(var: Var, extent: usize, mode: LoopMode, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(extent as i64), mode, body }
}
