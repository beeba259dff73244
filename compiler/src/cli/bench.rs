//! `edgecc bench`: latencies, per run and per step.

use edgecc_device::bench::{BenchOptions, bench as measure, report};

use super::device::Runner;
use super::options::BenchArguments;
use super::progress::Progress;
use super::{CliResult, print};

/// Times runs on zeros.
pub fn bench(arguments: &BenchArguments) -> CliResult {
    let (file, reading) = (&arguments.file, &arguments.reading);
    let mut runner = Runner::load(file, reading, Vec::new(), &arguments.on, arguments.threads)?;
    let options = BenchOptions { warm_up: 3, runs: arguments.runs, sustain: None };
    let progress = Progress::start("timing");
    let result = match &mut runner {
        Runner::Cpu(model, session) => measure(model, session, &options)?,
        #[cfg(feature = "gpu")]
        Runner::Gpu(_, session) => edgecc_device::bench::bench_whole(&mut || session.run(), &options)?,
    };
    drop(progress);
    print(&report(&result, arguments.json))
}
