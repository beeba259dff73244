//! Integers that stand for numbers: `value = (q - zero) * scale`. The maps between the two, written and recognised.
//!
//! The one rounding rule: `q = saturate(round_half_even(value / scale) + zero)`, as ONNX QuantizeLinear has it.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Graph, NodeId, Op, Origin, Scalar, Shape, Tensor, UnaryOp};

use crate::query::map_expr;

/// How the integers of a tensor stand for numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// The type of the integers.
    pub dtype: DType,
    /// The axis along which each position has its own scale and zero point; `None` where all share one.
    pub axis: Option<usize>,
    /// Value of one step, above 0: one, or one per position.
    pub scales: Vec<f32>,
    /// The integers that stand for 0, as many as scales.
    pub zeros: Vec<i64>,
}

impl Affine {
    /// One scale and zero point for all.
    pub fn per_tensor(dtype: DType, scale: f32, zero: i64) -> Self {
        Affine { dtype, axis: None, scales: vec![scale], zeros: vec![zero] }
    }

    /// Scale and zero point of the whole tensor, where there is one.
    pub fn single(&self) -> Option<(f32, i64)> {
        match (self.axis, &self.scales[..], &self.zeros[..]) {
            (None, &[scale], &[zero]) => Some((scale, zero)),
            _ => None,
        }
    }

    /// The integer nearest to a value at a position of the axis.
    pub fn quantize(&self, value: f64, position: usize) -> i64 {
        let place = if self.axis.is_some() { position } else { 0 };
        let (low, high) = integer_range(self.dtype);
        let steps = (value / self.scales[place] as f64).round_ties_even() + self.zeros[place] as f64;
        (steps as i64).clamp(low, high)
    }
}

/// Smallest and largest integer of a type.
pub fn integer_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        DType::U16 => (0, 65535),
        DType::I16 => (-32768, 32767),
        _ => (i32::MIN as i64, i32::MAX as i64),
    }
}

/// The map `(f32(q) - zero) * scale` over integers `q` of a rank, and its operands.
pub(crate) fn dequantize(graph: &mut Graph, q: NodeId, affine: &Affine) -> (Op, Vec<NodeId>) {
    let mut expr = Expr::argument(0, affine.dtype);
    let mut operands = vec![q];
    let mut value = expr.cast(DType::F32, expr.root());
    let rank = graph.ty(q).shape.rank();
    let mut numbers = |expr: &mut Expr, values: Vec<f32>| match affine.axis {
        None => expr.constant(Scalar::f32(values[0])),
        Some(axis) => {
            let extents: Vec<usize> = (0..rank).map(|other| if other == axis { values.len() } else { 1 }).collect();
            operands.push(graph.constant(Tensor::from_f32(Shape::new(&extents), &values), Origin::default()));
            expr.arg(operands.len() as u16 - 1, DType::F32)
        }
    };
    if affine.zeros.iter().any(|&zero| zero != 0) {
        let zero = numbers(&mut expr, affine.zeros.iter().map(|&zero| zero as f32).collect());
        value = expr.binary(BinaryOp::Sub, value, zero);
    }
    let scale = numbers(&mut expr, affine.scales.clone());
    let root = expr.binary(BinaryOp::Mul, value, scale);
    (Op::Map(expr.with_root(root)), operands)
}

/// `saturate(round(x / scale) + zero)` of one scale and zero point.
pub(crate) fn quantize_expr(affine: &Affine) -> Expr {
    let mut expr = Expr::new();
    let (value, scale) = (expr.arg(0, DType::F32), expr.constant(Scalar::f32(affine.scales[0])));
    let ratio = expr.binary(BinaryOp::Div, value, scale);
    let mut steps = expr.unary(UnaryOp::Round, ratio);
    if affine.zeros[0] != 0 {
        let zero = expr.number(steps, affine.zeros[0] as f64);
        steps = expr.binary(BinaryOp::Add, steps, zero);
    }
    let root = expr.cast(affine.dtype, steps);
    expr.with_root(root)
}

/// A map that makes numbers of integers: the integers, and what they stand for.
pub fn dequantized(graph: &Graph, id: NodeId) -> Option<(NodeId, Affine)> {
    let expr = map_expr(graph, id).filter(|expr| expr.dtype() == DType::F32)?;
    let operands = graph.operands(id);
    let is_variable = |operand: NodeId| graph.ty(operand).shape == graph.ty(id).shape;
    let variable = operands.iter().position(|&operand| graph.ty(operand).dtype.is_integer() && is_variable(operand))?;
    let dtype = graph.ty(operands[variable]).dtype;
    let constants = Constants { graph, operands, shape: &graph.ty(id).shape };
    let line = line_of(expr, expr.root(), variable as u16, &constants)?;
    let scales: Vec<f32> = line.scale?.values.iter().map(|&scale| scale as f32).collect();
    let (scales, shifts, axis) = match (scales.len(), line.shift.values.len()) {
        (1, 1) => (scales, line.shift.values, None),
        (count, 1) => (scales, vec![line.shift.values[0]; count], line.axis),
        (1, count) => (vec![scales[0]; count], line.shift.values, line.axis),
        _ => (scales, line.shift.values, line.axis),
    };
    let zeros: Option<Vec<i64>> = scales.iter().zip(&shifts).map(|(&scale, &shift)| zero_of(scale, shift)).collect();
    Some((operands[variable], Affine { dtype, axis, scales, zeros: zeros? }))
}

/// The integer that a line `scale * q + shift` makes 0.
fn zero_of(scale: f32, shift: f64) -> Option<i64> {
    let zero = -shift / scale as f64;
    let near = zero.round();
    (scale > 0.0 && scale.is_finite() && (zero - near).abs() < 1e-3 && near.abs() < 1e9).then_some(near as i64)
}

/// A map that makes integers of f32 numbers with one scale and zero point: the numbers, and what the integers stand for.
/// Bounds narrower than the type's are none of it.
pub fn quantized(graph: &Graph, id: NodeId) -> Option<(NodeId, Affine)> {
    let expr = map_expr(graph, id)?;
    let operands = graph.operands(id);
    let shape = &graph.ty(id).shape;
    let constants = Constants { graph, operands, shape };
    let ExprNode::Cast(dtype, inner) = expr.node(expr.root()) else { return None };
    let steps = Steps::of(expr, inner, &constants)?;
    let (low, high) = integer_range(dtype);
    let ExprNode::Argument(n, DType::F32) = expr.node(steps.ratio) else { return None };
    let source = operands[n as usize];
    let whole =
        steps.low.is_none_or(|bound| bound <= low as f64) && steps.high.is_none_or(|bound| bound >= high as f64);
    let is_plain = dtype.is_integer() && dtype.size() <= 2 && whole && graph.ty(source).shape == *shape;
    let affine = Affine::per_tensor(dtype, (1.0 / steps.factor) as f32, steps.zero as i64);
    (is_plain && steps.factor > 0.0 && steps.zero.fract() == 0.0).then_some((source, affine))
}

/// `clamp(round(ratio * factor) + zero, low, high)` around a node of an expression.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub(crate) ratio: ExprId,
    pub(crate) factor: f64,
    pub(crate) zero: f64,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

impl Steps {
    /// Reads the f32 expression in front of a cast to an integer.
    pub(crate) fn of(expr: &Expr, id: ExprId, constants: &Constants<'_>) -> Option<Steps> {
        let number = |id: ExprId| constants.single(expr, id);
        // Bounds stand behind the zero point, which is added once.
        let (mut at, mut low, mut high, mut zero) = (id, None, None, None);
        loop {
            match expr.node(at) {
                ExprNode::Binary(BinaryOp::Max, a, b) if low.is_none() && zero.is_none() => {
                    let (inner, bound) = with_number(a, b, number)?;
                    (low, at) = (Some(bound), inner);
                }
                ExprNode::Binary(BinaryOp::Min, a, b) if high.is_none() && zero.is_none() => {
                    let (inner, bound) = with_number(a, b, number)?;
                    (high, at) = (Some(bound), inner);
                }
                ExprNode::Binary(BinaryOp::Add, a, b) if zero.is_none() => {
                    let (inner, value) = with_number(a, b, number)?;
                    (zero, at) = (Some(value), inner);
                }
                ExprNode::Unary(UnaryOp::Round, inner) => {
                    let (ratio, factor) = match expr.node(inner) {
                        ExprNode::Binary(BinaryOp::Div, a, b) if number(b).is_some() => (a, 1.0 / number(b)?),
                        ExprNode::Binary(BinaryOp::Mul, a, b) if number(b).is_some() => (a, number(b)?),
                        _ => (inner, 1.0),
                    };
                    return Some(Steps { ratio, factor, zero: zero.unwrap_or(0.0), low, high });
                }
                _ => return None,
            }
        }
    }
}

/// Of two operands the one that is no number, and the number.
pub(crate) fn with_number(a: ExprId, b: ExprId, number: impl Fn(ExprId) -> Option<f64>) -> Option<(ExprId, f64)> {
    match (number(a), number(b)) {
        (_, Some(value)) => Some((a, value)),
        (Some(value), None) => Some((b, value)),
        (None, None) => None,
    }
}

/// The constants among the operands of a map whose result has a shape.
pub(crate) struct Constants<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) operands: &'a [NodeId],
    pub(crate) shape: &'a Shape,
}

/// Constant numbers: one, or one per position of an axis.
#[derive(Clone, Debug)]
struct Numbers {
    values: Vec<f64>,
}

/// `scale * q + shift`, with the axis that its numbers vary along.
struct Line {
    scale: Option<Numbers>,
    shift: Numbers,
    axis: Option<usize>,
}

impl Constants<'_> {
    /// A node that is one number, whatever the position.
    pub(crate) fn single(&self, expr: &Expr, id: ExprId) -> Option<f64> {
        match expr.node(id) {
            ExprNode::Constant(value) => Some(value.as_f64()),
            ExprNode::Cast(_, inner) => self.single(expr, inner),
            ExprNode::Argument(n, _) => {
                let value = self.graph.constant_value(*self.operands.get(n as usize)?)?;
                let is_one = value.elements() == 1 || value.as_splat().is_some();
                is_one.then(|| value.get(0).as_f64())
            }
            _ => None,
        }
    }

    /// The numbers of an operand and the axis that they vary along.
    fn numbers(&self, n: u16) -> Option<(Numbers, Option<usize>)> {
        let value = self.graph.constant_value(*self.operands.get(n as usize)?)?;
        if let Some(value) = value.as_splat() {
            return Some((Numbers { values: vec![value.as_f64()] }, None));
        }
        let missing = self.shape.rank().checked_sub(value.shape().rank())?;
        let extents = value.shape().extents();
        let mut wide = (0..extents.len()).filter(|&axis| extents[axis] != 1);
        let axis = wide.next().map(|axis| axis + missing);
        if wide.next().is_some() {
            return None;
        }
        Some((Numbers { values: value.scalars().map(Scalar::as_f64).collect() }, axis))
    }
}

impl Numbers {
    fn combined(&self, other: &Numbers, f: impl Fn(f64, f64) -> f64) -> Option<Numbers> {
        let count = self.values.len().max(other.values.len());
        let at = |numbers: &Numbers, place: usize| match numbers.values.len() {
            1 => Some(numbers.values[0]),
            length if length == count => Some(numbers.values[place]),
            _ => None,
        };
        let values: Option<Vec<f64>> = (0..count).map(|place| Some(f(at(self, place)?, at(other, place)?))).collect();
        Some(Numbers { values: values? })
    }
}

/// A node as a line of the integer argument `variable`; casts to wider types change nothing.
fn line_of(expr: &Expr, id: ExprId, variable: u16, constants: &Constants<'_>) -> Option<Line> {
    let one = |value: f64| Numbers { values: vec![value] };
    let line = |id: ExprId| line_of(expr, id, variable, constants);
    match expr.node(id) {
        ExprNode::Argument(n, _) if n == variable => Some(Line { scale: Some(one(1.0)), shift: one(0.0), axis: None }),
        ExprNode::Argument(n, _) => {
            let (shift, axis) = constants.numbers(n)?;
            Some(Line { scale: None, shift, axis })
        }
        ExprNode::Constant(value) => Some(Line { scale: None, shift: one(value.as_f64()), axis: None }),
        ExprNode::Cast(DType::F32 | DType::I32 | DType::I64, inner) => line(inner),
        ExprNode::Binary(op, a, b) => {
            let (a, b) = (line(a)?, line(b)?);
            let axis = match (a.axis, b.axis) {
                (Some(x), Some(y)) if x != y => return None,
                (x, y) => x.or(y),
            };
            match (op, a.scale, b.scale) {
                (BinaryOp::Sub, Some(scale), None) => {
                    Some(Line { scale: Some(scale), shift: a.shift.combined(&b.shift, |x, y| x - y)?, axis })
                }
                (BinaryOp::Add, Some(scale), None) | (BinaryOp::Add, None, Some(scale)) => {
                    Some(Line { scale: Some(scale), shift: a.shift.combined(&b.shift, |x, y| x + y)?, axis })
                }
                (BinaryOp::Mul, Some(scale), None) => Some(Line {
                    scale: Some(scale.combined(&b.shift, |x, y| x * y)?),
                    shift: a.shift.combined(&b.shift, |x, y| x * y)?,
                    axis,
                }),
                (BinaryOp::Mul, None, Some(scale)) => Some(Line {
                    scale: Some(scale.combined(&a.shift, |x, y| x * y)?),
                    shift: b.shift.combined(&a.shift, |x, y| x * y)?,
                    axis,
                }),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The position along `axis` of the element at a row-major place; 0 without an axis.
pub(crate) fn along(shape: &Shape, axis: Option<usize>) -> impl Fn(usize) -> usize {
    let extents = shape.extents();
    let (inner, extent) = match axis {
        Some(axis) => (extents[axis + 1..].iter().product::<usize>().max(1), extents[axis].max(1)),
        None => (1, 1),
    };
    move |place| place / inner % extent
}

/// A constant integer as a scalar node's value.
pub(crate) fn integer(dtype: DType, value: i64) -> Tensor {
    Tensor::scalar(Scalar::from_i64(dtype, value))
}
