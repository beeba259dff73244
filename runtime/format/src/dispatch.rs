//! What must hold of a call of a compute shader beyond what holds of every call: WebGPU's default limits and its rule that
//! what is written is bound once.

use crate::manifest::{BufferKind, BufferRef, Call};

/// The most buffers of a compute shader.
pub const MAX_BINDINGS: usize = 8;
/// The most groups of invocations along an axis.
pub const MAX_GROUPS: u32 = 65535;
/// Buffers of a compute shader start at multiples of this in the arena, in inputs and in outputs, in bytes.
pub const BINDING_ALIGNMENT: u64 = 256;

/// What is wrong with a call of a compute shader.
pub(crate) fn check_dispatch(call: &Call) -> Result<(), &'static str> {
    if call.groups.len() != 3 || call.groups.iter().any(|groups| !(1..=MAX_GROUPS).contains(groups)) {
        return Err("it must have 1 to 65535 groups along each of three axes");
    }
    if call.buffers.len() > MAX_BINDINGS {
        return Err("a shader has at most 8 buffers");
    }
    call.buffers.iter().try_for_each(check_binding)?;
    let mut pairs = call
        .buffers
        .iter()
        .enumerate()
        .flat_map(|(place, one)| call.buffers.iter().skip(place + 1).map(move |other| (one, other)));
    if pairs.any(|(one, other)| overlap(one, other)) {
        return Err("it binds twice what is bound for writing");
    }
    Ok(())
}

fn check_binding(buffer: &BufferRef) -> Result<(), &'static str> {
    let is_aligned = buffer.offset.is_multiple_of(BINDING_ALIGNMENT);
    match buffer.kind() {
        BufferKind::State | BufferKind::Scratch | BufferKind::Unspecified => Err("shaders have no such memory"),
        _ if buffer.length == 0 => Err("a buffer of a shader is empty"),
        BufferKind::Weights => Ok(()),
        BufferKind::Arena | BufferKind::Input | BufferKind::Output if is_aligned => Ok(()),
        BufferKind::Arena | BufferKind::Input | BufferKind::Output => {
            Err("a buffer of a shader must start at a multiple of 256")
        }
    }
}

/// Whether two checked buffers share memory of those kinds that are bound for writing, whatever a step does with them; the
/// gaps up to the next multiple of the alignment belong to them.
fn overlap(one: &BufferRef, other: &BufferRef) -> bool {
    let end = |buffer: &BufferRef| (buffer.offset + buffer.length).next_multiple_of(BINDING_ALIGNMENT);
    let is_written = matches!(one.kind(), BufferKind::Arena | BufferKind::Output);
    let is_same = one.kind == other.kind && one.index == other.index;
    is_written && is_same && one.offset < end(other) && other.offset < end(one)
}
