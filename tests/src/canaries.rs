//! Programs of shaders over one memory, with a pattern beside everything that they may write.

use std::ops::Range;

use edgecc::shaders::CompiledShaders;
use edgecc_backends::artifact::describe_shaders;
use edgecc_backends::cpu::isa::Halves;
use edgecc_backends::gpu::{OFFSET_ALIGNMENT, emit};
use edgecc_backends::kernel::Access;
use edgecc_backends::plan::Plan;
use edgecc_backends::program::StorageKind;
use edgecc_format::step::Action;
use edgecc_format::{BufferKind, BufferRef, Call, ConstantPool, Contents, Dim, ElementType, Kernel, Port, Step, read};

/// Bytes between any two storages.
const GAP: usize = 512;
/// What every byte is before the first step.
const PATTERN: u8 = 0xa5;
/// Writes the pattern everywhere.
const FILL: &str = "@group(0) @binding(0) var<storage, read_write> b0: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x < arrayLength(&b0) { b0[id.x] = 0xa5a5a5a5u; }
}
";

/// A program whose only output is all of its memory.
pub struct Guarded {
    /// The artifact.
    pub artifact: Vec<u8>,
    /// Which bytes some step may write.
    is_written: Vec<bool>,
    /// Where the model's own outputs lie.
    pub outputs: Vec<Range<usize>>,
}

/// Gives every storage a place of its own, gaps around it.
pub fn guarded(compiled: &CompiledShaders) -> Guarded {
    let program = &compiled.program;
    let mut end = GAP;
    let mut place = |bytes: usize| {
        let start = end;
        end = (start + bytes).next_multiple_of(OFFSET_ALIGNMENT) + GAP;
        start
    };
    let mut plan = Plan { offsets: vec![0; program.storages.len()], arena_bytes: 0 };
    let mut outputs = vec![0..0; compiled.program.outputs.len()];
    for (storage, offset) in program.storages.iter().zip(&mut plan.offsets) {
        match storage.kind {
            StorageKind::Arena => *offset = place(storage.bytes),
            StorageKind::Output(n) => {
                *offset = place(storage.bytes);
                outputs[n] = *offset..*offset + storage.bytes;
            }
            StorageKind::Input(_) | StorageKind::Constant(_) => {}
        }
    }
    plan.arena_bytes = end;
    let mut is_written = vec![false; end];
    for operand in program.steps.iter().flat_map(|step| &step.operands) {
        if operand.access != Access::Read {
            let start = plan.offsets[operand.storage.0 as usize] + operand.offset;
            is_written[start..start + operand.length].fill(true);
        }
    }
    let mut pool = ConstantPool::new();
    let shaders = emit(program, &plan, Halves::Widened).expect("shaders");
    let mut record = describe_shaders(program, &plan, &shaders, &mut pool);
    let mut code = shaders.code().0;
    code.resize(code.len().next_multiple_of(64), b'\n');
    let fill = Kernel {
        name: "fill".into(),
        offset: code.len() as u64,
        length: FILL.len() as u64,
        encoded: true,
        bounded: false,
    };
    code.extend_from_slice(FILL.as_bytes());
    for Step { action } in &mut record.steps {
        let Some(Action::Call(call)) = action else { continue };
        call.buffers.iter_mut().for_each(|buffer| move_to_memory(buffer, &outputs));
    }
    record.steps.insert(0, Step { action: Some(Action::Call(call_of_fill(record.kernels.len(), end))) });
    record.kernels.push(fill);
    record.arena_bytes = 0;
    record.code_length = code.len() as u64;
    let whole = compiled.to_bytes().expect("an artifact");
    let mut manifest = read(&whole).expect("an artifact").manifest;
    let dims = vec![Dim::fixed(end as u64)];
    manifest.outputs = vec![Port { name: "memory".into(), element_type: ElementType::U8 as i32, dims }];
    manifest.programs = vec![record];
    let mut artifact = Vec::new();
    Contents { manifest, code: vec![&code], weights: &pool }.write(&mut artifact).expect("an artifact");
    Guarded { artifact, is_written, outputs }
}

fn call_of_fill(kernel: usize, bytes: usize) -> Call {
    let mut buffer =
        BufferRef { length: bytes as u64, access: edgecc_format::Access::Write as i32, ..BufferRef::default() };
    buffer.set_kind(BufferKind::Output);
    let groups = vec![bytes.div_ceil(4 * 64) as u32, 1, 1];
    Call {
        kernel: kernel as u32,
        buffers: vec![buffer],
        range: 1,
        grain: 1,
        name: "fill".into(),
        groups,
        ..Call::default()
    }
}

fn move_to_memory(buffer: &mut BufferRef, outputs: &[Range<usize>]) {
    match buffer.kind() {
        BufferKind::Arena => {}
        BufferKind::Output => buffer.offset += outputs[buffer.index as usize].start as u64,
        _ => return,
    }
    buffer.set_kind(BufferKind::Output);
    buffer.index = 0;
}

impl Guarded {
    /// The first byte that no step may write and that is not the pattern any more, if there is one.
    pub fn damage(&self, memory: &[u8]) -> Option<usize> {
        let pairs = memory.iter().zip(&self.is_written);
        pairs.into_iter().position(|(&byte, &is_written)| !is_written && byte != PATTERN)
    }
}
