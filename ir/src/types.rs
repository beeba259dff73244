//! Element types, scalars, layouts and the types of values.

use std::fmt;

use crate::shape::{Shape, SizeOverflow};

/// The type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8 bits.
    U8,
    /// Signed 8 bits.
    I8,
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an IEEE 754 binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl DType {
    /// Every element type, in order.
    pub const ALL: [DType; 13] = [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::U32,
        DType::I32,
        DType::U64,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
        }
    }

    /// The name used in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::U16 => "u16",
            DType::I16 => "i16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// The element type of a name in the text form.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Floating point of any width.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Integers that hold negative numbers.
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }

    /// Integers of any width; `bool` is none.
    pub const fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One element, held as the bits of its type in the low bytes. Equality is of bits: `-0.0` and `0.0` differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scalar {
    dtype: DType,
    bits: u64,
}

impl Scalar {
    /// An element from its bits; bits beyond the type's width are dropped.
    pub const fn from_bits(dtype: DType, bits: u64) -> Self {
        let width = dtype.size() * 8;
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        Scalar { dtype, bits: bits & mask }
    }

    /// A binary32 element.
    pub const fn f32(value: f32) -> Self {
        Scalar::from_bits(DType::F32, value.to_bits() as u64)
    }

    /// A signed 64-bit element.
    pub const fn i64(value: i64) -> Self {
        Scalar::from_bits(DType::I64, value as u64)
    }

    /// A truth value.
    pub const fn bool(value: bool) -> Self {
        Scalar::from_bits(DType::Bool, value as u64)
    }

    /// The element of type `dtype` nearest to `value`; integers saturate, NaN becomes 0.
    pub fn from_f64(dtype: DType, value: f64) -> Self {
        let bits = match dtype {
            DType::Bool => (value != 0.0) as u64,
            DType::U8 => value as u8 as u64,
            DType::I8 => value as i8 as u64,
            DType::U16 => value as u16 as u64,
            DType::I16 => value as i16 as u64,
            DType::U32 => value as u32 as u64,
            DType::I32 => value as i32 as u64,
            DType::U64 => value as u64,
            DType::I64 => value as i64 as u64,
            DType::F16 => half::f16::from_f64(value).to_bits() as u64,
            DType::BF16 => half::bf16::from_f64(value).to_bits() as u64,
            DType::F32 => (value as f32).to_bits() as u64,
            DType::F64 => value.to_bits(),
        };
        Scalar::from_bits(dtype, bits)
    }

    /// The element of type `dtype` that `value` wraps to; floats round to nearest.
    pub fn from_i64(dtype: DType, value: i64) -> Self {
        match dtype {
            DType::Bool => Scalar::bool(value != 0),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Scalar::from_f64(dtype, value as f64),
            _ => Scalar::from_bits(dtype, value as u64),
        }
    }

    /// The element's type.
    pub const fn dtype(self) -> DType {
        self.dtype
    }

    /// The bits of the element.
    pub const fn bits(self) -> u64 {
        self.bits
    }

    /// The value as binary64; exact but for 64-bit integers beyond 2^53.
    pub fn as_f64(self) -> f64 {
        match self.dtype {
            DType::F16 => half::f16::from_bits(self.bits as u16).to_f64(),
            DType::BF16 => half::bf16::from_bits(self.bits as u16).to_f64(),
            DType::F32 => f32::from_bits(self.bits as u32) as f64,
            DType::F64 => f64::from_bits(self.bits),
            DType::U64 => self.bits as f64,
            _ => self.as_i64() as f64,
        }
    }

    /// The value as a signed 64-bit integer; floats truncate and saturate, `u64` wraps.
    pub fn as_i64(self) -> i64 {
        match self.dtype {
            DType::I8 => self.bits as i8 as i64,
            DType::I16 => self.bits as i16 as i64,
            DType::I32 => self.bits as i32 as i64,
            DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::I64 => self.bits as i64,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => self.as_f64() as i64,
        }
    }

    /// The element converted to another type as the `Cast` of ONNX does: to bool by `!= 0`, float to integer towards zero
    /// (saturating), integer to integer by wrapping.
    pub fn cast(self, dtype: DType) -> Scalar {
        if self.dtype == dtype {
            return self;
        }
        if self.dtype.is_float() {
            Scalar::from_f64(dtype, self.as_f64())
        } else if self.dtype == DType::U64 && dtype.is_float() {
            Scalar::from_f64(dtype, self.bits as f64)
        } else {
            Scalar::from_i64(dtype, self.as_i64())
        }
    }

    /// The element's bytes, little-endian, in the first `dtype.size()` places.
    pub const fn to_le_bytes(self) -> [u8; 8] {
        self.bits.to_le_bytes()
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dtype.is_float() {
            write!(f, "{}:{}", self.as_f64(), self.dtype)
        } else {
            write!(f, "{}:{}", self.as_i64(), self.dtype)
        }
    }
}

/// The order in which the logical axes lie in memory, outermost first. A dense tensor `[N,C,H,W]` with order `[0,2,3,1]`
/// is stored as NHWC. Only the layout pass, lowering and packing read it: the meaning of every operator is in logical axes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout(Vec<u8>);

impl Layout {
    /// Axes in logical order.
    pub fn row_major(rank: usize) -> Self {
        Layout((0..rank as u8).collect())
    }

    /// Axis 1 innermost: NHWC for images, NWC for sequences. Row-major below rank 3.
    pub fn channels_last(rank: usize) -> Self {
        if rank < 3 {
            return Layout::row_major(rank);
        }
        let spatial = 2..rank as u8;
        Layout(std::iter::once(0).chain(spatial).chain([1]).collect())
    }

    /// A layout from axes outermost first; `None` unless it is a permutation.
    pub fn from_order(order: &[usize]) -> Option<Self> {
        let mut seen = vec![false; order.len()];
        for &axis in order {
            if std::mem::replace(seen.get_mut(axis)?, true) {
                return None;
            }
        }
        Some(Layout(order.iter().map(|&axis| axis as u8).collect()))
    }

    /// The logical axes, outermost first.
    pub fn order(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + '_ {
        self.0.iter().map(|&axis| axis as usize)
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Whether memory order is logical order.
    pub fn is_row_major(&self) -> bool {
        self.order().enumerate().all(|(place, axis)| place == axis)
    }

    /// Element strides by logical axis of a dense tensor of this layout.
    pub fn strides(&self, shape: &Shape) -> Vec<usize> {
        let mut strides = vec![1; shape.rank()];
        let mut distance = 1usize;
        for axis in self.order().rev() {
            strides[axis] = distance;
            distance = distance.saturating_mul(shape.dim(axis).max(1));
        }
        strides
    }

    /// Whether dense tensors of `shape` have the same bytes in both layouts: extents of 1 may stand anywhere.
    pub fn same_bytes(&self, other: &Layout, shape: &Shape) -> bool {
        let significant = |layout: &Layout| layout.order().filter(|&axis| shape.dim(axis) != 1).collect::<Vec<_>>();
        significant(self) == significant(other)
    }
}

/// The type of a tensor value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Type of the elements.
    pub dtype: DType,
    /// Extents in logical axis order.
    pub shape: Shape,
    /// Order of the axes in memory.
    pub layout: Layout,
}

impl TensorType {
    /// A row-major tensor.
    pub fn new(dtype: DType, shape: Shape) -> Self {
        let layout = Layout::row_major(shape.rank());
        TensorType { dtype, shape, layout }
    }

    /// The same type in another layout.
    pub fn with_layout(&self, layout: Layout) -> Self {
        TensorType { layout, ..self.clone() }
    }

    /// Bytes of the dense tensor.
    pub fn bytes(&self) -> Result<usize, SizeOverflow> {
        self.shape.elements()?.checked_mul(self.dtype.size()).ok_or(SizeOverflow)
    }
}

/// `f32[1x3x8x8]`, with the layout's letters or axes where it is not row-major: `f32[1x3x8x8 nhwc]`, `f32[2x3x4 0.2.1]`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}", self.dtype, self.shape)?;
        if !self.layout.is_row_major() {
            if self.layout == Layout::channels_last(4) {
                write!(f, " nhwc")?;
            } else {
                let axes: Vec<String> = self.layout.order().map(|axis| axis.to_string()).collect();
                write!(f, " {}", axes.join("."))?;
            }
        }
        write!(f, "]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of a node's result. A tuple can only be read through projections.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// One tensor.
    Tensor(TensorType),
    /// Several tensors.
    Tuple(Vec<TensorType>),
}

impl Type {
    /// The tensor types, in order.
    pub fn tensors(&self) -> &[TensorType] {
        match self {
            Type::Tensor(ty) => std::slice::from_ref(ty),
            Type::Tuple(types) => types,
        }
    }

    /// Whether both are the same but for layouts.
    pub fn agrees(&self, other: &Type) -> bool {
        let agrees = |(a, b): (&TensorType, &TensorType)| a.dtype == b.dtype && a.shape == b.shape;
        let one_kind = matches!((self, other), (Type::Tensor(_), Type::Tensor(_)) | (Type::Tuple(_), Type::Tuple(_)));
        let (a, b) = (self.tensors(), other.tensors());
        one_kind && a.len() == b.len() && a.iter().zip(b).all(agrees)
    }
}

/// A tensor's type, or a tuple's in parentheses: `(f32[2], i64[2])`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(ty) => write!(f, "{ty}"),
            Type::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
                write!(f, "({})", types.join(", "))
            }
        }
    }
}
