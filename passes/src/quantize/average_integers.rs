//! Averages of dequantised images are sums of the integers.

use edgecc_ir::{
    BinaryOp, DType, Expr, Graph, NodeId, Op, PoolKind, ReduceKind, Scalar, Shape, Tensor, TypeError, Window,
};

use super::affine::dequantized;

/// `mean(dequantize(q)) => (f32(conv(q, 1)) - count * zero) * scale / count`, within channels: for means over all spatial
/// axes, and average pools without padding.
///
/// Not exact: the integers are summed exactly, and the sum is scaled once.
pub fn average_integers(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        if let Some(average) = Average::of(graph, id) {
            rewrites += average.write(graph, id).is_ok() as usize;
        }
    }
    graph.remove_dead();
    rewrites
}

struct Average {
    source: NodeId,
    window: Window,
    scale: f64,
    zero: i64,
}

/// Most taps whose sums of 8 bits stay below 2^24, so that they are exact in f32.
const MOST_TAPS: usize = 1 << 16;

impl Average {
    fn of(graph: &Graph, id: NodeId) -> Option<Average> {
        let &image = graph.operands(id).first()?;
        let window = match graph.op(id) {
            Op::Reduce { kind: ReduceKind::Mean, axes } => whole_image(&graph.ty(image).shape, axes)?,
            Op::Pool { kind: PoolKind::Average { .. }, window, ceil: false } => window.clone(),
            _ => return None,
        };
        let is_padded = window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad > 0);
        let taps: usize = window.kernel.iter().product();
        let (source, affine) = dequantized(graph, image).filter(|(_, affine)| affine.dtype == DType::I8)?;
        let (scale, zero) = affine.single()?;
        (!is_padded && taps <= MOST_TAPS).then_some(Average { source, window, scale: scale as f64, zero })
    }

    fn write(self, graph: &mut Graph, id: NodeId) -> Result<(), TypeError> {
        let origin = graph.node(id).origin().clone();
        let groups = graph.ty(self.source).shape.dim(1);
        let taps: usize = self.window.kernel.iter().product();
        let shape: Shape = [groups, 1].into_iter().chain(self.window.kernel.iter().copied()).collect();
        let Ok(ones) = Tensor::splat(shape, Scalar::from_i64(DType::I8, 1)) else { return Ok(()) };
        let ones = graph.constant(ones, origin.clone());
        let mut epilogue = Expr::argument(0, DType::I32);
        let mut sum = epilogue.root();
        if self.zero != 0 {
            let offset = epilogue.constant(Scalar::from_i64(DType::I32, -self.zero * taps as i64));
            sum = epilogue.binary(BinaryOp::Add, sum, offset);
        }
        let sum = epilogue.cast(DType::F32, sum);
        let factor = epilogue.number(sum, self.scale / taps as f64);
        let root = epilogue.binary(BinaryOp::Mul, sum, factor);
        let epilogue = epilogue.with_root(root);
        graph.rewrite(id, Op::Conv { window: self.window, groups, epilogue }, &[self.source, ones], origin)
    }
}

/// The window that covers all spatial axes, where those are the axes.
fn whole_image(image: &Shape, axes: &[usize]) -> Option<Window> {
    let spatial = image.rank().checked_sub(2).filter(|spatial| (1..=2).contains(spatial))?;
    let covers = axes.iter().copied().eq(2..image.rank());
    covers.then(|| Window {
        kernel: image.extents()[2..].to_vec(),
        strides: vec![1; spatial],
        dilations: vec![1; spatial],
        pads_before: vec![0; spatial],
        pads_after: vec![0; spatial],
    })
}
