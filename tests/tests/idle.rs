//! What a pool costs while nothing runs. Alone in its file: it reads the processor time of the whole process.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use edgecc_backends::cpu::isa::Architecture;
use edgecc_runtime::sharing::Sharing;
use edgecc_runtime::{LoadOptions, Model, Pool, PoolOptions};
use edgecc_tests::processor::processor_time;
use edgecc_tests::report::{say, skipped};
use edgecc_tests::{python, run};

const THREADS: usize = 2;
/// Batches of runs, of which the one least disturbed by other processes counts.
const BATCHES: usize = 20;
const RUNS: usize = 11;
/// Until all workers sleep after the last step, in half of the runs.
const MOST_UNTIL_PARKED: Duration = Duration::from_micros(100);
const IDLE: Duration = Duration::from_secs(10);
const MOST_IDLE: Duration = Duration::from_millis(1);

#[test]
fn an_idle_pool_sleeps() {
    let Some(interpreter) = python::python() else { return };
    let path = python::generated("mobilenet").join("opset17.onnx");
    if !path.exists() {
        python::tool(&interpreter, "make_mobilenet.py", &[&python::generated("mobilenet").to_string_lossy()]);
    }
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(&path, host, &[]).expect("compiles");
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(&compiled.to_bytes().expect("an artifact"), LoadOptions::default()) };
    let pool = Pool::new(PoolOptions { threads: THREADS, sharing: Sharing::default() }).expect("threads");
    let mut session = model.expect("an artifact of this machine").session_in(&pool).expect("a session");
    let mut until_parked = || {
        session.run().expect("a run");
        let start = Instant::now();
        while pool.parked() < THREADS - 1 {
            std::hint::spin_loop();
        }
        start.elapsed()
    };
    let mut median = || {
        let mut times: Vec<Duration> = (0..RUNS).map(|_| until_parked()).collect();
        times.sort_unstable();
        times[RUNS / 2]
    };
    let mut medians: Vec<Duration> = (0..BATCHES).map(|_| median()).collect();
    medians.sort_unstable();
    let parked = medians[0];
    let Some(before) = processor_time() else { return skipped("processor time is read as Linux tells it") };
    std::thread::sleep(IDLE);
    let idle = processor_time().unwrap_or_default() - before;
    say(&format!(
        "a worker is parked {:?} after the last step (median; least disturbed {parked:?}); {IDLE:?} idle cost {idle:?}",
        medians[BATCHES / 2]
    ));
    assert!(parked <= MOST_UNTIL_PARKED, "{parked:?}");
    assert!(idle <= MOST_IDLE, "{idle:?}");
}
