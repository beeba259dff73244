//! Constants, shapes, branches.

use edgecc_ir::{DType, Scalar, Shape, Tensor, TensorType};

use super::Row;
use super::elementwise::element_number;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};
use crate::onnx::tensor::dtype;

pub(super) const TABLE: &[Row] = &[
    ("Constant", 1, constant),
    ("ConstantOfShape", 9, constant_of_shape),
    ("Dropout", 1, dropout),
    ("EyeLike", 9, eye_like),
    ("Identity", 1, identity),
    ("If", 1, branch),
    ("Range", 11, range),
    ("Shape", 1, shape),
    ("Size", 1, size),
];

fn constant(c: &mut Context<'_, '_>) -> Results {
    let value = if let Some(value) = c.tensor("value")? {
        value
    } else if let Some(value) = c.given_float("value_float")? {
        Tensor::scalar(Scalar::f32(value))
    } else if let Some(value) = c.given_int("value_int")? {
        Tensor::scalar(Scalar::i64(value))
    } else if let Some(values) = c.floats("value_floats")? {
        Tensor::from_f32(Shape::new(&[values.len()]), &values)
    } else if let Some(values) = c.ints("value_ints")? {
        Tensor::from_i64(Shape::new(&[values.len()]), &values)
    } else {
        return unsupported("constants of text and sparse constants are not supported");
    };
    Ok(vec![c.constant(value)])
}

/// Extents from known numbers.
pub(super) fn extents(values: &[i64]) -> Imported<Vec<usize>> {
    let extents: Option<Vec<usize>> = values.iter().map(|&value| usize::try_from(value).ok()).collect();
    match extents {
        Some(extents) => Ok(extents),
        None => invalid(format!("a negative dimension in {values:?}")),
    }
}

fn constant_of_shape(c: &mut Context<'_, '_>) -> Results {
    let extents = extents(&c.known_ints(0)?)?;
    let value = c.tensor("value")?.map_or(Ok(Scalar::f32(0.0)), |value| only(&value))?;
    let tensor = Tensor::splat(Shape::new(&extents), value).or_else(|error| invalid(error.to_string()))?;
    c.check_size(&tensor.ty())?;
    Ok(vec![c.constant(tensor)])
}

fn identity(c: &mut Context<'_, '_>) -> Results {
    Ok(vec![c.input(0)?])
}

/// The element of a tensor of one.
fn only(value: &Tensor) -> Imported<Scalar> {
    if value.elements() == 1 { Ok(value.get(0)) } else { invalid(format!("{} where one element belongs", value.ty())) }
}

/// Whether the ratio of elements to drop is not known to be 0.
fn may_drop(c: &Context<'_, '_>) -> Imported<bool> {
    match c.optional(1).and_then(|ratio| c.value(ratio)) {
        Some(ratio) => Ok(only(&ratio)?.as_f64() != 0.0),
        None => Ok(true),
    }
}

/// Outside of training nothing drops; the mask is all true.
fn dropout(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    if c.optional(2).is_some() && only(&c.known(2)?)?.bits() != 0 && may_drop(c)? {
        return unsupported("dropout in training mode; export the model for inference");
    }
    let shape = c.shape(x)?;
    let mask = Tensor::splat(shape, Scalar::bool(true)).or_else(|error| invalid(error.to_string()))?;
    let mask = c.constant(mask);
    Ok(vec![x, mask])
}

fn eye_like(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let ty = c.ty(x)?;
    let [rows, columns] = ty.shape.extents()[..] else { return invalid(format!("takes a matrix, got {ty}")) };
    let number = element_number(c, "dtype", 0)?;
    let element = if number == 0 { Some(ty.dtype) } else { dtype(number) };
    let Some(element) = element else { return unsupported(format!("elements of type {number}")) };
    let k = c.int("k", 0)?;
    let at = |place: usize| ((place % columns) as i64 - (place / columns) as i64 == k) as i64;
    let values = (0..rows * columns).map(|place| Scalar::from_i64(element, at(place)));
    let value = Tensor::from_scalars(element, ty.shape.clone(), values).or_else(|error| invalid(error.to_string()))?;
    Ok(vec![c.constant(value)])
}

/// The branch of a known condition.
fn branch(c: &mut Context<'_, '_>) -> Results {
    let Some(condition) = c.value(c.input(0)?) else {
        return unsupported("its condition is not constant; fix the shapes of the inputs, or export one branch");
    };
    let graph = c.subgraph(if only(&condition)?.bits() != 0 { "then_branch" } else { "else_branch" })?;
    c.inline(graph, &[])
}

fn range(c: &mut Context<'_, '_>) -> Results {
    let [start, limit, delta] = [c.known(0)?, c.known(1)?, c.known(2)?];
    let element = start.dtype();
    let [first, last, step] = [only(&start)?.as_f64(), only(&limit)?.as_f64(), only(&delta)?.as_f64()];
    if step == 0.0 || !(first.is_finite() && last.is_finite() && step.is_finite()) {
        return invalid(format!("from {first} to {last} by {step}"));
    }
    let count = ((last - first) / step).ceil().max(0.0);
    if count > (1u64 << 31) as f64 {
        return invalid(format!("{count} elements"));
    }
    c.check_size(&TensorType::new(element, Shape::new(&[count as usize])))?;
    let values = (0..count as usize).map(|place| Scalar::from_f64(element, first + place as f64 * step));
    let value = Tensor::from_scalars(element, Shape::new(&[count as usize]), values)
        .or_else(|error| invalid(error.to_string()))?;
    Ok(vec![c.constant(value)])
}

fn shape(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let extents: Vec<i64> = c.shape(x)?.extents().into_iter().map(|extent| extent as i64).collect();
    let rank = extents.len() as i64;
    let place = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (place(c.int("start", 0)?), place(c.int("end", rank)?));
    let part = extents.get(start..end.max(start)).unwrap_or(&[]).to_vec();
    Ok(vec![c.constant_ints(&part)])
}

fn size(c: &mut Context<'_, '_>) -> Results {
    let elements = c.shape(c.input(0)?)?.elements().unwrap_or(0);
    Ok(vec![c.number(DType::I64, elements as f64)])
}
