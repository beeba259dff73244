//! The runtime for C as a static and a shared library; the functions are those of `edgecc_runtime::capi`.

pub use edgecc_runtime::capi::*;
