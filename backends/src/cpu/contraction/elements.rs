//! Elements of contractions' operands in registers: one, or four lanes of 32 bits.

use cranelift_codegen::ir::{Value, types};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::DType;

use crate::cpu::expr::{Shared, Width};
use crate::cpu::function::{load, offset, store};
use crate::cpu::isa::Architecture;
use crate::cpu::memory::Memory;

/// How an operand is read or written: by the CPU, as elements of a type.
pub(super) type Form = (Architecture, DType);

/// Loads one element, or four that are neighbours.
pub(super) fn load_elements(
    b: &mut FunctionBuilder<'_>,
    (architecture, dtype): Form,
    width: Width,
    address: Value,
    at: i64,
) -> Value {
    match (dtype, width) {
        (DType::F32, Width::One) => load(b, types::F32, address, at),
        (DType::F32, Width::Four) => load(b, types::F32X4, address, at),
        (_, width) => {
            let mut shared = Shared::here(architecture);
            let mut memory = Memory { b, shared: &mut shared, dtype };
            match width {
                Width::One => memory.load(address, at),
                Width::Four => memory.load_lanes(address, at, 1),
            }
        }
    }
}

/// One element in four lanes.
pub(super) fn spread(b: &mut FunctionBuilder<'_>, (architecture, dtype): Form, one: Value) -> Value {
    Memory { b, shared: &mut Shared::here(architecture), dtype }.spread(one)
}

/// One element as a lane.
pub(super) fn lane_of(b: &mut FunctionBuilder<'_>, (architecture, dtype): Form, one: Value) -> Value {
    Memory { b, shared: &mut Shared::here(architecture), dtype }.lane_of(one)
}

/// The element in a lane.
pub(super) fn element_of(b: &mut FunctionBuilder<'_>, (architecture, dtype): Form, lane: Value) -> Value {
    Memory { b, shared: &mut Shared::here(architecture), dtype }.element_of(lane)
}

/// Stores one element, or four as neighbours.
pub(super) fn store_elements(
    b: &mut FunctionBuilder<'_>,
    (architecture, dtype): Form,
    width: Width,
    value: Value,
    address: Value,
    at: i64,
) {
    if dtype == DType::F32 {
        let address = if i32::try_from(at).is_ok() { address } else { offset(b, address, at) };
        return store(b, value, address, i32::try_from(at).unwrap_or(0));
    }
    let mut shared = Shared::here(architecture);
    let mut memory = Memory { b, shared: &mut shared, dtype };
    match width {
        Width::One => memory.store(value, address, at),
        Width::Four => memory.store_lanes(value, address, at, 1),
    }
}
