//! Factors and shifts of single channels, moved from values into the weights around them.
//!
//! A value in integers has one step for all its channels. Where their ranges differ, the narrow ones get few steps. Dividing each
//! channel by a factor of its own where the value is made, and multiplying where it is read, leaves the network what it was
//! (Nagel et al.: Data-free quantization through weight equalization and bias correction, 2019). Readers that sum over the
//! channels take the factors into their weights, whatever function makes the value; makers take them where the function allows it.

use edgecc_ir::{
    BinaryOp, DType, Expr, ExprNode, Graph, NodeId, Op, PadMode, PoolKind, ReduceKind, Tensor, TypeError, UnaryOp,
};

use super::insert::correct;
use crate::fuse::channels::{
    Place, bias_epilogue, bias_shape, channel_axis, channel_tensor, channel_values, locate, scaled, weight_channel,
};

/// A value whose channels can have factors.
#[derive(Clone, Debug)]
pub struct Site {
    /// The value.
    pub value: NodeId,
    /// The axis of its channels.
    pub axis: usize,
    /// Contractions that sum over its channels.
    pub readers: Vec<NodeId>,
    /// Those that sum over the channels of its means.
    pub averaging: Vec<NodeId>,
    /// Those that sum over the channels of what maps make of it.
    pub behind: Vec<NodeId>,
    /// Whether weights take the factors in all around.
    pub is_free: bool,
    /// What the function that makes it keeps it below; factors that keep to it change nothing that is below.
    pub bound: Option<f64>,
    /// What its channels may be lowered by.
    pub shift: Shift,
}

/// How far the channels of a value may be lowered, which the biases of its readers make good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shift {
    /// Not at all.
    None,
    /// As far as they stay above 0, behind `max(x, 0)`.
    AboveZero,
    /// As far as wanted.
    Any,
}

/// Those of the values that can have factors.
pub fn equalization_sites(graph: &Graph, values: &[NodeId]) -> Vec<Site> {
    values.iter().filter_map(|&value| Site::of(graph, value)).collect()
}

/// A weight with its place among the channels that a contraction sums over, and among those that it makes.
pub fn placed_weights(graph: &Graph, layer: NodeId) -> Vec<(usize, usize, f32)> {
    let Some(weights) = graph.constant_value(graph.operands(layer)[1]) else { return Vec::new() };
    let channels = channel_axis(graph, layer).map_or(1, |axis| graph.ty(layer).shape.dim(axis));
    let place = |(index, weight): (usize, f32)| {
        let Place { summed, channel } = locate(graph.op(layer), weights, channels, index);
        (summed, channel, weight)
    };
    weights.to_f32().into_iter().enumerate().map(place).collect()
}

impl Site {
    fn of(graph: &Graph, value: NodeId) -> Option<Site> {
        let shape = &graph.ty(value).shape;
        let mut site = Site {
            value,
            axis: 0,
            readers: Vec::new(),
            averaging: Vec::new(),
            behind: Vec::new(),
            is_free: true,
            bound: None,
            shift: Shift::None,
        };
        let axes = [1, shape.rank().checked_sub(1)?].into_iter().filter(|&axis| axis < shape.rank());
        axes.into_iter().find_map(|axis| {
            let mut found = Site { axis, ..site.clone() };
            read(graph, value, &mut found, Way::Direct)?;
            (!found.readers.is_empty() || !found.behind.is_empty()).then(|| site = found)
        })?;
        let made = Made::of(graph, value, site.axis)?;
        site.is_free &= made.is_free;
        site.bound = made.bound;
        let pads = site.readers.iter().any(|&reader| pads(graph, reader));
        site.shift = if pads || !site.is_free || !site.averaging.is_empty() { Shift::None } else { made.shift };
        Some(site)
    }
}

/// What stands between a value and who reads it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Nothing.
    Direct,
    /// A pool of largest elements.
    Pooled,
    /// Means over other axes than the channels.
    Averaged,
}

/// Finds the readers of a value; `None` where one can take no factors.
fn read(graph: &Graph, value: NodeId, site: &mut Site, way: Way) -> Option<()> {
    if graph.outputs().iter().any(|output| output.node == value) {
        return None;
    }
    for user in graph.users(value) {
        let operands = graph.operands(user);
        let is_first = operands[0] == value && operands[1..].iter().all(|&operand| operand != value);
        match graph.op(user) {
            Op::Conv { .. } | Op::MatMul { .. } => {
                sums_over(graph, user, value, site.axis).then_some(())?;
                let readers = if way == Way::Averaged { &mut site.averaging } else { &mut site.readers };
                readers.push(user);
            }
            Op::Pool { kind: PoolKind::Max, .. } if is_first && way == Way::Direct => {
                read(graph, user, site, Way::Pooled)?;
            }
            Op::Reduce { kind: ReduceKind::Mean | ReduceKind::Sum, axes } if !axes.contains(&site.axis) => {
                read(graph, user, site, Way::Averaged)?;
            }
            Op::Map(_) if way == Way::Direct && graph.ty(user).shape == graph.ty(value).shape => {
                site.is_free = false;
                let users = graph.users(user);
                site.behind.extend(users.into_iter().filter(|&other| sums_over(graph, other, user, site.axis)));
            }
            _ => return None,
        }
    }
    Some(())
}

/// Whether a contraction sums over an axis of a value, by constant weights.
fn sums_over(graph: &Graph, id: NodeId, value: NodeId, axis: usize) -> bool {
    let operands = graph.operands(id);
    let rank = graph.ty(value).shape.rank();
    let is_summed = match graph.op(id) {
        Op::Conv { .. } => axis == 1,
        Op::MatMul { transpose_a: false, .. } => axis + 1 == rank && graph.ty(operands[1]).shape.rank() == 2,
        _ => return false,
    };
    let is_first = operands[0] == value && operands[1..].iter().all(|&operand| operand != value);
    let weights = graph.constant_value(operands[1]);
    is_summed && is_first && weights.is_some_and(|weights| weights.dtype() == DType::F32)
}

fn pads(graph: &Graph, id: NodeId) -> bool {
    match graph.op(id) {
        Op::Conv { window, .. } => window.pads_before.iter().chain(&window.pads_after).any(|&pad| pad > 0),
        _ => false,
    }
}

/// Where factors behind a value go.
#[derive(Clone, Debug)]
struct Made {
    is_free: bool,
    bound: Option<f64>,
    shift: Shift,
}

impl Made {
    /// `None` where nothing takes them.
    fn of(graph: &Graph, id: NodeId, axis: usize) -> Option<Made> {
        match maker(graph, id, axis) {
            Maker::Layer => Some(Made { is_free: true, bound: None, shift: Shift::Any }),
            Maker::Function { bound } => {
                let inner = Made::of(graph, graph.operands(id)[0], axis).filter(|inner| inner.is_free);
                let by_itself = Made { is_free: false, bound: None, shift: Shift::None };
                Some(inner.map_or(by_itself, |inner| Made {
                    is_free: true,
                    bound: bound.or(inner.bound),
                    shift: match inner.shift {
                        Shift::Any if bound.is_none() && is_rectifier(graph, id) => Shift::AboveZero,
                        _ => Shift::None,
                    },
                }))
            }
            Maker::Window => {
                let inner = Made::of(graph, graph.operands(id)[0], axis).filter(|inner| inner.is_free);
                inner.map(|inner| Made { shift: Shift::None, ..inner })
            }
            Maker::Parts => {
                let parts: Option<Vec<Made>> =
                    graph.operands(id).iter().map(|&part| Made::of(graph, part, axis)).collect();
                parts.map(|parts| Made {
                    is_free: parts.iter().all(|part| part.is_free),
                    bound: parts.iter().filter_map(|part| part.bound).reduce(f64::min),
                    shift: Shift::None,
                })
            }
            Maker::Map => Some(Made { is_free: false, bound: None, shift: Shift::None }),
            Maker::Other => None,
        }
    }
}

enum Maker {
    /// A contraction whose weights and bias take factors.
    Layer,
    /// A function of one value that factors pass, below a bound.
    Function { bound: Option<f64> },
    /// A pool of largest elements, or padding by zeros.
    Window,
    /// Parts side by side along the channels.
    Parts,
    /// A function that can multiply by them.
    Map,
    /// Nothing that takes factors.
    Other,
}

fn maker(graph: &Graph, id: NodeId, axis: usize) -> Maker {
    let operands = graph.operands(id);
    let is_its_own = |operand: NodeId| {
        graph.only_user(operand) == Some(id) && graph.outputs().iter().all(|output| output.node != operand)
    };
    match graph.op(id) {
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } if takes_factors(graph, id, axis) => {
            Maker::Layer
        }
        Op::Map(expr) => match homogeneous(expr).filter(|_| is_its_own(operands[0]) && is_along(graph, id)) {
            Some(Homogeneous { bound }) => Maker::Function { bound },
            None => Maker::Map,
        },
        Op::Pool { kind: PoolKind::Max, .. } if axis == 1 && is_its_own(operands[0]) => Maker::Window,
        Op::Pad { mode: PadMode::Constant, before, after }
            if before[axis] == 0 && after[axis] == 0 && is_its_own(operands[0]) && is_zero(graph, operands[1]) =>
        {
            Maker::Window
        }
        Op::Concat { axis: along } if *along == axis && operands.iter().all(|&part| is_its_own(part)) => Maker::Parts,
        _ => Maker::Other,
    }
}

/// Whether operand 0 of a map has its shape, and the others are constants.
fn is_along(graph: &Graph, id: NodeId) -> bool {
    let operands = graph.operands(id);
    graph.ty(operands[0]) == graph.ty(id) && operands[1..].iter().all(|&other| graph.constant_value(other).is_some())
}

fn is_zero(graph: &Graph, id: NodeId) -> bool {
    graph.constant_value(id).and_then(Tensor::as_splat).is_some_and(|value| value.as_f64() == 0.0)
}

fn takes_factors(graph: &Graph, id: NodeId, axis: usize) -> bool {
    let operands = graph.operands(id);
    let Some(epilogue) = graph.op(id).epilogue() else { return false };
    let weights = graph.constant_value(operands[1]).filter(|weights| weights.dtype() == DType::F32);
    let is_plain = operands.len() == 2 && epilogue.is_argument(0);
    let shape = &graph.ty(id).shape;
    let is_biased = || {
        operands.len() == 3 && *epilogue == bias_epilogue() && channel_values(graph, operands[2], shape, axis).is_some()
    };
    weights.is_some() && channel_axis(graph, id) == Some(axis) && (is_plain || is_biased())
}

fn is_rectifier(graph: &Graph, id: NodeId) -> bool {
    let mut expr = Expr::new();
    let x = expr.arg(0, DType::F32);
    let least = expr.number(x, 0.0);
    let root = expr.binary(BinaryOp::Max, x, least);
    matches!(graph.op(id), Op::Map(own) if *own == expr.with_root(root))
}

/// `f(factor * x) = factor * f(x)` for each factor above 0, as long as `f` stays below a bound.
struct Homogeneous {
    bound: Option<f64>,
}

/// What a node of an expression does where argument 0 is multiplied.
#[derive(Clone, Copy, PartialEq)]
enum Degree {
    /// It is 0.
    Zero,
    /// It stays as it is.
    Same(Option<f64>),
    /// It is multiplied alike, below the bound.
    Alike,
}

/// Whether an expression of argument 0, the others being constants, is homogeneous.
fn homogeneous(expr: &Expr) -> Option<Homogeneous> {
    use Degree::{Alike, Same, Zero};
    let mut degrees: Vec<Degree> = Vec::with_capacity(expr.nodes().len());
    let mut bound: Option<f64> = None;
    for id in expr.ids() {
        let of = |id: edgecc_ir::ExprId| degrees[id.index()];
        let is_alike = |a: Degree| matches!(a, Alike | Zero);
        let degree = match expr.node(id) {
            ExprNode::Argument(_, dtype) if dtype != DType::F32 => return None,
            ExprNode::Argument(0, _) => Alike,
            ExprNode::Argument(..) => Same(None),
            ExprNode::Constant(value) if value.as_f64() == 0.0 => Zero,
            ExprNode::Constant(value) => Same(Some(value.as_f64())),
            ExprNode::Unary(UnaryOp::Neg | UnaryOp::Abs, a) if is_alike(of(a)) => of(a),
            ExprNode::Unary(_, a) if matches!(of(a), Same(_)) => Same(None),
            ExprNode::Binary(op, a, b) => match (op, of(a), of(b)) {
                (_, Same(_), Same(_)) => Same(None),
                (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min, a, b) if is_alike(a) && is_alike(b) => {
                    Alike
                }
                (BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Equal, a, b) if is_alike(a) && is_alike(b) => {
                    Same(None)
                }
                (BinaryOp::Mul, Alike, Same(_)) | (BinaryOp::Mul, Same(_), Alike) | (BinaryOp::Div, Alike, Same(_)) => {
                    Alike
                }
                // The bound must be the last word, or what follows would see it.
                (BinaryOp::Min, Alike, Same(Some(most))) | (BinaryOp::Min, Same(Some(most)), Alike)
                    if most > 0.0 && id == expr.root() =>
                {
                    bound = Some(most);
                    Alike
                }
                _ => return None,
            },
            ExprNode::Select(condition, a, b) if matches!(of(condition), Same(_)) => match (of(a), of(b)) {
                (a, b) if is_alike(a) && is_alike(b) => Alike,
                _ => return None,
            },
            _ => return None,
        };
        degrees.push(degree);
    }
    (degrees.get(expr.root().index()) == Some(&Alike)).then_some(Homogeneous { bound })
}

/// Divides each channel of a site's value by its factor and multiplies where it is read.
///
/// Exact but for rounding, and for what a bounded function would have let through above the bound.
pub fn scale_channels(graph: &mut Graph, site: &Site, factors: &[f64]) -> Result<(), TypeError> {
    for &reader in site.readers.iter().chain(&site.averaging) {
        let Some(weights) = graph.constant_value(graph.operands(reader)[1]) else { continue };
        let channels = channel_axis(graph, reader).map_or(1, |axis| graph.ty(reader).shape.dim(axis));
        let op = graph.op(reader).clone();
        let multiplied = scaled(weights, factors, |index| locate(&op, weights, channels, index).summed);
        replace_constant(graph, reader, 1, multiplied)?;
    }
    let maps: Vec<NodeId> =
        graph.users(site.value).into_iter().filter(|&user| matches!(graph.op(user), Op::Map(_))).collect();
    for map in maps {
        multiply(graph, map, Some(site.value), site.axis, factors)?;
    }
    let inverse: Vec<f64> = factors.iter().map(|factor| 1.0 / factor).collect();
    divide(graph, site.value, site.axis, &inverse)?;
    graph.remove_dead();
    Ok(())
}

/// Multiplies an argument of a map, or without one its result, by a factor for each channel. The map stays the node that it is.
fn multiply(
    graph: &mut Graph,
    map: NodeId,
    argument: Option<NodeId>,
    axis: usize,
    factors: &[f64],
) -> Result<(), TypeError> {
    let Op::Map(own) = graph.op(map).clone() else { return Ok(()) };
    let (rank, origin) = (graph.ty(map).shape.rank(), graph.node(map).origin().clone());
    let mut operands = graph.operands(map).to_vec();
    let place = operands.len() as u16;
    let values = operands.clone();
    let factors = channel_tensor(factors, bias_shape(factors.len(), axis, rank));
    operands.push(graph.constant(factors, origin.clone()));
    let mut expr = Expr::new();
    let mut root = expr.inline(&own, |expr, n, dtype| {
        (argument == Some(values[n as usize])).then(|| {
            let (x, factor) = (expr.arg(n, dtype), expr.arg(place, DType::F32));
            expr.binary(BinaryOp::Mul, x, factor)
        })
    });
    if argument.is_none() {
        let factor = expr.arg(place, DType::F32);
        root = expr.binary(BinaryOp::Mul, root, factor);
    }
    graph.rewrite(map, Op::Map(expr.with_root(root)), &operands, origin)
}

/// Multiplies a value where it is made, as far up as factors pass.
fn divide(graph: &mut Graph, id: NodeId, axis: usize, inverse: &[f64]) -> Result<(), TypeError> {
    let made = Made::of(graph, id, axis);
    if !made.is_some_and(|made| made.is_free) && !matches!(maker(graph, id, axis), Maker::Parts) {
        return multiply(graph, id, None, axis, inverse);
    }
    match maker(graph, id, axis) {
        Maker::Layer => {
            let operands = graph.operands(id).to_vec();
            let shape = graph.ty(id).shape.clone();
            if let Some(weights) = graph.constant_value(operands[1]) {
                let channel = weight_channel(graph.op(id), weights.shape(), shape.dim(axis));
                let multiplied = scaled(weights, inverse, channel);
                replace_constant(graph, id, 1, multiplied)?;
            }
            match operands.get(2).and_then(|&bias| channel_values(graph, bias, &shape, axis)) {
                Some(bias) => {
                    let bias: Vec<f64> = bias.iter().zip(inverse).map(|(bias, factor)| bias * factor).collect();
                    let bias = channel_tensor(&bias, bias_shape(bias.len(), axis, shape.rank()));
                    replace_constant(graph, id, 2, bias)
                }
                None => Ok(()),
            }
        }
        Maker::Function { .. } | Maker::Window => divide(graph, graph.operands(id)[0], axis, inverse),
        Maker::Parts => {
            let mut first = 0;
            for part in graph.operands(id).to_vec() {
                let channels = graph.ty(part).shape.dim(axis);
                divide(graph, part, axis, &inverse[first..first + channels])?;
                first += channels;
            }
            Ok(())
        }
        Maker::Map | Maker::Other => Ok(()),
    }
}

/// Lowers the channels of a site's value, and adds what its readers then miss to their biases.
pub fn shift_channels(graph: &mut Graph, site: &Site, shifts: &[f64]) -> Result<(), TypeError> {
    for &reader in &site.readers {
        let channels = channel_axis(graph, reader).map_or(1, |axis| graph.ty(reader).shape.dim(axis));
        let mut sums = vec![0.0; channels];
        for (summed, channel, weight) in placed_weights(graph, reader) {
            sums[channel] += weight as f64 * shifts[summed];
        }
        correct(graph, reader, &sums)?;
    }
    let mut layer = site.value;
    while matches!(graph.op(layer), Op::Map(_)) {
        layer = graph.operands(layer)[0];
    }
    let lowered: Vec<f64> = shifts.iter().map(|shift| -shift).collect();
    correct(graph, layer, &lowered)?;
    graph.remove_dead();
    Ok(())
}

fn replace_constant(graph: &mut Graph, id: NodeId, place: usize, value: Tensor) -> Result<(), TypeError> {
    let node = graph.node(id).clone();
    let mut operands = node.operands().to_vec();
    let origin = graph.node(operands[place]).origin().clone();
    operands[place] = graph.constant(value, origin);
    graph.rewrite(id, node.op().clone(), &operands, node.origin().clone())
}
