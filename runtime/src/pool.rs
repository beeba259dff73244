//! Threads that compute steps together with whoever runs a session.
//!
//! A run's thread is the leader, worker 0. It offers the pieces of a step, counts the offer in `offers`, takes pieces as
//! everybody does, and waits until none is `unfinished`. Between offers workers spin, and park when none came for a while.
//! Of several sessions that run at the same time, one has the workers during a step, and the others compute theirs alone.

use std::hint::spin_loop;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle, park, yield_now};
use std::time::{Duration, Instant};

use crate::cores;
use crate::error::SessionError;
use crate::execution::Execution;
use crate::sharing::{Claims, Sharing};

/// The most threads of a pool.
const MAX_THREADS: usize = 256;
/// How long a worker spins for the next offer before it parks: longer than most steps that one thread computes.
const SPIN: Duration = Duration::from_micros(50);
/// Turns between two looks at the clock.
const TURNS: u32 = 64;
/// Turns of a leader before it lets others have its core.
const LEADER_TURNS: u32 = 10_000;

/// How a pool computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Threads that compute, the caller's included. Results do not depend on it.
    pub threads: usize,
    /// Who may compute what.
    pub sharing: Sharing,
}

/// Threads for any number of sessions. Clones are the same pool; its threads end with the last of them and of the sessions.
#[derive(Debug, Clone)]
pub struct Pool {
    threads: Arc<Threads>,
}

impl Pool {
    /// Starts `threads - 1` threads. Where cores differ in speed, they keep to the fastest ones.
    pub fn new(options: PoolOptions) -> Result<Pool, SessionError> {
        let PoolOptions { threads, sharing } = options;
        if threads == 0 || threads > MAX_THREADS {
            return Err(SessionError::ThreadCount { threads, limit: MAX_THREADS });
        }
        let classes = if threads > 1 { cores::fastest(threads) } else { Vec::new() };
        let speeds: Box<[f32]> =
            (0..threads).map(|worker| classes.get(worker).map_or(1.0, |core| core.speed)).collect();
        let shared = Arc::new(Shared::new(&speeds, sharing));
        let mut pool = Threads { shared, speeds, sharing, handles: Vec::new() };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let core = classes.get(worker).cloned();
            let thread = Builder::new().name("edgecc".into()).spawn(move || {
                core.iter().for_each(cores::Core::keep_thread);
                work(&shared, worker);
            });
            pool.handles.push(thread.map_err(SessionError::Thread)?);
        }
        Ok(Pool { threads: Arc::new(pool) })
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.speeds().len()
    }

    /// Threads that sleep: all but the caller's, soon after the last step.
    pub fn parked(&self) -> usize {
        self.threads.shared.asleep.iter().filter(|asleep| asleep.load(Ordering::SeqCst)).count()
    }

    /// The assumed speeds of the workers' cores, of which the fastest has 1; the caller's is assumed to be that one.
    pub(crate) fn speeds(&self) -> &[f32] {
        &self.threads.speeds
    }

    pub(crate) fn sharing(&self) -> Sharing {
        self.threads.sharing
    }

    /// Runs a step to its end.
    pub(crate) fn run_step(&self, execution: &Execution, index: usize) {
        let step = &execution.steps[index];
        let shared = &self.threads.shared;
        if step.partition.pieces() > 1 && !shared.led.swap(true, Ordering::Acquire) {
            self.lead(execution, index);
            shared.led.store(false, Ordering::Release);
        } else if step.range > 0 {
            execution.call(step, 0..step.range, 0);
        }
    }

    fn lead(&self, execution: &Execution, index: usize) {
        let shared = &self.threads.shared;
        let partition = &execution.steps[index].partition;
        shared.execution.store(std::ptr::from_ref(execution).cast_mut(), Ordering::Relaxed);
        shared.step.store(index, Ordering::Relaxed);
        shared.unfinished.0.store(partition.pieces(), Ordering::Relaxed);
        shared.claims.offer(partition);
        shared.offers.0.fetch_add(1, Ordering::SeqCst);
        self.threads.wake(partition.workers() - 1);
        while shared.compute_piece(0) {}
        let mut turns = 0;
        while shared.unfinished.0.load(Ordering::Acquire) != 0 {
            turns += 1;
            if turns < LEADER_TURNS { spin_loop() } else { yield_now() }
        }
    }
}

/// The threads besides the callers', and what they see.
#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    speeds: Box<[f32]>,
    sharing: Sharing,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Wakes those that sleep among the first so many. A worker first says that it sleeps and then looks at the offers
    /// again, a leader first counts its offer and then looks who sleeps: one of the two sees the other.
    fn wake(&self, count: usize) {
        for (handle, asleep) in self.handles.iter().zip(&self.shared.asleep).take(count) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.offers.0.fetch_add(1, Ordering::SeqCst);
        self.wake(self.handles.len());
        for handle in self.handles.drain(..) {
            // A worker ends in no other way than by `stop`.
            let _ = handle.join();
        }
    }
}

/// A number that has its cache line for itself.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lone(AtomicU32);

#[derive(Debug)]
struct Shared {
    /// Whether a leader has the workers.
    led: AtomicBool,
    /// The step on offer; valid while pieces of it are unfinished.
    execution: AtomicPtr<Execution>,
    step: AtomicUsize,
    claims: Claims,
    unfinished: Lone,
    offers: Lone,
    stop: AtomicBool,
    /// Whether worker i + 1 is about to park or parked.
    asleep: Box<[AtomicBool]>,
}

impl Shared {
    fn new(speeds: &[f32], sharing: Sharing) -> Shared {
        Shared {
            led: AtomicBool::new(false),
            execution: AtomicPtr::new(null_mut()),
            step: AtomicUsize::new(0),
            claims: Claims::new(speeds, sharing),
            unfinished: Lone::default(),
            offers: Lone::default(),
            stop: AtomicBool::new(false),
            asleep: speeds.iter().skip(1).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Takes a piece and computes it; false if there is none.
    #[allow(unsafe_code)]
    fn compute_piece(&self, worker: usize) -> bool {
        let Some(piece) = self.claims.take(worker) else { return false };
        // SAFETY: the piece belongs to the step on offer. Its leader has borrowed the execution since before the offer,
        // which this worker has acquired with the piece, and waits until the piece is finished.
        let execution = unsafe { &*self.execution.load(Ordering::Relaxed) };
        let step = &execution.steps[self.step.load(Ordering::Relaxed)];
        execution.call(step, step.partition.piece(piece), worker);
        self.unfinished.0.fetch_sub(1, Ordering::Release);
        true
    }

    /// Spins until there is another offer than the last one seen; false if none came in time.
    fn spin(&self, seen: u32) -> bool {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..TURNS {
                if self.offers.0.load(Ordering::Acquire) != seen {
                    return true;
                }
                spin_loop();
            }
        }
        false
    }
}

/// What a worker's thread does.
fn work(shared: &Shared, worker: usize) {
    let asleep = &shared.asleep[worker - 1];
    while !shared.stop.load(Ordering::Acquire) {
        let seen = shared.offers.0.load(Ordering::Acquire);
        while shared.compute_piece(worker) {}
        if shared.spin(seen) {
            continue;
        }
        asleep.store(true, Ordering::SeqCst);
        if shared.offers.0.load(Ordering::SeqCst) == seen {
            park();
        }
        asleep.store(false, Ordering::SeqCst);
    }
}
