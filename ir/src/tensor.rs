//! Tensor values: constants of the graph and results of the evaluator. Always dense row-major in logical axes.

use bytes::Bytes;

use crate::shape::Shape;
use crate::types::{DType, Scalar, TensorType};

/// A tensor's elements do not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte count differs from what dtype and shape ask for.
    #[error("{dtype}[{shape}] needs {expected} bytes, got {actual}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Shape,
        /// Bytes that the type needs.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The extents multiply beyond an address.
    #[error("{dtype}[{shape}] has too many elements")]
    Overflow {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Shape,
    },
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorData {
    /// Little-endian elements, row-major; may be a slice of a mapped file, of any alignment.
    Dense(Bytes),
    /// One element repeated.
    Splat(Scalar),
}

/// A tensor value, row-major in logical axes. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: TensorData,
}

impl Tensor {
    /// A tensor over little-endian row-major bytes.
    pub fn dense(dtype: DType, shape: Shape, bytes: Bytes) -> Result<Self, TensorError> {
        let expected = byte_length(dtype, &shape)?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, shape, expected, actual: bytes.len() });
        }
        Ok(Tensor { dtype, shape, data: TensorData::Dense(bytes) })
    }

    /// A tensor whose elements are all `value`. Takes no memory for them.
    pub fn splat(shape: Shape, value: Scalar) -> Result<Self, TensorError> {
        byte_length(value.dtype(), &shape)?;
        Ok(Tensor { dtype: value.dtype(), shape, data: TensorData::Splat(value) })
    }

    /// A tensor of rank 0.
    pub fn scalar(value: Scalar) -> Self {
        Tensor { dtype: value.dtype(), shape: Shape::scalar(), data: TensorData::Splat(value) }
    }

    /// A binary32 tensor. Panics where the length differs from the shape's.
    pub fn from_f32(shape: Shape, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        Tensor::dense(DType::F32, shape, bytes.into()).expect("as many values as the shape has elements")
    }

    /// A signed 64-bit tensor. Panics where the length differs from the shape's.
    pub fn from_i64(shape: Shape, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        Tensor::dense(DType::I64, shape, bytes.into()).expect("as many values as the shape has elements")
    }

    /// A tensor from scalars of one type. Fails where the count differs from the shape's.
    pub fn from_scalars(
        dtype: DType,
        shape: Shape,
        values: impl IntoIterator<Item = Scalar>,
    ) -> Result<Self, TensorError> {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(&value.to_le_bytes()[..dtype.size()]);
        }
        Tensor::dense(dtype, shape, bytes.into())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents in logical axis order.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The row-major type of this tensor.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.clone())
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        // Checked when the tensor was made.
        self.shape.elements().unwrap_or(0)
    }

    /// The element at a row-major index. Panics beyond the end.
    pub fn get(&self, index: usize) -> Scalar {
        match &self.data {
            TensorData::Splat(value) => *value,
            TensorData::Dense(bytes) => {
                let size = self.dtype.size();
                let mut bits = [0; 8];
                bits[..size].copy_from_slice(&bytes[index * size..(index + 1) * size]);
                Scalar::from_bits(self.dtype, u64::from_le_bytes(bits))
            }
        }
    }

    /// The elements in row-major order.
    pub fn scalars(&self) -> impl ExactSizeIterator<Item = Scalar> + '_ {
        (0..self.elements()).map(|index| self.get(index))
    }

    /// The elements as binary32, rounded to nearest, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        match (&self.data, self.dtype) {
            (TensorData::Dense(bytes), DType::F32) => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            _ => self.scalars().map(|v| v.as_f64() as f32).collect(),
        }
    }

    /// The elements as signed 64-bit integers, row-major.
    pub fn to_i64(&self) -> Vec<i64> {
        self.scalars().map(Scalar::as_i64).collect()
    }

    /// The one value that all elements have, if the tensor is stored so.
    pub fn as_splat(&self) -> Option<Scalar> {
        match &self.data {
            TensorData::Splat(value) => Some(*value),
            TensorData::Dense(_) if self.elements() == 1 => Some(self.get(0)),
            TensorData::Dense(_) => None,
        }
    }

    /// Row-major little-endian bytes; a splat is written out.
    pub fn bytes(&self) -> Bytes {
        match &self.data {
            TensorData::Dense(bytes) => bytes.clone(),
            TensorData::Splat(value) => value.to_le_bytes()[..self.dtype.size()].repeat(self.elements()).into(),
        }
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(&self, shape: Shape) -> Result<Tensor, TensorError> {
        let (expected, actual) = (byte_length(self.dtype, &shape)?, self.elements() * self.dtype.size());
        if expected != actual {
            return Err(TensorError::Length { dtype: self.dtype, shape, expected, actual });
        }
        Ok(Tensor { shape, ..self.clone() })
    }
}

fn byte_length(dtype: DType, shape: &Shape) -> Result<usize, TensorError> {
    let elements = shape.elements().ok().and_then(|n| n.checked_mul(dtype.size()));
    elements.ok_or_else(|| TensorError::Overflow { dtype, shape: shape.clone() })
}
