//! Affine functions per channel, and the contractions that they fold into.

use edgecc_ir::{BinaryOp, DType, Expr, ExprNode, Graph, NodeId, Op, Shape, Tensor, UnaryOp};

/// `scale[c] * x + shift[c]` for every channel `c`, in binary64.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Affine {
    pub(crate) scale: Vec<f64>,
    pub(crate) shift: Vec<f64>,
}

/// The value of a node of an affine expression: without a scale where it does not depend on the variable.
#[derive(Clone)]
struct Term {
    scale: Option<Vec<f64>>,
    shift: Vec<f64>,
}

impl Affine {
    /// `expr` as an affine function of its argument `variable`; `constant` gives the values per channel of the others.
    /// `None` where it is none, where a coefficient is not finite, and for element types other than f32.
    pub(crate) fn of(
        expr: &Expr,
        variable: u16,
        channels: usize,
        constant: impl Fn(u16) -> Option<Vec<f64>>,
    ) -> Option<Affine> {
        let mut terms: Vec<Term> = Vec::with_capacity(expr.nodes().len());
        for node in expr.nodes() {
            let term = match *node {
                ExprNode::Argument(_, dtype) if dtype != DType::F32 => return None,
                ExprNode::Argument(n, _) if n == variable => {
                    Term { scale: Some(vec![1.0; channels]), shift: vec![0.0; channels] }
                }
                ExprNode::Argument(n, _) => Term { scale: None, shift: constant(n)? },
                ExprNode::Constant(value) if value.dtype() == DType::F32 => {
                    Term { scale: None, shift: vec![value.as_f64(); channels] }
                }
                ExprNode::Unary(op, a) => unary(op, &terms[a.index()])?,
                ExprNode::Binary(op, a, b) => binary(op, &terms[a.index()], &terms[b.index()])?,
                ExprNode::Constant(_) | ExprNode::Select(..) | ExprNode::Cast(..) => return None,
            };
            terms.push(term);
        }
        let root = terms.get(expr.root().index())?.clone();
        let affine = Affine { scale: root.scale?, shift: root.shift };
        affine.scale.iter().chain(&affine.shift).all(|value| value.is_finite()).then_some(affine)
    }

    /// `self` applied to the result of `inner`.
    pub(crate) fn after(&self, inner: &Affine) -> Affine {
        let shifts = inner.shift.iter().zip(&self.scale).zip(&self.shift);
        Affine { scale: product(&self.scale, &inner.scale), shift: shifts.map(|((t, s), u)| t * s + u).collect() }
    }
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

fn unary(op: UnaryOp, a: &Term) -> Option<Term> {
    let each = |f: fn(f64) -> f64, values: &[f64]| values.iter().map(|&value| f(value)).collect::<Vec<_>>();
    let negate = |value: f64| -value;
    match (op, &a.scale) {
        (UnaryOp::Neg, scale) => {
            Some(Term { scale: scale.as_ref().map(|scale| each(negate, scale)), shift: each(negate, &a.shift) })
        }
        (UnaryOp::Sqrt, None) => Some(Term { scale: None, shift: each(f64::sqrt, &a.shift) }),
        (UnaryOp::Reciprocal, None) => Some(Term { scale: None, shift: each(f64::recip, &a.shift) }),
        _ => None,
    }
}

fn binary(op: BinaryOp, a: &Term, b: &Term) -> Option<Term> {
    let combine = |f: fn(f64, f64) -> f64, x: &[f64], y: &[f64]| -> Vec<f64> {
        x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect()
    };
    let zeros = vec![0.0; a.shift.len()];
    let sum = |f: fn(f64, f64) -> f64| Term {
        scale: (a.scale.is_some() || b.scale.is_some())
            .then(|| combine(f, a.scale.as_ref().unwrap_or(&zeros), b.scale.as_ref().unwrap_or(&zeros))),
        shift: combine(f, &a.shift, &b.shift),
    };
    let by_constant = |f: fn(f64, f64) -> f64, x: &Term, constant: &Term| Term {
        scale: x.scale.as_ref().map(|scale| combine(f, scale, &constant.shift)),
        shift: combine(f, &x.shift, &constant.shift),
    };
    match (op, &a.scale, &b.scale) {
        (BinaryOp::Add, ..) => Some(sum(|x, y| x + y)),
        (BinaryOp::Sub, ..) => Some(sum(|x, y| x - y)),
        (BinaryOp::Mul, _, None) => Some(by_constant(|x, y| x * y, a, b)),
        (BinaryOp::Mul, None, _) => Some(by_constant(|x, y| x * y, b, a)),
        (BinaryOp::Div, _, None) => Some(by_constant(|x, y| x / y, a, b)),
        _ => None,
    }
}

/// The values of a constant along one axis of a value of `shape`, along whose other axes it does not vary.
pub(crate) fn channel_values(graph: &Graph, id: NodeId, shape: &Shape, axis: usize) -> Option<Vec<f64>> {
    let value = graph.constant_value(id)?;
    let channels = shape.dim(axis);
    let missing = shape.rank().checked_sub(value.shape().rank())?;
    let extents = value.shape().extents();
    let varies = |place: usize| extents[place] != 1 && place + missing != axis;
    if let Some(splat) = value.as_splat() {
        return Some(vec![splat.as_f64(); channels]);
    }
    if value.elements() != channels || (0..extents.len()).any(varies) {
        return None;
    }
    Some(value.scalars().map(|scalar| scalar.as_f64()).collect())
}

/// The axis of a contraction's result along which its weights, operand 1, give each position its own.
pub(crate) fn channel_axis(graph: &Graph, contraction: NodeId) -> Option<usize> {
    match graph.op(contraction) {
        Op::Conv { .. } | Op::ConvTranspose { .. } => Some(1),
        Op::MatMul { .. } => graph.ty(contraction).shape.rank().checked_sub(1),
        _ => None,
    }
}

/// A contraction's epilogue as an affine function of the accumulator, with constants per channel.
pub(crate) fn affine_epilogue(graph: &Graph, contraction: NodeId) -> Option<Affine> {
    let axis = channel_axis(graph, contraction)?;
    let shape = &graph.ty(contraction).shape;
    let extras = &graph.operands(contraction)[2..];
    let epilogue = graph.op(contraction).epilogue()?;
    Affine::of(epilogue, 0, shape.dim(axis), |n| channel_values(graph, extras[n as usize - 1], shape, axis))
}

/// The shape of an operand that has one value per channel: `[O,1,..]` behind an image, `[N]` behind a matrix.
pub(crate) fn bias_shape(channels: usize, axis: usize, rank: usize) -> Shape {
    std::iter::once(channels).chain(std::iter::repeat_n(1, rank - 1 - axis)).collect()
}

/// A constant of `shape` with these values rounded to f32, stored as one element if all are equal.
pub(crate) fn channel_tensor(values: &[f64], shape: Shape) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    match values.split_first() {
        Some((first, rest)) if rest.iter().all(|value| value.to_bits() == first.to_bits()) => {
            let splat = Tensor::splat(shape.clone(), edgecc_ir::Scalar::f32(*first));
            splat.unwrap_or_else(|_| Tensor::from_f32(shape, &values))
        }
        _ => Tensor::from_f32(shape, &values),
    }
}

/// `acc + bias`, the bias being the first further operand.
pub(crate) fn bias_epilogue() -> Expr {
    let mut expr = Expr::new();
    let (acc, bias) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let sum = expr.binary(BinaryOp::Add, acc, bias);
    expr.with_root(sum)
}

/// Weights multiplied by `factor` of each element's row-major index, rounded once to f32. Equal factors keep one element
/// repeated as it is stored.
pub(crate) fn scaled(weights: &Tensor, factors: &[f64], channel: impl Fn(usize) -> usize) -> Tensor {
    let shape = weights.shape().clone();
    if let (Some(weight), Some((first, rest))) = (weights.as_splat(), factors.split_first())
        && rest.iter().all(|factor| factor == first)
    {
        let splat = edgecc_ir::Scalar::f32((weight.as_f64() * first) as f32);
        if let Ok(tensor) = Tensor::splat(shape.clone(), splat) {
            return tensor;
        }
    }
    let scale = |(index, weight): (usize, f32)| (weight as f64 * factors[channel(index)]) as f32;
    Tensor::from_f32(shape, &weights.to_f32().into_iter().enumerate().map(scale).collect::<Vec<_>>())
}

/// The contraction with a further operand behind `extras` others, which is added to the accumulator.
pub(crate) fn with_bias(mut op: Op, extras: usize) -> Option<Op> {
    let epilogue = op.epilogue_mut()?;
    let mut expr = Expr::new();
    let root = expr.inline(epilogue, |expr, n, dtype| {
        (n == 0).then(|| {
            let (acc, bias) = (expr.arg(0, dtype), expr.arg(extras as u16 + 1, dtype));
            expr.binary(BinaryOp::Add, acc, bias)
        })
    });
    *epilogue = expr.with_root(root);
    Some(op)
}

/// Where a weight stands: the position along the summed axis, and the channel of the result.
pub(crate) struct Place {
    pub(crate) summed: usize,
    pub(crate) channel: usize,
}

/// The place of the weight at a row-major index: `[O,C/groups,kernel..]` of a convolution, `[..,K,N]` or `[..,N,K]` of a
/// matrix product.
pub(crate) fn locate(op: &Op, weights: &Tensor, channels: usize, index: usize) -> Place {
    let extents = weights.shape().extents();
    match op {
        Op::Conv { groups, .. } => {
            let kernel = extents[2..].iter().product::<usize>();
            let channel = index / (kernel * extents[1]);
            let group = channel / (channels / groups);
            Place { summed: group * extents[1] + index / kernel % extents[1], channel }
        }
        _ => {
            let (rows, columns) = (extents[extents.len() - 2], extents[extents.len() - 1]);
            let (row, column) = (index / columns % rows, index % columns);
            match op {
                Op::MatMul { transpose_b: true, .. } => Place { summed: column, channel: row },
                _ => Place { summed: row, channel: column },
            }
        }
    }
}

/// The channel of the result that the weight at a row-major index goes to.
pub(crate) fn weight_channel(op: &Op, weights: &Shape, channels: usize) -> Box<dyn Fn(usize) -> usize> {
    let extents = weights.extents();
    let behind = |axis: usize| extents[axis..].iter().product::<usize>().max(1);
    match op {
        // [..,K,N], or [..,N,K].
        Op::MatMul { transpose_b, .. } => {
            let step = if *transpose_b { behind(extents.len() - 1) } else { 1 };
            Box::new(move |index| index / step % channels)
        }
        // [C,O/groups,kernel..]: group g of the inputs makes channels g * O/groups onwards.
        Op::ConvTranspose { groups, .. } => {
            let (per_group, inputs_per_group) = (extents[1], (extents[0] / groups).max(1));
            let (kernel, filter) = (behind(2), behind(1));
            Box::new(move |index| index / filter / inputs_per_group * per_group + index / kernel % per_group)
        }
        // [O,C/groups,kernel..]
        _ => {
            let filter = behind(1);
            Box::new(move |index| index / filter)
        }
    }
}
