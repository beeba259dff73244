//! Shape inference: the type of a node from its operator and the types of its operands.
//!
//! Every attribute is checked here, so that whoever holds a typed node needs no check of its own. Sizes are checked
//! against overflow. Results are row-major but for [`Op::Relayout`]; the layout pass sets the others.

mod contraction;
mod index;
mod movement;
mod window;

pub(crate) use contraction::accumulator_type;
pub use window::{conv_transpose_extent, pool_extent, window_extent};

use crate::expr::{Expr, ExprNode};
use crate::op::{Op, ReduceKind};
use crate::shape::Shape;
use crate::types::{DType, TensorType, Type};

/// Operator and operands do not agree. The text names the operator and the types concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {what}")]
pub struct TypeError {
    /// The operator's name in the text form.
    pub op: &'static str,
    /// What is wrong, with the types concerned.
    pub what: String,
}

type Checked<T> = Result<T, String>;

/// The type of the result of `op` on operands of the given types.
pub fn infer(op: &Op, operands: &[&Type]) -> Result<Type, TypeError> {
    infer_checked(op, operands).map_err(|what| TypeError { op: op.name(), what })
}

fn infer_checked(op: &Op, operands: &[&Type]) -> Checked<Type> {
    if let Op::Project(n) = op {
        return project(*n, operands).map(Type::Tensor);
    }
    let tensors: Vec<&TensorType> = operands.iter().map(|ty| tensor(ty)).collect::<Checked<_>>()?;
    if let Op::TopK { axis, count, .. } = op {
        return index::top_k(arity::<1>(&tensors)?[0], *axis, *count).map(Type::Tuple);
    }
    let ty = infer_tensor(op, &tensors)?;
    ty.bytes().map_err(|_| format!("the result {ty} is too large"))?;
    Ok(Type::Tensor(ty))
}

fn infer_tensor(op: &Op, operands: &[&TensorType]) -> Checked<TensorType> {
    match op {
        Op::Input { .. } => Err("an input has the type it is declared with".into()),
        Op::Constant(value) => arity::<0>(operands).map(|_| value.ty()),
        Op::Map(expr) => map(expr, operands),
        Op::Conv { window, groups, epilogue } => contraction::conv(window, *groups, epilogue, operands),
        Op::ConvTranspose { window, output_padding, groups, epilogue } => {
            contraction::conv_transpose(window, output_padding, *groups, epilogue, operands)
        }
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            contraction::matmul(*transpose_a, *transpose_b, epilogue, operands)
        }
        Op::Pool { window, ceil, .. } => window::pool(window, *ceil, arity::<1>(operands)?[0]),
        Op::PoolIndices { window, ceil, .. } => {
            let pooled = window::pool(window, *ceil, arity::<1>(operands)?[0])?;
            Ok(TensorType::new(DType::I64, pooled.shape))
        }
        Op::Reduce { kind, axes } => reduce(*kind, axes, arity::<1>(operands)?[0]),
        Op::ArgReduce { axis, .. } => {
            let x = arity::<1>(operands)?[0];
            check_axis(*axis, x)?;
            non_empty(x, &[*axis])?;
            Ok(TensorType::new(DType::I64, x.shape.with_dim(*axis, 1)))
        }
        Op::Softmax { axis, .. } => {
            let x = float(arity::<1>(operands)?[0])?;
            check_axis(*axis, x)?;
            Ok(dense(x))
        }
        Op::Normalize { axes, .. } => {
            let x = float(arity::<1>(operands)?[0])?;
            check_axes(axes, x)?;
            Ok(dense(x))
        }
        Op::LocalResponseNorm { size, .. } => {
            let x = float(arity::<1>(operands)?[0])?;
            check_axis(1, x)?;
            require(*size > 0, || "size is 0".into())?;
            Ok(dense(x))
        }
        Op::Reshape(shape) => movement::reshape(shape, arity::<1>(operands)?[0]),
        Op::Transpose(perm) => movement::transpose(perm, arity::<1>(operands)?[0]),
        Op::Broadcast(shape) => movement::broadcast(shape, arity::<1>(operands)?[0]),
        Op::Concat { axis } => movement::concat(*axis, operands),
        Op::Slice { starts, steps, counts } => movement::slice(starts, steps, counts, arity::<1>(operands)?[0]),
        Op::Pad { mode, before, after } => movement::pad(*mode, before, after, operands),
        Op::Tile { repeats } => movement::tile(repeats, arity::<1>(operands)?[0]),
        Op::Resize { axes } => movement::resize(axes, arity::<1>(operands)?[0]),
        Op::Gather { axis } => index::gather(*axis, arity::<2>(operands)?),
        Op::GatherElements { axis } => index::gather_elements(*axis, arity::<2>(operands)?),
        Op::GatherNd { batch_dims } => index::gather_nd(*batch_dims, arity::<2>(operands)?),
        Op::ScatterElements { axis, .. } => index::scatter_elements(*axis, arity::<3>(operands)?),
        Op::ScatterNd { .. } => index::scatter_nd(arity::<3>(operands)?),
        Op::CumulativeSum { axis, .. } => {
            let x = arity::<1>(operands)?[0];
            check_axis(*axis, x)?;
            Ok(dense(x))
        }
        Op::Relayout(layout) => {
            let x = arity::<1>(operands)?[0];
            let rank = x.shape.rank();
            require(layout.rank() == rank, || format!("a layout of rank {} for {x}", layout.rank()))?;
            Ok(x.with_layout(layout.clone()))
        }
        Op::TopK { .. } | Op::Project(_) => Err("has no single tensor operand and result".into()),
    }
}

fn project(n: usize, operands: &[&Type]) -> Checked<TensorType> {
    match operands {
        [Type::Tuple(types)] => {
            types.get(n).cloned().ok_or_else(|| format!("component {n} of a tuple of {}", types.len()))
        }
        _ => Err("takes one tuple".into()),
    }
}

fn tensor(ty: &Type) -> Checked<&TensorType> {
    match ty {
        Type::Tensor(ty) => Ok(ty),
        Type::Tuple(_) => Err("a tuple can only be read by a projection".into()),
    }
}

fn map(expr: &Expr, operands: &[&TensorType]) -> Checked<TensorType> {
    check_arguments(expr, operands)?;
    let mut shape = Shape::scalar();
    for ty in operands {
        shape = shape.broadcast(&ty.shape).ok_or_else(|| format!("operands do not broadcast: {}", list(operands)))?;
    }
    Ok(TensorType::new(expr.dtype(), shape))
}

/// Every argument of the expression is an operand of its element type, and every function is defined on what it gets.
fn check_arguments(expr: &Expr, operands: &[&TensorType]) -> Checked<()> {
    for (n, dtype) in expr.arguments() {
        let ty = operands
            .get(n as usize)
            .ok_or_else(|| format!("the expression asks for operand {n} of {}", operands.len()))?;
        require(ty.dtype == dtype, || format!("operand {n} is {ty}, the expression asks for {dtype}"))?;
    }
    expr.nodes().iter().try_for_each(|&node| check_function(expr, node))
}

fn check_function(expr: &Expr, node: ExprNode) -> Checked<()> {
    match node {
        ExprNode::Unary(op, a) => {
            let dtype = expr.dtype_of(a);
            require(op.takes(dtype), || format!("{op:?} of {dtype} is not defined"))
        }
        ExprNode::Binary(op, a, _) => {
            let dtype = expr.dtype_of(a);
            require(op.takes(dtype), || format!("{op:?} of {dtype} is not defined"))
        }
        ExprNode::Argument(..) | ExprNode::Constant(_) | ExprNode::Select(..) | ExprNode::Cast(..) => Ok(()),
    }
}

fn reduce(kind: ReduceKind, axes: &[usize], x: &TensorType) -> Checked<TensorType> {
    check_axes(axes, x)?;
    require(x.dtype != DType::Bool || matches!(kind, ReduceKind::Max | ReduceKind::Min), || format!("of {x}"))?;
    if matches!(kind, ReduceKind::Max | ReduceKind::Min | ReduceKind::Mean) && x.dtype.is_integer() {
        non_empty(x, axes)?;
    }
    let shape = axes.iter().fold(x.shape.clone(), |shape, &axis| shape.with_dim(axis, 1));
    Ok(TensorType::new(x.dtype, shape))
}

fn dense(ty: &TensorType) -> TensorType {
    TensorType::new(ty.dtype, ty.shape.clone())
}

fn arity<'a, const N: usize>(operands: &[&'a TensorType]) -> Checked<[&'a TensorType; N]> {
    operands.try_into().map_err(|_| format!("takes {N} operands, got {}", operands.len()))
}

fn require(condition: bool, what: impl FnOnce() -> String) -> Checked<()> {
    if condition { Ok(()) } else { Err(what()) }
}

fn float(ty: &TensorType) -> Checked<&TensorType> {
    require(ty.dtype.is_float(), || format!("takes floating point, got {ty}")).map(|_| ty)
}

fn check_axis(axis: usize, ty: &TensorType) -> Checked<()> {
    require(axis < ty.shape.rank(), || format!("axis {axis} of {ty}"))
}

fn check_axes(axes: &[usize], ty: &TensorType) -> Checked<()> {
    require(axes.is_sorted_by(|a, b| a < b), || format!("axes {axes:?} are not ascending and distinct"))?;
    axes.iter().try_for_each(|&axis| check_axis(axis, ty))
}

fn non_empty(ty: &TensorType, axes: &[usize]) -> Checked<()> {
    require(axes.iter().all(|&axis| ty.shape.dim(axis) > 0), || format!("nothing to reduce along {axes:?} of {ty}"))
}

fn list(operands: &[&TensorType]) -> String {
    operands.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ")
}
