//! Element-wise operators as expressions.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, NodeId, UnaryOp};

use super::Row;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};
use crate::onnx::tensor::{dtype, type_name};

pub(super) const TABLE: &[Row] = &[
    ("Abs", 1, unary),
    ("Acos", 7, unary),
    ("Acosh", 9, unary),
    ("Add", 1, binary),
    ("And", 1, binary),
    ("Asin", 7, unary),
    ("Asinh", 9, unary),
    ("Atan", 7, unary),
    ("Atanh", 9, unary),
    ("BitShift", 11, bit_shift),
    ("BitwiseAnd", 18, binary),
    ("BitwiseNot", 18, unary),
    ("BitwiseOr", 18, binary),
    ("BitwiseXor", 18, binary),
    ("Cast", 1, cast),
    ("CastLike", 15, cast_like),
    ("Ceil", 1, unary),
    ("Celu", 12, activation),
    ("Clip", 1, clip),
    ("Cos", 7, unary),
    ("Cosh", 9, unary),
    ("Div", 1, binary),
    ("Elu", 1, activation),
    ("Equal", 1, binary),
    ("Erf", 9, unary),
    ("Exp", 1, unary),
    ("Floor", 1, unary),
    ("Gelu", 20, gelu),
    ("Greater", 1, swapped),
    ("GreaterOrEqual", 12, swapped),
    ("HardSigmoid", 1, activation),
    ("HardSwish", 14, activation),
    ("IsInf", 10, is_inf),
    ("IsNaN", 9, unary),
    ("LeakyRelu", 1, activation),
    ("Less", 1, binary),
    ("LessOrEqual", 12, binary),
    ("Log", 1, unary),
    ("Max", 1, variadic),
    ("Mean", 1, mean),
    ("Min", 1, variadic),
    ("Mish", 18, activation),
    ("Mod", 10, modulo),
    ("Mul", 1, binary),
    ("Neg", 1, unary),
    ("Not", 1, unary),
    ("Or", 1, binary),
    ("PRelu", 1, prelu),
    ("Pow", 1, pow),
    ("Reciprocal", 1, unary),
    ("Relu", 1, activation),
    ("Round", 11, unary),
    ("Selu", 1, activation),
    ("Shrink", 9, activation),
    ("Sigmoid", 1, unary),
    ("Sign", 9, unary),
    ("Sin", 7, unary),
    ("Sinh", 9, unary),
    ("Softplus", 1, activation),
    ("Softsign", 1, activation),
    ("Sqrt", 1, unary),
    ("Sub", 1, binary),
    ("Sum", 1, variadic),
    ("Swish", 24, activation),
    ("Tan", 7, unary),
    ("Tanh", 1, unary),
    ("ThresholdedRelu", 10, activation),
    ("Where", 9, select),
    ("Xor", 1, binary),
];

fn unary(c: &mut Context<'_, '_>) -> Results {
    let op = match c.operator() {
        "Abs" => UnaryOp::Abs,
        "Acos" => UnaryOp::Acos,
        "Acosh" => UnaryOp::Acosh,
        "Asin" => UnaryOp::Asin,
        "Asinh" => UnaryOp::Asinh,
        "Atan" => UnaryOp::Atan,
        "Atanh" => UnaryOp::Atanh,
        "Ceil" => UnaryOp::Ceil,
        "Cos" => UnaryOp::Cos,
        "Cosh" => UnaryOp::Cosh,
        "Erf" => UnaryOp::Erf,
        "Exp" => UnaryOp::Exp,
        "Floor" => UnaryOp::Floor,
        "IsNaN" => UnaryOp::IsNan,
        "Log" => UnaryOp::Log,
        "Neg" => UnaryOp::Neg,
        "Not" | "BitwiseNot" => UnaryOp::Not,
        "Reciprocal" => UnaryOp::Reciprocal,
        "Round" => UnaryOp::Round,
        "Sigmoid" => UnaryOp::Sigmoid,
        "Sign" => UnaryOp::Sign,
        "Sin" => UnaryOp::Sin,
        "Sinh" => UnaryOp::Sinh,
        "Sqrt" => UnaryOp::Sqrt,
        "Tan" => UnaryOp::Tan,
        "Tanh" => UnaryOp::Tanh,
        other => return unsupported(format!("{other} is not in the table")),
    };
    let x = c.input(0)?;
    Ok(vec![c.unary(op, x)?])
}

fn binary_op(name: &str) -> Option<BinaryOp> {
    Some(match name {
        "Add" | "Sum" => BinaryOp::Add,
        "And" | "BitwiseAnd" => BinaryOp::And,
        "BitwiseOr" | "Or" => BinaryOp::Or,
        "BitwiseXor" | "Xor" => BinaryOp::Xor,
        "Div" => BinaryOp::Div,
        "Equal" => BinaryOp::Equal,
        "Less" | "Greater" => BinaryOp::Less,
        "LessOrEqual" | "GreaterOrEqual" => BinaryOp::LessEqual,
        "Max" => BinaryOp::Max,
        "Min" => BinaryOp::Min,
        "Mul" => BinaryOp::Mul,
        "Sub" => BinaryOp::Sub,
        _ => return None,
    })
}

fn operator(c: &Context<'_, '_>) -> Imported<BinaryOp> {
    match binary_op(c.operator()) {
        Some(op) => Ok(op),
        None => unsupported(format!("{} is not in the table", c.operator())),
    }
}

fn binary(c: &mut Context<'_, '_>) -> Results {
    let (op, x, y) = (operator(c)?, c.input(0)?, c.input(1)?);
    Ok(vec![c.binary(op, x, y)?])
}

/// `a > b` is `b < a`.
fn swapped(c: &mut Context<'_, '_>) -> Results {
    let (op, x, y) = (operator(c)?, c.input(0)?, c.input(1)?);
    Ok(vec![c.binary(op, y, x)?])
}

fn variadic(c: &mut Context<'_, '_>) -> Results {
    let (op, inputs) = (operator(c)?, c.all_inputs()?);
    Ok(vec![joined(c, op, &inputs)?])
}

fn joined(c: &mut Context<'_, '_>, op: BinaryOp, inputs: &[NodeId]) -> Imported<NodeId> {
    let Some((&first, others)) = inputs.split_first() else { return invalid("takes at least one input") };
    others.iter().try_fold(first, |sum, &input| c.binary(op, sum, input))
}

fn mean(c: &mut Context<'_, '_>) -> Results {
    let inputs = c.all_inputs()?;
    let sum = joined(c, BinaryOp::Add, &inputs)?;
    let count = c.number(c.dtype(sum)?, inputs.len() as f64);
    Ok(vec![c.binary(BinaryOp::Div, sum, count)?])
}

/// The base decides the type; an exponent of another type is converted.
fn pow(c: &mut Context<'_, '_>) -> Results {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let (base, exponent) = (c.dtype(x)?, c.dtype(y)?);
    if let Some(power) = c.value(y).and_then(|value| value.as_splat()).map(|value| value.as_f64())
        && base.is_float()
        && (power == 2.0 || power == 0.5 || power == 1.0 || power == 3.0 || power == -1.0)
    {
        let shape = c.shape(x)?;
        let y_shape = c.shape(y)?;
        if shape.broadcast(&y_shape).as_ref() == Some(&shape) {
            return Ok(vec![simple_power(c, x, power)?]);
        }
    }
    if base == exponent {
        return Ok(vec![c.binary(BinaryOp::Pow, x, y)?]);
    }
    let wide = if exponent.is_float() && !base.is_float() { exponent } else { base };
    let (wide_x, wide_y) = (c.cast(x, wide)?, c.cast(y, wide)?);
    let power = c.binary(BinaryOp::Pow, wide_x, wide_y)?;
    Ok(vec![c.cast(power, base)?])
}

fn simple_power(c: &mut Context<'_, '_>, x: NodeId, power: f64) -> Imported<NodeId> {
    c.map(&[x], |e, [x]| {
        if power == 2.0 {
            e.binary(BinaryOp::Mul, x, x)
        } else if power == 3.0 {
            let square = e.binary(BinaryOp::Mul, x, x);
            e.binary(BinaryOp::Mul, square, x)
        } else if power == 0.5 {
            e.unary(UnaryOp::Sqrt, x)
        } else if power == -1.0 {
            e.unary(UnaryOp::Reciprocal, x)
        } else {
            x
        }
    })
}

fn modulo(c: &mut Context<'_, '_>) -> Results {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let op = if c.int("fmod", 0)? == 1 { BinaryOp::Rem } else { BinaryOp::Mod };
    if op == BinaryOp::Mod && c.dtype(x)?.is_float() {
        return invalid("floating point takes fmod=1");
    }
    Ok(vec![c.binary(op, x, y)?])
}

fn bit_shift(c: &mut Context<'_, '_>) -> Results {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let op = if c.text("direction", "")? == "LEFT" { BinaryOp::ShiftLeft } else { BinaryOp::ShiftRight };
    Ok(vec![c.binary(op, x, y)?])
}

/// An attribute that numbers an element type.
pub(super) fn element_number(c: &Context<'_, '_>, name: &str, default: i64) -> Imported<i32> {
    let number = c.int(name, default)?;
    i32::try_from(number).or_else(|_| invalid(format!("`{name}` is {number}")))
}

fn cast(c: &mut Context<'_, '_>) -> Results {
    let number = element_number(c, "to", 0)?;
    let Some(to) = dtype(number) else { return unsupported(format!("conversion to {}", type_name(number))) };
    let x = c.input(0)?;
    Ok(vec![c.cast(x, to)?])
}

fn cast_like(c: &mut Context<'_, '_>) -> Results {
    let (x, like) = (c.input(0)?, c.input(1)?);
    let to = c.dtype(like)?;
    Ok(vec![c.cast(x, to)?])
}

fn select(c: &mut Context<'_, '_>) -> Results {
    let inputs = [c.input(0)?, c.input(1)?, c.input(2)?];
    if c.dtype(inputs[0])? != DType::Bool || c.dtype(inputs[1])? != c.dtype(inputs[2])? {
        return invalid("takes a condition of bool and two tensors of one element type");
    }
    Ok(vec![c.map(&inputs, |e, [condition, x, y]| e.select(condition, x, y))?])
}

fn is_inf(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (negative, positive) = (c.int("detect_negative", 1)? != 0, c.int("detect_positive", 1)? != 0);
    Ok(vec![c.map(&[x], |e, [x]| {
        let infinite = e.unary(UnaryOp::IsInf, x);
        let zero = e.number(x, 0.0);
        let below = e.binary(BinaryOp::Less, x, zero);
        let above = e.binary(BinaryOp::Less, zero, x);
        let none = e.constant(edgecc_ir::Scalar::bool(false));
        match (negative, positive) {
            (true, true) => infinite,
            (true, false) => e.binary(BinaryOp::And, infinite, below),
            (false, true) => e.binary(BinaryOp::And, infinite, above),
            (false, false) => none,
        }
    })?])
}

/// Bounds are attributes before opset 11, then optional inputs.
fn clip(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let mut result = x;
    let element = c.dtype(x)?;
    for (place, name, op) in [(1, "min", BinaryOp::Max), (2, "max", BinaryOp::Min)] {
        let bound = if c.version < 11 {
            c.given_float(name)?.map(|bound| c.number(element, bound as f64))
        } else {
            c.optional(place)
        };
        if let Some(bound) = bound {
            result = c.binary(op, result, bound)?;
        }
    }
    Ok(vec![result])
}

/// `x < 0 ? slope * x : x`; a slope of fewer axes belongs to the channels (axis 1).
fn prelu(c: &mut Context<'_, '_>) -> Results {
    let (x, slope) = (c.input(0)?, c.input(1)?);
    let (x_shape, slope_shape) = (c.shape(x)?, c.shape(slope)?);
    let by_channel = slope_shape.rank() == 1
        && x_shape.rank() > 2
        && x_shape.broadcast(&slope_shape).as_ref() != Some(&x_shape)
        && x_shape.extents().get(1) == slope_shape.extents().first();
    let slope = if by_channel { c.per_channel(slope, x_shape.rank())? } else { slope };
    if c.dtype(x)? != c.dtype(slope)? {
        return invalid("the slope has another element type");
    }
    Ok(vec![c.map(&[x, slope], |e, [x, slope]| leaky(e, x, slope))?])
}

pub(super) fn leaky(e: &mut Expr, x: ExprId, slope: ExprId) -> ExprId {
    let zero = e.number(x, 0.0);
    let negative = e.binary(BinaryOp::Less, x, zero);
    let scaled = e.binary(BinaryOp::Mul, x, slope);
    e.select(negative, scaled, x)
}

fn gelu(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let approximate = c.text("approximate", "none")? == "tanh";
    Ok(vec![c.map(&[x], |e, [x]| gelu_of(e, x, approximate))?])
}

/// `x/2 (1 + erf(x / sqrt 2))`, or `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
fn gelu_of(e: &mut Expr, x: ExprId, approximate: bool) -> ExprId {
    let inner = if approximate {
        let cubic = e.number(x, 0.044_715);
        let square = e.binary(BinaryOp::Mul, x, x);
        let cube = e.binary(BinaryOp::Mul, square, x);
        let cube = e.binary(BinaryOp::Mul, cube, cubic);
        let sum = e.binary(BinaryOp::Add, x, cube);
        let factor = e.number(x, (2.0 / std::f64::consts::PI).sqrt());
        let argument = e.binary(BinaryOp::Mul, sum, factor);
        e.unary(UnaryOp::Tanh, argument)
    } else {
        let factor = e.number(x, std::f64::consts::FRAC_1_SQRT_2);
        let argument = e.binary(BinaryOp::Mul, x, factor);
        e.unary(UnaryOp::Erf, argument)
    };
    let (one, half) = (e.number(x, 1.0), e.number(x, 0.5));
    let sum = e.binary(BinaryOp::Add, inner, one);
    let product = e.binary(BinaryOp::Mul, x, sum);
    e.binary(BinaryOp::Mul, product, half)
}

/// Operators of one tensor and constant parameters.
fn activation(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let name = c.operator().to_string();
    let alpha = c.given_float("alpha")?.map(f64::from);
    let beta = c.given_float("beta")?.map(f64::from);
    let gamma = c.given_float("gamma")?.map(f64::from);
    let (lambd, bias) = (c.float("lambd", 0.5)? as f64, c.float("bias", 0.0)? as f64);
    Ok(vec![c.map(&[x], |e, [x]| {
        let mut b = Builder { e, x };
        match name.as_str() {
            "Relu" => b.max(x, 0.0),
            "LeakyRelu" => {
                let slope = b.e.number(x, alpha.unwrap_or(0.01f32 as f64));
                leaky(b.e, x, slope)
            }
            "ThresholdedRelu" => {
                let threshold = b.e.number(x, alpha.unwrap_or(1.0));
                let above = b.e.binary(BinaryOp::Less, threshold, x);
                let zero = b.e.number(x, 0.0);
                b.e.select(above, x, zero)
            }
            "Elu" => b.exponential(alpha.unwrap_or(1.0), 1.0, 1.0),
            "Selu" => b.exponential(alpha.unwrap_or(1.673_263_2), gamma.unwrap_or(1.050_701), 1.0),
            "Celu" => b.exponential(alpha.unwrap_or(1.0), 1.0, alpha.unwrap_or(1.0)),
            "HardSigmoid" => b.hard_sigmoid(alpha.unwrap_or(0.2f32 as f64), beta.unwrap_or(0.5)),
            "HardSwish" => {
                let gate = b.hard_sigmoid(1.0 / 6.0, 0.5);
                b.e.binary(BinaryOp::Mul, x, gate)
            }
            "Swish" => {
                let scaled = b.times(x, alpha.unwrap_or(1.0));
                let gate = b.e.unary(UnaryOp::Sigmoid, scaled);
                b.e.binary(BinaryOp::Mul, x, gate)
            }
            "Softplus" => b.softplus(),
            "Mish" => {
                let soft = b.softplus();
                let gate = b.e.unary(UnaryOp::Tanh, soft);
                b.e.binary(BinaryOp::Mul, x, gate)
            }
            "Softsign" => {
                let magnitude = b.e.unary(UnaryOp::Abs, x);
                let divisor = b.plus(magnitude, 1.0);
                b.e.binary(BinaryOp::Div, x, divisor)
            }
            _ => b.shrink(lambd, bias),
        }
    })?])
}

/// Expressions over one tensor.
struct Builder<'a> {
    e: &'a mut Expr,
    x: ExprId,
}

impl Builder<'_> {
    fn max(&mut self, a: ExprId, bound: f64) -> ExprId {
        let bound = self.e.number(a, bound);
        self.e.binary(BinaryOp::Max, a, bound)
    }

    fn min(&mut self, a: ExprId, bound: f64) -> ExprId {
        let bound = self.e.number(a, bound);
        self.e.binary(BinaryOp::Min, a, bound)
    }

    fn times(&mut self, a: ExprId, factor: f64) -> ExprId {
        let factor = self.e.number(a, factor);
        self.e.binary(BinaryOp::Mul, a, factor)
    }

    fn plus(&mut self, a: ExprId, summand: f64) -> ExprId {
        let summand = self.e.number(a, summand);
        self.e.binary(BinaryOp::Add, a, summand)
    }

    /// `gamma * (x < 0 ? alpha * (exp(x / scale) - 1) : x)`.
    fn exponential(&mut self, alpha: f64, gamma: f64, scale: f64) -> ExprId {
        let (x, zero) = (self.x, self.e.number(self.x, 0.0));
        let negative = self.e.binary(BinaryOp::Less, x, zero);
        let below = self.min(x, 0.0);
        let scaled = if scale == 1.0 { below } else { self.times(below, 1.0 / scale) };
        let power = self.e.unary(UnaryOp::Exp, scaled);
        let curve = self.plus(power, -1.0);
        let curve = self.times(curve, alpha);
        let chosen = self.e.select(negative, curve, x);
        if gamma == 1.0 { chosen } else { self.times(chosen, gamma) }
    }

    /// `max(0, min(1, alpha * x + beta))`.
    fn hard_sigmoid(&mut self, alpha: f64, beta: f64) -> ExprId {
        let line = self.times(self.x, alpha);
        let line = self.plus(line, beta);
        let line = self.max(line, 0.0);
        self.min(line, 1.0)
    }

    /// `log(1 + exp(x))` as `max(x, 0) + log(1 + exp(-|x|))`, which does not overflow.
    fn softplus(&mut self) -> ExprId {
        let magnitude = self.e.unary(UnaryOp::Abs, self.x);
        let negative = self.e.unary(UnaryOp::Neg, magnitude);
        let power = self.e.unary(UnaryOp::Exp, negative);
        let sum = self.plus(power, 1.0);
        let logarithm = self.e.unary(UnaryOp::Log, sum);
        let positive = self.max(self.x, 0.0);
        self.e.binary(BinaryOp::Add, positive, logarithm)
    }

    /// `x < -lambd ? x + bias : x > lambd ? x - bias : 0`.
    fn shrink(&mut self, lambd: f64, bias: f64) -> ExprId {
        let x = self.x;
        let (low, high, zero) = (self.e.number(x, -lambd), self.e.number(x, lambd), self.e.number(x, 0.0));
        let below = self.e.binary(BinaryOp::Less, x, low);
        let above = self.e.binary(BinaryOp::Less, high, x);
        let (raised, lowered) = (self.plus(x, bias), self.plus(x, -bias));
        let inner = self.e.select(above, lowered, zero);
        self.e.select(below, raised, inner)
    }
}
