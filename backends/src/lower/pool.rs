//! Pools: sliding windows over the spatial axes of images `[N,C,spatial..]`.

use edgecc_ir::{BinaryOp, DType, Expr, NodeId, PoolKind, Scalar, UnaryOp, Window};

use super::builder::{Builder, computed};
use super::nest::Space;
use super::window::{Taps, WindowAxis, anchors, offset, over};
use super::{Call, Lowered, Lowering, convolution};
use crate::contraction::{Combination, Element};
use crate::kernel::{Index, Local, LoopMode};
use crate::view::View;

/// Operand and result of a pool with its windows.
struct Pool {
    source: View,
    result: View,
    axes: Vec<WindowAxis>,
}

impl Pool {
    fn of(lowering: &mut Lowering<'_>, id: NodeId, window: &Window) -> Pool {
        let source = lowering.view(lowering.graph.operands(id)[0]).clone();
        let result = lowering.destination(id);
        let axes = WindowAxis::all(window, &source, &result, 2);
        Pool { source, result, axes }
    }

    fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel as usize).product()
    }

    /// How windows without weights join what becomes the result, and how; `None` where windows divide by counts of their own.
    fn as_window(&self, kind: PoolKind) -> Option<(Combination, Expr)> {
        let element = Element::of(self.source.dtype)?;
        let is_divided_alike = |count_pads: bool| {
            self.axes.iter().all(|axis| if count_pads { !axis.overhangs() } else { !axis.is_clipped() })
        };
        match kind {
            PoolKind::Max => Some((Combination::Maximum, element.plain_epilogue())),
            PoolKind::Average { count_pads } if self.taps() <= most_summed(element) && is_divided_alike(count_pads) => {
                let mut mean = Expr::argument(0, DType::F32);
                let sum = mean.root();
                let part = mean.constant(Scalar::f32(1.0 / self.taps() as f32));
                let product = mean.binary(BinaryOp::Mul, sum, part);
                let root = mean.cast(element.dtype(), product);
                Some((Combination::Sum, mean.with_root(root)))
            }
            PoolKind::Average { .. } | PoolKind::Lp { .. } => None,
        }
    }

    /// The step's cost and its innermost loop.
    fn push(
        self,
        builder: Builder,
        lowering: &mut Lowering<'_>,
        id: NodeId,
        space: Space,
        body: Vec<crate::kernel::Stmt>,
    ) {
        let call = Call { grain: space.grain(self.taps()), ..Call::default() };
        let mode = if space.has_lanes() { LoopMode::Lanes } else { LoopMode::Serial };
        builder.push(lowering, id, space.range(), space.wrap(body, mode), call);
    }
}

/// Elements of windows that are summed as they are: code for each is written out, and halves round each sum.
fn most_summed(element: Element) -> usize {
    match element {
        Element::F32 => 64,
        Element::F16 => 16,
        Element::I8 => 0,
    }
}

/// The largest element, the mean or the norm of each window.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, kind: PoolKind, window: &Window) -> Lowered<()> {
    let pool = Pool::of(lowering, id, window);
    if pool.result.elements() == 0 {
        return Ok(());
    }
    if let Some(form) = pool.as_window(kind)
        && convolution::pool(lowering, id, form, window, (&pool.source, &pool.result))
    {
        return Ok(());
    }
    let apart: Vec<usize> = pool.axes.iter().filter(|axis| axis.is_clipped()).map(|axis| axis.axis).collect();
    let anchors = anchors(&pool.source, &pool.result, &pool.axes, &apart);
    let mut builder = Builder::new();
    let mut space = Space::new(&mut builder, &[&anchors, &pool.result], &apart);
    space.split(&mut builder);
    let (from, to) = (builder.reads(&pool.source), builder.writes(&pool.result));
    let taps: Vec<Taps> = pool.axes.iter().map(|axis| axis.taps(&mut builder, &space)).collect();
    let counts = match kind {
        PoolKind::Average { count_pads } => divisors(&mut builder, &mut space, &pool, count_pads),
        PoolKind::Max | PoolKind::Lp { .. } => Vec::new(),
    };
    let body = builder.block(|b| {
        let (op, initial) = initial(kind, computed(pool.source.dtype));
        let value = b.constant(initial);
        over(b, &taps, |b| {
            let element = b.load(from, space.position(from).plus(offset(&pool.source, &pool.axes, &taps)));
            let element = power(b, kind, element);
            b.fold(value, op, element);
        });
        let value = finish(b, kind, value, &counts);
        b.store(to, space.position(to), value);
    });
    pool.push(builder, lowering, id, space, body);
    Ok(())
}

fn initial(kind: PoolKind, dtype: DType) -> (BinaryOp, Scalar) {
    match kind {
        PoolKind::Max => (BinaryOp::Max, Scalar::from_f64(dtype, f64::NEG_INFINITY)),
        PoolKind::Average { .. } | PoolKind::Lp { .. } => (BinaryOp::Add, Scalar::from_f64(dtype, 0.0)),
    }
}

/// What a window joins of an element.
fn power(builder: &mut Builder, kind: PoolKind, element: Local) -> Local {
    match kind {
        PoolKind::Max | PoolKind::Average { .. } => element,
        PoolKind::Lp { p: 1 } => builder.unary(UnaryOp::Abs, element),
        PoolKind::Lp { p: 2 } => builder.binary(BinaryOp::Mul, element, element),
        PoolKind::Lp { p } => {
            let magnitude = builder.unary(UnaryOp::Abs, element);
            let exponent = builder.number(builder.dtype(element), p as f64);
            builder.binary(BinaryOp::Pow, magnitude, exponent)
        }
    }
}

/// The result of a window from what was joined.
fn finish(builder: &mut Builder, kind: PoolKind, value: Local, counts: &[Local]) -> Local {
    match kind {
        PoolKind::Max | PoolKind::Lp { p: 1 } => value,
        PoolKind::Lp { p: 2 } => builder.unary(UnaryOp::Sqrt, value),
        PoolKind::Lp { p } => {
            let exponent = builder.number(builder.dtype(value), 1.0 / p as f64);
            builder.binary(BinaryOp::Pow, value, exponent)
        }
        PoolKind::Average { .. } => {
            let product = counts.split_first().map(|(&first, rest)| {
                rest.iter().fold(first, |product, &count| builder.binary(BinaryOp::Mul, product, count))
            });
            product.map_or(value, |product| builder.binary(BinaryOp::Div, value, product))
        }
    }
}

/// What a mean is divided by, a factor for each axis that clips windows and one for the others together.
fn divisors(builder: &mut Builder, space: &mut Space, pool: &Pool, count_pads: bool) -> Vec<Local> {
    let dtype = computed(pool.source.dtype);
    let mut constant = 1;
    let mut divisors = Vec::new();
    for axis in &pool.axes {
        let varies = if count_pads { axis.overhangs() } else { axis.is_clipped() };
        if !varies {
            constant *= axis.kernel;
            continue;
        }
        let position = space.coordinate(axis.axis);
        let count =
            if count_pads { axis.taps_before(position, axis.input + axis.after) } else { axis.taps_inside(position) };
        let mut local = None;
        let statements = builder.block(|b| {
            let count = b.index(count);
            local = Some(b.cast(dtype, count));
        });
        space.before_inner_of(axis.axis, statements);
        divisors.extend(local);
    }
    let mut local = None;
    let statements = builder.block(|b| local = Some(b.number(dtype, constant as f64)));
    space.before_everything(statements);
    divisors.extend(local);
    divisors
}

/// Positions of the maxima: of equal elements the first in row-major order.
pub(super) fn indices(lowering: &mut Lowering<'_>, id: NodeId, window: &Window, column_major: bool) -> Lowered<()> {
    let pool = Pool::of(lowering, id, window);
    if pool.result.elements() == 0 {
        return Ok(());
    }
    let apart: Vec<usize> = (0..pool.source.rank()).collect();
    let anchors = anchors(&pool.source, &pool.result, &pool.axes, &apart);
    let mut builder = Builder::new();
    let space = Space::new(&mut builder, &[&anchors, &pool.result], &apart);
    let (from, to) = (builder.reads(&pool.source), builder.writes(&pool.result));
    let taps: Vec<Taps> = pool.axes.iter().map(|axis| axis.clipped(&mut builder, &space)).collect();
    let body = builder.block(|b| {
        let best = b.constant(initial(PoolKind::Max, computed(pool.source.dtype)).1);
        let found = b.constant(Scalar::i64(-1));
        over(b, &taps, |b| {
            let element = b.load(from, space.position(from).plus(offset(&pool.source, &pool.axes, &taps)));
            let here = b.index(flat(&pool, &space, &taps, column_major));
            let wins = first_or_larger(b, found, element, best);
            b.replace(best, wins, element);
            b.replace(found, wins, here);
        });
        b.store(to, space.position(to), found);
    });
    pool.push(builder, lowering, id, space, body);
    Ok(())
}

/// Whether an element is the window's first or larger than the largest so far.
fn first_or_larger(builder: &mut Builder, found: Local, element: Local, best: Local) -> Local {
    let zero = builder.constant(Scalar::i64(0));
    let first = builder.binary(BinaryOp::Less, found, zero);
    let larger = builder.binary(BinaryOp::Less, best, element);
    builder.binary(BinaryOp::Or, first, larger)
}

/// The row-major index of the element under the taps; its spatial part counts the first axis fastest if `column_major`.
fn flat(pool: &Pool, space: &Space, taps: &[Taps], column_major: bool) -> Index {
    let source = &pool.source;
    let mut spatial: Vec<(Index, usize)> =
        taps.iter().zip(&pool.axes).map(|(taps, axis)| (taps.coordinate.clone(), source.extents[axis.axis])).collect();
    if column_major {
        spatial.reverse();
    }
    let leading = (0..2).map(|axis| (space.coordinate(axis), source.extents[axis]));
    leading
        .chain(spatial)
        .fold(Index::Constant(0), |sum, (coordinate, extent)| sum.times(extent as i64).plus(coordinate))
}
