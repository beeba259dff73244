//! Kernels for x86-64 with AVX-512 that we encode ourselves: sixteen lanes, inputs as factors straight from memory. Each is an
//! overlay, as those for aarch64 are: where an emitter returns `None`, Cranelift's kernel of 128 bits takes over.

mod compute;
mod contraction;
mod tile;
mod writer;

pub(super) use contraction::emit_contraction;

/// Channels of a packed panel, which Cranelift's kernels read too.
pub(super) const PANEL: i64 = 16;
