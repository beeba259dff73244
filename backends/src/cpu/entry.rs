//! The entry of a linked model: one function that runs every step of a program, without a runtime.
//!
//! `NAME_run(weights, arena, inputs, outputs, parallel)` begins with a stub that finds the address of the code, since all
//! code is one symbol and nothing is relocated; the stub goes on in a function that checks the weights, writes each step's
//! operand addresses on its stack and calls the kernel, or the app's parallel loop with it.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{AbiParam, InstBuilder, SigRef, Signature, StackSlotData, StackSlotKind, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;

use super::function::{EmitError, access, compile_function, constant, kernel_signature, offset};
use super::isa::{Architecture, CpuTarget};
use super::program::Emitted;
use crate::plan::Plan;
use crate::program::{Operand, Program, Step, StorageKind};

/// Bytes of the stub at the start of the code; the first kernel follows at the next multiple of its alignment.
pub const STUB_BYTES: usize = 64;

/// Where a linked model's constants lie: by storage, counted from the first byte of the weights.
pub struct Binding<'a> {
    /// Offset of each constant storage.
    pub constants: &'a [u64],
    /// The 32 bytes at the start of the weights that the code was compiled with.
    pub seal: [u8; 32],
    /// Bytes before the first constant.
    pub header: u64,
}

/// Code of a linked model: the stub, the kernels, the function that runs them.
pub fn emit_entry(
    target: &CpuTarget,
    program: &Program,
    plan: &Plan,
    emitted: &Emitted,
    binding: &Binding<'_>,
) -> Result<Vec<u8>, EmitError> {
    let run = compile_function(target, "run", run_signature(), |b, parameters| {
        let entry = Entry { program, plan, emitted, binding, parameters: parameters.to_vec() };
        entry.emit(b);
        Ok(())
    })?;
    let mut code = vec![0; STUB_BYTES];
    code.extend_from_slice(&emitted.code);
    code.resize(code.len().next_multiple_of(STUB_BYTES), 0);
    check_reach(target.architecture, code.len())?;
    let stub = stub(target.architecture, code.len());
    code[..stub.len()].copy_from_slice(&stub);
    code.extend_from_slice(&run.bytes);
    Ok(code)
}

/// The stub's branch goes 2^25 words forward on aarch64, 2^31 bytes on x86-64.
pub(super) fn check_reach(architecture: Architecture, distance: usize) -> Result<(), EmitError> {
    let reach = match architecture {
        Architecture::Aarch64 => 1 << 27,
        Architecture::X86_64 => 1 << 31,
    };
    if distance < reach {
        return Ok(());
    }
    let reason = format!("{distance} bytes of kernels lie before it, a branch reaches {reach}");
    Err(EmitError::Unsupported { kernel: "run".into(), reason })
}

/// Sets the sixth argument to the address of the stub and goes on at `distance` from it.
pub(super) fn stub(architecture: Architecture, distance: usize) -> Vec<u8> {
    match architecture {
        // bti c; adr x5, stub; b run
        Architecture::Aarch64 => {
            let branch = 0x1400_0000 | (((distance - 8) / 4) as u32 & 0x03ff_ffff);
            let adr = 0x1000_0000 | (((-4i32 >> 2) as u32 & 0x7_ffff) << 5) | 5;
            [0xd503_245f, adr, branch].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
        }
        // endbr64; lea r9, [rip - 11]; jmp run
        Architecture::X86_64 => {
            let mut bytes = vec![0xf3, 0x0f, 0x1e, 0xfa, 0x4c, 0x8d, 0x0d];
            bytes.extend((-11i32).to_le_bytes());
            bytes.push(0xe9);
            bytes.extend(((distance - 16) as i32).to_le_bytes());
            bytes
        }
    }
}

fn run_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([types::I64; 6].map(AbiParam::new));
    signature.returns.push(AbiParam::new(types::I32));
    signature
}

/// `void run(context, kernel, bases, args, range, grain)`.
fn parallel_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    let parameters = [types::I64, types::I64, types::I64, types::I64, types::I32, types::I32];
    signature.params.extend(parameters.map(AbiParam::new));
    signature
}

const WEIGHTS: usize = 0;
const ARENA: usize = 1;
const INPUTS: usize = 2;
const OUTPUTS: usize = 3;
const PARALLEL: usize = 4;
const CODE: usize = 5;

struct Entry<'a> {
    program: &'a Program,
    plan: &'a Plan,
    emitted: &'a Emitted,
    binding: &'a Binding<'a>,
    parameters: Vec<Value>,
}

impl Entry<'_> {
    fn emit(&self, b: &mut FunctionBuilder<'_>) {
        let (kernel, parallel) = (b.import_signature(kernel_signature()), b.import_signature(parallel_signature()));
        self.check_seal(b);
        let operands = self.program.steps.iter().map(|step| step.operands.len() + 1).max().unwrap_or(0);
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, operands as u32 * 8, 3);
        let slot = b.create_sized_stack_slot(slot);
        for step in &self.program.steps {
            let bases = b.ins().stack_addr(types::I64, slot, 0);
            self.bind(b, step, bases);
            self.call(b, step, bases, kernel, parallel);
        }
        let done = b.ins().iconst(types::I32, 0);
        b.ins().return_(&[done]);
    }

    /// Returns 1 where the weights do not begin with the seal.
    fn check_seal(&self, b: &mut FunctionBuilder<'_>) {
        let (wrong, right) = (b.create_block(), b.create_block());
        let mut differs = constant(b, 0);
        for (place, word) in self.binding.seal.chunks_exact(8).enumerate() {
            let expected = word.iter().rev().fold(0i64, |word, &byte| word << 8 | byte as i64);
            let found = b.ins().load(types::I64, access(), self.parameters[WEIGHTS], Offset32::new(place as i32 * 8));
            let expected = constant(b, expected);
            let difference = b.ins().bxor(found, expected);
            differs = b.ins().bor(differs, difference);
        }
        b.ins().brif(differs, wrong, &[], right, &[]);
        b.switch_to_block(wrong);
        let refused = b.ins().iconst(types::I32, 1);
        b.ins().return_(&[refused]);
        b.switch_to_block(right);
    }

    /// Writes the addresses of a step's operands to `bases`.
    fn bind(&self, b: &mut FunctionBuilder<'_>, step: &Step, bases: Value) {
        for (place, operand) in step.operands.iter().enumerate() {
            let address = self.address(b, operand);
            b.ins().store(access(), address, bases, Offset32::new(place as i32 * 8));
        }
        if step.scratch > 0 {
            // Scratch lies behind the arena; steps that need it run on the caller alone.
            let address = offset(b, self.parameters[ARENA], self.plan.arena_bytes as i64);
            b.ins().store(access(), address, bases, Offset32::new(step.operands.len() as i32 * 8));
        }
    }

    fn address(&self, b: &mut FunctionBuilder<'_>, operand: &Operand) -> Value {
        let id = operand.storage.0 as usize;
        let (base, start) = match self.program.storages[id].kind {
            StorageKind::Constant(_) => (self.parameters[WEIGHTS], self.binding.header + self.binding.constants[id]),
            StorageKind::Arena => (self.parameters[ARENA], self.plan.offsets[id] as u64),
            StorageKind::Input(index) => (self.nth(b, INPUTS, index), 0),
            StorageKind::Output(index) => (self.nth(b, OUTPUTS, index), 0),
        };
        offset(b, base, start as i64 + operand.offset as i64)
    }

    /// Entry `index` of the caller's table of addresses.
    fn nth(&self, b: &mut FunctionBuilder<'_>, table: usize, index: usize) -> Value {
        b.ins().load(types::I64, access(), self.parameters[table], Offset32::new(index as i32 * 8))
    }

    fn call(&self, b: &mut FunctionBuilder<'_>, step: &Step, bases: Value, kernel: SigRef, parallel: SigRef) {
        let placed = &self.emitted.kernels[step.kernel];
        let address = offset(b, self.parameters[CODE], (STUB_BYTES + placed.offset) as i64);
        let arguments = constant(b, 0);
        let [zero, range, grain] = [0, placed.range, step.grain.max(1)].map(|n| b.ins().iconst(types::I32, n as i64));
        if step.scratch > 0 || placed.range <= step.grain {
            b.ins().call_indirect(kernel, address, &[bases, arguments, zero, range, zero]);
            return;
        }
        let (alone, together, next) = (b.create_block(), b.create_block(), b.create_block());
        let given = b.ins().icmp_imm_u(IntCC::NotEqual, self.parameters[PARALLEL], 0);
        b.ins().brif(given, together, &[], alone, &[]);
        b.switch_to_block(alone);
        b.ins().call_indirect(kernel, address, &[bases, arguments, zero, range, zero]);
        b.ins().jump(next, &[]);
        b.switch_to_block(together);
        let [function, context] =
            [0, 8].map(|at| b.ins().load(types::I64, access(), self.parameters[PARALLEL], Offset32::new(at)));
        b.ins().call_indirect(parallel, function, &[context, address, bases, arguments, range, grain]);
        b.ins().jump(next, &[]);
        b.switch_to_block(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GNU as makes of `bti c; adr x5, .-4; b .+4088`.
    #[test]
    fn the_stub_for_aarch64() {
        let words = [0xd503_245f_u32, 0x10ff_ffe5, 0x1400_03fe];
        let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(stub(Architecture::Aarch64, 4096), expected);
    }

    /// What GNU as makes of `endbr64; lea -11(%rip), %r9; jmp .+4085`.
    #[test]
    fn the_stub_for_x86_64() {
        let expected = [0xf3, 0x0f, 0x1e, 0xfa, 0x4c, 0x8d, 0x0d, 0xf5, 0xff, 0xff, 0xff, 0xe9, 0xf0, 0x0f, 0x00, 0x00];
        assert_eq!(stub(Architecture::X86_64, 4096), expected);
    }

    #[test]
    fn code_beyond_a_branch_is_refused() {
        assert!(check_reach(Architecture::Aarch64, (1 << 27) - 64).is_ok());
        assert!(check_reach(Architecture::Aarch64, 1 << 27).is_err());
        assert!(check_reach(Architecture::X86_64, 1 << 27).is_ok());
    }
}
