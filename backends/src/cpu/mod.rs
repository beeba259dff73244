//! Native code for CPUs: Cranelift's IR, written in the order in which it shall run.

pub mod contraction;
pub mod function;
pub mod isa;
