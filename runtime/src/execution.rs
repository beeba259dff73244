//! The steps of a session with the memories that they work on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use edgecc_format::MAX_BUFFERS;

use crate::model::LoadedModel;
use crate::plan::{PlannedBuffer, PlannedStep};

/// What a worker needs to compute a piece of a session's step.
#[derive(Debug)]
pub(crate) struct Execution {
    /// Keeps code and weights alive.
    pub model: Arc<LoadedModel>,
    pub steps: Box<[PlannedStep]>,
    /// The start of each memory, by slot.
    pub slots: Box<[AtomicPtr<u8>]>,
    /// The start of worker 0's scratch; the others' follow at this distance in bytes.
    pub scratch: AtomicPtr<u8>,
    pub scratch_stride: usize,
}

impl Execution {
    /// Computes a part of a step's range.
    #[allow(unsafe_code)]
    pub fn call(&self, step: &PlannedStep, part: Range<u32>, worker: usize) {
        let mut bases = [std::ptr::null_mut(); MAX_BUFFERS];
        for (base, &buffer) in bases.iter_mut().zip(&step.buffers) {
            *base = self.address(buffer, worker);
        }
        // SAFETY: the code is alive through `self.model` and trusted by whoever loaded it. Every base points to the
        // bytes that the step's reference was checked against, and those live until the run is over: the session
        // owns or borrows them. No two workers have the same part of a step, nor the same scratch.
        unsafe { (step.kernel)(bases.as_ptr(), step.args.as_ptr(), part.start, part.end, worker as u32) }
    }

    fn address(&self, buffer: PlannedBuffer, worker: usize) -> *mut u8 {
        match buffer {
            PlannedBuffer::Shared { slot, offset } => self.slots[slot].load(Ordering::Relaxed).wrapping_add(offset),
            PlannedBuffer::Scratch { offset } => {
                self.scratch.load(Ordering::Relaxed).wrapping_add(worker * self.scratch_stride + offset)
            }
        }
    }
}
