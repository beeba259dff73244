//! Tensors of a model as tensors of the graph. Raw data is a slice of the mapped file.

use bytes::Bytes;
use edgecc_ir::{DType, Scalar, Shape, Tensor};

use super::error::ImportError;
use super::external::Folder;
use super::proto::TensorProto;

/// The element type of a number of `TensorProto.DataType`, if it is one of the graph's.
pub(super) fn dtype(number: i32) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

/// The number of an element type in `TensorProto.DataType`.
pub(super) fn number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}

/// What a number of `TensorProto.DataType` is called.
pub(super) fn type_name(number: i32) -> String {
    match number {
        8 => "string".into(),
        14 | 15 => "complex".into(),
        17..=20 => "float8".into(),
        21 | 22 => "int4".into(),
        23 => "float4".into(),
        other => dtype(other).map_or(format!("type {other}"), |dtype| dtype.name().into()),
    }
}

/// Whether a number of `TensorProto.DataType` is uint4 or int4. Their tensors are read as u8 or i8.
pub(super) fn is_of_four_bits(number: i32) -> bool {
    matches!(number, 21 | 22)
}

/// Reads a tensor.
pub(super) fn read(proto: &TensorProto, folder: &Folder) -> Result<Tensor, ImportError> {
    let fail = |what: String| ImportError::Tensor { tensor: proto.name.clone(), what };
    let stored = match proto.data_type {
        21 => Some(DType::U8),
        22 => Some(DType::I8),
        number => dtype(number),
    };
    let dtype = stored.ok_or_else(|| fail(format!("elements of {} are not supported", type_name(proto.data_type))))?;
    let extents: Option<Vec<usize>> = proto.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let extents = extents.ok_or_else(|| fail(format!("a negative dimension in {:?}", proto.dims)))?;
    let shape = Shape::new(&extents);
    if is_of_four_bits(proto.data_type) {
        let bytes = match proto.data_location {
            1 => folder.read(proto).map_err(fail)?,
            _ if proto.raw_data.is_empty() => proto.int32_data.iter().map(|&pair| pair as u8).collect(),
            _ => proto.raw_data.clone(),
        };
        let elements = shape.elements().map_err(|error| fail(error.to_string()))?;
        let whole = unpacked(&bytes, elements, dtype)
            .ok_or_else(|| fail(format!("{elements} elements of 4 bits in {} bytes", bytes.len())))?;
        return Tensor::dense(dtype, shape, whole).map_err(|error| fail(error.to_string()));
    }
    if proto.data_location == 1 {
        let bytes = folder.read(proto).map_err(fail)?;
        return Tensor::dense(dtype, shape, bytes).map_err(|error| fail(error.to_string()));
    }
    if !proto.raw_data.is_empty() {
        return Tensor::dense(dtype, shape, proto.raw_data.clone()).map_err(|error| fail(error.to_string()));
    }
    let elements = shape.elements().map_err(|error| fail(error.to_string()))?;
    if elements == 0 {
        return Tensor::dense(dtype, shape, Bytes::new()).map_err(|error| fail(error.to_string()));
    }
    let values = typed(proto, dtype);
    if values.len() != elements {
        return Err(fail(format!("{dtype}[{shape}] needs {elements} elements, the file holds {}", values.len())));
    }
    Tensor::from_scalars(dtype, shape, values).map_err(|error| fail(error.to_string()))
}

/// Elements of 4 bits as bytes: two of a byte, the lower half first.
fn unpacked(bytes: &[u8], elements: usize, dtype: DType) -> Option<Bytes> {
    if bytes.len() != elements.div_ceil(2) {
        return None;
    }
    let halves = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).take(elements);
    let signed = |half: u8| ((half << 4) as i8 >> 4) as u8;
    Some(if dtype == DType::I8 { halves.map(signed).collect() } else { halves.collect() })
}

/// The elements of the typed field that belongs to an element type.
fn typed(proto: &TensorProto, dtype: DType) -> Vec<Scalar> {
    match dtype {
        DType::F32 => proto.float_data.iter().map(|&value| Scalar::f32(value)).collect(),
        DType::F64 => proto.double_data.iter().map(|&value| Scalar::from_f64(dtype, value)).collect(),
        DType::I64 => proto.int64_data.iter().map(|&value| Scalar::i64(value)).collect(),
        DType::U32 | DType::U64 => proto.uint64_data.iter().map(|&value| Scalar::from_bits(dtype, value)).collect(),
        // binary16 and bfloat16 as their bits, the others as their value.
        _ => proto.int32_data.iter().map(|&value| Scalar::from_bits(dtype, value as u64)).collect(),
    }
}
