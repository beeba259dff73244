//! Loop nests over the logical elements of views: axes merged where strides allow, ordered as the written view lies.

use edgecc_ir::{DType, Expr};

use super::bits_of;
use crate::kernel::{Access, BufferType, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use crate::view::View;

/// Fewest elements worth a worker of their own.
const ELEMENTS_PER_WORKER: usize = 16 * 1024;

/// A loop nest with the fewest iterations of its range that are worth a worker.
pub(crate) struct Nest {
    pub(crate) kernel: LoopKernel,
    pub(crate) grain: u32,
}

/// One axis of an iteration space: its extent and each view's stride along it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) extent: usize,
    pub(crate) strides: Vec<isize>,
}

/// The iteration space of views of one shape: axes outermost first, as the last view lies in memory, with extents of 1
/// dropped and neighbours merged where every view allows it. At least one axis.
pub(crate) fn axes(views: &[&View]) -> Vec<Axis> {
    let Some(last) = views.last() else { return Vec::new() };
    let mut order: Vec<usize> = (0..last.rank()).filter(|&axis| last.extents[axis] != 1).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(last.strides[axis].unsigned_abs()));
    let mut merged: Vec<Axis> = Vec::new();
    for axis in order {
        let extent = last.extents[axis];
        let strides: Vec<isize> = views.iter().map(|view| view.strides[axis]).collect();
        match merged.last_mut() {
            Some(outer)
                if outer.strides.iter().zip(&strides).all(|(&outer, &inner)| outer == inner * extent as isize) =>
            {
                outer.extent *= extent;
                outer.strides = strides;
            }
            _ => merged.push(Axis { extent, strides }),
        }
    }
    if merged.is_empty() {
        merged.push(Axis { extent: 1, strides: vec![0; views.len()] });
    }
    merged
}

/// Cuts a single long axis in two, so that its outer part can be the range and its inner part has lanes.
pub(crate) fn with_inner(mut axes: Vec<Axis>) -> Vec<Axis> {
    const INNER: usize = 1024;
    if axes.len() == 1 {
        let only = axes[0].clone();
        let inner = (1..=INNER.min(only.extent)).rev().find(|n| only.extent.is_multiple_of(*n)).unwrap_or(1);
        // A long prime extent has no even cut; one iteration then does all of it.
        let inner = if inner < 64 { only.extent } else { inner };
        let outer = only.strides.iter().map(|stride| stride * inner as isize).collect();
        axes =
            vec![Axis { extent: only.extent / inner, strides: outer }, Axis { extent: inner, strides: only.strides }];
    }
    axes
}

impl Nest {
    /// `destination = source`, both of one shape, whatever their strides.
    pub(crate) fn copy(source: &View, destination: &View) -> Nest {
        let bits = bits_of(source.dtype);
        Nest::map(
            &Expr::argument(0, bits),
            &[&View { dtype: bits, ..source.clone() }, &View { dtype: bits, ..destination.clone() }],
        )
    }

    /// `views.last() = expr(the views before it)`, all of one shape (broadcast already).
    pub(crate) fn map(expr: &Expr, views: &[&View]) -> Nest {
        let axes = with_inner(axes(views));
        let Some((innermost, outer)) = axes.split_last() else { unreachable!("with_inner gives two axes") };
        let position = |view: usize| {
            let start = Index::Constant(views[view].lead as i64);
            axes.iter().enumerate().fold(start, |sum, (place, axis)| {
                sum.plus(Index::Var(Var(place as u16)).times(axis.strides[view] as i64))
            })
        };
        let written = views.len() - 1;
        let mut locals: Vec<DType> = views[..written].iter().map(|view| view.dtype).collect();
        let mut body: Vec<Stmt> = (0..written)
            .map(|n| Stmt::Set { local: Local(n as u16), value: Value::Load { buffer: n, index: position(n) } })
            .collect();
        let result = Local(written as u16);
        locals.push(views[written].dtype);
        let arguments = (0..written).map(|n| Local(n as u16)).collect();
        body.push(Stmt::Set { local: result, value: Value::Apply { expr: expr.clone(), arguments } });
        body.push(Stmt::Store { buffer: written, index: position(written), local: result });
        body = vec![for_loop(axes.len() - 1, innermost.extent, LoopMode::Lanes, body)];
        for (place, axis) in outer.iter().enumerate().skip(1).rev() {
            body = vec![for_loop(place, axis.extent, LoopMode::Serial, body)];
        }
        let per_iteration: usize = axes[1..].iter().map(|axis| axis.extent).product();
        let grain = ELEMENTS_PER_WORKER.div_ceil(per_iteration.max(1)) as u32;
        let vars = axes.len() as u16;
        let kernel = LoopKernel { buffers: buffers(views), locals, vars, range: axes[0].extent, body };
        Nest { kernel, grain }
    }
}

/// A loop of variable `place` over `0..extent`.
pub(crate) fn for_loop(place: usize, extent: usize, mode: LoopMode, body: Vec<Stmt>) -> Stmt {
    let (begin, end) = (Index::Constant(0), Index::Constant(extent as i64));
    Stmt::For { var: Var(place as u16), begin, end, mode, body }
}

/// The kernel's operands: the last view is written, the others are read.
pub(crate) fn buffers(views: &[&View]) -> Vec<BufferType> {
    let access = |place: usize| if place + 1 == views.len() { Access::Write } else { Access::Read };
    let buffer =
        |(place, view): (usize, &&View)| BufferType { dtype: view.dtype, elements: view.span(), access: access(place) };
    views.iter().enumerate().map(buffer).collect()
}
