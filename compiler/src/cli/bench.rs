//! `edgecc bench`: latencies, per run and per step.

use std::time::Instant;

use edgecc_device::bench::{BenchOptions, bench as measure, report};

use super::device::Runner;
use super::loading::is_artifact;
use super::options::{BenchArguments, Device, DeviceArguments};
use super::progress::Progress;
use super::{CliError, CliResult, print};

/// Times runs on zeros.
pub fn bench(arguments: &BenchArguments) -> CliResult {
    let (file, reading) = (&arguments.file, &arguments.reading);
    if let Some(note) = first_answers(arguments)? {
        eprintln!("note: {note}");
    }
    let mut runner = Runner::load(file, reading, Vec::new(), &arguments.on, arguments.threads)?;
    let options = BenchOptions { warm_up: 3, runs: arguments.runs, sustain: None };
    let progress = Progress::start("timing");
    let result = match &mut runner {
        Runner::Cpu(model, session) => measure(model, session, &options)?,
        #[cfg(feature = "gpu")]
        Runner::Gpu(_, session) => on_gpu(session, &options)?,
    };
    drop(progress);
    #[cfg(feature = "gpu")]
    if let Runner::Gpu(_, session) = &runner {
        eprintln!("note: steps are timed {}", session.clock());
    }
    print(&report(&result, arguments.json))
}

#[cfg(feature = "gpu")]
fn on_gpu(
    session: &mut edgecc_runtime::gpu::GpuSession,
    options: &BenchOptions,
) -> Result<edgecc_device::bench::BenchResult, edgecc_runtime::gpu::GpuError> {
    use edgecc_device::bench::{bench_whole, profile};
    let whole = bench_whole(&mut || session.run(), options)?;
    let program = session.program()?.clone();
    Ok(edgecc_device::bench::BenchResult {
        steps: profile(&program, &mut |report| session.run_profiled(report))?,
        ..whole
    })
}

/// The time from the load of an artifact of shaders to its first answer, where the driver has to compile them and where what it
/// made is kept.
fn first_answers(arguments: &BenchArguments) -> Result<Option<String>, CliError> {
    if arguments.on.device != Device::Gpu || !is_artifact(&arguments.file)? {
        return Ok(None);
    }
    let folder = std::env::temp_dir().join(format!("edgecc-shaders-{}", std::process::id()));
    let on = DeviceArguments { shader_cache: Some(folder.clone()), ..arguments.on.clone() };
    let first_answer = || {
        let start = Instant::now();
        Runner::load(&arguments.file, &arguments.reading, Vec::new(), &on, None)?.run()?;
        Ok::<f64, CliError>(start.elapsed().as_secs_f64() * 1e3)
    };
    let times = first_answer().and_then(|cold| Ok((cold, first_answer()?)));
    let was_kept = folder.exists();
    // What is left of it does no harm.
    let _ = std::fs::remove_dir_all(&folder);
    let (cold, cached) = times?;
    let how =
        if was_kept { "with the shaders that the driver kept" } else { "again, since this driver keeps no shaders" };
    Ok(Some(format!("from load to first answer {cold:.1} ms, {cached:.1} ms {how}")))
}
