//! Checks every number of a manifest that a runtime relies on, so that running needs no checks.

use crate::dispatch::check_dispatch;
use crate::error::FormatError;
use crate::manifest::step::Action;
use crate::manifest::{
    ARCHITECTURE_WGSL, Access, BufferKind, BufferRef, CONSTANT_ALIGNMENT, Call, Constant, Manifest, Port, Program, Step,
};

/// The most buffers of a step.
pub const MAX_BUFFERS: usize = 64;
/// Kernels start at multiples of this in the code, in bytes.
const KERNEL_ALIGNMENT: u64 = 16;
const HASH_BYTES: usize = 32;

/// Sizes in bytes of everything a step can refer to.
struct Sizes {
    weights: u64,
    arena: u64,
    state: u64,
    scratch: u64,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
}

/// Checks a manifest against the sizes of the code and weights sections, in bytes.
pub fn check(manifest: &Manifest, code_bytes: u64, weights_bytes: u64) -> Result<(), FormatError> {
    check_weights(manifest, weights_bytes)?;
    let inputs = port_sizes("input", &manifest.inputs)?;
    let outputs = port_sizes("output", &manifest.outputs)?;
    let mut sizes = Sizes { weights: weights_bytes, arena: 0, state: 0, scratch: 0, inputs, outputs };
    for (index, program) in manifest.programs.iter().enumerate() {
        sizes.arena = program.arena_bytes;
        sizes.state = program.state_bytes;
        sizes.scratch = program.scratch_bytes_per_worker;
        check_program(index, program, &sizes, code_bytes)?;
    }
    Ok(())
}

fn check_weights(manifest: &Manifest, weights_bytes: u64) -> Result<(), FormatError> {
    if manifest.weights_bytes != weights_bytes {
        return Err(invalid("weights", "the section has another size than the manifest says"));
    }
    if manifest.weights_hash.len() != HASH_BYTES {
        return Err(invalid("weights", "the hash must have 32 bytes"));
    }
    let mut end = 0;
    for (index, constant) in manifest.constants.iter().enumerate() {
        end = check_constant(index, constant, end, weights_bytes)?;
    }
    Ok(())
}

/// Checks a constant that must not start before `free`; its end.
fn check_constant(index: usize, constant: &Constant, free: u64, weights_bytes: u64) -> Result<u64, FormatError> {
    let place = || format!("constant {index}");
    if constant.offset < free || !constant.offset.is_multiple_of(CONSTANT_ALIGNMENT) {
        return Err(invalid(place(), "it must start at a multiple of 64 after the one before it"));
    }
    if constant.hash.len() != HASH_BYTES {
        return Err(invalid(place(), "the hash must have 32 bytes"));
    }
    check_bounds(place, || "the weights".into(), constant.offset, constant.length, weights_bytes)
}

fn port_sizes(direction: &str, ports: &[Port]) -> Result<Vec<u64>, FormatError> {
    let size = |port: &Port| {
        let problem = "its type is unknown or its size overflows";
        port.bytes().ok_or_else(|| invalid(format!("{direction} `{}`", port.name), problem))
    };
    ports.iter().map(size).collect()
}

fn check_program(index: usize, program: &Program, sizes: &Sizes, code_bytes: u64) -> Result<(), FormatError> {
    let place = || format!("program {index} for {}", program.architecture);
    if !program.code_offset.is_multiple_of(CONSTANT_ALIGNMENT) {
        return Err(invalid(place(), "its code must start at a multiple of 64"));
    }
    check_bounds(place, || "the code".into(), program.code_offset, program.code_length, code_bytes)?;
    for kernel in &program.kernels {
        let place = || format!("kernel `{}`", kernel.name);
        if !kernel.offset.is_multiple_of(KERNEL_ALIGNMENT) || kernel.length == 0 {
            return Err(invalid(place(), "it must start at a multiple of 16 and not be empty"));
        }
        check_bounds(place, || "the program's code".into(), kernel.offset, kernel.length, program.code_length)?;
    }
    program.steps.iter().enumerate().try_for_each(|(index, step)| check_step(index, step, program, sizes))
}

fn check_step(index: usize, step: &Step, program: &Program, sizes: &Sizes) -> Result<(), FormatError> {
    match &step.action {
        None => Err(invalid(format!("step {index}"), "its kind is unknown to this version: update the runtime")),
        Some(Action::Call(call)) => check_call(index, call, program, sizes),
    }
}

fn check_call(index: usize, call: &Call, program: &Program, sizes: &Sizes) -> Result<(), FormatError> {
    let place = || format!("step {index} `{}`", call.name);
    if call.kernel as usize >= program.kernels.len() {
        return Err(invalid(place(), "it calls a kernel that does not exist"));
    }
    if call.grain == 0 {
        return Err(invalid(place(), "its grain must be at least 1"));
    }
    if call.buffers.len() > MAX_BUFFERS {
        return Err(invalid(place(), "it has more than 64 buffers"));
    }
    call.buffers.iter().try_for_each(|buffer| check_buffer(place, buffer, sizes))?;
    match program.architecture.as_str() {
        ARCHITECTURE_WGSL => check_dispatch(call).map_err(|problem| invalid(place(), problem)),
        _ if !call.groups.is_empty() => Err(invalid(place(), "it has groups, and its kernel is no shader")),
        _ => Ok(()),
    }
}

fn check_buffer(place: impl Fn() -> String, buffer: &BufferRef, sizes: &Sizes) -> Result<(), FormatError> {
    let index = buffer.index as usize;
    let kind = BufferKind::try_from(buffer.kind).unwrap_or(BufferKind::Unspecified);
    let (size, name, writable) = match kind {
        BufferKind::Unspecified => return Err(invalid(place(), "a buffer has no known kind")),
        BufferKind::Weights => (Some(sizes.weights), "the weights", false),
        BufferKind::Arena => (Some(sizes.arena), "the arena", true),
        BufferKind::Input => (sizes.inputs.get(index).copied(), "the input", false),
        BufferKind::Output => (sizes.outputs.get(index).copied(), "the output", true),
        BufferKind::State => (Some(sizes.state), "the state", true),
        BufferKind::Scratch => (Some(sizes.scratch), "a worker's scratch", true),
    };
    let size = size.ok_or_else(|| invalid(place(), "it refers to an input or output that does not exist"))?;
    match Access::try_from(buffer.access).unwrap_or(Access::Unspecified) {
        Access::Unspecified => return Err(invalid(place(), "a buffer has no known access")),
        Access::Read => {}
        Access::Write | Access::ReadWrite if writable => {}
        Access::Write | Access::ReadWrite => return Err(invalid(place(), "it writes to weights or to an input")),
    }
    check_bounds(place, || name.into(), buffer.offset, buffer.length, size)?;
    Ok(())
}

/// Checks that `offset..offset + length` lies within `size` bytes; the end.
fn check_bounds(
    place: impl Fn() -> String,
    target: impl Fn() -> String,
    offset: u64,
    length: u64,
    size: u64,
) -> Result<u64, FormatError> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(end),
        Some(_) | None => Err(FormatError::OutOfBounds { place: place(), target: target(), offset, length, size }),
    }
}

fn invalid(place: impl Into<String>, problem: &'static str) -> FormatError {
    FormatError::Invalid { place: place.into(), problem }
}
