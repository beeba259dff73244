//! The threads of a session, and how they share the pieces of a step.
//!
//! The leader (worker 0, the thread that runs the session) publishes a step in `cursor`: its index in the upper half, the
//! next piece in the lower. Whoever adds 1 owns the piece that was there, of the step that was there; so a worker that
//! comes late either gets a valid piece of the step that is current by then, or finds it exhausted. A step is over when
//! `done` has counted its pieces. Idle workers spin for a while and then park.

use std::hint::spin_loop;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle, park, yield_now};

use edgecc_format::MAX_BUFFERS;

use crate::model::LoadedModel;
use crate::plan::{PlannedBuffer, PlannedStep};

/// Turns of an idle worker before it parks, some tens of microseconds: longer than most serial steps.
const IDLE_TURNS: u32 = 2000;
/// Turns of the leader before it lets others have its core.
const LEADER_TURNS: u32 = 10_000;
/// A step index that no program has.
const NO_STEP: u64 = (u32::MAX as u64) << 32;

/// What all workers of a session see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Keeps code and weights alive.
    pub model: Arc<LoadedModel>,
    pub steps: Box<[PlannedStep]>,
    /// The start of each memory, by slot.
    pub slots: Box<[AtomicPtr<u8>]>,
    /// The start of worker 0's scratch; the others' follow at this distance in bytes.
    pub scratch: AtomicPtr<u8>,
    pub scratch_stride: usize,
    cursor: AtomicU64,
    done: AtomicU32,
    stop: AtomicBool,
    /// Whether worker i + 1 is about to park or parked.
    asleep: Box<[AtomicBool]>,
}

impl Shared {
    pub fn new(
        model: Arc<LoadedModel>,
        steps: Box<[PlannedStep]>,
        slots: Box<[AtomicPtr<u8>]>,
        (scratch, scratch_stride): (*mut u8, usize),
        threads: u32,
    ) -> Shared {
        Shared {
            model,
            steps,
            slots,
            scratch: AtomicPtr::new(scratch),
            scratch_stride,
            cursor: AtomicU64::new(NO_STEP),
            done: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The step at the cursor and the next piece of it, if one is left.
    fn piece_at(&self, cursor: u64) -> Option<(&PlannedStep, u32)> {
        let step = self.steps.get((cursor >> 32) as usize)?;
        let piece = cursor as u32;
        (piece < step.pieces).then_some((step, piece))
    }

    /// Takes a piece and computes it; false if none is left.
    fn take_piece(&self, worker: u32) -> bool {
        if self.piece_at(self.cursor.load(Ordering::Relaxed)).is_none() {
            return false;
        }
        let Some((step, piece)) = self.piece_at(self.cursor.fetch_add(1, Ordering::AcqRel)) else { return false };
        let begin = piece * step.piece;
        self.call(step, begin, begin.saturating_add(step.piece).min(step.range), worker);
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn idle(&self) -> bool {
        self.piece_at(self.cursor.load(Ordering::SeqCst)).is_none() && !self.stop.load(Ordering::SeqCst)
    }

    fn address(&self, buffer: PlannedBuffer, worker: u32) -> *mut u8 {
        match buffer {
            PlannedBuffer::Shared { slot, offset } => self.slots[slot].load(Ordering::Relaxed).wrapping_add(offset),
            PlannedBuffer::Scratch { offset } => {
                let own = worker as usize * self.scratch_stride;
                self.scratch.load(Ordering::Relaxed).wrapping_add(own + offset)
            }
        }
    }

    #[allow(unsafe_code)]
    fn call(&self, step: &PlannedStep, begin: u32, end: u32, worker: u32) {
        let mut bases = [std::ptr::null_mut(); MAX_BUFFERS];
        for (base, &buffer) in bases.iter_mut().zip(&step.buffers) {
            *base = self.address(buffer, worker);
        }
        // SAFETY: the code is alive through `self.model` and trusted by whoever loaded it. Every base points to the
        // bytes that the step's reference was checked against, and those live until the run is over: the session
        // owns or borrows them. No two workers have the same piece of a step, nor the same scratch.
        unsafe { (step.kernel)(bases.as_ptr(), step.args.as_ptr(), begin, end, worker) }
    }
}

/// The threads of a session besides the one that runs it.
#[derive(Debug)]
pub(crate) struct Workers {
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `threads - 1` threads.
    pub fn start(shared: Shared, threads: u32) -> io::Result<Workers> {
        let mut workers = Workers { shared: Arc::new(shared), threads: Vec::new() };
        for worker in 1..threads {
            let shared = Arc::clone(&workers.shared);
            workers.threads.push(Builder::new().spawn(move || work(&shared, worker))?);
        }
        Ok(workers)
    }

    /// Runs a step to its end.
    pub fn run_step(&self, index: usize) {
        let step = &self.shared.steps[index];
        match step.pieces {
            0 => {}
            1 => self.shared.call(step, 0, step.range, 0),
            pieces => self.run_in_pieces(index, pieces),
        }
    }

    fn run_in_pieces(&self, index: usize, pieces: u32) {
        let shared = &self.shared;
        shared.done.store(0, Ordering::Relaxed);
        shared.cursor.store((index as u64) << 32, Ordering::SeqCst);
        self.wake();
        while shared.take_piece(0) {}
        let mut turns = 0;
        while shared.done.load(Ordering::Acquire) != pieces {
            turns += 1;
            if turns < LEADER_TURNS { spin_loop() } else { yield_now() }
        }
    }

    /// Wakes the workers that sleep. A worker first says that it sleeps and then looks at the cursor again, the leader
    /// first writes the cursor and then looks who sleeps: one of the two sees the other.
    fn wake(&self) {
        for (thread, asleep) in self.threads.iter().zip(&self.shared.asleep) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                thread.thread().unpark();
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        for thread in self.threads.drain(..) {
            // A worker ends in no other way than by `stop`.
            let _ = thread.join();
        }
    }
}

/// What a worker's thread does.
fn work(shared: &Shared, worker: u32) {
    let asleep = &shared.asleep[worker as usize - 1];
    while !shared.stop.load(Ordering::Acquire) {
        while shared.take_piece(worker) {}
        if !(0..IDLE_TURNS).all(|_| {
            spin_loop();
            shared.idle()
        }) {
            continue;
        }
        asleep.store(true, Ordering::SeqCst);
        if shared.idle() {
            park();
        }
        asleep.store(false, Ordering::SeqCst);
    }
}
