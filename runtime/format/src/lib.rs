//! The artifact: header, manifest and sections, encode beside decode.
//!
//! | part | where | content |
//! |---|---|---|
//! | header | 0, 64 bytes | magic, version, section table, file length, digest |
//! | section table | 64 | per section its kind, offset and length |
//! | manifest | a multiple of 16 KiB | a [`Manifest`] in protobuf encoding |
//! | code | a multiple of 16 KiB | machine code or shaders of every program, each at a multiple of 64 |
//! | weights | a multiple of 16 KiB | the pool of constants, each at a multiple of 64 |
//!
//! Numbers are little-endian and the gaps are zero. The digest is BLAKE3 over the header's other bytes, the section
//! table, the manifest and the code; the manifest holds the hash of the weights. So a load reads everything but the
//! weights, and a flipped bit anywhere is found, in the weights once they are verified.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod check;
mod dispatch;
mod error;
mod header;
mod manifest;
mod pool;
mod read;
mod write;

pub use check::{MAX_BUFFERS, check};
pub use dispatch::{BINDING_ALIGNMENT, MAX_BINDINGS, MAX_GROUPS};
pub use error::{FormatError, WriteError};
pub use header::{HEADER_BYTES, MAGIC, MAJOR, MINOR, SECTION_ALIGNMENT};
pub use manifest::{
    ABI_AAPCS64, ABI_SYSTEM_V, ABI_WEBGPU, ABI_WINDOWS_X64, ARCHITECTURE_WGSL, Access, BufferKind, BufferRef,
    CONSTANT_ALIGNMENT, Call, Constant, Dim, ElementType, Kernel, Manifest, Port, Program, Step, step,
};
pub use pool::{ConstantPool, write_zeros};
pub use read::{Envelope, View, decode_manifest, hash, read, verify_weights};
pub use write::Contents;
