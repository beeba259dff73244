//! A planned program as the artifact's messages: steps over buffers, constants in the pool.

use std::borrow::Cow;

use edgecc_format::{
    ABI_AAPCS64, ABI_SYSTEM_V, ABI_WEBGPU, ARCHITECTURE_WGSL, Access as FormatAccess, BufferKind, BufferRef, Call,
    ConstantPool, Dim, ElementType, Kernel, Port as FormatPort, Program as FormatProgram, Step as FormatStep,
    step::Action,
};
use edgecc_ir::DType;

use crate::cpu::isa::Architecture;
use crate::cpu::program::Emitted;
use crate::gpu::{Binding, Region, Shaders};
use crate::kernel::Access;
use crate::plan::Plan;
use crate::program::{Operand, Port, Program, Step, StorageKind};

/// The artifact's record of a program emitted for a CPU. Constants that steps read go into the pool.
pub fn describe<'a>(
    program: &'a Program,
    plan: &Plan,
    emitted: &Emitted,
    architecture: Architecture,
    pool: &mut ConstantPool<'a>,
) -> FormatProgram {
    let constants = place_constants(program, pool);
    let kernels = emitted.kernels.iter().map(|kernel| Kernel {
        name: kernel.name.clone(),
        offset: kernel.offset as u64,
        length: kernel.length as u64,
        encoded: kernel.encoded,
        bounded: false,
    });
    let steps = program.steps.iter().enumerate().map(|(number, step)| FormatStep {
        action: Some(Action::Call(call(program, plan, &constants, emitted, number, step))),
    });
    FormatProgram {
        architecture: architecture.name().into(),
        abi: match architecture {
            Architecture::Aarch64 => ABI_AAPCS64.into(),
            Architecture::X86_64 => ABI_SYSTEM_V.into(),
        },
        required_features: architecture.required_features().iter().map(|feature| feature.to_string()).collect(),
        rank: 0,
        code_offset: 0,
        code_length: emitted.code.len() as u64,
        arena_bytes: plan.arena_bytes as u64,
        scratch_bytes_per_worker: program.steps.iter().map(|step| step.scratch as u64).max().unwrap_or(0),
        state_bytes: 0,
        kernels: kernels.collect(),
        steps: steps.collect(),
    }
}

/// What an adapter needs whose shaders compute in halves, by WebGPU's name.
const HALVES: &str = "shader-f16";

/// The artifact's record of a program of shaders. Constants that steps read go into the pool.
pub fn describe_shaders<'a>(
    program: &'a Program,
    plan: &Plan,
    shaders: &Shaders,
    pool: &mut ConstantPool<'a>,
) -> FormatProgram {
    let constants = place_constants(program, pool);
    let (code, offsets) = shaders.code();
    let kernels = shaders.modules.iter().zip(offsets).map(|(module, offset)| Kernel {
        name: module.name.clone(),
        offset: offset as u64,
        length: module.text.len() as u64,
        encoded: true,
        bounded: module.unproved.is_none(),
    });
    let steps = program.steps.iter().zip(&shaders.dispatches).enumerate().map(|(number, (step, dispatch))| {
        let buffers = dispatch.bindings.iter().map(|binding| bound(binding, &constants));
        let call = Call {
            kernel: dispatch.module as u32,
            buffers: buffers.collect(),
            range: 1,
            groups: dispatch.groups.to_vec(),
            ..record(number, step)
        };
        FormatStep { action: Some(Action::Call(call)) }
    });
    FormatProgram {
        architecture: ARCHITECTURE_WGSL.into(),
        abi: ABI_WEBGPU.into(),
        required_features: shaders.have_halves.then(|| HALVES.into()).into_iter().collect(),
        rank: shaders.have_halves.into(),
        code_length: code.len() as u64,
        arena_bytes: plan.arena_bytes as u64,
        kernels: kernels.collect(),
        steps: steps.collect(),
        ..FormatProgram::default()
    }
}

fn bound(binding: &Binding, constants: &[u64]) -> BufferRef {
    let (kind, index, base) = match binding.region {
        Region::Input(index) => (BufferKind::Input, index, 0),
        Region::Output(index) => (BufferKind::Output, index, 0),
        Region::Constant(id) => (BufferKind::Weights, 0, constants[id.0 as usize]),
        Region::Arena => (BufferKind::Arena, 0, 0),
    };
    BufferRef {
        kind: kind as i32,
        index: index as u32,
        offset: base + binding.offset as u64,
        length: binding.length as u64,
        access: access(binding.access) as i32,
    }
}

/// What a call tells people.
fn record(number: usize, step: &Step) -> Call {
    Call {
        bytes: step.operands.iter().map(|operand| operand.length as u64).sum(),
        grain: step.grain.max(1),
        name: format!("{number}.{}", step.name),
        origins: step.origin.0.clone(),
        macs: step.macs,
        ..Call::default()
    }
}

/// The artifact's record of an input or output.
pub fn describe_port(port: &Port) -> FormatPort {
    let dims = port.ty.shape.extents().into_iter().map(|extent| Dim::fixed(extent as u64)).collect();
    FormatPort { name: port.name.clone(), element_type: element_type(port.ty.dtype) as i32, dims }
}

/// The artifact's name of an element type.
pub fn element_type(dtype: DType) -> ElementType {
    match dtype {
        DType::Bool => ElementType::Bool,
        DType::U8 => ElementType::U8,
        DType::I8 => ElementType::I8,
        DType::U16 => ElementType::U16,
        DType::I16 => ElementType::I16,
        DType::U32 => ElementType::U32,
        DType::I32 => ElementType::I32,
        DType::U64 => ElementType::U64,
        DType::I64 => ElementType::I64,
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::Bf16,
        DType::F32 => ElementType::F32,
        DType::F64 => ElementType::F64,
    }
}

/// Offsets in the weights section by storage, for the constants that a step reads.
pub fn place_constants<'a>(program: &'a Program, pool: &mut ConstantPool<'a>) -> Vec<u64> {
    let mut offsets: Vec<Option<u64>> = vec![None; program.storages.len()];
    for operand in program.steps.iter().flat_map(|step| &step.operands) {
        let id = operand.storage.0 as usize;
        if let (StorageKind::Constant(bytes), None) = (&program.storages[id].kind, offsets[id]) {
            offsets[id] = Some(pool.add(Cow::Borrowed(bytes.as_ref())));
        }
    }
    offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect()
}

fn call(program: &Program, plan: &Plan, constants: &[u64], emitted: &Emitted, number: usize, step: &Step) -> Call {
    let mut buffers: Vec<BufferRef> =
        step.operands.iter().map(|operand| buffer(program, plan, constants, operand)).collect();
    if step.scratch > 0 {
        buffers.push(BufferRef {
            kind: BufferKind::Scratch as i32,
            index: 0,
            offset: 0,
            length: step.scratch as u64,
            access: FormatAccess::ReadWrite as i32,
        });
    }
    Call {
        kernel: step.kernel as u32,
        buffers,
        args: step.arguments.clone(),
        range: emitted.kernels[step.kernel].range,
        ..record(number, step)
    }
}

fn buffer(program: &Program, plan: &Plan, constants: &[u64], operand: &Operand) -> BufferRef {
    let id = operand.storage.0 as usize;
    let (kind, index, base) = match program.storages[id].kind {
        StorageKind::Input(index) => (BufferKind::Input, index, 0),
        StorageKind::Output(index) => (BufferKind::Output, index, 0),
        StorageKind::Constant(_) => (BufferKind::Weights, 0, constants[id]),
        StorageKind::Arena => (BufferKind::Arena, 0, plan.offsets[id] as u64),
    };
    BufferRef {
        kind: kind as i32,
        index: index as u32,
        offset: base + operand.offset as u64,
        length: operand.length as u64,
        access: access(operand.access) as i32,
    }
}

fn access(access: Access) -> FormatAccess {
    match access {
        Access::Read => FormatAccess::Read,
        Access::Write => FormatAccess::Write,
        Access::ReadWrite => FormatAccess::ReadWrite,
    }
}
