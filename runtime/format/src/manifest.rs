//! The messages of the manifest. Tags are never reused; a new field gets a new tag.

use std::fmt;

use prost::{Enumeration, Message, Oneof};

/// Every constant starts at a multiple of this in the weights section, in bytes.
pub const CONSTANT_ALIGNMENT: u64 = 64;

/// Calling convention of aarch64 programs, on every system.
pub const ABI_AAPCS64: &str = "aapcs64";
/// Calling convention of x86-64 programs outside Windows.
pub const ABI_SYSTEM_V: &str = "sysv";
/// Calling convention of x86-64 programs on Windows.
pub const ABI_WINDOWS_X64: &str = "win64";

/// The architecture of programs whose kernels are WGSL compute shaders.
pub const ARCHITECTURE_WGSL: &str = "wgsl";
/// The calling convention of those: WebGPU's, bindings of group 0 in the order of a call's buffers.
pub const ABI_WEBGPU: &str = "webgpu";

/// Everything about a model but its code and its weights.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// Name and version of the compiler.
    #[prost(string, tag = "1")]
    pub producer: String,
    /// Name of the model.
    #[prost(string, tag = "2")]
    pub model_name: String,
    /// The whole compile configuration as text.
    #[prost(string, tag = "3")]
    pub config: String,
    /// Inputs in graph order.
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<Port>,
    /// Outputs in graph order.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<Port>,
    /// Names of the classes, in the order of the classes; empty if the model has none.
    #[prost(string, repeated, tag = "6")]
    pub labels: Vec<String>,
    /// The same model compiled for several processors.
    #[prost(message, repeated, tag = "7")]
    pub programs: Vec<Program>,
    /// Bytes of the weights section.
    #[prost(uint64, tag = "8")]
    pub weights_bytes: u64,
    /// BLAKE3 of the weights section.
    #[prost(bytes = "vec", tag = "9")]
    pub weights_hash: Vec<u8>,
    /// The constants in the weights section, by ascending offset.
    #[prost(message, repeated, tag = "10")]
    pub constants: Vec<Constant>,
    /// Multiply-accumulate operations of the source model.
    #[prost(uint64, tag = "11")]
    pub source_macs: u64,
}

/// An input or an output: a dense row-major tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Port {
    /// Name in the source model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type of the elements.
    #[prost(enumeration = "ElementType", tag = "2")]
    pub element_type: i32,
    /// Outermost dimension first.
    #[prost(message, repeated, tag = "3")]
    pub dims: Vec<Dim>,
}

/// One dimension: fixed, or a symbol up to a bound.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Dim {
    /// The extent, where `symbol` is empty.
    #[prost(uint64, tag = "1")]
    pub value: u64,
    /// The name of an extent known at run time, or empty.
    #[prost(string, tag = "2")]
    pub symbol: String,
    /// The largest extent, where `symbol` is not empty. Strides are those of the bound.
    #[prost(uint64, tag = "3")]
    pub bound: u64,
}

/// The type of an element of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ElementType {
    /// Never valid: the default of an absent field.
    Unspecified = 0,
    /// One byte, 0 or 1.
    Bool = 1,
    /// Unsigned 8 bits.
    U8 = 2,
    /// Signed 8 bits.
    I8 = 3,
    /// Unsigned 16 bits.
    U16 = 4,
    /// Signed 16 bits.
    I16 = 5,
    /// Unsigned 32 bits.
    U32 = 6,
    /// Signed 32 bits.
    I32 = 7,
    /// Unsigned 64 bits.
    U64 = 8,
    /// Signed 64 bits.
    I64 = 9,
    /// IEEE 754 binary16.
    F16 = 10,
    /// The upper half of an IEEE 754 binary32.
    Bf16 = 11,
    /// IEEE 754 binary32.
    F32 = 12,
    /// IEEE 754 binary64.
    F64 = 13,
}

/// One constant of the pool.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Constant {
    /// First byte in the weights section, a multiple of [`CONSTANT_ALIGNMENT`].
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Number of bytes, without the padding behind it.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// BLAKE3 of the bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
}

/// The model compiled for one kind of processor.
#[derive(Clone, PartialEq, Message)]
pub struct Program {
    /// `aarch64`, `x86_64` or `wgsl`.
    #[prost(string, tag = "1")]
    pub architecture: String,
    /// Calling convention: one of the `ABI_` constants.
    #[prost(string, tag = "2")]
    pub abi: String,
    /// Processor features that the code uses, by Rust's names: `fp16`, `dotprod`, `i8mm`, `avx2`, `fma`, …
    #[prost(string, repeated, tag = "3")]
    pub required_features: Vec<String>,
    /// Of the programs that a processor can run, the one with the highest rank is run.
    #[prost(uint32, tag = "4")]
    pub rank: u32,
    /// First byte in the code section.
    #[prost(uint64, tag = "5")]
    pub code_offset: u64,
    /// Bytes of code.
    #[prost(uint64, tag = "6")]
    pub code_length: u64,
    /// Bytes for intermediate values.
    #[prost(uint64, tag = "7")]
    pub arena_bytes: u64,
    /// Bytes that each worker has for itself.
    #[prost(uint64, tag = "8")]
    pub scratch_bytes_per_worker: u64,
    /// Bytes that persist from run to run, zero before the first.
    #[prost(uint64, tag = "9")]
    pub state_bytes: u64,
    /// Functions in the code.
    #[prost(message, repeated, tag = "10")]
    pub kernels: Vec<Kernel>,
    /// What a run does, in order.
    #[prost(message, repeated, tag = "11")]
    pub steps: Vec<Step>,
}

/// A function in the code of a program, or the text of a compute shader with the entry point `main`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Kernel {
    /// A name for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// First byte in the program's code, a multiple of 16.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Bytes of the function.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Whether the compiler's own encoder wrote it, and not Cranelift.
    #[prost(bool, tag = "4")]
    pub encoded: bool,
    /// Whether the compiler proved that it stays within its buffers, of a shader.
    #[prost(bool, tag = "5")]
    pub bounded: bool,
}

/// One step of a program.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    /// What the step does.
    #[prost(oneof = "step::Action", tags = "1")]
    pub action: Option<step::Action>,
}

/// The kinds of step.
pub mod step {
    use super::{Call, Oneof};

    /// What a step does.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Action {
        /// Calls a kernel over a range.
        #[prost(message, tag = "1")]
        Call(Call),
    }
}

/// Calls a kernel for every index of `0..range`, in pieces that may run at the same time.
///
/// A kernel is `extern "C" fn(bases: *const *mut u8, args: *const u32, begin: u32, end: u32, worker: u32)` and computes
/// the indices `begin..end`; `bases[i]` is the address of `buffers[i]`. What it writes must not depend on how the range
/// is cut, and `begin` is a multiple of the grain. A kernel that is a compute shader is dispatched once, in `groups`; its
/// binding `i` is `buffers[i]`, bound for writing unless it is of weights or of an input.
#[derive(Clone, PartialEq, Message)]
pub struct Call {
    /// Index into the program's kernels.
    #[prost(uint32, tag = "1")]
    pub kernel: u32,
    /// At most [`MAX_BUFFERS`](crate::MAX_BUFFERS).
    #[prost(message, repeated, tag = "2")]
    pub buffers: Vec<BufferRef>,
    /// Numbers for the kernel, such as extents.
    #[prost(uint32, repeated, tag = "3")]
    pub args: Vec<u32>,
    /// Number of indices.
    #[prost(uint32, tag = "4")]
    pub range: u32,
    /// The smallest piece worth handing to a worker, at least 1.
    #[prost(uint32, tag = "5")]
    pub grain: u32,
    /// A name for people, unique in the program.
    #[prost(string, tag = "6")]
    pub name: String,
    /// The source model's nodes that the step computes.
    #[prost(string, repeated, tag = "7")]
    pub origins: Vec<String>,
    /// Multiply-accumulate operations.
    #[prost(uint64, tag = "8")]
    pub macs: u64,
    /// Bytes read and written.
    #[prost(uint64, tag = "9")]
    pub bytes: u64,
    /// Groups of invocations along each of the three axes, where the kernel is a compute shader; else empty.
    #[prost(uint32, repeated, tag = "10")]
    pub groups: Vec<u32>,
}

/// A piece of memory that a kernel gets.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BufferRef {
    /// Which memory.
    #[prost(enumeration = "BufferKind", tag = "1")]
    pub kind: i32,
    /// Which input or output; 0 for the other kinds.
    #[prost(uint32, tag = "2")]
    pub index: u32,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Number of bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// What the kernel does with it.
    #[prost(enumeration = "Access", tag = "5")]
    pub access: i32,
}

/// The kinds of memory. All but inputs and outputs start at a multiple of 64; those are the caller's and may start
/// anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum BufferKind {
    /// Never valid: the default of an absent field.
    Unspecified = 0,
    /// Constants, read only.
    Weights = 1,
    /// Intermediate values of a run.
    Arena = 2,
    /// An input, read only.
    Input = 3,
    /// An output.
    Output = 4,
    /// Values that persist from run to run.
    State = 5,
    /// Memory of one worker, without content at the start of a step.
    Scratch = 6,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Access {
    /// Never valid: the default of an absent field.
    Unspecified = 0,
    /// Only reads.
    Read = 1,
    /// Only writes.
    Write = 2,
    /// Reads and writes.
    ReadWrite = 3,
}

impl ElementType {
    /// Bytes of one element; 0 for the unspecified type.
    pub const fn size(self) -> u64 {
        match self {
            ElementType::Unspecified => 0,
            ElementType::Bool | ElementType::U8 | ElementType::I8 => 1,
            ElementType::U16 | ElementType::I16 | ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::U32 | ElementType::I32 | ElementType::F32 => 4,
            ElementType::U64 | ElementType::I64 | ElementType::F64 => 8,
        }
    }

    /// The name in messages, as in the text form of the graph.
    pub const fn name(self) -> &'static str {
        match self {
            ElementType::Unspecified => "unspecified",
            ElementType::Bool => "bool",
            ElementType::U8 => "u8",
            ElementType::I8 => "i8",
            ElementType::U16 => "u16",
            ElementType::I16 => "i16",
            ElementType::U32 => "u32",
            ElementType::I32 => "i32",
            ElementType::U64 => "u64",
            ElementType::I64 => "i64",
            ElementType::F16 => "f16",
            ElementType::Bf16 => "bf16",
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
        }
    }
}

impl Dim {
    /// A fixed extent.
    pub fn fixed(value: u64) -> Dim {
        Dim { value, symbol: String::new(), bound: 0 }
    }

    /// The extent, or the bound of a symbol.
    pub fn capacity(&self) -> u64 {
        if self.symbol.is_empty() { self.value } else { self.bound }
    }
}

impl Port {
    /// Bytes of the tensor at the bounds of its dimensions; none if they overflow or the type is unknown.
    pub fn bytes(&self) -> Option<u64> {
        let element = ElementType::try_from(self.element_type).ok()?.size();
        let bytes = self.dims.iter().try_fold(element, |bytes, dim| bytes.checked_mul(dim.capacity()))?;
        (element > 0).then_some(bytes)
    }
}

/// The extent, or `symbol<=bound`.
impl fmt::Display for Dim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.symbol.is_empty() {
            write!(out, "{}", self.value)
        } else {
            write!(out, "{}<={}", self.symbol, self.bound)
        }
    }
}

/// Name, type and shape, such as `x: f32[1x3x224x224]`; without a name the type and shape.
impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(out, "{}: ", self.name)?;
        }
        write!(out, "{}[", self.element_type().name())?;
        for (index, dim) in self.dims.iter().enumerate() {
            write!(out, "{}{dim}", if index > 0 { "x" } else { "" })?;
        }
        out.write_str("]")
    }
}
