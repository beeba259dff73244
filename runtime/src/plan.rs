//! The steps of a program with everything resolved that does not change from run to run.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgecc_format::step::Action;
use edgecc_format::{BufferKind, BufferRef, Call, Step};

use crate::code::KernelFunction;
use crate::model::LoadedModel;

/// A step, ready to be called.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    pub kernel: KernelFunction,
    pub buffers: Box<[PlannedBuffer]>,
    pub args: Box<[u32]>,
    pub range: u32,
    /// Indices of a piece of the range, but for the last.
    pub piece: u32,
    /// Pieces of the range.
    pub pieces: u32,
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

/// Plans the steps of a model's program; the references are those that the load has checked.
pub(crate) fn plan(model: &LoadedModel, threads: u32) -> Box<[PlannedStep]> {
    model.program().steps.iter().filter_map(|step| plan_step(model, step, threads)).collect()
}

fn plan_step(model: &LoadedModel, step: &Step, threads: u32) -> Option<PlannedStep> {
    let Action::Call(call) = step.action.as_ref()?;
    let kernel = model.program().kernels.get(call.kernel as usize)?;
    let (piece, pieces) = cut(call, threads);
    let buffers = call.buffers.iter().map(|buffer| plan_buffer(buffer, model.manifest.inputs.len()));
    Some(PlannedStep {
        kernel: model.code.kernel(kernel.offset as usize)?,
        buffers: buffers.collect(),
        args: call.args.as_slice().into(),
        range: call.range,
        piece,
        pieces,
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

/// The indices of a piece and the number of pieces: multiples of the grain, about four for each thread so that a slow
/// core does not hold up the others.
fn cut(call: &Call, threads: u32) -> (u32, u32) {
    const PIECES_PER_THREAD: u32 = 4;
    let grains = call.range.div_ceil(call.grain);
    if threads <= 1 || grains <= 1 {
        return (call.range, call.range.min(1));
    }
    let piece = grains.div_ceil(threads.saturating_mul(PIECES_PER_THREAD)).saturating_mul(call.grain);
    (piece, call.range.div_ceil(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_range(range: u32, grain: u32, threads: u32) -> (u32, u32) {
        cut(&Call { range, grain, ..Call::default() }, threads)
    }

    #[test]
    fn pieces_are_multiples_of_the_grain_and_cover_the_range() {
        assert_eq!(cut_range(0, 4, 2), (0, 0));
        assert_eq!(cut_range(100, 4, 1), (100, 1));
        assert_eq!(cut_range(4, 4, 2), (4, 1));
        assert_eq!(cut_range(5, 4, 2), (4, 2));
        assert_eq!(cut_range(100, 4, 2), (16, 7));
        assert_eq!(cut_range(u32::MAX, u32::MAX - 1, 4), (u32::MAX - 1, 2));
        assert_eq!(cut_range(u32::MAX, 1 << 31, 4), (1 << 31, 2));
    }
}
