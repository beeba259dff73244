//! The steps of a program with everything resolved that does not change from run to run.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgecc_format::step::Action;
use edgecc_format::{BufferKind, BufferRef, Step};

use crate::code::KernelFunction;
use crate::model::LoadedModel;
use crate::pool::Pool;
use crate::sharing::{Load, Partition};

/// A step, ready to be called.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    pub kernel: KernelFunction,
    pub buffers: Box<[PlannedBuffer]>,
    pub args: Box<[u32]>,
    pub range: u32,
    pub partition: Partition,
}

/// Where a buffer is: an offset in one of the session's memories.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PlannedBuffer {
    /// The memory in this slot: the same for all workers.
    Shared { slot: usize, offset: usize },
    /// The worker's own scratch.
    Scratch { offset: usize },
}

/// Slots of a session's memories: weights, arena, state, the inputs, the outputs.
pub(crate) const WEIGHTS_SLOT: usize = 0;
pub(crate) const ARENA_SLOT: usize = 1;
pub(crate) const STATE_SLOT: usize = 2;
pub(crate) const FIRST_INPUT_SLOT: usize = 3;

/// Plans the steps of a model's program for the workers of a pool; the references are those that the load has checked.
pub(crate) fn plan(model: &LoadedModel, pool: &Pool) -> Box<[PlannedStep]> {
    model.program().steps.iter().filter_map(|step| plan_step(model, step, pool)).collect()
}

fn plan_step(model: &LoadedModel, step: &Step, pool: &Pool) -> Option<PlannedStep> {
    let Action::Call(call) = step.action.as_ref()?;
    let kernel = model.program().kernels.get(call.kernel as usize)?;
    let buffers = call.buffers.iter().map(|buffer| plan_buffer(buffer, model.manifest.inputs.len()));
    Some(PlannedStep {
        kernel: model.code.kernel(kernel.offset as usize)?,
        buffers: buffers.collect(),
        args: call.args.as_slice().into(),
        range: call.range,
        partition: Partition::new(Load::of(call), pool.speeds(), pool.sharing()),
    })
}

fn plan_buffer(buffer: &BufferRef, inputs: usize) -> PlannedBuffer {
    let (index, offset) = (buffer.index as usize, buffer.offset as usize);
    let slot = match buffer.kind() {
        BufferKind::Weights | BufferKind::Unspecified => WEIGHTS_SLOT,
        BufferKind::Arena => ARENA_SLOT,
        BufferKind::State => STATE_SLOT,
        BufferKind::Input => FIRST_INPUT_SLOT + index,
        BufferKind::Output => FIRST_INPUT_SLOT + inputs + index,
        BufferKind::Scratch => return PlannedBuffer::Scratch { offset },
    };
    PlannedBuffer::Shared { slot, offset }
}
