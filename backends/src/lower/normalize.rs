//! Normalization over axes and across channels.

use edgecc_ir::{BinaryOp, NodeId, UnaryOp};

use super::builder::{Builder, computed};
use super::nest::may_share;
use super::rows::Rows;
use super::{Lowered, Lowering};
use crate::kernel::{Index, Local, LoopMode, Stmt};
use crate::view::View;

/// `(x - mean) / sqrt(variance + epsilon)` over `axes`; the mean is 0 if `root_mean_square`.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    axes: &[usize],
    epsilon: f32,
    root_mean_square: bool,
) -> Lowered<()> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    if result.elements() == 0 {
        return Ok(());
    }
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&source, &result], axes);
    let (from, to) = (builder.reads(&source), builder.writes(&result));
    let count: usize = axes.iter().map(|&axis| source.extents[axis]).product();
    let body = builder.block(|b| {
        let scale = b.number(computed(source.dtype), 1.0 / count as f64);
        let mean = (!root_mean_square).then(|| {
            let sum = b.number(computed(source.dtype), 0.0);
            rows.fold(b, sum, BinaryOp::Add, |b, place| b.load(from, place.at(from)));
            b.binary(BinaryOp::Mul, sum, scale)
        });
        let centred = |b: &mut Builder, element: Local| match mean {
            Some(mean) => b.binary(BinaryOp::Sub, element, mean),
            None => element,
        };
        let squares = b.number(computed(source.dtype), 0.0);
        rows.fold(b, squares, BinaryOp::Add, |b, place| {
            let element = b.load(from, place.at(from));
            let element = centred(b, element);
            b.binary(BinaryOp::Mul, element, element)
        });
        let variance = b.binary(BinaryOp::Mul, squares, scale);
        let epsilon = b.number(computed(source.dtype), epsilon as f64);
        let shifted = b.binary(BinaryOp::Add, variance, epsilon);
        let deviation = b.unary(UnaryOp::Sqrt, shifted);
        let inverse = b.unary(UnaryOp::Reciprocal, deviation);
        rows.each(b, |b, place| {
            let element = b.load(from, place.at(from));
            let element = centred(b, element);
            let value = b.binary(BinaryOp::Mul, element, inverse);
            b.store(to, place.at(to), value);
        });
    });
    let in_place = may_share(&result, &source).then_some((to, from)).into_iter().collect();
    rows.push(builder, lowering, id, body, in_place);
    Ok(())
}

/// The attributes of a local response normalization.
#[derive(Clone, Copy)]
pub(super) struct Response {
    /// Channels in the window.
    pub(super) size: usize,
    pub(super) alpha: f32,
    pub(super) beta: f32,
    pub(super) bias: f32,
}

impl Response {
    /// Channels that the window reaches back and ahead.
    fn reach(&self) -> (i64, i64) {
        (((self.size - 1) / 2) as i64, (self.size / 2) as i64)
    }
}

/// `x / (bias + alpha / size * sum(x^2 over the window)) ^ beta` across channels, axis 1.
pub(super) fn local_response(lowering: &mut Lowering<'_>, id: NodeId, response: Response) -> Lowered<()> {
    let source = lowering.view(lowering.graph.operands(id)[0]).clone();
    let result = lowering.destination(id);
    if result.elements() == 0 {
        return Ok(());
    }
    let mut builder = Builder::new();
    let rows = Rows::new(&mut builder, &[&source, &result], &[1]);
    let across = Across { from: builder.reads(&source), to: builder.writes(&result), rows, source, result, response };
    let channels = across.source.extents[1] as i64;
    let (back, ahead) = response.reach();
    let body = builder.block(|b| {
        if across.rows.is_across() || channels <= back + ahead {
            across.clipped(b, 0, channels);
        } else {
            // Windows inside all have one length, so that their channels can run in lanes.
            across.clipped(b, 0, back);
            across.inside(b, back, channels - ahead);
            across.clipped(b, channels - ahead, channels);
        }
    });
    across.rows.push(builder, lowering, id, body, Vec::new());
    Ok(())
}

/// A local response normalization under construction.
struct Across {
    rows: Rows,
    from: usize,
    to: usize,
    source: View,
    result: View,
    response: Response,
}

impl Across {
    /// Channels `begin..end`, their windows clipped.
    fn clipped(&self, builder: &mut Builder, begin: i64, end: i64) {
        let channel = builder.var();
        let (back, ahead) = self.response.reach();
        let at = Index::Var(channel);
        let first = at.clone().plus(Index::Constant(-back)).max(Index::Constant(0));
        let last = at.clone().plus(Index::Constant(ahead + 1)).min(Index::Constant(self.source.extents[1] as i64));
        builder.serial(channel, Index::Constant(begin), Index::Constant(end), |b| self.channel(b, at, first, last));
    }

    /// Channels `begin..end`, whose windows lie inside.
    fn inside(&self, builder: &mut Builder, begin: i64, end: i64) {
        let lane = builder.var();
        let (back, _) = self.response.reach();
        let at = Index::Var(lane).plus(Index::Constant(begin));
        let body = builder.block(|b| {
            let tap = b.var();
            let size = Index::Constant(self.response.size as i64);
            let near = at.clone().plus(Index::Constant(-back)).plus(Index::Var(tap));
            self.normalized(b, at, |b, write| b.serial(tap, Index::Constant(0), size, |b| write(b, near)));
        });
        let (begin, end) = (Index::Constant(0), Index::Constant(end - begin));
        builder.emit([Stmt::For { var: lane, begin, end, mode: LoopMode::Lanes, body }]);
    }

    fn channel(&self, builder: &mut Builder, at: Index, first: Index, last: Index) {
        let near = builder.var();
        self.normalized(builder, at, |b, write| b.serial(near, first, last, |b| write(b, Index::Var(near))));
    }

    /// One channel; `window` runs what it is given for each channel of the window.
    fn normalized(
        &self,
        builder: &mut Builder,
        at: Index,
        window: impl FnOnce(&mut Builder, &dyn Fn(&mut Builder, Index)),
    ) {
        let dtype = computed(self.source.dtype);
        let position =
            |view: usize, of: &View, channel: Index| self.rows.start(view).plus(channel.times(of.strides[1] as i64));
        let sum = builder.number(dtype, 0.0);
        window(builder, &|b, near| {
            let element = b.load(self.from, position(self.from, &self.source, near));
            let square = b.binary(BinaryOp::Mul, element, element);
            b.fold(sum, BinaryOp::Add, square);
        });
        let Response { size, alpha, beta, bias } = self.response;
        let scale = builder.number(dtype, alpha as f64 / size as f64);
        let scaled = builder.binary(BinaryOp::Mul, sum, scale);
        let bias = builder.number(dtype, bias as f64);
        let base = builder.binary(BinaryOp::Add, scaled, bias);
        let exponent = builder.number(dtype, beta as f64);
        let divisor = builder.binary(BinaryOp::Pow, base, exponent);
        let element = builder.load(self.from, position(self.from, &self.source, at.clone()));
        let value = builder.binary(BinaryOp::Div, element, divisor);
        builder.store(self.to, position(self.to, &self.result, at), value);
    }
}
