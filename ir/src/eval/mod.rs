//! The reference evaluator: the meaning of every operator in plain loops, the oracle of the tests and the constant folder.
//!
//! Values are row-major in logical axes; layouts mean nothing here. Sums run in binary64 and are rounded once, so that the
//! oracle is more exact than what it judges. A tensor of one repeated element stays one where the operator preserves it.

mod contraction;
mod expr;
mod index;
mod movement;
mod reduce;
mod window;

pub use expr::eval_scalar;

use crate::graph::{Graph, NodeId};
use crate::infer::{TypeError, infer};
use crate::op::Op;
use crate::tensor::{Tensor, TensorError};
use crate::types::{TensorType, Type};

/// A value that cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Operator and operands do not agree.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A result that does not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A graph is run with other inputs than it has.
    #[error("input `{name}` is {expected:?}, got {actual:?}")]
    Input {
        /// The input's name.
        name: String,
        /// Its type.
        expected: TensorType,
        /// What was given, if anything was.
        actual: Option<TensorType>,
    },
}

/// The results of an operator on constants: one, or the components of a tuple.
pub fn evaluate(op: &Op, operands: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let types: Vec<Type> = operands.iter().map(|tensor| Type::Tensor(tensor.ty())).collect();
    let ty = match infer(op, &types.iter().collect::<Vec<_>>())? {
        Type::Tensor(ty) => ty,
        Type::Tuple(types) => return index::top_k(op, operands[0], &types),
    };
    Ok(vec![compute(op, operands, &ty)?])
}

fn compute(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Result<Tensor, EvalError> {
    if let Some(splat) = movement::repeated(op, operands, ty) {
        return Ok(splat?);
    }
    match op {
        Op::Constant(value) => Ok(value.clone()),
        Op::Map(expr) => expr::map(expr, operands, ty),
        Op::Conv { window, groups, epilogue } => contraction::conv(window, *groups, epilogue, operands, ty),
        Op::ConvTranspose { window, groups, epilogue, .. } => {
            contraction::conv_transpose(window, *groups, epilogue, operands, ty)
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            contraction::matmul(*transpose_a, *transpose_b, epilogue, operands, ty)
        }
        Op::Pool { kind, window, .. } => window::pool(*kind, window, operands[0], ty),
        Op::PoolIndices { window, column_major, .. } => window::pool_indices(window, *column_major, operands[0], ty),
        Op::LocalResponseNorm { size, alpha, beta, bias } => {
            let [alpha, beta, bias] = [*alpha, *beta, *bias].map(|bits| f32::from_bits(bits) as f64);
            window::local_response_norm(*size, alpha, beta, bias, operands[0], ty)
        }
        Op::Reduce { kind, axes } => reduce::reduce(*kind, axes, operands[0], ty),
        Op::ArgReduce { extreme, axis, last } => reduce::arg_reduce(*extreme, *axis, *last, operands[0], ty),
        Op::Softmax { axis, log } => reduce::softmax(*axis, *log, operands[0], ty),
        Op::Normalize { axes, epsilon, root_mean_square } => {
            reduce::normalize(axes, f32::from_bits(*epsilon) as f64, *root_mean_square, operands[0], ty)
        }
        Op::CumulativeSum { axis, exclusive, reverse } => {
            reduce::cumulative_sum(*axis, *exclusive, *reverse, operands[0], ty)
        }
        Op::Reshape(shape) => Ok(operands[0].reshaped(shape.clone())?),
        Op::Relayout(_) => Ok(operands[0].clone()),
        Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Tile { .. }
        | Op::Concat { .. } => movement::moved(op, operands, ty),
        Op::Resize { axes } => movement::resize(axes, operands[0], ty),
        Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => index::gather(op, operands, ty),
        Op::ScatterElements { .. } | Op::ScatterNd { .. } => index::scatter(op, operands, ty),
        Op::Input { .. } | Op::TopK { .. } | Op::Project(_) => {
            Err(TypeError { op: op.name(), what: "has no value of its own".into() }.into())
        }
    }
}

/// The outputs of a graph, in order.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    run_with(graph, inputs, |_, _| {})
}

/// The outputs of a graph, in order; `observe` sees the results of every node. Values go after their last use.
pub fn run_with(
    graph: &Graph,
    inputs: &[Tensor],
    mut observe: impl FnMut(NodeId, &[Tensor]),
) -> Result<Vec<Tensor>, EvalError> {
    let order = graph.order();
    let mut values: Vec<Vec<Tensor>> = vec![Vec::new(); graph.bound()];
    let mut uses: Vec<usize> = vec![0; graph.bound()];
    for &id in &order {
        graph.operands(id).iter().for_each(|operand| uses[operand.index()] += 1);
    }
    graph.outputs().iter().for_each(|output| uses[output.node.index()] += 1);
    for (place, &id) in graph.inputs().iter().enumerate() {
        values[id.index()] = vec![input(graph, id, inputs.get(place))?];
    }
    for &id in &order {
        let results = match graph.op(id) {
            Op::Input { .. } => std::mem::take(&mut values[id.index()]),
            Op::Project(n) => vec![values[graph.operands(id)[0].index()][*n].clone()],
            op => {
                let operands: Vec<&Tensor> =
                    graph.operands(id).iter().map(|operand| &values[operand.index()][0]).collect();
                evaluate(op, &operands)?
            }
        };
        observe(id, &results);
        values[id.index()] = results;
        for operand in graph.operands(id) {
            uses[operand.index()] -= 1;
            if uses[operand.index()] == 0 {
                values[operand.index()].clear();
            }
        }
    }
    Ok(graph.outputs().iter().map(|output| values[output.node.index()][0].clone()).collect())
}

fn input(graph: &Graph, id: NodeId, given: Option<&Tensor>) -> Result<Tensor, EvalError> {
    let expected = graph.ty(id);
    match given {
        Some(tensor) if tensor.dtype() == expected.dtype && tensor.shape() == &expected.shape => Ok(tensor.clone()),
        other => {
            let name = if let Op::Input { name } = graph.op(id) { name.clone() } else { String::new() };
            Err(EvalError::Input { name, expected: expected.clone(), actual: other.map(Tensor::ty) })
        }
    }
}

/// A tensor of the type from numbers, each rounded to the element type.
fn from_f64(ty: &TensorType, values: impl IntoIterator<Item = f64>) -> Result<Tensor, EvalError> {
    use crate::types::{DType, Scalar};
    let bytes: Vec<u8> = match ty.dtype {
        DType::F32 => values.into_iter().flat_map(|value| (value as f32).to_le_bytes()).collect(),
        dtype => {
            let element = |value| Scalar::from_f64(dtype, value).to_le_bytes();
            values.into_iter().flat_map(|value| element(value).into_iter().take(dtype.size())).collect()
        }
    };
    Ok(Tensor::dense(ty.dtype, ty.shape.clone(), bytes.into())?)
}

/// The elements as binary64.
fn to_f64(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        crate::types::DType::F32 => tensor.to_f32().into_iter().map(f64::from).collect(),
        _ => tensor.scalars().map(|value| value.as_f64()).collect(),
    }
}

/// Calls `visit` with every position of a shape, row-major.
fn positions(extents: &[usize], mut visit: impl FnMut(&[usize])) {
    if extents.contains(&0) {
        return;
    }
    let mut position = vec![0; extents.len()];
    loop {
        visit(&position);
        let mut axis = extents.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            position[axis] += 1;
            if position[axis] < extents[axis] {
                break;
            }
            position[axis] = 0;
        }
    }
}

/// The row-major index of a position.
fn flat(strides: &[usize], position: &[usize]) -> usize {
    strides.iter().zip(position).map(|(stride, at)| stride * at).sum()
}
