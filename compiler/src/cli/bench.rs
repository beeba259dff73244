//! `edgecc bench`: latencies, per run and per step.

use edgecc_device::bench::{BenchOptions, bench as measure, report};
use edgecc_runtime::{SessionOptions, big_cores};

use super::loading::load;
use super::options::BenchArguments;
use super::progress::Progress;
use super::{CliResult, print};

/// Times runs on zeros.
pub fn bench(arguments: &BenchArguments) -> CliResult {
    let model = load(&arguments.file, &arguments.reading, Vec::new())?;
    let mut session = model.session(SessionOptions { threads: arguments.threads.unwrap_or_else(big_cores) })?;
    let progress = Progress::start("timing");
    let result = measure(&model, &mut session, &BenchOptions { warm_up: 3, runs: arguments.runs, sustain: None })?;
    drop(progress);
    print(&report(&result, arguments.json))
}
