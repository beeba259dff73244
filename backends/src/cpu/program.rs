//! Emission of a whole program: every kernel's code, one behind the other.

use crate::block_product::{BlockProductSpec, Order};
use crate::lower::block_product::nest;
use crate::program::{KernelSource, Program};

use super::a64;
use super::chain::emit_chain;
use super::contraction::{
    EmittedKernel, emit_contraction, emit_depthwise, emit_pack, emit_winograd_input, emit_winograd_output,
};
use super::function::EmitError;
use super::isa::CpuTarget;
use super::loops;
use super::x64;

/// Alignment of every kernel in the code, in bytes.
const ALIGNMENT: usize = 64;

/// The machine code of a program.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Emitted {
    /// Position-free code of all kernels.
    pub code: Vec<u8>,
    /// Where each kernel lies, in the order of the program's kernels.
    pub kernels: Vec<PlacedKernel>,
}

/// A kernel in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedKernel {
    /// A name for people.
    pub name: String,
    /// First byte.
    pub offset: usize,
    /// Bytes of the function.
    pub length: usize,
    /// Iterations of the kernel's range.
    pub range: u32,
    /// Whether our own encoder wrote it.
    pub encoded: bool,
    /// The text that the target asks for.
    pub listing: String,
}

/// Emits every kernel of a program. Fails, as a fault of the compiler, on a kernel that the target cannot express and on an
/// operand of a step that is smaller than what its kernel touches.
pub fn emit(program: &Program, target: &CpuTarget) -> Result<Emitted, EmitError> {
    let mut emitted = Emitted::default();
    for (number, source) in program.kernels.iter().enumerate() {
        let name = kernel_name(program, number);
        let kernel = emit_kernel(target, &name, source)?;
        check_operands(program, number, &name, &kernel)?;
        let offset = emitted.code.len().next_multiple_of(ALIGNMENT);
        emitted.code.resize(offset, 0);
        emitted.code.extend_from_slice(&kernel.code);
        let (length, range) = (kernel.code.len(), kernel.units as u32);
        let (encoded, listing) = (kernel.encoded, kernel.listing);
        emitted.kernels.push(PlacedKernel { name, offset, length, range, encoded, listing });
    }
    Ok(emitted)
}

/// Emits one kernel.
pub(super) fn emit_kernel(target: &CpuTarget, name: &str, source: &KernelSource) -> Result<EmittedKernel, EmitError> {
    match source {
        KernelSource::Loops(kernel) => loops::emit(target, name, kernel),
        KernelSource::Contraction(spec, schedule) => emit_contraction(target, name, spec, schedule),
        KernelSource::Depthwise(spec, schedule) => emit_depthwise(target, name, spec, schedule),
        KernelSource::BlockProduct(spec) => emit_block_product(target, name, spec),
        KernelSource::WinogradInput(spec) => emit_winograd_input(target, name, spec),
        KernelSource::WinogradOutput(spec) => emit_winograd_output(target, name, spec),
        KernelSource::Pack(weights, layout) => emit_pack(target, name, weights, layout),
        KernelSource::Chain(chain) => emit_chain(target, name, chain),
    }
}

/// Our encoder's kernel, or the same as a loop nest.
fn emit_block_product(target: &CpuTarget, name: &str, spec: &BlockProductSpec) -> Result<EmittedKernel, EmitError> {
    let encoded = match spec.order {
        Order::Quads if target.encodes_a64() => a64::emit_block_product(target, spec),
        Order::Lines if target.encodes_x64() => x64::emit_block_product(target, spec),
        Order::Quads | Order::Lines => None,
    };
    encoded.map_or_else(|| loops::emit(target, name, &nest(spec)), Ok)
}

/// The operator of the first step that calls the kernel, and the kernel's number.
fn kernel_name(program: &Program, number: usize) -> String {
    let caller = program.steps.iter().find(|step| step.kernel == number);
    format!("{}_{number}", caller.map_or("kernel", |step| step.name.as_str()))
}

/// What a kernel may touch lies within what each step that calls it hands over.
fn check_operands(program: &Program, number: usize, name: &str, kernel: &EmittedKernel) -> Result<(), EmitError> {
    for step in program.steps.iter().filter(|step| step.kernel == number) {
        for (place, footprint) in kernel.footprints.iter().enumerate() {
            let length = match step.operands.get(place) {
                Some(operand) => operand.length,
                None => step.scratch,
            };
            let within = footprint.begin >= 0 && footprint.end <= length as i64;
            if !within && footprint.begin < footprint.end {
                let reason = format!(
                    "operand {place} has {length} bytes, the kernel touches {}..{}",
                    footprint.begin, footprint.end
                );
                return Err(EmitError::Unsupported { kernel: name.into(), reason });
            }
        }
    }
    Ok(())
}
