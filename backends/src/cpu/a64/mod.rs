//! Kernels for aarch64 that we encode ourselves, where Cranelift leaves instructions on the table: by-lane multiply-adds
//! on loads of up to four registers, addresses that move by themselves, and epilogues in place. Each is an overlay: the
//! same kernel exists through Cranelift, and takes over wherever an emitter here returns `None`.

mod address;
mod assembler;
mod block_product;
mod bytes;
mod contraction;
mod depthwise;
mod effects;
mod instruction;
mod integer;
mod nest;
mod order;
mod permute;
mod text;
mod units;
mod vector;
mod winograd;

pub(super) use block_product::emit_block_product;
pub(crate) use block_product::knows_block_epilogue;
pub(super) use contraction::emit_contraction;
pub(super) use depthwise::{depthwise_unit_rows, emit_depthwise};
pub use instruction::{
    Access, After, Arrangement, ByLane, Cond, Float, Half, Instruction, Lanes, LanesOne, V, Width, X,
};
pub use integer::{Integer, Narrowing, Two, Widening};
pub(super) use nest::emit_nest;
pub(super) use permute::emit_permutation;
pub(super) use winograd::{emit_winograd_input, emit_winograd_output};
