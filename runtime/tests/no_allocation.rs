//! A run allocates nothing after the first, on any thread.
#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use edgecc_runtime::sharing::Sharing;
use edgecc_runtime::{LoadOptions, Model, Pool, PoolOptions};

/// Counts the allocations of the process.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// One test in this file: another one's allocations would be counted too.
#[test]
fn a_run_does_not_allocate() {
    // SAFETY: the code is that of the tests' kernels.
    let model = unsafe { Model::from_bytes(&support::artifact(5000), LoadOptions::default()) }.expect("loads");
    for threads in [1, 3] {
        let pool = Pool::new(PoolOptions { threads, sharing: Sharing::default() }).expect("starts");
        let mut session = model.session_in(&pool).expect("fits");
        let input = vec![0u8; 20_000];
        let (mut y, mut runs) = (vec![0u8; 20_000], vec![0u8; 20_000]);
        session.run().expect("runs");
        while pool.parked() < threads - 1 {
            std::thread::yield_now();
        }
        // The harness's own thread may allocate meanwhile, but not again and again.
        let allocates = |_| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..100 {
                session.run().expect("runs");
                session.run_with(&[&input], &mut [&mut y, &mut runs]).expect("runs");
                session.run_profiled(|_, _| {}).expect("runs");
            }
            // Long enough for the workers to park.
            std::thread::sleep(std::time::Duration::from_millis(20));
            session.run().expect("runs");
            ALLOCATIONS.load(Ordering::Relaxed) != before
        };
        assert!(!(1..=3).all(allocates), "{threads} threads");
    }
}
