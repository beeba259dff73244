//! Native code for CPUs: Cranelift's IR, written in the order in which it shall run, and beside it kernels of our own encoders.

pub mod a64;
mod chain;
pub mod contraction;
pub mod entry;
pub mod expr;
mod formula;
pub mod function;
pub mod isa;
pub mod loops;
pub(crate) mod math;
mod memory;
pub mod object;
pub mod program;
mod requantization;
pub(crate) mod table;
pub(crate) mod x64;
