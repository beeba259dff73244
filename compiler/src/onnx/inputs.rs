//! Inputs: their types, with what the user fixed by flags.

use std::collections::BTreeSet;

use edgecc_ir::{Shape, Tensor, TensorType};

use super::error::ImportError;
use super::import::ImportOptions;
use super::proto::{DimensionProto, GraphProto, TensorTypeProto, ValueInfoProto};
use super::tensor::{dtype, type_name};

/// Refuses flags that name no input or dimension of the model.
pub(super) fn check_flags(
    graph: &GraphProto,
    inputs: &[&ValueInfoProto],
    options: &ImportOptions,
) -> Result<(), ImportError> {
    let known = || graph.input.iter().map(|value| value.name.as_str()).collect::<Vec<_>>().join(", ");
    let named = options.shapes.keys().map(|name| ("--shape", name));
    for (flag, name) in named.chain(options.constants.keys().map(|name| ("--constant", name))) {
        if !graph.input.iter().any(|value| value.name == *name) {
            return Err(ImportError::Flag(format!("{flag} names `{name}`; the model's inputs are {}", known())));
        }
    }
    let symbols: BTreeSet<&str> = inputs.iter().flat_map(|value| dims(value)).map(symbol).collect();
    if let Some(name) = options.dims.keys().find(|name| !symbols.contains(name.as_str())) {
        let known: Vec<&str> = symbols.into_iter().filter(|symbol| !symbol.is_empty()).collect();
        let known = if known.is_empty() { "without names".into() } else { known.join(", ") };
        return Err(ImportError::Flag(format!(
            "--dim names `{name}`; the dimensions of the model's inputs are {known}"
        )));
    }
    Ok(())
}

fn tensor_type(value: &ValueInfoProto) -> Option<&TensorTypeProto> {
    value.r#type.as_ref()?.tensor_type.as_ref()
}

/// The declared dimensions; none where the shape is unknown.
fn dims(value: &ValueInfoProto) -> &[DimensionProto] {
    tensor_type(value).and_then(|tensor| tensor.shape.as_ref()).map_or(&[], |shape| &shape.dim)
}

/// What the flags leave unknown of an input, and what would fix it.
pub(super) fn left_open(value: &ValueInfoProto, options: &ImportOptions) -> Option<String> {
    let name = &value.name;
    if options.shapes.contains_key(name) || options.constants.contains_key(name) {
        return None;
    }
    let tensor = tensor_type(value)?;
    if tensor.shape.is_none() {
        return Some(format!("`{name}`: the shape is unknown: give --shape {name}=AxBxC"));
    }
    let unknown = dims(value).iter().enumerate().filter(|&(axis, dim)| extent(axis, dim, options).is_none());
    let (symbols, nameless): (Vec<_>, Vec<_>) =
        unknown.map(|(_, dim)| symbol(dim)).partition(|symbol| !symbol.is_empty());
    if symbols.is_empty() && nameless.is_empty() {
        return None;
    }
    let flags: Vec<String> = symbols.iter().map(|symbol| format!("--dim {symbol}=N")).collect();
    let by_symbols = if nameless.is_empty() { format!("{}, or ", flags.join(" ")) } else { String::new() };
    Some(format!("`{name}` {}: give {by_symbols}--shape {name}=AxBxC", describe(dims(value))))
}

/// The type of an input. An unknown batch, the first dimension, is 1 and noted.
pub(super) fn input_type(
    value: &ValueInfoProto,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<TensorType, ImportError> {
    let fail = |what: String| ImportError::Tensor { tensor: value.name.clone(), what };
    let tensor = tensor_type(value).ok_or_else(|| fail("the input is no tensor".into()))?;
    let dtype = dtype(tensor.elem_type)
        .ok_or_else(|| fail(format!("inputs of {} are not supported", type_name(tensor.elem_type))))?;
    let declared = tensor.shape.as_ref().map(|shape| shape.dim.as_slice());
    let extents: Vec<usize> = match options.shapes.get(&value.name) {
        Some(extents) if !declared.is_none_or(|dims| fits(dims, extents)) => {
            let declared = describe(dims(value));
            return Err(fail(format!("--shape gives {extents:?}, the model declares {declared}")));
        }
        Some(extents) => extents.clone(),
        None => {
            notes.extend(batch_note(value, options));
            let extents = dims(value).iter().enumerate().map(|(axis, dim)| extent(axis, dim, options));
            extents.collect::<Option<_>>().ok_or_else(|| fail("the shape is unknown".into()))?
        }
    };
    let ty = TensorType::new(dtype, Shape::new(&extents));
    options.check_size(&ty, || format!("input `{}`", value.name)).map(|()| ty)
}

/// The value that `--constant` gives an input, which must be of the declared type.
pub(super) fn fixed_value(value: &ValueInfoProto, fixed: &Tensor) -> Result<Tensor, ImportError> {
    let declared = value.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let same_type = declared.is_none_or(|tensor| dtype(tensor.elem_type) == Some(fixed.dtype()));
    let shape = declared.and_then(|tensor| tensor.shape.as_ref());
    if same_type && shape.is_none_or(|shape| fits(&shape.dim, &fixed.shape().extents())) {
        return Ok(fixed.clone());
    }
    let element = declared.map_or(String::new(), |tensor| type_name(tensor.elem_type).to_string());
    let what = format!(
        "--constant gives {}, the model declares {element}{}",
        fixed.ty(),
        describe(shape.map_or(&[], |shape| shape.dim.as_slice()))
    );
    Err(ImportError::Tensor { tensor: value.name.clone(), what })
}

/// Whether extents are those that are declared, as far as these are known.
fn fits(dims: &[DimensionProto], extents: &[usize]) -> bool {
    let agrees = |(dim, &extent): (&DimensionProto, &usize)| {
        dim.dim_value.is_none_or(|fixed| fixed <= 0 || fixed as usize == extent)
    };
    dims.len() == extents.len() && dims.iter().zip(extents).all(agrees)
}

/// The extent of a dimension, as far as it is declared or fixed by `--dim`; 1 for an unknown batch.
fn extent(axis: usize, dim: &DimensionProto, options: &ImportOptions) -> Option<usize> {
    let batch = (axis == 0).then_some(1);
    fixed_extent(dim, options).or(batch)
}

fn fixed_extent(dim: &DimensionProto, options: &ImportOptions) -> Option<usize> {
    // Old exporters write 0 or -1 for an unknown extent.
    match dim.dim_value.filter(|&fixed| fixed > 0) {
        Some(fixed) => usize::try_from(fixed).ok(),
        None => options.dims.get(symbol(dim)).copied(),
    }
}

/// The name of a dimension; empty if it has none.
fn symbol(dim: &DimensionProto) -> &str {
    dim.dim_param.as_deref().unwrap_or("")
}

/// Tells that a batch was chosen, where it was.
fn batch_note(value: &ValueInfoProto, options: &ImportOptions) -> Option<String> {
    let batch = dims(value).first().filter(|batch| fixed_extent(batch, options).is_none())?;
    let what = if symbol(batch).is_empty() { "its batch".to_string() } else { format!("`{}`", symbol(batch)) };
    Some(format!("input `{}`: {what} is unknown and taken as 1", value.name))
}

fn describe(dims: &[DimensionProto]) -> String {
    let names: Vec<String> = dims
        .iter()
        .map(|dim| match dim.dim_value.filter(|&fixed| fixed > 0) {
            Some(fixed) => fixed.to_string(),
            None => dim.dim_param.clone().unwrap_or_else(|| "?".into()),
        })
        .collect();
    format!("[{}]", names.join(", "))
}
