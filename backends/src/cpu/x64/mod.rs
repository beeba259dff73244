//! Kernels for x86-64 that we encode ourselves, of eight lanes for AVX2 and of sixteen for AVX-512. Each is an overlay, as those
//! for aarch64 are: where an emitter returns `None`, Cranelift's kernel of 128 bits takes over.

mod block_product;
mod bytes;
mod compute;
mod contraction;
mod depthwise;
mod halves;
mod tile;
mod units;
mod vector;
mod winograd;
mod writer;

pub(super) use block_product::emit_block_product;
pub(crate) use block_product::knows_block_product;
pub(super) use contraction::emit_contraction;
pub(super) use depthwise::emit_depthwise;
pub(super) use winograd::{emit_winograd_input, emit_winograd_output};

/// Channels of a packed panel, which Cranelift's kernels read too.
pub(super) const PANEL: i64 = 16;
