//! `edgecc tune`: measures schedules and writes the best.

use std::fmt::Write;
use std::time::Duration;

use edgecc_backends::schedule::choices::Choices;
use edgecc_backends::schedule::gpu;
use edgecc_device::files::write_whole;

use super::loading::{compile_options, for_core};
use super::options::{TuneArguments, TuneDevice};
use super::progress::Progress;
use super::{CliError, CliResult, print};
use crate::compile::{finish, prepare};
use crate::target::{processor, target};
use crate::tune::{Tuned, tune as measure};

/// Times schedules of every layer on this machine and writes the best ones.
pub fn tune(arguments: &TuneArguments) -> CliResult {
    match arguments.device {
        TuneDevice::Cpu if arguments.adapter.is_some() => {
            Err(CliError::Usage("--adapter belongs to --device gpu".into()))
        }
        TuneDevice::Cpu if arguments.gpu != gpu::GENERIC.name => {
            Err(CliError::Usage("--gpu belongs to --device gpu".into()))
        }
        TuneDevice::Cpu => on_processor(arguments),
        TuneDevice::Gpu => on_gpu(arguments),
    }
}

fn on_processor(arguments: &TuneArguments) -> CliResult {
    let usage = |error: crate::target::TargetError| CliError::Usage(error.to_string());
    let host = target("host").map_err(usage)?;
    let core = processor(&arguments.cpu).map_err(usage)?;
    let options = for_core(compile_options(&arguments.reading, host.architecture, Vec::new())?, core);
    let progress = Progress::start("reading the model");
    let mut phase = |phase: crate::compile::Phase<'_>| progress.phase(|| format!("compiling, past {}", phase.name));
    let (mut graph, notes) = prepare(&arguments.model, &options, &mut phase)?;
    finish(&mut graph, &options, &mut phase)?;
    let budget = Duration::from_secs(arguments.budget);
    let (choices, tuned) = measure(&graph, &options, budget, &mut |work| progress.phase(|| work))?;
    drop(progress);
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let how = format!("edgecc tune`; compile with --cpu {}", core.name);
    write(arguments, &how, &choices)?;
    print(&tuned.iter().map(table).collect::<String>())
}

#[cfg(feature = "gpu")]
fn on_gpu(arguments: &TuneArguments) -> CliResult {
    use super::loading::{for_gpu, shader_options};
    use crate::target::gpu_class;
    use crate::tune::{TuneError, gpu, journal::Journal};
    use edgecc_runtime::gpu::{Gpu, GpuOptions};
    let gpu = Gpu::open(&GpuOptions { adapter: arguments.adapter.clone(), cache: None })?;
    eprintln!("note: measures on {}", gpu.adapter());
    let mut journal = arguments.output.clone().into_os_string();
    journal.push(".journal");
    let mut journal = Journal::open(journal.into()).map_err(TuneError::Journal)?;
    journal.excluded().for_each(|what| eprintln!("note: left out, since a driver failed at it: {what}"));
    let class = gpu_class(&arguments.gpu).map_err(|error| CliError::Usage(error.to_string()))?;
    let options = for_gpu(shader_options(&arguments.reading, Vec::new())?, class);
    let progress = Progress::start("reading the model");
    let mut phase = |phase: crate::compile::Phase<'_>| progress.phase(|| format!("compiling, past {}", phase.name));
    let (mut graph, notes) = prepare(&arguments.model, &options, &mut phase)?;
    finish(&mut graph, &options, &mut phase)?;
    let budget = Duration::from_secs(arguments.budget);
    let mut say = |work| progress.phase(|| work);
    let (choices, tuned) = gpu::tune(&graph, &options, &gpu, &mut journal, budget, &mut say)?;
    drop(progress);
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let how =
        format!("edgecc tune --device gpu` on {}; compile with --target wgsl --gpu {}", gpu.adapter(), class.name);
    write(arguments, &how, &choices)?;
    print(&table(&tuned))
}

#[cfg(not(feature = "gpu"))]
fn on_gpu(_: &TuneArguments) -> CliResult {
    Err(super::device::without_gpus())
}

/// Writes the schedules' file.
fn write(arguments: &TuneArguments, how: &str, choices: &Choices) -> CliResult {
    let text = format!("# Measured by `{how} --schedules THIS FILE.\n{choices}");
    write_whole(&arguments.output, |out| out.write_all(text.as_bytes()).map(|()| text.len() as u64))
        .map(|_| ())
        .map_err(|source| CliError::Io { path: arguments.output.clone(), source })
}

/// A line for each layer and one for the whole model.
fn table(tuned: &Tuned) -> String {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let ratio = |[before, after]: [u64; 2]| after as f64 / before.max(1) as f64;
    let mut text = format!("[{}]\n{:>10} {:>10} {:>6}\n", tuned.heading, "first us", "best us", "ratio");
    for measured in &tuned.layers {
        let ((first, before), (best, after)) = (measured.first, measured.best);
        let chosen = if first == best { first.to_string() } else { format!("{first} -> {best}") };
        let (before_us, after_us) = (microseconds(before), microseconds(after));
        // A string takes all that is written.
        let _ = writeln!(
            text,
            "{before_us:>10.1} {after_us:>10.1} {:>6.3}  {}: {chosen}",
            ratio([before, after]),
            measured.layer
        );
    }
    let [before, after] = tuned.whole.map(microseconds);
    let _ = writeln!(text, "{before:>10.1} {after:>10.1} {:>6.3}  the whole model", ratio(tuned.whole));
    text
}
