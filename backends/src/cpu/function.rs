//! One kernel function, from Cranelift's IR to bytes that run wherever they are mapped.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Endianness, Function, InstBuilder, MemFlagsData, Signature, Type, UserFuncName, Value,
    types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::isa::{Architecture, CpuTarget, Listing};

/// Why code could not be emitted. Each is a fault of the compiler, never of the model.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// Cranelift does not know the target or one of its features.
    #[error("cranelift cannot emit for {architecture:?}: {reason}")]
    Target {
        /// The instruction set asked for.
        architecture: Architecture,
        /// Cranelift's words.
        reason: String,
    },
    /// Cranelift refused a function.
    #[error("cranelift refused kernel `{kernel}`: {reason}")]
    Function {
        /// The kernel's name.
        kernel: String,
        /// Cranelift's words.
        reason: String,
    },
    /// The function refers to a symbol outside itself, so that its bytes cannot stand alone.
    #[error("kernel `{kernel}` calls out of its own code {count} times")]
    Relocations {
        /// The kernel's name.
        kernel: String,
        /// The number of references.
        count: usize,
    },
    /// The kernel's loop nest contradicts itself.
    #[error("kernel `{kernel}`: {error}")]
    Kernel {
        /// The kernel's name.
        kernel: String,
        /// What is wrong with it.
        #[source]
        error: crate::kernel::KernelError,
    },
    /// The kernel's description is outside of what the emitter covers.
    #[error("kernel `{kernel}`: {reason}")]
    Unsupported {
        /// The kernel's name.
        kernel: String,
        /// What it covers.
        reason: String,
    },
}

/// The parameters of a kernel: `(bases: *const *mut u8, args: *const u32, begin: u32, end: u32, worker: u32)`.
/// The three counts are zero-extended to 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct KernelParameters {
    /// Address of the table of operand addresses.
    pub bases: Value,
    /// Address of the run-time extents.
    pub args: Value,
    /// First unit of the range, i64.
    pub begin: Value,
    /// End of the range, i64.
    pub end: Value,
    /// The worker's number, i64.
    pub worker: Value,
}

/// A function's machine code, and the text that the target asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FunctionCode {
    /// Machine code without relocations.
    pub bytes: Vec<u8>,
    /// Empty unless the target asks for one.
    pub listing: String,
    /// Whether our own encoder wrote it.
    pub encoded: bool,
}

/// Emits one kernel: `build` writes the body, falling through to the return.
pub fn compile_kernel(
    target: &CpuTarget,
    name: &str,
    build: impl FnOnce(&mut FunctionBuilder<'_>, KernelParameters) -> Result<(), EmitError>,
) -> Result<FunctionCode, EmitError> {
    let mut context = Context::for_function(Function::with_name_signature(UserFuncName::default(), kernel_signature()));
    let mut builder_context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut builder_context);
    let parameters = entry(&mut builder);
    build(&mut builder, parameters)?;
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(target.isa().frontend_config());
    code_of(target, name, &mut context)
}

/// Compiles a function of any signature: `build` gets its parameters and ends every block itself.
pub fn compile_function(
    target: &CpuTarget,
    name: &str,
    signature: Signature,
    build: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]) -> Result<(), EmitError>,
) -> Result<FunctionCode, EmitError> {
    let mut context = Context::for_function(Function::with_name_signature(UserFuncName::default(), signature));
    let mut builder_context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut builder_context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let parameters = builder.block_params(block).to_vec();
    build(&mut builder, &parameters)?;
    builder.seal_all_blocks();
    builder.finalize(target.isa().frontend_config());
    code_of(target, name, &mut context)
}

fn code_of(target: &CpuTarget, name: &str, context: &mut Context) -> Result<FunctionCode, EmitError> {
    let refused = |reason: String| EmitError::Function { kernel: name.to_owned(), reason };
    let clif = (target.listing == Listing::Clif).then(|| context.func.display().to_string());
    context.set_disasm(target.listing == Listing::Assembly);
    let compiled = context
        .compile(target.isa(), &mut ControlPlane::default())
        .map_err(|error| refused(format!("{:?}", error.inner)))?;
    match compiled.buffer.relocs().len() {
        0 => {
            let listing = clif.or_else(|| compiled.vcode.clone()).unwrap_or_default();
            Ok(FunctionCode { bytes: compiled.code_buffer().to_vec(), listing, encoded: false })
        }
        count => Err(EmitError::Relocations { kernel: name.to_owned(), count }),
    }
}

/// That of a kernel: `void (bases, args, begin, end, worker)`.
pub fn kernel_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    let parameters = [types::I64, types::I64, types::I32, types::I32, types::I32];
    signature.params.extend(parameters.map(AbiParam::new));
    signature
}

fn entry(builder: &mut FunctionBuilder<'_>) -> KernelParameters {
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let parameters = builder.block_params(block).to_vec();
    let [begin, end, worker] = [2, 3, 4].map(|n| builder.ins().uextend(types::I64, parameters[n]));
    KernelParameters { bases: parameters[0], args: parameters[1], begin, end, worker }
}

/// Flags of an access that stays within its operand; addresses may be unaligned.
pub fn access() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// The flags of a bitcast between vectors: lanes keep their bytes.
pub fn lanes() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// A 64-bit constant.
pub fn constant(b: &mut FunctionBuilder<'_>, value: i64) -> Value {
    b.ins().iconst(types::I64, value)
}

/// `value + offset`; adding nothing emits nothing.
pub fn offset(b: &mut FunctionBuilder<'_>, value: Value, offset: i64) -> Value {
    if offset == 0 { value } else { b.ins().iadd_imm_s(value, offset) }
}

/// `value * factor`, by a shift where that does it.
pub fn scale(b: &mut FunctionBuilder<'_>, value: Value, factor: i64) -> Value {
    match factor {
        0 => constant(b, 0),
        1 => value,
        f if f > 0 && f & (f - 1) == 0 => b.ins().ishl_imm_u(value, i64::from(f.trailing_zeros())),
        f => b.ins().imul_imm_s(value, f),
    }
}

/// The address of operand `index`.
pub fn operand_base(b: &mut FunctionBuilder<'_>, bases: Value, index: usize) -> Value {
    b.ins().load(types::I64, access(), bases, Offset32::new(index as i32 * 8))
}

/// Loads `kind` from `address + offset`, where the offset may be of any size.
pub fn load(b: &mut FunctionBuilder<'_>, kind: Type, address: Value, offset: i64) -> Value {
    match i32::try_from(offset) {
        Ok(near) => b.ins().load(kind, access(), address, Offset32::new(near)),
        Err(_) => {
            let far = b.ins().iadd_imm_s(address, offset);
            b.ins().load(kind, access(), far, Offset32::new(0))
        }
    }
}

/// Stores a value at `address + offset`.
pub fn store(b: &mut FunctionBuilder<'_>, value: Value, address: Value, offset: i32) {
    b.ins().store(access(), value, address, Offset32::new(offset));
}

/// A jump with one value per parameter of `block`.
pub fn jump(b: &mut FunctionBuilder<'_>, block: Block, values: &[Value]) {
    let arguments: Vec<BlockArg> = values.iter().map(|&value| BlockArg::Value(value)).collect();
    b.ins().jump(block, &arguments);
}

/// A branch on a truth value; neither block takes parameters.
pub fn branch(b: &mut FunctionBuilder<'_>, condition: Value, then: Block, otherwise: Block) {
    b.ins().brif(condition, then, &[], otherwise, &[]);
}

/// `for index in (from..to).step_by(step)`, tested at the head, so that it may run no times. `from` and `to` are i64.
pub fn counted_loop(
    b: &mut FunctionBuilder<'_>,
    from: Value,
    to: Value,
    step: i64,
    body: impl FnOnce(&mut FunctionBuilder<'_>, Value) -> Result<(), EmitError>,
) -> Result<(), EmitError> {
    let (head, inside, exit) = (b.create_block(), b.create_block(), b.create_block());
    let index = b.append_block_param(head, types::I64);
    jump(b, head, &[from]);
    b.switch_to_block(head);
    let more = b.ins().icmp(IntCC::SignedLessThan, index, to);
    branch(b, more, inside, exit);
    b.switch_to_block(inside);
    body(b, index)?;
    let next = b.ins().iadd_imm_s(index, step);
    jump(b, head, &[next]);
    b.switch_to_block(exit);
    Ok(())
}

/// Runs `repeat` times (at least once) a body that carries values: it takes them and returns the next ones. The test is at
/// the end, on a count that runs down to zero.
pub fn carried_loop(
    b: &mut FunctionBuilder<'_>,
    repeat: i64,
    carried: &[Value],
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    if repeat == 1 {
        return body(b, carried);
    }
    let (head, exit) = (b.create_block(), b.create_block());
    let count = constant(b, repeat);
    let mut entering = vec![count];
    entering.extend(carried);
    let parameters: Vec<Value> = entering
        .iter()
        .map(|&value| {
            let kind = b.func.dfg.value_type(value);
            b.append_block_param(head, kind)
        })
        .collect();
    jump(b, head, &entering);
    b.switch_to_block(head);
    let values = body(b, &parameters[1..]);
    let left = b.ins().iadd_imm_s(parameters[0], -1);
    let mut repeating = vec![left];
    repeating.extend(&values);
    let arguments: Vec<BlockArg> = repeating.iter().map(|&value| BlockArg::Value(value)).collect();
    b.ins().brif(left, head, &arguments, exit, &[]);
    b.switch_to_block(exit);
    values
}
