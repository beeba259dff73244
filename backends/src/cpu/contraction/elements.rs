//! Elements of contractions as f32: one, or four that are neighbours.

use cranelift_codegen::ir::{Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::Element;
use crate::cpu::expr::{Shared, Width};
use crate::cpu::function::{load, offset, store};
use crate::cpu::isa::Architecture;
use crate::cpu::memory::Memory;

/// Loads elements as f32.
pub(super) fn load_elements(
    b: &mut FunctionBuilder<'_>,
    (architecture, element): (Architecture, Element),
    width: Width,
    address: Value,
    at: i64,
) -> Value {
    match (element, width) {
        (Element::F32, Width::One) => load(b, types::F32, address, at),
        (Element::F32, Width::Four) => load(b, types::F32X4, address, at),
        (Element::F16, width) => {
            let mut shared = Shared::here(architecture);
            let mut memory = Memory { b, shared: &mut shared, dtype: element.dtype() };
            match width {
                Width::One => memory.load(address, at),
                Width::Four => memory.load_lanes(address, at, 1),
            }
        }
    }
}

/// Stores f32 values as elements.
pub(super) fn store_elements(
    b: &mut FunctionBuilder<'_>,
    (architecture, element): (Architecture, Element),
    width: Width,
    value: Value,
    address: Value,
    at: i64,
) {
    if element == Element::F32 {
        let address = if i32::try_from(at).is_ok() { address } else { offset(b, address, at) };
        return store(b, value, address, i32::try_from(at).unwrap_or(0));
    }
    let mut shared = Shared::here(architecture);
    let mut memory = Memory { b, shared: &mut shared, dtype: element.dtype() };
    match width {
        Width::One => memory.store(value, address, at),
        Width::Four => memory.store_lanes(value, address, at, 1),
    }
}
