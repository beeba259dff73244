//! The way from sums of integers to integers, in one multiplication.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Graph, NodeId, Scalar, Tensor, UnaryOp};

use super::affine::{Constants, Steps, integer_range, with_number};
use crate::fuse::channels::{bias_shape, channel_axis, channel_tensor, channel_values};
use crate::query::sums_integers;

/// `i8(round(clamp(f32(acc + t) * m + b, l, h) / s) + z) => i8(clamp(round(f32(acc + t + b') * m') + z, l', h'))` in the epilogue of
/// a contraction of integers, with `m' = m / s` and `b' = round(b / m)`.
///
/// The terms of the sum that are constant become one. Not exact: a bias is rounded to the steps of the sums, and the factor once to f32; bounds that are no steps are rounded.
pub fn fold_requantize(graph: &mut Graph) -> usize {
    let mut rewrites = 0;
    for id in graph.order() {
        let Some(folded) = Requantize::of(graph, id) else { continue };
        rewrites += folded.write(graph, id) as usize;
    }
    graph.remove_dead();
    rewrites
}

/// `cast(clamp(round(f32(sum + bias) * factor) + zero, low, high))`
struct Requantize {
    /// The node of the epilogue that this is.
    node: ExprId,
    dtype: DType,
    /// The i32 node of the epilogue that is scaled, less what is constant in it.
    sum: ExprId,
    bias: Vec<i64>,
    factors: Vec<f64>,
    zero: f64,
    low: Option<f64>,
    high: Option<f64>,
}

impl Requantize {
    /// The first cast of the epilogue that is not yet in its last form.
    fn of(graph: &Graph, id: NodeId) -> Option<Requantize> {
        let expr = graph.op(id).epilogue()?;
        let casts = expr.ids().filter(|&node| matches!(expr.node(node), ExprNode::Cast(DType::I8 | DType::U8, _)));
        casts.filter(|_| sums_integers(graph, id)).find_map(|node| Requantize::at(graph, id, expr, node))
    }

    fn at(graph: &Graph, id: NodeId, expr: &Expr, node: ExprId) -> Option<Requantize> {
        let axis = channel_axis(graph, id)?;
        let ExprNode::Cast(dtype, inner) = expr.node(node) else { return None };
        let operands = graph.operands(id);
        // The accumulator is argument 0, and no constant.
        let arguments = [&operands[..1], &operands[2..]].concat();
        let shape = &graph.ty(id).shape;
        let constants = Constants { graph, operands: &arguments, shape };
        let channels = shape.dim(axis);
        let per_channel = |id: ExprId| match expr.node(id) {
            ExprNode::Constant(value) => Some(vec![value.as_f64(); channels]),
            ExprNode::Argument(n, _) if n > 0 => channel_values(graph, arguments[n as usize], shape, axis),
            _ => None,
        };
        let steps = Steps::of(expr, inner, &constants)?;
        let value = Value::of(expr, steps.ratio, &constants, per_channel)?;
        let sum = Sum::of(expr, value.sum, channels, per_channel);
        let has_one_factor = steps.factor == 1.0 || value.factors.is_none();
        if has_one_factor && sum.terms < 2 && value.bias.is_none() && value.low.is_none() && value.high.is_none() {
            return None;
        }
        let own = value.factors.unwrap_or_else(|| vec![1.0; channels]);
        let mut bias = sum.constant;
        for (place, more) in value.bias.into_iter().flatten().enumerate() {
            bias[place] += more / own[place];
        }
        let bound = |value: f64| (value * steps.factor).round_ties_even() + steps.zero;
        let (least, most) = integer_range(dtype);
        let tighter = |bound: Option<f64>, outer: Option<f64>, f: fn(f64, f64) -> f64| match (bound, outer) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (a, b) => a.or(b),
        };
        let low = tighter(value.low.map(bound), steps.low, f64::max).filter(|&low| low > least as f64);
        let high = tighter(value.high.map(bound), steps.high, f64::min).filter(|&high| high < most as f64);
        let factors = own.iter().map(|m| m * steps.factor).collect();
        let bias = bias.into_iter().map(rounded).collect::<Option<Vec<i64>>>()?;
        Some(Requantize { node, dtype, sum: sum.rest, bias, factors, zero: steps.zero, low, high })
    }

    fn write(self, graph: &mut Graph, id: NodeId) -> bool {
        let Some(axis) = channel_axis(graph, id) else { return false };
        let (origin, rank) = (graph.node(id).origin().clone(), graph.ty(id).shape.rank());
        let mut op = graph.op(id).clone();
        let Some(old) = op.epilogue().cloned() else { return false };
        let mut operands = graph.operands(id).to_vec();
        let shape = || bias_shape(self.bias.len(), axis, rank);
        let bias = self.bias.iter().map(|&value| Scalar::from_i64(DType::I32, value));
        let Ok(bias) = Tensor::from_scalars(DType::I32, shape(), bias) else { return false };
        operands.push(graph.constant(bias, origin.clone()));
        operands.push(graph.constant(channel_tensor(&self.factors, shape()), origin.clone()));
        let [bias, factor] = [3, 2].map(|behind| operands.len() as u16 - behind);
        let mut expr = Expr::new();
        let requantized = |expr: &mut Expr| self.write_expr(expr, &old, bias, factor);
        let root = expr.inline_but(&old, self.node, requantized);
        let expr = expr.with_root(root);
        op.epilogue_mut().into_iter().for_each(|slot| *slot = expr.clone());
        graph.rewrite(id, op, &operands, origin).is_ok()
    }

    fn write_expr(&self, expr: &mut Expr, old: &Expr, bias: u16, factor: u16) -> ExprId {
        let sum = expr.inline(&old.clone().with_root(self.sum), |_, _, _| None);
        let bias = expr.arg(bias, DType::I32);
        let sum = expr.binary(BinaryOp::Add, sum, bias);
        let (sum, factor) = (expr.cast(DType::F32, sum), expr.arg(factor, DType::F32));
        let scaled = expr.binary(BinaryOp::Mul, sum, factor);
        let mut steps = expr.unary(UnaryOp::Round, scaled);
        let bounds = [(BinaryOp::Min, self.high), (BinaryOp::Max, self.low)];
        let zero = (BinaryOp::Add, Some(self.zero).filter(|&zero| zero != 0.0));
        for (op, value) in [zero].into_iter().chain(bounds) {
            if let Some(value) = value {
                let number = expr.number(steps, value);
                steps = expr.binary(op, steps, number);
            }
        }
        expr.cast(self.dtype, steps)
    }
}

/// `rest + constant`, where the sum has a number of constant terms.
pub(super) struct Sum {
    pub(super) rest: ExprId,
    pub(super) constant: Vec<f64>,
    pub(super) terms: usize,
}

impl Sum {
    pub(super) fn of(
        expr: &Expr,
        id: ExprId,
        channels: usize,
        per_channel: impl Fn(ExprId) -> Option<Vec<f64>>,
    ) -> Sum {
        let mut sum = Sum { rest: id, constant: vec![0.0; channels], terms: 0 };
        while let ExprNode::Binary(BinaryOp::Add, a, b) = expr.node(sum.rest) {
            let (rest, values) = match (per_channel(a), per_channel(b)) {
                (_, Some(values)) => (a, values),
                (Some(values), None) => (b, values),
                (None, None) => break,
            };
            sum.constant.iter_mut().zip(values).for_each(|(total, value)| *total += value);
            (sum.rest, sum.terms) = (rest, sum.terms + 1);
        }
        sum
    }
}

/// The nearest integer, where it leaves room for sums.
pub(super) fn rounded(value: f64) -> Option<i64> {
    (value.abs() < (1u64 << 30) as f64).then_some(value.round_ties_even() as i64)
}

/// `clamp(f32(sum) * factors + bias, low, high)`
struct Value {
    sum: ExprId,
    factors: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
    low: Option<f64>,
    high: Option<f64>,
}

impl Value {
    fn of(
        expr: &Expr,
        id: ExprId,
        constants: &Constants<'_>,
        per_channel: impl Fn(ExprId) -> Option<Vec<f64>> + Copy,
    ) -> Option<Value> {
        let number = |id: ExprId| constants.single(expr, id);
        let (mut at, mut value) = (id, Value { sum: id, factors: None, bias: None, low: None, high: None });
        loop {
            match expr.node(at) {
                ExprNode::Binary(BinaryOp::Max, a, b) if value.is_bare() && value.low.is_none() => {
                    let (inner, low) = with_number(a, b, number)?;
                    (value.low, at) = (Some(low), inner);
                }
                ExprNode::Binary(BinaryOp::Min, a, b) if value.is_bare() && value.high.is_none() => {
                    let (inner, high) = with_number(a, b, number)?;
                    (value.high, at) = (Some(high), inner);
                }
                ExprNode::Binary(BinaryOp::Add, a, b) if value.is_bare() => {
                    let (inner, bias) = per_channel(b).map(|bias| (a, bias)).or_else(|| Some((b, per_channel(a)?)))?;
                    (value.bias, at) = (Some(bias), inner);
                }
                ExprNode::Binary(BinaryOp::Mul, a, b) if value.factors.is_none() => {
                    let (inner, factors) = per_channel(b).map(|m| (a, m)).or_else(|| Some((b, per_channel(a)?)))?;
                    let positive = factors.iter().all(|factor| *factor >= 0.0);
                    (value.factors, at) = (positive.then_some(Some(factors))?, inner);
                }
                ExprNode::Cast(DType::F32, sum) if expr.dtype_of(sum) == DType::I32 => {
                    return Some(Value { sum, ..value });
                }
                _ => return None,
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.bias.is_none() && self.factors.is_none()
    }
}
