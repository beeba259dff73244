//! Inputs: their shapes, with what the user fixed.

use edgecc_ir::{Shape, Tensor, TensorType};

use super::error::ImportError;
use super::import::ImportOptions;
use super::proto::{DimensionProto, ValueInfoProto};
use super::tensor::{dtype, type_name};

/// The type of an input. An unknown batch, the first dimension, is 1 and noted; any other unknown dimension is an error.
pub(super) fn input_type(
    value: &ValueInfoProto,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<TensorType, ImportError> {
    let fail = |what: String| ImportError::Tensor { tensor: value.name.clone(), what };
    let tensor = value.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| fail("the input is no tensor".into()))?;
    let dtype = dtype(tensor.elem_type)
        .ok_or_else(|| fail(format!("inputs of {} are not supported", type_name(tensor.elem_type))))?;
    let declared = tensor.shape.as_ref().map(|shape| shape.dim.as_slice());
    let checked = |extents: &[usize]| {
        let ty = TensorType::new(dtype, Shape::new(extents));
        options.check_size(&ty, || format!("input `{}`", value.name)).map(|()| ty)
    };
    if let Some(extents) = options.shapes.get(&value.name) {
        if !declared.is_none_or(|dims| fits(dims, extents)) {
            return Err(fail(format!(
                "--shape gives {extents:?}, the model declares {}",
                describe(declared.unwrap_or(&[]))
            )));
        }
        return checked(extents);
    }
    let dims = declared.ok_or_else(|| fail(format!("the shape is unknown: give --shape {}=AxBxC", value.name)))?;
    let extent = |(axis, dim): (usize, &DimensionProto)| extent_of(value, axis, dim, options, notes).map_err(&fail);
    let extents = dims.iter().enumerate().map(extent).collect::<Result<Vec<usize>, _>>()?;
    checked(&extents)
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

fn extent_of(
    value: &ValueInfoProto,
    axis: usize,
    dim: &DimensionProto,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<usize, String> {
    // Old exporters write 0 or -1 for an unknown extent.
    if let Some(fixed) = dim.dim_value.filter(|&fixed| fixed > 0) {
        return usize::try_from(fixed).map_err(|_| format!("dimension {axis} is {fixed}"));
    }
    let symbol = dim.dim_param.as_deref().unwrap_or("");
    if let Some(&extent) = options.dims.get(symbol).filter(|_| !symbol.is_empty()) {
        return Ok(extent);
    }
    if axis == 0 {
        let what = if symbol.is_empty() { "its batch".to_string() } else { format!("`{symbol}`") };
        notes.push(format!("input `{}`: {what} is unknown and taken as 1", value.name));
        return Ok(1);
    }
    let name = &value.name;
    Err(if symbol.is_empty() {
        format!("dimension {axis} is unknown: give --shape {name}=AxBxC")
    } else {
        format!("dimension {axis} (`{symbol}`) is unknown: give --dim {symbol}=N, or --shape {name}=AxBxC")
    })
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
